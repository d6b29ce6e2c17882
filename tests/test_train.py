"""Training with real Ray workers: two of them, and one that fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from pipelines.workspace import Workspace

PROJECT = Path(__file__).resolve().parent.parent
SETTINGS = (
    "data.source=pairs network.image_size=32 network.depth=5 network.width=4 training.workers=2 "
    "training.cpus_per_worker=1 training.epochs=2 training.checkpoint_every=1"
)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 3)):
        (tmp_path / "pairs" / part).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (32, 64, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"pairs/{part}/{number}.png")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    done = sat2map(tmp_path, "prepare")
    assert done.returncode == 0, done.stderr
    return tmp_path


def sat2map(folder, verb, *words):
    return subprocess.run(
        [sys.executable, "-m", "pipelines", verb, "--set", SETTINGS, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_two_workers_train_one_model(prepared):
    done = sat2map(prepared, "train", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    # 10 pairs make 2 whole batches of 4, over both workers together.
    assert record["steps"] == 4
    assert "epoch 2/2" in done.stderr
    run = Workspace(prepared / "workspace").run()
    assert run.generator.is_file()
    losses = mlflow.MlflowClient().get_metric_history(record["run_id"], "generator_loss")
    assert [loss.step for loss in losses] == [1, 2, 3, 4]
    assert all(np.isfinite(loss.value) for loss in losses)
    checkpoints = [path for path in run.checkpoints.iterdir() if path.is_dir()]
    assert len(checkpoints) == 2
    newest = json.loads((max(checkpoints) / "checkpoint.json").read_text())
    assert newest["position"] == {"epoch": 2, "step": 4}


def test_a_worker_s_mistake_is_one_sentence_and_leaves_no_finished_run(prepared):
    (prepared / "pairs/train/7.png").unlink()
    done = sat2map(prepared, "train")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Pair train/7" in done.stderr
    assert "can't be read" in done.stderr
    assert "Run `sat2map prepare` again" in done.stderr
    assert not (prepared / "workspace/latest").exists()
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FAILED"


def test_more_pairs_in_a_batch_than_there_are(prepared):
    done = sat2map(prepared, "train", "--set", "training.batch_size=12")
    assert done.returncode == 2
    assert "10 training pairs don't fill one batch of 12; lower training.batch_size" in done.stderr
