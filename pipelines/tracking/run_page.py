"""Texts and views of MLflow's pages, which are tags of runs and experiments; those that a person has set stay."""

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

GENERATED = "<!-- written by sat2map -->"
"""First line of a description that no person has written; MLflow's page does not show it."""
TRAINING_VIEW = ("mlflow.experimentKind", "custom_model_development")
"""Tag of an experiment that is shown as model training; without it, some versions of MLflow show an LLM application."""


def describe(run_id: str, text: str) -> None:
    """Set the Markdown on a run's page, in place of an earlier generated one."""
    client = mlflow.MlflowClient()
    if client.get_run(run_id).data.tags.get(MLFLOW_RUN_NOTE, GENERATED).startswith(GENERATED):
        client.set_tag(run_id, MLFLOW_RUN_NOTE, f"{GENERATED}\n{text}")


def show_as_training(run_id: str) -> None:
    """Tag the experiment of a run as model training, unless its view has been chosen."""
    client, (key, value) = mlflow.MlflowClient(), TRAINING_VIEW
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    if key not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, key, value)
