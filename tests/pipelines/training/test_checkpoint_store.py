"""The checkpoints of a run: only intact ones are used, the newest and the best are kept, and none is lost."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pipelines.config.schema import RunConfig
from pipelines.tracking.loss_curve import LossCurve
from pipelines.training.checkpoints.checkpoint import ARRAYS, save
from pipelines.training.checkpoints.checkpoint_manifest import MANIFEST, Position
from pipelines.training.checkpoints.checkpoint_store import CheckpointStore
from tests.fixtures.project import PROJECT


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep=2, best_by="val_l1")


def put(store, step, **scores):
    with store.new(step) as folder:
        fill(folder, step, scores)


def fill(folder, step, scores):
    save(
        folder,
        {"weights": np.full(1000, step)},
        LossCurve(),
        position=Position(epoch=0, step=step),
        config=RunConfig(),
        code_revision="none",
        scores=scores,
    )


def names(store):
    return sorted(path.name for path in store.root.iterdir())


def test_no_checkpoint_yet(store):
    assert store.newest() == (None, []) and store.best() is None


def test_newest_and_best_are_kept(store):
    for step, score in [(10, 5.0), (20, 3.0), (30, 4.0), (40, 6.0), (50, 7.0)]:
        put(store, step, val_l1=score, val_ssim=score)
    assert names(store) == ["step-00000020", "step-00000040", "step-00000050"]
    assert store.newest()[0].name == "step-00000050"
    assert store.best().name == "step-00000020"


def test_best_by_a_score_that_should_be_high(tmp_path):
    store = CheckpointStore(tmp_path, keep=1, best_by="val_ssim")
    for step, score in [(10, 0.5), (20, 0.7), (30, 0.6)]:
        put(store, step, val_l1=score, val_ssim=score)
    assert names(store) == ["step-00000020", "step-00000030"]


def test_newer_best_replaces_the_older_one(store):
    for step, score in [(10, 3.0), (20, 2.0), (30, 4.0), (40, 5.0)]:
        put(store, step, val_l1=score)
    assert names(store) == ["step-00000020", "step-00000030", "step-00000040"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    ],
)
def test_broken_ones_are_skipped_with_name_and_reason(store, damage):
    for step in (10, 20):
        put(store, step, val_l1=1.0)
    broken = store.root / "step-00000020"
    (broken / ARRAYS).write_bytes(damage((broken / ARRAYS).read_bytes()))
    found, (skipped,) = store.newest()
    assert found.name == "step-00000010"
    assert str(skipped) == "Skipped checkpoint step-00000020: the sha256 of state.npz does not match."


def test_all_checkpoints_may_be_broken(store):
    put(store, 10)
    (store.root / "step-00000010" / MANIFEST).write_text("{")
    found, skipped = store.newest()
    assert found is None and [broken.reason for broken in skipped] == ["checkpoint.json can't be read"]


def test_broken_one_can_be_written_again(store):
    put(store, 10)
    (store.root / "step-00000010" / ARRAYS).write_bytes(b"")
    put(store, 10)
    assert store.newest() == (store.root / "step-00000010", [])


def test_error_while_writing_leaves_the_older_ones(store):
    put(store, 10)
    with pytest.raises(OSError, match="No space left"), store.new(20) as folder:
        (folder / ARRAYS).write_bytes(b"half")
        raise OSError(28, "No space left on device")
    assert names(store) == ["step-00000010"]
    assert store.newest() == (store.root / "step-00000010", [])


def test_process_killed_while_writing_leaves_the_previous_one(store):
    put(store, 10)
    writer = (
        "import sys, time; from pathlib import Path\n"
        "from pipelines.training.checkpoints.checkpoint_store import CheckpointStore\n"
        "with CheckpointStore(Path(sys.argv[1]), keep=2, best_by='val_l1').new(20) as folder:\n"
        "    (folder / 'state.npz').write_bytes(bytes(1 << 20))\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-c", writer, store.root], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    found, (skipped,) = store.newest()
    assert found.name == "step-00000010"
    assert str(skipped) == ("Skipped checkpoint step-00000020.partial: it is incomplete (checkpoint.json is missing).")
    began = time.monotonic()
    put(store, 20)
    assert names(store) == ["step-00000010", "step-00000020"] and time.monotonic() - began < 10
