"""Addresses and commands of MLflow's pages."""

import mlflow

from pipelines.tracking import mlflow_pages


def test_a_local_run_has_a_page_of_mlflow_ui_in_the_view_of_model_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    experiment = mlflow.create_experiment("maps")
    run_id = mlflow.MlflowClient().create_run(experiment).info.run_id
    assert mlflow_pages.of_run(run_id) == "mlflow ui"
    page = f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
    assert mlflow_pages.address(run_id) == page


def test_a_served_model_and_mlflow_ui_have_different_ports():
    assert mlflow_pages.serve("models:/sat2map@champion").endswith("--port 5001")
    assert ":5000" in mlflow_pages.LOCAL
