"""The complete flow, run once by `mlflow run`, and the use of its results."""

import csv
import json
import shlex
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from model.bundle import Bundle
from model.pixels import to_pixels, to_tensor
from model.translator import Translator
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.metrics.scores import Scores
from pipelines.tracking.loss_curve import LossCurve
from pipelines.training.checkpoints.checkpoint_manifest import read_manifest
from pipelines.workspace import Workspace
from tests.fixtures import html_pages
from tests.fixtures.flow import MODEL, WORKSPACE, next_commands


@pytest.fixture(scope="module")
def run(finished_flow):
    return Workspace(finished_flow.workspace).run()


def test_the_summary_names_results_files_and_next_commands(finished_flow, run):
    for words in (
        "The model is trained, evaluated and registered",
        f"{WORKSPACE}/runs/{run.run_id}/evaluation/report.html",
        run.run_id,
        "version 1",
        "challenger",
    ):
        assert words in finished_flow.output
    for words in ("this model", "median colour", "mean map", "input copied", "6 held-out pairs", "SSIM", "PSNR", "L1"):
        assert words in finished_flow.output
    workspace = f"'workspace={WORKSPACE}'"
    commands = next_commands(finished_flow.output)
    assert commands.pop("activate once").endswith("/bin/activate")
    assert commands == {
        "see the run": "mlflow ui",
        "make it the champion": (
            f"sat2map promote 1 --set 'workspace={WORKSPACE} promotion.beats=[] tracking.model_name={MODEL}'"
        ),
        "train on your pairs": (
            f"sat2map main --set data.source=FOLDER --set 'workspace={WORKSPACE} tracking.model_name={MODEL}'"
        ),
        "draw maps": f"sat2map score PHOTOS MAPS --set {workspace}",
        "serve it": f"mlflow models serve -m 'models:/{MODEL}@challenger' --env-manager local --port 5001",
    }


def test_the_run_is_in_the_experiment_of_the_settings(finished_flow, run, monkeypatch):
    """Without --experiment-name, `mlflow run` begins a run of its own in `Default`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished_flow.tracking_uri)
    assert mlflow.get_experiment(mlflow.get_run(run.run_id).info.experiment_id).name == "sat2map"
    [begun] = mlflow.search_runs(experiment_names=["Default"], output_format="list")
    assert begun.data.tags["sat2map.run"] == run.run_id and begun.info.status == "FINISHED"


def test_no_noise_of_libraries_is_printed(finished_flow):
    for noise in ("absl", "oneDNN", "cuInit", "Traceback", "libcublas", "(pid=", "Controller actor state"):
        assert noise not in finished_flow.output


def test_the_bundle_draws_the_maps_of_the_evaluation(run):
    bundle = Bundle.open(run.bundle)
    assert bundle.manifest.parity.max_difference <= 1e-4
    assert bundle.manifest.parity.photos == 6
    assert bundle.manifest.run_id == run.run_id
    assert bundle.manifest.data_fingerprint == PairIndex.load(run.pairs_file).fingerprint
    photos, _ = load_all(PairIndex.load(run.pairs_file).val, side=64, direction="photo_to_map")
    drawn = Translator(bundle, variant="fp32")(photos)
    for pair, image in zip(PairIndex.load(run.pairs_file).val, drawn, strict=True):
        assert np.array_equal(np.asarray(Image.open(run.evaluation / "maps" / f"{pair.name}.png")), image)


def test_the_model_keeps_the_contract_for_services(run):
    session = onnxruntime.InferenceSession(run.bundle / "generator.onnx", providers=["CPUExecutionProvider"])
    (photo,), (street_map,) = session.get_inputs(), session.get_outputs()
    assert (photo.name, photo.type, photo.shape) == ("photo", "tensor(float)", ["batch", 64, 64, 3])
    assert (street_map.name, street_map.type, street_map.shape) == ("map", "tensor(float)", ["batch", 64, 64, 3])
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 3)).astype(np.float32)
    (drawn,) = session.run(None, {"photo": noise})
    assert drawn.shape == noise.shape
    assert np.abs(drawn).max() <= 1
    (single,) = session.run(None, {"photo": noise[1:2]})
    np.testing.assert_allclose(drawn[1:2], single, atol=1e-5)


def test_scores_list_baselines_classes_and_number_of_pairs(run):
    scores = Scores.model_validate_json((run.evaluation / "scores.json").read_text())
    assert scores.pairs == 6
    assert scores.model.keys() >= {
        "ssim",
        "psnr",
        "l1",
        "within_5",
        "frechet_lite0",
        "kernel_lite0",
        "mean_iou",
        "road_f1",
    }
    assert scores.baselines.keys() == {"median_colour", "mean_map", "source_copied", "nearest_map"}
    assert {kind.name for kind in scores.classes} >= {"road", "water", "park", "ground"}
    assert all(table.keys() == scores.model.keys() for table in scores.baselines.values())
    assert scores.model_sha256 == Bundle.open(run.bundle).manifest.sha256


def test_the_table_of_pairs_averages_to_the_scores(run):
    with (run.evaluation / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = Scores.model_validate_json((run.evaluation / "scores.json").read_text())
    assert [row["pair"] for row in rows] == list(scores.names)
    for name in ("l1", "ssim", "within_5"):
        assert np.mean([float(row[name]) for row in rows]) == pytest.approx(scores.model[name].value, rel=1e-5)
    assert {"mean_iou", "edge_f1"} <= rows[0].keys()


def test_the_report_plots_the_held_out_scores_of_all_checkpoints(run):
    """The newest checkpoint carries the scores of all four, of which fewer are kept."""
    scores = LossCurve.newest(run.checkpoints).scores
    assert list(scores) == [6, 12, 18, 24]
    kept = {read_manifest(folder).position.step: read_manifest(folder).scores for folder in run.checkpoints.iterdir()}
    assert 24 in kept and len(kept) < 4 and all(scores[step] == found for step, found in kept.items())
    report = html_pages.read((run.evaluation / "report.html").read_text())
    panels = {html_pages.text(panel.figcaption): panel for panel in report.select("#training ~ .charts figure.chart")}
    for title in ("Held-out pairs: L1, in levels of 255", "Held-out pairs: SSIM"):
        assert len(panels[title].select("circle")) == 4


def test_export_evaluate_and_register_can_be_repeated_as_printed(finished_flow, run):
    before = json.loads((run.bundle / "bundle.json").read_text())
    exported = finished_flow.sat2map("export", "--set", f"workspace={WORKSPACE}")
    assert exported.returncode == 0, exported.stderr
    assert json.loads((run.bundle / "bundle.json").read_text())["signature"] == before["signature"]
    evaluated = finished_flow.shell(f"{next_commands(exported.stdout)['evaluate it']} --json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["pairs"] == 6
    registered = finished_flow.shell(f"sat2map register --set 'workspace={WORKSPACE}' --set tracking.model_name=again")
    assert registered.returncode == 0, registered.stderr
    line = next_commands(registered.stdout)["make it the champion"]
    assert line == f"sat2map promote 1 --set 'workspace={WORKSPACE} promotion.beats=[] tracking.model_name=again'"


def test_score_draws_a_folder_of_photos_and_reports_the_broken_one(finished_flow, run):
    photos = finished_flow.folder / "photos"
    photos.mkdir()
    sources, _ = load_all(PairIndex.load(run.pairs_file).val[:2], side=64, direction="photo_to_map")
    for number, source in enumerate(sources):
        Image.fromarray(source).save(photos / f"{number}.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    done = finished_flow.shell(
        next_commands(finished_flow.output)["draw maps"].replace("PHOTOS", "photos").replace("MAPS", "maps")
    )
    assert done.returncode == 4, done.stderr
    assert "Maps: 2 drawn in" in done.stdout and "1 failed" in done.stdout
    assert "broken.jpg" in done.stderr
    drawn = Translator(Bundle.open(run.bundle))(sources)
    for number in range(2):
        assert np.array_equal(np.asarray(Image.open(finished_flow.folder / "maps" / f"{number}.png")), drawn[number])
    with (finished_flow.folder / "maps" / "manifest.csv").open(newline="") as file:
        rows = {Path(row["source"]).name: row for row in csv.DictReader(file)}
    assert rows["0.png"]["model"] == f"runs:/{run.run_id}" and "broken" in rows["broken.jpg"]["error"]


def test_every_variant_is_in_the_bundle_or_left_out_with_a_reason(run):
    manifest = Bundle.open(run.bundle).manifest
    assert {*manifest.variants, *manifest.left_out} == {"fp16", "int8", "int8-openvino"}
    assert manifest.variants["fp16"].ssim > 0.99
    for variant in manifest.variants.values():
        assert variant.ssim >= 0.98 and max(variant.losses.values()) <= 0.01 and variant.photos == 6
    assert manifest.palette is not None and "road" in manifest.palette.classes


def test_mlflow_serves_the_registered_model(finished_flow, run):
    """Before the promotion, which removes the alias `challenger`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = shlex.split(next_commands(finished_flow.output)["serve it"])
    with (finished_flow.folder / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=finished_flow.folder,
            env=finished_flow.environment,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/ping", server)
        photos, _ = load_all(PairIndex.load(run.pairs_file).val[:1], side=64, direction="photo_to_map")
        body = json.dumps({"inputs": {"photo": to_tensor(photos).tolist()}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            drawn = np.array(json.load(answer)["predictions"]["map"], np.float32)
        assert np.array_equal(to_pixels(drawn), Translator(Bundle.open(run.bundle), variant="fp32")(photos))
    finally:
        server.terminate()
        server.wait(30)


def test_a_champion_is_promoted_and_pulled_and_another_is_refused(finished_flow, run):
    promoted = finished_flow.shell(next_commands(finished_flow.output)["make it the champion"])
    assert promoted.returncode == 0, promoted.stderr
    assert f"{MODEL} version 1 is now the champion" in promoted.stdout
    pulled = finished_flow.shell(next_commands(promoted.stdout)["download it"])
    assert pulled.returncode == 0, pulled.stderr
    assert next_commands(pulled.stdout)["draw maps"] == "sat2map score PHOTOS MAPS --model champion"
    champion = Bundle.open(finished_flow.folder / "champion").manifest
    assert champion.run_id == run.run_id and champion.data_fingerprint == PairIndex.load(run.pairs_file).fingerprint
    again = ("--set", f"workspace={WORKSPACE} tracking.model_name=again")
    assert finished_flow.sat2map("register", *again).returncode == 0
    refused = finished_flow.sat2map("promote", "1", *again, "--set", "promotion.max_parity=1e-12", "--json")
    advice = 'To make it the champion regardless: --force --reason "..."\n  ✗ '
    assert refused.returncode == 3 and f"was not promoted; no alias was moved. {advice}" in refused.stderr
    answer = json.loads(refused.stdout)
    assert (answer["error"]["kind"], answer["error"]["exit_code"]) == ("promotion_refused", 3)
    assert answer["decision"] == "refused" and not all(gate["passed"] for gate in answer["judgement"]["gates"])
    back = finished_flow.sat2map("rollback", "--set", f"tracking.model_name={MODEL}")
    assert back.returncode == 2 and "no previous champion" in back.stderr


def _wait_for(address, server):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has exited"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server does not answer")
