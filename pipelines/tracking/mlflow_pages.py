"""MLflow's pages and commands, as they are printed for the user."""

import os
import shlex

import mlflow
from mlflow.utils.file_utils import path_to_local_sqlite_uri

from model.io.addresses import hide_passwords
from pipelines.tracking import mlflow_server

SERVERS = ("http://", "https://")
LOCAL = "http://127.0.0.1:5000"
"""Address of `mlflow ui`."""
SERVING_PORT = 5001
"""Port of a served model, so that `mlflow ui` can run at the same time."""


def address(run_id: str) -> str:
    """Return the address of a run's page, in the view of model training; a local database needs `mlflow ui` for it."""
    uri = mlflow.get_tracking_uri()
    pages = hide_passwords(uri).rstrip("/") if uri.startswith(SERVERS) else LOCAL
    with mlflow_server.errors():
        experiment = mlflow.MlflowClient().get_run(run_id).info.experiment_id
    # Without it, MLflow 3.17 opens its view of LLM applications, whatever the experiment's tags are.
    return f"{pages}/#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"


def of_run(run_id: str) -> str:
    """Return the address of a run's page on a server, or the command that starts a server for a local database."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith(SERVERS):
        return address(run_id)
    if uri == path_to_local_sqlite_uri(os.path.abspath("mlflow.db")):  # type: ignore[no-untyped-call]
        # Its own default, which does not depend on MLFLOW_TRACKING_URI.
        return "mlflow ui"
    # A password must not be printed.
    store = shlex.quote(uri) if hide_passwords(uri) == uri else '"$MLFLOW_TRACKING_URI"'
    return f"mlflow ui --backend-store-uri {store}"


def serve(model_uri: str) -> str:
    """Return the command that serves a registered model over HTTP."""
    words = ["mlflow", "models", "serve", "-m", model_uri, "--env-manager", "local", "--port", str(SERVING_PORT)]
    return shlex.join(words)
