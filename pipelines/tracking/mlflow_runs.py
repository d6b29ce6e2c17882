"""MLflow runs: one run from training to registration."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mlflow
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LifecycleStage, Metric
from mlflow.exceptions import MlflowException
from PIL import Image

from model.errors import Stopped, TrackingError
from model.io.addresses import hide_passwords
from model.provenance import git_revision
from model.spec import LOSSES
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.tracking import mlflow_server, project_run, run_page
from pipelines.tracking.loss_curve import StepLosses

PACKAGES = ("tensorflow", "keras", "ray", "mlflow", "tf2onnx", "onnx", "numpy", "scipy", "pillow")
BATCH = 150 * len(LOSSES)
"""Metrics in one request, which MLflow logs completely or not at all; its own limit is 1000."""


@dataclass(frozen=True)
class Run:
    """An active MLflow run."""

    id: str

    def last_step(self, metric: str) -> int:
        """Return the last step at which a metric was logged, 0 if it never was."""
        history = mlflow.MlflowClient().get_metric_history(self.id, metric)
        return max((metric.step for metric in history), default=0)

    def log_losses(self, losses: Iterable[StepLosses]) -> None:
        """Log the losses of steps in few requests, each step in the order of LOSSES; repeating it changes nothing."""
        metrics = [
            Metric(name, step.losses[name], int(step.when * 1000), step.step)
            for step in losses
            for name in LOSSES
            if name in step.losses
        ]
        for start in range(0, len(metrics), BATCH):
            mlflow.MlflowClient().log_batch(self.id, metrics=metrics[start : start + BATCH])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0, when: float | None = None) -> None:
        """Log metrics with a time in seconds since 1970, by default now."""
        now = int((when or time.time()) * 1000)
        mlflow.MlflowClient().log_batch(
            self.id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()]
        )

    def log_image(self, image: Image.Image, name: str) -> None:
        """Log an image as a PNG artifact."""
        mlflow.MlflowClient().log_image(self.id, image, artifact_file=name)

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Log a file as an artifact."""
        mlflow.MlflowClient().log_artifact(self.id, str(file), folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for key, value in tags.items():
            mlflow.MlflowClient().set_tag(self.id, key, value)


@contextmanager
def new_run(config: RunConfig, pairs: PairIndex) -> Iterator[Run]:
    """Begin a run, or continue the one begun by `mlflow run`; log its settings and data.

    Call `mlflow_server.connect` first.
    """
    with _run_status(project_run.begin(config.tracking.experiment)) as run:
        run_page.show_as_training(run.id)
        # `mlflow run` has logged its own parameters, such as `workspace`; parameters can't be changed.
        logged = mlflow.get_run(run.id).data.params
        mlflow.log_params({key: value for key, value in config.flat().items() if key not in logged})
        run.set_tags({"git.revision": git_revision()})
        _log_data(pairs)
        mlflow.log_dict(_environment(), "environment.json")
        mlflow.log_text(config.model_dump_json(indent=2), "config.json")
        yield run


@contextmanager
def trial_run(parent: str, name: str, run_id: str | None, config: RunConfig) -> Iterator[Run]:
    """Begin the nested run of a trial, or continue it; a trial that is stopped early ends as KILLED."""
    if run_id is not None:
        with _existing_run(run_id) as run:
            yield run
        return
    mlflow_server.connect()
    # Of the process that has started this worker: MLflow would continue that run.
    os.environ.pop("MLFLOW_RUN_ID", None)
    experiment = mlflow.get_run(parent).info.experiment_id
    active = mlflow.start_run(experiment_id=experiment, run_name=name, parent_run_id=parent)
    with _run_status(active) as run:
        mlflow.log_params(config.flat())
        yield run


def end_trials(parent: str, finished: Container[str]) -> None:
    """End the nested runs: those named in `finished` as FINISHED, others as KILLED; failed ones stay FAILED."""
    experiment = mlflow.get_run(parent).info.experiment_id
    nested = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status != 'FAILED'"
    for run in mlflow.MlflowClient().search_runs([experiment], nested, max_results=1000):
        status = "FINISHED" if run.info.run_name in finished else "KILLED"
        mlflow.MlflowClient().set_terminated(run.info.run_id, status)


@contextmanager
def resumed_run(run_id: str, changes: Mapping[str, str]) -> Iterator[Run]:
    """Resume the training of a run; changed settings are recorded in the tag `resumed.settings`."""
    with _existing_run(run_id, log_system_metrics=True) as run:
        run.set_tags({"resumed.git.revision": git_revision(), "resumed.settings": json.dumps(changes)})
        yield run


@contextmanager
def continue_run(run_id: str) -> Iterator[Run]:
    """Add to a run whose training has ended; its status stays as it is, whatever happens in the block."""
    uri = mlflow_server.connect_to_existing()
    with _unknown_run(run_id, uri):
        found = mlflow.get_run(run_id).info
        if found.lifecycle_stage == LifecycleStage.DELETED:
            raise TrackingError(
                f"Run {run_id} has been deleted; restore it with: mlflow runs restore --run-id {run_id}"
            )
    yield Run(run_id)


@contextmanager
def _existing_run(run_id: str, *, log_system_metrics: bool = False) -> Iterator[Run]:
    uri = mlflow_server.connect_to_existing()
    with _unknown_run(run_id, uri):
        active = mlflow.start_run(run_id=run_id, log_system_metrics=log_system_metrics or None)
    with _run_status(active) as run:
        yield run


@contextmanager
def _unknown_run(run_id: str, uri: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise TrackingError(
            f"MLflow at {hide_passwords(uri)} does not know run {run_id}; "
            "set MLFLOW_TRACKING_URI to the server that it was trained with."
        ) from error


@contextmanager
def _run_status(active: mlflow.ActiveRun) -> Iterator[Run]:
    """End the run as FINISHED, as KILLED if it was stopped, or as FAILED after any other error."""
    try:
        yield Run(active.info.run_id)
    except BaseException as error:
        # An unreachable server must not hide the error.
        with contextlib.suppress(mlflow_server.UnavailableError), mlflow_server.errors():
            mlflow.end_run("KILLED" if isinstance(error, Stopped | KeyboardInterrupt | SystemExit) else "FAILED")
        raise
    with mlflow_server.errors():
        mlflow.end_run("FINISHED")


def _log_data(pairs: PairIndex) -> None:
    """Log the data as an input of the run; its digest is the fingerprint, which MLflow limits to 36 characters."""
    source = CodeDatasetSource(tags={"source": pairs.source, "fingerprint": pairs.fingerprint})
    data = MetaDataset(source, name="pairs", digest=pairs.fingerprint[:36])  # type: ignore[abstract]
    mlflow.log_input(data, context="training")
    mlflow.set_tag("data.fingerprint", pairs.fingerprint)
    mlflow.log_params({"data.train_pairs": len(pairs.train), "data.val_pairs": len(pairs.val)})
    if pairs.rejected:
        mlflow.log_params({"data.rejected": len(pairs.rejected)})


def _environment() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }
