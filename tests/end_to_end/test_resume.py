"""A stopped or killed training goes on where it was: the same weights, one curve, no gap and no doubled step."""

import json
import signal

import mlflow
import pytest

from pipelines.training.checkpoint import ARRAYS, read_manifest
from tests.fixtures.trainings import logged_steps, newest_run

DETERMINISTIC = "training.deterministic=true training.decay=0 training.checkpoint_every=1 training.sheet_every=1000"
STEPS_PER_EPOCH = 2


def weights(folder):
    """Return the sha256 of everything that a run has trained, and how far it is."""
    newest = max(folder.glob("workspace/runs/*/checkpoints/step-*"))
    manifest = read_manifest(newest)
    return manifest.sha256[ARRAYS], manifest.position.step


def train(prepared, *words):
    done = prepared.sat2map("train", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_stopped_killed_and_damaged_it_ends_with_the_weights_of_a_straight_run(prepared, make_prepared):
    other = make_prepared("straight")
    train(other, "--set", f"{DETERMINISTIC} training.epochs=200")
    expected = weights(other.folder)
    assert expected[1] == 200 * STEPS_PER_EPOCH

    # Killed in mid-epoch, all of it.
    running = prepared.start("--set", f"{DETERMINISTIC} training.epochs=150")
    running.wait_for_step(50)
    running.kill_everything()
    run_id = newest_run()
    newest = max(running.checkpoints())
    content = bytearray((newest / ARRAYS).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / ARRAYS).write_bytes(content)

    # Goes on from the one before the damaged one, and is stopped.
    running = prepared.start("--resume", run_id)
    running.wait_for_step(120)
    running.process.send_signal(signal.SIGINT)
    news = running.end()
    assert running.process.returncode == 130, news
    assert f"Passed over checkpoint {newest.name}: state.npz is not what was saved (sha256)." in news
    assert f"Go on with: sat2map train --resume {run_id}" in news
    assert "Traceback" not in news
    assert mlflow.get_run(run_id).info.status == "KILLED"

    # To its end; and then for fifty epochs more.
    record, _ = train(prepared, "--resume", run_id)
    assert record["steps"] == 150 * STEPS_PER_EPOCH
    record, _ = train(prepared, "--resume", run_id, "--set", "training.epochs=200")
    assert (record["run_id"], record["steps"]) == (run_id, 200 * STEPS_PER_EPOCH)
    assert weights(prepared.folder) == expected
    assert logged_steps(run_id) == list(range(1, 200 * STEPS_PER_EPOCH + 1))
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    for name in ("val_l1", "input_wait"):
        steps = logged_steps(run_id, name)
        # What was on its way when everything was killed is not in the curve of a checkpoint.
        assert 195 <= len(set(steps)) == len(steps) <= 200


@pytest.mark.slow
def test_a_finished_run_has_nothing_left_to_do(prepared):
    record, _ = train(prepared, "--set", "training.epochs=2")
    before = weights(prepared.folder)
    again, _ = train(prepared, "--resume", record["run_id"])
    assert again["steps"] == record["steps"] and weights(prepared.folder) == before
    assert logged_steps(record["run_id"]) == [1, 2, 3, 4]


@pytest.mark.parametrize("setting", ["network.width=8", "data.direction=map_to_photo", "seed=3"])
def test_what_is_trained_can_t_change_on_the_way(prepared, setting):
    run = prepared.folder / "workspace/runs/1f0c"
    run.mkdir(parents=True)
    (run / "pairs.json").write_bytes((prepared.folder / "workspace/pairs.json").read_bytes())
    (run / "config.json").write_text('{"network": {"image_size": 32, "depth": 4, "width": 4}}')
    done = prepared.sat2map("train", "--resume", "1f0c", "--set", setting)
    assert done.returncode == 2
    key, _, value = setting.partition("=")
    assert f"Error: {key} was " in done.stderr and f"can't become {value}" in done.stderr


def test_a_run_that_is_not_there(prepared):
    done = prepared.sat2map("train", "--resume", "1f0c")
    assert done.returncode == 2 and done.stderr.startswith("Error: No run '1f0c' in workspace")
