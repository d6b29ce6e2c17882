"""Resolution of the model that a command draws with: a bundle's folder, a registered version, or a run's bundle."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from model.bundle import MANIFEST_FILE, Bundle, OpenedModel, RegisteredModel, TrainedRun
from model.errors import BundleError, ConfigError
from model.io.files import sha256
from pipelines.registry.references import SCHEME, parse_uri

if TYPE_CHECKING:
    from pipelines.config.schema import RunConfig

_SHA256 = re.compile("[0-9a-f]{64}")


def open_model(model: str, run: str, config: "RunConfig") -> OpenedModel:
    """Open the model that a user names.

    Args:
        model: A bundle's folder, models:/NAME@ALIAS or models:/NAME/VERSION; if empty, the bundle of `run`.
        run: A run's id; if empty, the newest one.
        config: The settings; registered versions are kept in the cache of their workspace.

    Raises:
        ConfigError: Both are given, or `model` has none of the forms.
        MissingStepError: There is no such run or version, or it was not exported.
        BundleError: The model can't be trusted or read.
        TrackingError: MLflow does not answer.
    """
    if model and run:
        raise ConfigError(f"--model {model} and --run {run} name two models; give one of them.")
    if model.startswith(SCHEME):
        return _open_registered(model, config)
    if model:
        bundle = Bundle.open(Path(model))
        return OpenedModel(bundle, bundle.read_origin())
    from pipelines.workspace import Workspace

    folder = Workspace(config.workspace).run(run or None)
    return OpenedModel(folder.open_bundle(), TrainedRun(folder.run_id))


def _open_registered(model: str, config: "RunConfig") -> OpenedModel:
    """Fetch a version, unless the cache holds it; the registry is always asked, as an alias may have moved."""
    reference = parse_uri(model)
    from pipelines.registry import pull, versions
    from pipelines.tracking import mlflow_server
    from pipelines.workspace import Workspace

    mlflow_server.connect_to_existing()
    version = versions.find(reference.name, reference.which)
    origin = RegisteredModel(reference.name, version.number)
    if not _SHA256.fullmatch(version.bundle_sha256):
        raise BundleError(
            f"{origin} is tagged with {version.bundle_sha256!r}, which is not a sha256; register the run again."
        )
    folder = Workspace(config.workspace).models / version.bundle_sha256
    if _is_intact(folder, version.bundle_sha256):
        return OpenedModel(Bundle.open(folder), origin)
    return OpenedModel(pull.pull(origin.name, origin.version, folder), origin)


def _is_intact(folder: Path, manifest_sha256: str) -> bool:
    """Return whether a bundle in the cache is the registered one, file by file."""
    try:
        bundle = Bundle.open(folder)
        for variant in bundle.manifest.hashes():
            bundle.verified(variant)
    except BundleError:
        return False
    return sha256(folder / MANIFEST_FILE) == manifest_sha256
