"""The seam to MLflow's tracking: one run from training to registration."""

import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from PIL import Image

from model.errors import TrackingError
from pipelines.config import RunConfig
from pipelines.pairs import PairIndex
from pipelines.reports import StepLosses

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("tensorflow", "keras", "ray", "mlflow", "tf2onnx", "onnx", "numpy", "scipy", "pillow")
BATCH = 900
"""Metrics in one request; MLflow's own limit is 1000."""
ANSWER_SECONDS = "10"


@dataclass(frozen=True)
class Run:
    """An MLflow run that is being written."""

    id: str

    def log_losses(self, losses: Iterable[StepLosses]) -> None:
        """Log the named losses of steps, in few requests."""
        metrics = [
            Metric(name, value, int(step.when * 1000), step.step)
            for step in losses
            for name, value in step.losses.items()
        ]
        for start in range(0, len(metrics), BATCH):
            mlflow.MlflowClient().log_batch(self.id, metrics=metrics[start : start + BATCH])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log numbers of one moment."""
        now = int(time.time() * 1000)
        mlflow.MlflowClient().log_batch(
            self.id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()]
        )

    def log_image(self, image: Image.Image, name: str) -> None:
        """Log a picture as a PNG artifact."""
        mlflow.MlflowClient().log_image(self.id, image, artifact_file=name)

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Log a file as an artifact."""
        mlflow.MlflowClient().log_artifact(self.id, str(file), folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for key, value in tags.items():
            mlflow.MlflowClient().set_tag(self.id, key, value)


def connect() -> str:
    """Make sure that the tracking server answers; return its address.

    Raises:
        TrackingError: It does not, or it refuses.
    """
    for name, level in {"alembic": logging.WARNING, "mlflow": logging.WARNING, "urllib3": logging.ERROR}.items():
        logging.getLogger(name).setLevel(level)
    uri = mlflow.get_tracking_uri()
    with _impatient():
        try:
            mlflow.MlflowClient().search_experiments(max_results=1)
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"The MLflow server at {_redact(uri, uri)} does not answer; start it, or set MLFLOW_TRACKING_URI to "
                "one that runs (unset it for a local SQLite file). "
                f"It said: {_redact(' '.join(str(error).split()), uri)[:300]}"
            ) from error
    return uri


@contextmanager
def new_run(config: RunConfig, pairs: PairIndex) -> Iterator[Run]:
    """Begin a run, or go on in the one that `mlflow run` has begun, and log what it starts from."""
    connect()
    if "MLFLOW_RUN_ID" not in os.environ:
        mlflow.set_experiment(config.tracking.experiment)
    with mlflow.start_run(log_system_metrics=True) as active:
        run = Run(active.info.run_id)
        mlflow.log_params(config.flat())
        run.set_tags({"git.revision": git_revision()})
        _log_data(pairs)
        mlflow.log_dict(_environment(), "environment.json")
        mlflow.log_text(config.model_dump_json(indent=2), "config.json")
        yield run


@contextmanager
def continue_run(run_id: str) -> Iterator[Run]:
    """Go on in a run that has ended."""
    connect()
    try:
        active = mlflow.start_run(run_id=run_id)
    except MlflowException as error:
        raise TrackingError(
            f"MLflow at {_redact(mlflow.get_tracking_uri(), mlflow.get_tracking_uri())} does not know run {run_id}; "
            "set MLFLOW_TRACKING_URI to the server that it was trained with."
        ) from error
    with active:
        yield Run(run_id)


def git_revision() -> str:
    """The checked out revision, `-dirty` behind it when files differ; `none` outside a git checkout."""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return "none"
    return answer.stdout.strip() if answer.returncode == 0 else "none"


@contextmanager
def _impatient() -> Iterator[None]:
    """Let a request fail in seconds; MLflow's own retries take minutes."""
    hurry = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": ANSWER_SECONDS}
    before = {key: os.environ.get(key) for key in hurry}
    os.environ.update(hurry)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _redact(text: str, uri: str) -> str:
    """Take the user and the password of `uri` out of a text."""
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(user + at, "") if at else text


def _log_data(pairs: PairIndex) -> None:
    """Log the data as an input of the run: the fingerprint is its digest, which MLflow cuts at 36 characters."""
    source = CodeDatasetSource(tags={"source": pairs.source, "fingerprint": pairs.fingerprint})
    data = MetaDataset(source, name="pairs", digest=pairs.fingerprint[:36])  # type: ignore[abstract]
    mlflow.log_input(data, context="training")
    mlflow.set_tag("data.fingerprint", pairs.fingerprint)
    mlflow.log_params({"data.train_pairs": len(pairs.train), "data.val_pairs": len(pairs.val)})
    if pairs.rejected:
        mlflow.log_params({"data.rejected": len(pairs.rejected)})


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }
