"""The seam to MLflow's model registry: make a version of a run, find versions, move aliases, write down decisions."""

import shutil
import time
import uuid
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from model.bundle import FP32, MANIFEST_FILE, Bundle, variant_file
from model.errors import MissingStepError, TrackingError
from model.io.files import sha256
from model.io.progress import quiet_stderr
from model.pixels import Pixels, to_tensor
from model.spec import Frozen, TensorSignature
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.evaluation.evaluate import REPORT_FILE, SCORES_FILE, SHEET_FILE
from pipelines.registry import model_card
from pipelines.registry.artifacts import Artifacts, transfer
from pipelines.tracking import mlflow_runs
from pipelines.workspace import GENERATOR_FILE, RunFolder

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ONNX_FILE = "model.onnx"
"""The bundle's model in a version, byte for byte, where MLflow looks for it."""
OWN = "sat2map"
"""Folder of a version for what MLflow knows nothing of."""
PAIRS_FILE = "pairs.json"
SHA256_TAG = "model.sha256"
BUNDLE_TAG = "bundle.sha256"
SERVED_WITH = ("mlflow", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime")


class RegisteredVersion(Frozen):
    """A version in the registry."""

    name: str
    version: int
    run_id: str
    alias: str = CHALLENGER

    @property
    def uri(self) -> str:
        """The address that MLflow's own commands take."""
        return f"models:/{self.name}@{self.alias}"


class Version(Frozen):
    """What the registry knows of a version."""

    name: str
    number: int
    run_id: str
    tags: dict[str, str]
    description: str

    @property
    def sha256(self) -> str:
        """Of the model file, as it was when the version was made.

        Raises:
            MissingStepError: `register` did not make this version.
        """
        return self._registered(SHA256_TAG)

    @property
    def bundle_sha256(self) -> str:
        """Of the bundle's manifest, which names the sha256 of every variant.

        Raises:
            MissingStepError: `register` did not make this version.
        """
        return self._registered(BUNDLE_TAG)

    def _registered(self, tag: str) -> str:
        if tag not in self.tags:
            raise MissingStepError(
                f"Version {self.number} of {self.name} has no tag {tag}, so `sat2map register` did not make it; "
                "register the run that it comes from."
            )
        return self.tags[tag]

    def artifacts(self) -> Artifacts:
        """Open its files."""
        with mlflow_runs.answering():
            location = mlflow.MlflowClient().get_model_version_download_uri(self.name, str(self.number))
        return Artifacts(location)


def register(run: RunFolder) -> RegisteredVersion:
    """Make a run's bundle a version with all that belongs to it, and point the alias `challenger` at it.

    The version appears when its files are in place and were read back, together with its tags.

    Raises:
        MissingStepError: The run has not been exported or not been evaluated.
        TrackingError: MLflow does not answer, or does not know the run, or did not keep the model as it was.
    """
    config, pairs, bundle = run.record().config, run.pairs(), run.open_bundle()
    scores = model_card.read_scores(run.evaluation / SCORES_FILE)
    variants = [run.bundle / variant_file(name) for name in bundle.manifest.variants]
    own_files = [
        run.bundle / MANIFEST_FILE,
        *variants,
        run.generator,
        run.pairs_file,
        *(run.evaluation / name for name in (SCORES_FILE, REPORT_FILE, SHEET_FILE)),
    ]
    for file in own_files:
        if not file.is_file():
            raise MissingStepError(f"{file} is missing; run `{_verb_of(file)}` first.")
    photos, _ = load_all(pairs.val[:1], side=config.network.image_size, direction=config.data.direction)
    name = config.tracking.model_name
    with mlflow_runs.continue_run(run.run_id):
        model_id = _upload(run.run_id, bundle, photos, own_files)
        number = _new_version(name, model_id, _tags(bundle, pairs))
        card = model_card.describe(scores, bundle.manifest, config=config, pairs=pairs, name=name, version=number)
        describe(name, number, card)
        move(name, CHALLENGER, number)
    return RegisteredVersion(name=name, version=number, run_id=run.run_id)


def in_version(variant: str) -> str:
    """Return where a version keeps the file of a bundle's variant."""
    return ONNX_FILE if variant == FP32 else f"{OWN}/{variant_file(variant)}"


def find(name: str, which: str | int) -> Version:
    """Find a version by its number or by an alias.

    Raises:
        MissingStepError: There is no such version.
        TrackingError: MLflow does not answer.
    """
    client, wanted = mlflow.MlflowClient(), str(which)
    known = aliases(name)
    number = int(wanted) if wanted.isdecimal() else known.get(wanted)
    with mlflow_runs.answering():
        try:
            if number is not None:
                return _read(client.get_model_version(name, str(number)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    told = ", ".join(f"{alias} is version {number}" for alias, number in sorted(known.items())) or "there are none"
    kind = "version" if number is not None else "alias"
    raise MissingStepError(f"{name} has no {kind} {wanted!r} in the registry; of the aliases, {told}.")


def aliases(name: str) -> dict[str, int]:
    """Return where a registered model's aliases point now.

    Raises:
        MissingStepError: There is no such model.
        TrackingError: MLflow does not answer.
    """
    with mlflow_runs.answering():
        try:
            found = mlflow.MlflowClient().get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise MissingStepError(
                f"The registry holds no model {name!r} (mlflow_runs.model_name); register one."
            ) from error
    return {alias: int(number) for alias, number in found.items()}


def move(name: str, alias: str, number: int | None) -> None:
    """Let an alias point at a version, or at nothing."""
    client = mlflow.MlflowClient()
    with mlflow_runs.answering():
        if number is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, str(number))


def describe(name: str, number: int, text: str) -> None:
    """Write the Markdown that the registry's page shows of a version."""
    with mlflow_runs.answering():
        mlflow.MlflowClient().update_model_version(name, str(number), text)


def note(version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    with mlflow_runs.answering():
        for key, value in tags.items():
            mlflow.MlflowClient().set_model_version_tag(version.name, str(version.number), key, value)


def log_decision(version: Version, text: str) -> str:
    """Keep a decision as an artifact of the version's run; return its path there."""
    # Two decisions may fall in one second.
    when = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"
    path = f"promotion/version-{version.number}-{when}.json"
    with mlflow_runs.answering():
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


def _verb_of(file: Path) -> str:
    if file.name == MANIFEST_FILE:
        return "export"
    return "train" if file.name in (GENERATOR_FILE, PAIRS_FILE) else "evaluate"


def _upload(run_id: str, bundle: Bundle, photos: Pixels, own_files: list[Path]) -> str:
    """Store a model with everything that belongs to it; return its id in MLflow."""
    client = mlflow.MlflowClient()
    with mlflow_runs.answering():
        experiment = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    with TemporaryDirectory(prefix="sat2map-") as scratch:
        folder = Path(scratch, "model")
        description = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
        _fill(folder, description, bundle, photos, own_files)
        with transfer(f"The model of run {run_id} can't be stored"), quiet_stderr():
            client.log_model_artifacts(logged.model_id, str(folder))
        stored = Path(scratch, ONNX_FILE)
        Artifacts(logged.artifact_location).fetch(ONNX_FILE, stored, limit=bundle.model_file.stat().st_size)
        if sha256(stored) != bundle.manifest.sha256:
            raise TrackingError(
                f"MLflow did not keep {ONNX_FILE} of run {run_id} as it was; look at its artifact store."
            )
    with mlflow_runs.answering():
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _fill(folder: Path, description: Model, bundle: Bundle, photos: Pixels, own_files: list[Path]) -> None:
    """Write a version's folder: what MLflow needs to serve the model, and below `sat2map` the rest."""
    tensors = bundle.manifest.signature
    with quiet_stderr():
        mlflow.onnx.save_model(
            onnx.load(bundle.model_file, load_external_data=False),
            str(folder),
            mlflow_model=description,
            signature=_signature(tensors),
            input_example={tensors.input: photos if tensors.dtype == "uint8" else np.round(to_tensor(photos), 4)},
            # Named, so that MLflow does not load the model in a process of its own to find them out.
            pip_requirements=_requirements(),
            save_as_external_data=False,
        )
    # MLflow writes the model anew; what is served must be the file that was exported and measured.
    shutil.copyfile(bundle.verified(), folder / ONNX_FILE)
    (folder / OWN).mkdir()
    for file in own_files:
        shutil.copyfile(file, folder / OWN / file.name)
    picture = model_card.picture(folder / OWN / SHEET_FILE, bundle.manifest.network.image_size)
    picture.save(folder / OWN / model_card.PICTURE_FILE)


def _new_version(name: str, model_id: str, tags: Mapping[str, str]) -> int:
    # MLflow's remarks on what it has created go to stderr.
    with mlflow_runs.answering(), quiet_stderr():
        number = int(mlflow.register_model(f"models:/{model_id}", name, tags=dict(tags)).version)
        client = mlflow.MlflowClient()
        # What a person has written there stays.
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, model_card.introduce(name))
    return number


def _signature(tensors: TensorSignature) -> ModelSignature:
    shape = (-1, *tensors.shape[1:])
    kind = np.dtype(tensors.dtype)
    return ModelSignature(
        inputs=Schema([TensorSpec(kind, shape, tensors.input)]),
        outputs=Schema([TensorSpec(kind, shape, tensors.output)]),
    )


def _requirements() -> list[str]:
    """Pin what serving the model takes, as installed here."""
    installed = {name.lower() for name in (entry.metadata["Name"] for entry in metadata.distributions())}
    return [f"{name}=={metadata.version(name)}" for name in SERVED_WITH if name in installed]


def _tags(bundle: Bundle, pairs: PairIndex) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        SHA256_TAG: manifest.sha256,
        BUNDLE_TAG: sha256(bundle.folder / MANIFEST_FILE),
        "data.fingerprint": manifest.data_fingerprint,
        "data.held_out_pairs": str(len(pairs.val)),
        "git.revision": manifest.code_revision,
        "parity.max_difference": f"{manifest.parity.max_difference:.3g}",
    }
