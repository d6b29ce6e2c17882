"""The MLflow server, or the local database: connecting to it, and errors that separate an outage from a rejection."""

import contextlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import mlflow
import mlflow.environment_variables
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from sqlalchemy.exc import SQLAlchemyError

from model.errors import ConfigError, TrackingError
from model.io.addresses import hide_passwords, one_line
from pipelines.config import job
from pipelines.config.held_variables import HeldVariables
from pipelines.tracking import database

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


class UnavailableError(TrackingError):
    """MLflow did not answer or was not able to; the request can be repeated."""


def connect() -> str:
    """Check that MLflow answers, and make its SQLite database if there is none; return its address.

    The address is from then on the same for every process that this one starts, whatever its working directory.

    Raises:
        ConfigError: The run is on a cluster, and MLflow would write to a local file.
        TrackingError: The server does not answer, or rejects the request; or the database can't be used.
    """
    for name, level in LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    _check_variables()
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
            status = _status(error)
            answered = status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR
            found = f"does not answer as one (status {status})" if answered else "does not answer; start it"
            raise _refusal(error, uri) or TrackingError(
                f"The MLflow server at {hide_passwords(uri)} {found}, or set MLFLOW_TRACKING_URI to a running one "
                f"(unset it for a local SQLite file). The error was: {_message(error)}."
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
            f"MLflow server that the cluster can reach (http:// or https://){_without_cluster()}."
        )


def _without_cluster() -> str:
    # In a job, Ray itself sets the address.
    address = "" if job.VARIABLE in os.environ else os.environ.get("RAY_ADDRESS", "")
    return f", or unset RAY_ADDRESS ({hide_passwords(address)}) to train on this machine" if address else ""


@contextmanager
def errors(*, registry: bool = False, large_files: bool = False) -> Iterator[None]:
    """Translate the errors of requests to MLflow, which fail within seconds.

    Args:
        registry: The requests go to the model registry, which MLFLOW_REGISTRY_URI can put on another server.
        large_files: Keep MLflow's own timeouts and retries: a server may take long to store an upload.

    Raises:
        UnavailableError: The server did not answer, or was not able to.
        TrackingError: It rejected the request.
    """
    uri = mlflow.get_registry_uri() if registry else mlflow.get_tracking_uri()
    with contextlib.nullcontext() if large_files else SHORT_TIMEOUTS.held():
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if refusal := _refusal(error, uri):
                raise refusal from error
            status = _status(error)
            if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
                raise UnavailableError(_unavailable(error, uri)) from error
            raise TrackingError(f"MLflow at {hide_passwords(uri)} rejected the request: {_message(error)}.") from error


def _check_variables() -> None:
    """Check the environment variables that MLflow itself reads only when it needs them."""
    for variable in vars(mlflow.environment_variables).values():
        if isinstance(variable, mlflow.environment_variables._EnvironmentVariable):
            try:
                variable.get()  # type: ignore[no-untyped-call]
            except ValueError as error:
                raise ConfigError(f"MLflow can't use a variable: {one_line(error)}; correct or unset it.") from error


def _refusal(error: Exception, uri: str) -> TrackingError | None:
    """Return the error for an address that is a folder, or a server that does not serve the user; None for others."""
    shown = hide_passwords(uri)
    if isinstance(error, UnsupportedModelRegistryStoreURIException | InvalidUrlException):
        return TrackingError(
            f"{shown} is no address of MLflow. Set MLFLOW_TRACKING_URI to a server (http://HOST:5000) or to a database "
            "(sqlite:///mlflow.db), or unset it."
        )
    if urlsplit(uri).scheme in ("", "file") and "file" in str(error) and uri != "databricks":
        return TrackingError(
            f"MLflow would write to the folder {shown}, and MLflow {mlflow.__version__} no longer uses folders. Set "
            "MLFLOW_TRACKING_URI to a server (http://HOST:5000) or to a database (sqlite:///mlflow.db)."
        )
    access = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    match _status(error):
        case HTTPStatus.UNAUTHORIZED:
            return TrackingError(
                f"The MLflow server at {shown} does not know the user, or the password is wrong; {access}."
            )
        case HTTPStatus.FORBIDDEN:
            return TrackingError(
                f"The MLflow server at {shown} does not allow this user to do that ({_message(error)}); ask its owner, "
                f"or {access}."
            )
    return None


def _status(error: Exception) -> int | None:
    """Return the status with which a server has answered, or that MLflow gives an error; None if there is none."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _unavailable(error: Exception, uri: str) -> str:
    return f"MLflow at {hide_passwords(uri)} does not answer: {_message(error)}."


def _message(error: Exception) -> str:
    # SQLAlchemy appends the statement and a link.
    return one_line(str(error).partition("[SQL:")[0])
