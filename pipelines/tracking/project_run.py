"""The MLflow run of a training: a new one in the experiment of the settings, or the one that `mlflow run` has begun."""

import os

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from pipelines.config.schema import TrackingConfig

UNNAMED = "Default"
"""Experiment in which `mlflow run` begins runs without --experiment-name."""
TRAINED = "sat2map.run"
"""Tag of a run of `mlflow run` with the id of the run that it has trained."""


def begin(experiment: str) -> mlflow.ActiveRun:
    """Begin a run in an experiment, or continue the run that `mlflow run` has begun there.

    A run that it has begun in another experiment is only tagged with the new run's id, unless that experiment was named
    on its command line and `tracking.experiment` was not set.
    """
    # MLflow would continue it in any run that this process or its workers begin.
    begun = os.environ.pop("MLFLOW_RUN_ID", "")
    if begun and _belongs_to(experiment, begun):
        return mlflow.start_run(run_id=begun, log_system_metrics=True)
    mlflow.set_experiment(experiment)
    active = mlflow.start_run(log_system_metrics=True)
    if begun:
        note = f"This run was begun by `mlflow run`; its training is run {active.info.run_id} in {experiment}."
        for key, value in {TRAINED: active.info.run_id, MLFLOW_RUN_NOTE: note}.items():
            mlflow.MlflowClient().set_tag(begun, key, value)
    return active


def _belongs_to(experiment: str, run_id: str) -> bool:
    begun_in = mlflow.get_experiment(mlflow.get_run(run_id).info.experiment_id).name
    unset = experiment == TrackingConfig.model_fields["experiment"].default
    return begun_in == experiment or (unset and begun_in != UNNAMED)
