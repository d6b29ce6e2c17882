"""Registration of an exported run as a version of the model."""

import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from PIL import Image

from model.bundle import MANIFEST_FILE, Bundle, variant_file
from model.errors import MissingStepError, TrackingError
from model.io.files import scratch_folder, sha256
from model.io.progress import quiet_stderr
from model.pixels import Pixels, to_tensor
from model.spec import Frozen, TensorSignature
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.metrics.scores import Scores
from pipelines.registry import model_card, versions
from pipelines.registry.artifacts import Artifacts, transfer
from pipelines.registry.versions import (
    BUNDLE_TAG,
    CHALLENGER,
    FILES_FOLDER,
    ONNX_FILE,
    PAIRS_FILE,
    SCORES_TAG,
    SHA256_TAG,
)
from pipelines.report.description import PICTURE_FILE, PICTURE_ROWS
from pipelines.report.sheets import first_rows
from pipelines.run_folder import DISCRIMINATOR_FILE, GENERATOR_FILE, REPORT_FILE, SCORES_FILE, SHEET_FILE, RunFolder
from pipelines.tracking import mlflow_runs, mlflow_server

SERVED_WITH = ("mlflow", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime")
SERVING_PROVIDERS = ["CPUExecutionProvider"]
"""Execution providers of MLflow's own server. Its default asks for CUDA first, which logs an error without a GPU."""


class RegisteredVersion(Frozen):
    """A registered version of a run."""

    name: str
    version: int
    run_id: str
    alias: str = CHALLENGER
    """Alias of the version; empty if it has none."""
    new: bool = True
    """Whether the version was created now; False if the same files were registered before."""

    @property
    def uri(self) -> str:
        """URI of the version for MLflow's own commands."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"


def register(run: RunFolder, *, name: str = "") -> RegisteredVersion:
    """Register a run's bundle with all files that belong to it, and point the alias `challenger` at the new version.

    The version is created, with its tags, after its files were stored and the model was read back. If the run's newest
    files are registered already, that version is returned, and nothing changes.

    Args:
        run: Folder of an evaluated run.
        name: Name of the registered model; by default that of the run's settings.

    Raises:
        MissingStepError: The run has not been exported or evaluated, or was trained or exported again since.
        TrackingError: MLflow does not answer, does not know the run, or altered the model.
    """
    config, pairs, bundle = run.record().config, PairIndex.load(run.pairs_file), run.open_bundle()
    scores = _read_scores(run, bundle)
    own_files = _own_files(run, bundle)
    photos, _ = load_all(pairs.val[:1], side=config.network.image_size, direction=config.data.direction)
    name, tags = name or config.tracking.model_name, _tags(run, bundle, pairs)
    with mlflow_runs.continue_run(run.run_id):
        if known := versions.find_registered(run.run_id, name, _identity(tags)):
            return _known_version(known)
        model_id = _upload(run.run_id, bundle, photos, own_files)
        number = _new_version(name, model_id, tags)
        card = model_card.describe(scores, bundle.manifest, config=config, pairs=pairs, name=name, version=number)
        versions.set_description(name, number, card)
        versions.set_alias(name, CHALLENGER, number)
    return RegisteredVersion(name=name, version=number, run_id=run.run_id)


def _read_scores(run: RunFolder, bundle: Bundle) -> Scores:
    """Read the scores of a run, which must be those of its exported model."""
    file = run.evaluation / SCORES_FILE
    scores = model_card.read_scores(file)
    exported = (bundle.manifest.sha256, sha256(bundle.folder / MANIFEST_FILE))
    # Scores of version 0.2.0 and earlier name only the model.
    if (scores.model_sha256, scores.bundle_sha256 or exported[1]) != exported:
        raise MissingStepError(
            f"{file} holds the scores of an earlier export of run {run.run_id}; evaluate it again: "
            f"{run.command('evaluate', '--run', run.run_id)}"
        )
    return scores


def _own_files(run: RunFolder, bundle: Bundle) -> list[Path]:
    """Return the files of a run that a version holds in addition to MLflow's."""
    variants = [run.bundle / variant_file(name) for name in bundle.manifest.variants]
    files = [
        run.bundle / MANIFEST_FILE,
        *variants,
        run.generator,
        run.pairs_file,
        *(run.evaluation / name for name in (SCORES_FILE, REPORT_FILE, SHEET_FILE)),
    ]
    if bundle.manifest.discriminator_sha256:
        files.append(run.discriminator)
    for file in files:
        if not file.is_file():
            raise MissingStepError(f"{file} is missing; run `{_verb_of(file)}` first.")
    return files


def _verb_of(file: Path) -> str:
    if file.name == MANIFEST_FILE:
        return "export"
    return "train" if file.name in (GENERATOR_FILE, DISCRIMINATOR_FILE, PAIRS_FILE) else "evaluate"


def _known_version(known: versions.Version) -> RegisteredVersion:
    pointing = [alias for alias, number in versions.aliases(known.name).items() if number == known.number]
    return RegisteredVersion(
        name=known.name, version=known.number, run_id=known.run_id, alias=min(pointing, default=""), new=False
    )


def _upload(run_id: str, bundle: Bundle, photos: Pixels, own_files: list[Path]) -> str:
    """Store the model with all files that belong to it; return its id in MLflow."""
    client = mlflow.MlflowClient()
    with mlflow_server.errors():
        experiment = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    with scratch_folder() as scratch:
        folder = Path(scratch, "model")
        description = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
        _fill(folder, description, bundle, photos, own_files)
        with transfer(f"The model of run {run_id} can't be stored"), quiet_stderr():
            client.log_model_artifacts(logged.model_id, str(folder))
        stored = Path(scratch, ONNX_FILE)
        Artifacts(logged.artifact_location).fetch(ONNX_FILE, stored, limit=bundle.model_file.stat().st_size)
        if sha256(stored) != bundle.manifest.sha256:
            raise TrackingError(
                f"MLflow's artifact store altered {ONNX_FILE} of run {run_id}; nothing was registered. Check the store."
            )
    with mlflow_server.errors():
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _fill(folder: Path, description: Model, bundle: Bundle, photos: Pixels, own_files: list[Path]) -> None:
    """Write a version's folder: the files that MLflow serves, and all others below FILES_FOLDER."""
    tensors = bundle.manifest.signature
    with quiet_stderr():
        mlflow.onnx.save_model(
            onnx.load(bundle.model_file, load_external_data=False),
            str(folder),
            mlflow_model=description,
            signature=_signature(tensors),
            input_example={tensors.input: photos if tensors.dtype == "uint8" else np.round(to_tensor(photos), 4)},
            # Given, so that MLflow does not load the model in a separate process to infer them.
            pip_requirements=_requirements(),
            onnx_execution_providers=SERVING_PROVIDERS,
            save_as_external_data=False,
        )
    # MLflow serialises the model again, but the version must hold the file that was exported and evaluated.
    shutil.copyfile(bundle.verified(), folder / ONNX_FILE)
    (folder / FILES_FOLDER).mkdir()
    for file in own_files:
        shutil.copyfile(file, folder / FILES_FOLDER / file.name)
    with Image.open(folder / FILES_FOLDER / SHEET_FILE) as sheet:
        rows = first_rows(sheet, PICTURE_ROWS, side=bundle.manifest.network.image_size)
        rows.save(folder / FILES_FOLDER / PICTURE_FILE)


def _new_version(name: str, model_id: str, tags: Mapping[str, str]) -> int:
    # MLflow prints what it has created.
    with mlflow_server.errors(registry=True), quiet_stderr():
        number = int(mlflow.register_model(f"models:/{model_id}", name, tags=dict(tags)).version)
        client = mlflow.MlflowClient()
        # Keep a description that a person has written.
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
    """Return the requirements for serving the model, pinned to the versions installed here."""
    installed = {name.lower() for name in (entry.metadata["Name"] for entry in metadata.distributions())}
    return [f"{name}=={metadata.version(name)}" for name in SERVED_WITH if name in installed]


def _tags(run: RunFolder, bundle: Bundle, pairs: PairIndex) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        SHA256_TAG: manifest.sha256,
        BUNDLE_TAG: sha256(bundle.folder / MANIFEST_FILE),
        SCORES_TAG: sha256(run.evaluation / SCORES_FILE),
        "data.fingerprint": manifest.data_fingerprint,
        "data.held_out_pairs": str(len(pairs.val)),
        "git.revision": manifest.code_revision,
        "parity.max_difference": f"{manifest.parity.max_difference:.3g}",
    }


def _identity(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are equal for two versions of a run with the same files."""
    return {tag: tags[tag] for tag in (BUNDLE_TAG, SCORES_TAG)}
