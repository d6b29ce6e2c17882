"""The seam to MLflow's model registry: log the ONNX model, make a version, name the challenger."""

from importlib import metadata

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from model.bundle import Bundle
from model.errors import MissingStepError
from model.pixels import to_tensor
from model.progress import quiet_stderr
from model.spec import Frozen, TensorSignature
from pipelines import tracking
from pipelines.dataset import load_all
from pipelines.workspace import RunFolder

CHALLENGER = "challenger"
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


def register(run: RunFolder) -> RegisteredVersion:
    """Log a run's bundle as an ONNX model, register it and point the alias `challenger` at it.

    Raises:
        MissingStepError: The run has not been exported or not been evaluated.
        TrackingError: MLflow does not answer, or does not know the run.
    """
    config, pairs = run.record().config, run.pairs()
    bundle = run.open_bundle()
    if not run.evaluation.is_dir():
        raise MissingStepError(f"Run {run.run_id} has no scores; run `evaluate` first.")
    photos, _ = load_all(pairs.val[:1], side=config.network.image_size, direction=config.data.direction)
    tensors = bundle.manifest.signature
    name = config.tracking.model_name
    with tracking.continue_run(run.run_id) as active:
        active.log_file(run.bundle / "bundle.json", "bundle")
        # MLflow loads the model to try it, and onnxruntime shouts where there is no GPU.
        with quiet_stderr():
            logged = mlflow.onnx.log_model(
                onnx.load(bundle.model_file),
                name="model",
                signature=_signature(tensors),
                input_example={tensors.input: np.round(to_tensor(photos), 4)},
                # Named, so that MLflow does not load the model in a process of its own to find them out.
                pip_requirements=_requirements(),
                registered_model_name=name,
            )
    client = mlflow.MlflowClient()
    version = int(logged.registered_model_version)
    for key, value in _tags(bundle).items():
        client.set_model_version_tag(name, str(version), key, value)
    client.set_registered_model_alias(name, CHALLENGER, str(version))
    return RegisteredVersion(name=name, version=version, run_id=run.run_id)


def _signature(tensors: TensorSignature) -> ModelSignature:
    shape = (-1, *tensors.shape[1:])
    kind = np.dtype(np.float32)
    return ModelSignature(
        inputs=Schema([TensorSpec(kind, shape, tensors.input)]),
        outputs=Schema([TensorSpec(kind, shape, tensors.output)]),
    )


def _requirements() -> list[str]:
    """Pin what serving the model takes, as installed here."""
    installed = {name.lower() for name in (entry.metadata["Name"] for entry in metadata.distributions())}
    return [f"{name}=={metadata.version(name)}" for name in SERVED_WITH if name in installed]


def _tags(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        "model.sha256": manifest.sha256,
        "data.fingerprint": manifest.data_fingerprint,
        "git.revision": manifest.code_revision,
        "parity.max_difference": f"{manifest.parity.max_difference:.3g}",
    }
