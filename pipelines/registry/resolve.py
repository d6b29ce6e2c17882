"""The model that a verb draws with: a bundle's folder, a version in the registry, or the newest run's."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from model.bundle import MANIFEST_FILE, Bundle, OpenedModel
from model.errors import BundleError, ConfigError
from model.io.files import sha256

if TYPE_CHECKING:
    from pipelines.config.schema import RunConfig

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_SHA256 = re.compile("[0-9a-f]{64}")


def open_model(model: str, run: str, config: "RunConfig") -> OpenedModel:
    """Open the model that a user means.

    Args:
        model: A bundle's folder, models:/NAME@ALIAS or models:/NAME/VERSION; empty: the bundle of `run`.
        run: A run's id; empty: the newest one.
        config: Says where the workspace is; versions from the registry are kept in its cache.

    Raises:
        ConfigError: Both are given, or `model` has none of the forms.
        MissingStepError: There is no such run or version, or it was not exported.
        BundleError: The model can't be trusted or read.
        TrackingError: MLflow does not answer.
    """
    if model and run:
        raise ConfigError(f"--model {model} and --run {run} name two models; give one of them.")
    if model.startswith("models:"):
        return _registered(model, config)
    if model:
        bundle = Bundle.open(Path(model))
        return OpenedModel(bundle, _origin(bundle))
    from pipelines.workspace import Workspace

    folder = Workspace(config.workspace).run(run or None)
    return OpenedModel(folder.open_bundle(), f"runs:/{folder.run_id}")


def _registered(model: str, config: "RunConfig") -> OpenedModel:
    """Fetch a version, unless the cache holds it; the registry is asked in any case, for an alias may have moved."""
    match = _REGISTERED.fullmatch(model)
    if not match:
        raise ConfigError(f"{model!r} names no model; write models:/NAME@ALIAS or models:/NAME/VERSION.")
    from pipelines.registry import pull, versions
    from pipelines.tracking import mlflow_runs
    from pipelines.workspace import Workspace

    name = match["name"]
    mlflow_runs.connect()
    version = versions.find(name, match["alias"] or match["version"])
    origin = f"models:/{name}/{version.number}"
    if not _SHA256.fullmatch(version.bundle_sha256):
        raise BundleError(f"{origin} is tagged with {version.bundle_sha256!r}, which is no sha256; register it again.")
    folder = Workspace(config.workspace).cache / "models" / version.bundle_sha256
    if _is_whole(folder, version.bundle_sha256):
        return OpenedModel(Bundle.open(folder), origin)
    return OpenedModel(pull.pull(name, version.number, folder), origin)


def _is_whole(folder: Path, sha256_of_manifest: str) -> bool:
    """Tell whether a bundle in the cache is the registered one, file by file."""
    try:
        bundle = Bundle.open(folder)
        for variant in bundle.manifest.hashes():
            bundle.verified(variant)
    except BundleError:
        return False
    return sha256(folder / MANIFEST_FILE) == sha256_of_manifest


def _origin(bundle: Bundle) -> str:
    """Say where a bundle comes from: `pull` leaves that beside it."""
    try:
        pulled = json.loads((bundle.folder / "pulled.json").read_text(encoding="utf-8"))
        return f"models:/{pulled['name']}/{int(pulled['version'])}"
    except FileNotFoundError:
        return f"runs:/{bundle.manifest.run_id}"
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{bundle.folder / 'pulled.json'} can't be read; pull the model again.") from error
