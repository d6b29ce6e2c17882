"""Training with real Ray workers: two of them, and one that fails."""

import json

import mlflow
import numpy as np
import pytest

from pipelines.data.pairs import PairIndex
from pipelines.training.checkpoints.checkpoint import ARRAYS
from pipelines.workspace import Workspace

TWO_WORKERS = "training.workers=2 training.cpus_per_worker=1 training.epochs=2 training.checkpoint_every=1"


def test_two_workers_train_one_model(prepared):
    done = prepared.sat2map("train", "--set", TWO_WORKERS, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    # 10 pairs make 2 batches of 5, over both workers together.
    assert record["steps"] == 4
    assert "epoch 2/2" in done.stderr
    run = Workspace(prepared.folder / "workspace").run()
    assert run.generator.is_file()
    source = str(prepared.folder / "pairs")
    assert run.config().data.source == PairIndex.load(run.pairs_file).source == source
    assert mlflow.get_run(record["run_id"]).data.params["data.source"] == source
    losses = mlflow.MlflowClient().get_metric_history(record["run_id"], "generator_loss")
    assert [loss.step for loss in losses] == [1, 2, 3, 4]
    assert all(np.isfinite(loss.value) for loss in losses)
    checkpoints = [path for path in run.checkpoints.iterdir() if path.is_dir()]
    assert len(checkpoints) == 2
    newest = json.loads((max(checkpoints) / "checkpoint.json").read_text())
    assert {name: newest["position"][name] for name in ("epoch", "step", "seen")} == {"epoch": 2, "step": 4, "seen": 0}


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["sync_batch", "instance"])
def test_two_workers_reach_the_weights_of_one(make_prepared, norm):
    weights = []
    for workers in (1, 2):
        prepared = make_prepared(f"workers-{workers}")
        settings = f"training.epochs=3 network.dropout=0 network.norm={norm} training.workers={workers}"
        done = prepared.sat2map("train", "--set", settings, "--set", "training.cpus_per_worker=1")
        assert done.returncode == 0, done.stderr
        (newest,) = prepared.folder.glob("workspace/runs/*/checkpoints/step-00000006")
        with np.load(newest / ARRAYS) as arrays:
            names = [name for name in arrays.files if name.startswith(("generator/", "discriminator/"))]
            weights.append({name: arrays[name] for name in names if "seed_" not in name})
    single, shared = weights
    # Of the five pairs in a step, one worker has three and the other two.
    for name, expected in single.items():
        assert np.abs(shared[name] - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-12), name


@pytest.mark.slow
def test_user_error_in_a_worker_is_one_message_and_leaves_no_finished_run(prepared):
    (prepared.folder / "pairs/train/7.png").unlink()
    done = prepared.sat2map("train", "--set", TWO_WORKERS)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Pair train/7" in done.stderr
    assert "can't be read" in done.stderr
    assert "Run `sat2map prepare` again" in done.stderr
    assert not (prepared.folder / "workspace/latest").exists()
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FAILED"


def test_batch_larger_than_the_training_set_is_refused(run_prepared):
    done = run_prepared("train", "--set", "training.batch_size=12")
    assert done.returncode == 2
    # Nothing is prepared before.
    training, error = done.stderr.splitlines()
    assert training.startswith("Training on 10 pairs of ")
    assert error.startswith("Error: 10 training pairs don't fill one batch of 12; lower training.batch_size")


def test_more_steps_than_can_be_counted_are_refused(run_prepared):
    done = run_prepared("train", "--set", "training.epochs=1000000000000")
    assert done.returncode == 2
    found = "Error: 1000000000000 epochs of 10 training pairs are 2000000000000 steps"
    assert done.stderr.endswith(f"{found}, and a training has at most 99999999; lower training.epochs.\n")
