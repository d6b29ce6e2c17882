"""Access to MLflow's model registry: find versions, move aliases, record decisions."""

import time
import uuid
from collections.abc import Mapping

import mlflow
import mlflow.onnx
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from model.bundle import FP32, variant_file
from model.errors import MissingStepError
from model.spec import Frozen
from pipelines.registry.artifacts import Artifacts
from pipelines.tracking import mlflow_server

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ONNX_FILE = "model.onnx"
"""File of the bundle's model in a version, byte for byte, where MLflow looks for it."""
FILES_FOLDER = "sat2map"
"""Folder of a version for the files that MLflow itself does not use."""
PAIRS_FILE = "pairs.json"
SHA256_TAG = "model.sha256"
BUNDLE_TAG = "bundle.sha256"
SCORES_TAG = "scores.sha256"


class Version(Frozen):
    """A version in the registry."""

    name: str
    number: int
    run_id: str
    tags: dict[str, str]
    description: str

    @property
    def sha256(self) -> str:
        """The sha256 of the model file when the version was registered.

        Raises:
            MissingStepError: `register` did not make this version.
        """
        return self._registered(SHA256_TAG)

    @property
    def bundle_sha256(self) -> str:
        """The sha256 of the bundle's manifest, which holds the sha256 of every variant.

        Raises:
            MissingStepError: `register` did not make this version.
        """
        return self._registered(BUNDLE_TAG)

    def _registered(self, tag: str) -> str:
        if tag not in self.tags:
            raise MissingStepError(
                f"Version {self.number} of {self.name} has no tag {tag}, so it was not created by `sat2map register`; "
                "register its run."
            )
        return self.tags[tag]

    def artifacts(self) -> Artifacts:
        """Open the version's files."""
        with mlflow_server.errors(registry=True):
            location = mlflow.MlflowClient().get_model_version_download_uri(self.name, str(self.number))
        return Artifacts(location)


def variant_path(variant: str) -> str:
    """Return the path of a bundle's variant in a version."""
    return ONNX_FILE if variant == FP32 else f"{FILES_FOLDER}/{variant_file(variant)}"


def find(name: str, which: str | int) -> Version:
    """Find a version by its number or by an alias.

    Raises:
        MissingStepError: There is no such version.
        TrackingError: MLflow does not answer.
    """
    client, requested = mlflow.MlflowClient(), str(which)
    known = aliases(name)
    number = int(requested) if requested.isdecimal() else known.get(requested)
    with mlflow_server.errors(registry=True):
        try:
            if number is not None:
                return _read(client.get_model_version(name, str(number)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    listed = ", ".join(f"{alias} is version {number}" for alias, number in sorted(known.items())) or "none"
    kind = "version" if number is not None else "alias"
    raise MissingStepError(
        f"{name} has no {kind} {requested!r} in the registry; aliases: {listed}. Use one of them or a version number."
    )


def find_registered(run_id: str, name: str, tags: Mapping[str, str]) -> Version | None:
    """Return the newest version of a model that was registered from a run with these tags, or None."""
    with mlflow_server.errors(registry=True):
        found = mlflow.MlflowClient().search_model_versions(f"run_id = '{run_id}'")
    versions = [_read(version) for version in found if version.name == name]
    same = [version for version in versions if tags.items() <= version.tags.items()]
    return max(same, key=lambda version: version.number, default=None)


def aliases(name: str) -> dict[str, int]:
    """Return the aliases of a registered model and the versions that they point to.

    Raises:
        MissingStepError: There is no such model.
        TrackingError: MLflow does not answer.
    """
    with mlflow_server.errors(registry=True):
        try:
            found = mlflow.MlflowClient().get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise MissingStepError(
                f"The registry has no model {name!r} (tracking.model_name); register a run first."
            ) from error
    return {alias: int(number) for alias, number in found.items()}


def set_alias(name: str, alias: str, number: int | None) -> None:
    """Point an alias at a version, or delete it if `number` is None."""
    client = mlflow.MlflowClient()
    with mlflow_server.errors(registry=True):
        if number is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, str(number))


def set_description(name: str, number: int, text: str) -> None:
    """Set the description of a version, Markdown that MLflow's page shows."""
    with mlflow_server.errors(registry=True):
        mlflow.MlflowClient().update_model_version(name, str(number), text)


def set_tags(version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    with mlflow_server.errors(registry=True):
        for key, value in tags.items():
            mlflow.MlflowClient().set_model_version_tag(version.name, str(version.number), key, value)


def log_decision(version: Version, text: str) -> str:
    """Store a decision as an artifact of the version's run; return the artifact's path."""
    # Unique, because two decisions may be made in the same second.
    when = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"
    path = f"promotion/version-{version.number}-{when}.json"
    with mlflow_server.errors():
        mlflow.MlflowClient().log_text(version.run_id, text, path)
    return path


def _read(found: ModelVersion) -> Version:
    return Version(
        name=found.name,
        number=int(found.version),
        run_id=found.run_id or "",
        tags=dict(found.tags),
        description=found.description or "",
    )
