"""Comparison of runs on the same pairs: gains of each, and runs that can't be compared."""

import json
import shutil

import numpy as np
import pytest

from model.bundle import Bundle, write_manifest
from model.errors import BundleError, ConfigError, DataError, MissingStepError, StorageError
from model.spec import NetworkConfig, Palette, signature
from pipelines.config.schema import EvaluationConfig
from pipelines.data.pairs import fingerprint
from pipelines.evaluation.comparison import COMPARISON_FILE, PAGE_FILE, compare
from pipelines.metrics.scores import Comparison
from pipelines.run_folder import RunFolder
from tests.fixtures.bundles import PALETTE

NETWORK = NetworkConfig(image_size=32, width=2, depth=3)


@pytest.fixture
def make_run(tmp_path, make_bundle, scaling_model, negatives):
    """Return a function that writes the folder of a run: pairs, and a bundle whose generator multiplies."""

    def make(name, factor, *, pairs=negatives, **manifest):
        run = RunFolder(tmp_path / "workspace/runs" / name)
        run.path.mkdir(parents=True)
        pairs.save(run.pairs_file)
        bundle = make_bundle(model=scaling_model(factor, NETWORK), name=name, run_id=name, **manifest)
        shutil.move(bundle, run.bundle)
        return run

    return make


def test_gains_are_measured_over_the_first_run(make_run, tmp_path, negatives):
    runs = [make_run("first", -0.9), make_run("better", -1.0), make_run("worse", -0.5)]
    found = compare(runs, EvaluationConfig(), tmp_path / "out")
    assert found.runs == ("first", "better", "worse") and found.scores.keys() == set(found.runs)
    assert (found.pairs, found.data_fingerprint) == (6, negatives.fingerprint)
    assert found.names == tuple(pair.name for pair in negatives.val)
    assert found.gains.keys() == {"better", "worse"}
    gained, lost = found.gains["better"]["l1"], found.gains["worse"]["l1"]
    assert gained.low > 0 > lost.high
    l1 = {run: scores["l1"].value for run, scores in found.scores.items()}
    assert gained.value == pytest.approx(l1["first"] - l1["better"])
    assert lost.value == pytest.approx(l1["first"] - l1["worse"])
    assert np.mean(found.each["worse"]) == pytest.approx(l1["worse"])
    assert "frechet_lite0" in found.scores["first"] and "frechet_lite0" not in found.gains["better"]


def test_the_folder_holds_numbers_and_a_page(make_run, tmp_path):
    out = tmp_path / "out"
    found = compare([make_run("first", -0.9), make_run("other", -1.0)], EvaluationConfig(), out)
    assert {path.name for path in out.iterdir()} == {COMPARISON_FILE, PAGE_FILE}
    assert Comparison.model_validate_json((out / COMPARISON_FILE).read_text()) == found
    assert "first" in (out / PAGE_FILE).read_text()


@pytest.mark.parametrize("names", [[], ["one"], ["one", "one"]])
def test_fewer_than_two_different_runs_are_refused(make_run, tmp_path, names):
    runs = [make_run(name, -1.0) for name in dict.fromkeys(names)]
    with pytest.raises(ConfigError, match="name two or more different ones"):
        compare([runs[0]] * len(names) if runs else [], EvaluationConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_evaluated_on_its_training_pairs(make_run, tmp_path, negatives):
    train = (*negatives.train, *negatives.val[:2])
    leaky = negatives.model_copy(update={"train": train, "fingerprint": fingerprint(train, negatives.val)})
    with pytest.raises(DataError, match="Run other was trained on 2 of the 6 pairs it would be evaluated on"):
        compare([make_run("first", -1.0), make_run("other", -1.0, pairs=leaky)], EvaluationConfig(), tmp_path / "out")


def test_models_of_different_directions_can_t_be_compared(make_run, tmp_path):
    first, other = make_run("first", -1.0), make_run("other", -1.0)
    manifest = Bundle.open(other.bundle).manifest
    turned = {"direction": "map_to_photo", "signature": signature(NETWORK, "map_to_photo")}
    write_manifest(other.bundle, manifest.model_copy(update=turned))
    with pytest.raises(DataError, match="run first draws photo_to_map at 32 pixels and run other draws map_to_photo"):
        compare([first, other], EvaluationConfig(), tmp_path / "out")


def test_a_run_without_a_model_can_t_be_compared(make_run, tmp_path):
    first, other = make_run("first", -1.0), make_run("other", -1.0)
    shutil.rmtree(other.bundle)
    with pytest.raises(MissingStepError, match="Run other has no exported model"):
        compare([first, other], EvaluationConfig(), tmp_path / "out")


def test_a_folder_with_other_files_is_not_replaced(make_run, tmp_path):
    out, runs = tmp_path / "out", [make_run("first", -0.9), make_run("other", -1.0)]
    out.mkdir()
    compare(runs, EvaluationConfig(), out)
    compare(runs, EvaluationConfig(), out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"out contains notes\.txt, which is not of a comparison and would be lost"):
        compare(runs, EvaluationConfig(), out)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_drawn(make_run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"out can't be written .*: a file is in the way"):
        compare([], EvaluationConfig(), tmp_path / "file" / "out")


def test_a_failed_comparison_leaves_the_earlier_one_in_place(make_run, tmp_path):
    out, runs = tmp_path / "out", [make_run("first", -0.9), make_run("other", -1.0)]
    compare(runs, EvaluationConfig(), out)
    before = json.loads((out / COMPARISON_FILE).read_text())
    (runs[1].bundle / "generator.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match="sha256 differs"):
        compare(runs, EvaluationConfig(), out)
    assert json.loads((out / COMPARISON_FILE).read_text()) == before


def test_all_runs_are_scored_with_the_palette_of_the_first_and_a_note_names_the_others(make_run, tmp_path):
    other = Palette(classes={"lake": ("#aad2f0",), "land": ("#ebe6dc",)})
    runs = [make_run("first", -1.0, palette=PALETTE), make_run("same", -0.9, palette=PALETTE)]
    assert compare(runs, EvaluationConfig(), tmp_path / "same").scores["same"].keys() >= {"mean_iou", "road_f1"}
    runs += [make_run("lakes", -0.9, palette=other), make_run("none", -0.9)]
    notes = compare(runs, EvaluationConfig(), tmp_path / "out").notes
    assert notes[-1] == "Classes are those of run first; lakes and none had another palette when exported."
