"""Contents of a run in MLflow."""

import re
from pathlib import Path
from urllib.parse import unquote

import mlflow
import pytest
from PIL import Image

from model import provenance
from model.errors import TrackingError
from model.spec import LOSSES
from pipelines.data.pairs import PairIndex
from pipelines.metrics.scores import Scores, headline
from pipelines.tracking import mlflow_runs, run_page
from pipelines.workspace import Workspace


@pytest.fixture(scope="module")
def run(finished_flow):
    return Workspace(finished_flow.workspace).run()


@pytest.fixture
def client(finished_flow, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished_flow.tracking_uri)
    return mlflow.MlflowClient()


def test_settings_and_data_are_logged(client, run):
    logged = client.get_run(run.run_id)
    assert logged.info.status == "FINISHED"
    settings = run.record().config.flat()
    assert settings.items() <= logged.data.params.items()
    assert logged.data.params["data.source"] == "sample"
    (dataset,) = logged.inputs.dataset_inputs
    assert PairIndex.load(run.pairs_file).fingerprint.startswith(dataset.dataset.digest)
    assert logged.data.tags["data.fingerprint"] == PairIndex.load(run.pairs_file).fingerprint
    assert logged.data.tags["git.revision"] == provenance.git_revision()


def test_every_named_loss_is_logged_at_every_step(client, run):
    steps = run.record().steps
    assert steps == 24
    for name in LOSSES:
        assert [metric.step for metric in client.get_metric_history(run.run_id, name)] == list(range(1, steps + 1))
    history = {name: client.get_metric_history(run.run_id, name) for name in LOSSES}
    terms, weight = ("", "adversarial_", "l1_", "colour_"), run.config().training.adversarial_weight
    for total, adversarial, l1, colour in zip(*(history[f"generator_{name}loss"] for name in terms), strict=True):
        assert total.value == pytest.approx(weight * adversarial.value + 100 * l1.value + 2 * colour.value, rel=1e-4)


def test_input_wait_is_logged_for_every_epoch(client, run):
    waits = client.get_metric_history(run.run_id, "input_wait")
    assert [wait.step for wait in waits] == [6, 12, 18, 24]
    assert all(0 <= wait.value < 1 for wait in waits)


def test_metrics_are_losses_held_out_scores_speed_and_the_scores_of_the_model(client, run):
    metrics = client.get_run(run.run_id).data.metrics
    found = Scores.model_validate_json((run.evaluation / "scores.json").read_text())
    assert found.metrics().items() <= metrics.items() and metrics["images_per_second"] > 0
    others = {name for name in metrics if not name.startswith(("scores/", "system/"))}
    speed = {"images_per_second", "input_wait", "training_seconds", "training_images_per_second"}
    assert others == {*LOSSES, "val_l1", "val_ssim", *speed}
    assert len(metrics) - sum(name.startswith("system/") for name in metrics) < 35


def test_the_run_is_described_with_its_scores_data_and_files(client, run, tmp_path):
    note = client.get_run(run.run_id).data.tags["mlflow.note.content"]
    found = Scores.model_validate_json((run.evaluation / "scores.json").read_text())
    assert note.startswith(f"<!-- written by sat2map -->\n**{headline(found)}**")
    assert f"| **this model** | &emsp;{found.model['ssim'].value:.4f} [" in note and "| mean map |" in note
    assert "`sample`, 24 training pairs and 6 held out" in note and "6 levels, 4 filters" in note
    for address in re.findall(r"get-artifact\?path=(\S+?)&run_uuid=" + run.run_id, note):
        assert Path(client.download_artifacts(run.run_id, unquote(address), str(tmp_path))).stat().st_size > 100
    assert "evaluation%2Freport.html" in note and "evaluation%2Fcard.png" in note


def test_a_description_that_a_person_has_written_stays(client, run):
    written = client.get_run(run.run_id).data.tags["mlflow.note.content"]
    run_page.describe(run.run_id, "Better.")
    assert client.get_run(run.run_id).data.tags["mlflow.note.content"] == "<!-- written by sat2map -->\nBetter."
    client.set_tag(run.run_id, "mlflow.note.content", "Mine.")
    run_page.describe(run.run_id, "Better.")
    assert client.get_run(run.run_id).data.tags["mlflow.note.content"] == "Mine."
    client.set_tag(run.run_id, "mlflow.note.content", written)


def test_the_experiment_is_shown_as_model_training(client, run):
    experiment = client.get_experiment(client.get_run(run.run_id).info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_run_is_tagged_with_the_baselines_it_loses_to(client, run):
    tag = client.get_run(run.run_id).data.tags["evaluation.loses_to"]
    found = Scores.model_validate_json((run.evaluation / "scores.json").read_text())
    assert tag == (", ".join(f"{baseline}/{name}" for baseline, name in found.lost()) or "nothing")


def test_only_scores_of_the_official_network_are_called_fid_or_inception_score(client, run):
    names = {part for key in client.get_run(run.run_id).data.metrics for part in key.lower().split("/")}
    assert not {name for name in names if name.startswith(("fid", "inception"))}


def test_artifacts_are_listed_and_can_be_downloaded(client, run, tmp_path):
    def names(folder):
        return {artifact.path for artifact in client.list_artifacts(run.run_id, folder)}

    assert names("sheets") == {"sheets/epoch-0002.png", "sheets/epoch-0004.png"}
    assert names("evaluation") == {
        f"evaluation/{name}" for name in ("card.png", "pairs.csv", "report.html", "scores.json", "sheet.png")
    }
    assert names("keras") == {"keras/generator.keras", "keras/discriminator.keras"}
    assert {"environment.json", "config.json"} <= names("")
    with Image.open(client.download_artifacts(run.run_id, "sheets/epoch-0004.png", str(tmp_path))) as sheet:
        assert sheet.size == (3 * 64 + 4 * 8, 30 + 6 * (64 + 8))


def test_unknown_run_is_refused(client):
    with (
        pytest.raises(TrackingError, match="does not know run 1234abcd; set MLFLOW_TRACKING_URI"),
        mlflow_runs.continue_run("1234abcd"),
    ):
        pass
