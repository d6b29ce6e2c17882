"""MLflow runs: one run from training to registration, with errors that separate an outage from a rejection."""

import contextlib
import json
import logging
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
from sqlalchemy.exc import SQLAlchemyError

from model.errors import ConfigError, Stopped, TrackingError
from model.io.addresses import hide_passwords
from model.provenance import git_revision
from model.spec import LOSSES
from pipelines.config.held_variables import HeldVariables
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.tracking import database, project_run, run_page
from pipelines.tracking.loss_curve import StepLosses

PACKAGES = ("tensorflow", "keras", "ray", "mlflow", "tf2onnx", "onnx", "numpy", "scipy", "pillow")
BATCH = 150 * len(LOSSES)
"""Metrics in one request, which MLflow logs completely or not at all; its own limit is 1000."""
LOG_LEVELS = {
    "alembic": logging.WARNING,
    "mlflow": logging.WARNING,
    # It logs the traceback of every error of the database, which is raised as well.
    "mlflow.store.db.utils": logging.CRITICAL,
    "urllib3": logging.ERROR,
}
SHORT_TIMEOUTS = HeldVariables({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"})
"""Settings with which requests fail within seconds. MLflow's own retries take minutes, and its client reads both
settings only from the environment, at every request."""


class ServerUnavailableError(TrackingError):
    """MLflow did not answer or was not able to; the request can be repeated."""


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
            Metric(name, step.losses[name], int(step.when * 1000), step.step) for step in losses for name in LOSSES
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


def connect() -> str:
    """Check that MLflow answers, and make its SQLite database if there is none; return its address.

    The address is from then on the same for every process that this one starts, whatever its working directory.

    Raises:
        ConfigError: The run is on a cluster, and MLflow would write to a local file.
        TrackingError: The server does not answer, or rejects the request; or the database can't be used.
    """
    for name, level in LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    if os.environ.get("RAY_ADDRESS", "") not in ("", "local"):
        check_shared()
    uri = os.environ["MLFLOW_TRACKING_URI"] = database.absolute(mlflow.get_tracking_uri())
    if "MLFLOW_REGISTRY_URI" in os.environ:
        os.environ["MLFLOW_REGISTRY_URI"] = database.absolute(os.environ["MLFLOW_REGISTRY_URI"])
    if hide_passwords(uri) != uri:
        # MLflow would print the run's address with the password in it, at any time until this process ends.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    with SHORT_TIMEOUTS.held(), database.ready(uri):
        try:
            mlflow.MlflowClient().search_experiments(max_results=1)
        except ImportError as error:
            raise TrackingError(
                f"MLflow needs the Python package {error.name} for {hide_passwords(uri)}; install it, or change "
                "MLFLOW_TRACKING_URI."
            ) from error
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingError(
                f"The MLflow server at {hide_passwords(uri)} does not answer; start it, or set MLFLOW_TRACKING_URI to "
                f"a running one (unset it for a local SQLite file). The error was: {_message(error)}"
            ) from error
    return uri


def connect_to_existing() -> str:
    """Connect like `connect`, but never create a database: for commands that need a run or a model that exists.

    Raises:
        MissingStepError: There is no database.
        Sat2mapError: As for `connect`.
    """
    database.check_exists(mlflow.get_tracking_uri())
    return connect()


def check_shared() -> None:
    """Check that MLflow can track a run on a Ray cluster.

    Raises:
        ConfigError: MLflow's address is SQLite or a folder, as it is by default if MLFLOW_TRACKING_URI is not set.
    """
    uri = mlflow.get_tracking_uri()
    # A bare word such as `databricks` names a service; a bare path is a folder.
    if uri.startswith(("sqlite:", "file:", "/", ".")):
        raise ConfigError(
            f"MLflow would write to {uri}, and a run on a cluster can't be tracked in a local file: other nodes can't "
            "write to it, and in a job's working directory it is lost with the job. Set MLFLOW_TRACKING_URI to an "
            "MLflow server that the cluster can reach (http:// or https://)."
        )


@contextmanager
def new_run(config: RunConfig, pairs: PairIndex) -> Iterator[Run]:
    """Begin a run, or continue the one begun by `mlflow run`; log its settings and data. Call `connect` first."""
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
    connect()
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
    uri = connect_to_existing()
    with _unknown_run(run_id, uri):
        found = mlflow.get_run(run_id).info
        if found.lifecycle_stage == LifecycleStage.DELETED:
            raise TrackingError(
                f"Run {run_id} has been deleted; restore it with: mlflow runs restore --run-id {run_id}"
            )
    yield Run(run_id)


@contextmanager
def server_errors(*, large_files: bool = False) -> Iterator[None]:
    """Translate the errors of requests to MLflow, which fail within seconds.

    Args:
        large_files: Keep MLflow's own timeouts and retries: a server may take long to store an upload.

    Raises:
        ServerUnavailableError: The server did not answer, or was not able to.
        TrackingError: It rejected the request.
    """
    uri = mlflow.get_tracking_uri()
    with contextlib.nullcontext() if large_files else SHORT_TIMEOUTS.held():
        try:
            yield
        except MlflowException as error:
            status = error.get_http_status_code()  # type: ignore[no-untyped-call]
            if status >= 500 or status == 429:
                raise ServerUnavailableError(_unavailable(error, uri)) from error
            raise TrackingError(f"MLflow at {hide_passwords(uri)} rejected the request: {_message(error)}") from error
        except (SQLAlchemyError, OSError) as error:
            raise ServerUnavailableError(_unavailable(error, uri)) from error


@contextmanager
def _existing_run(run_id: str, *, log_system_metrics: bool = False) -> Iterator[Run]:
    uri = connect_to_existing()
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
        with contextlib.suppress(ServerUnavailableError), server_errors():
            mlflow.end_run("KILLED" if isinstance(error, Stopped | KeyboardInterrupt | SystemExit) else "FAILED")
        raise
    with server_errors():
        mlflow.end_run("FINISHED")


def _unavailable(error: Exception, uri: str) -> str:
    return f"MLflow at {hide_passwords(uri)} does not answer: {_message(error)}"


def _message(error: Exception) -> str:
    # SQLAlchemy appends the statement and a link.
    return hide_passwords(" ".join(str(error).partition("[SQL:")[0].split()))[:300]


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
