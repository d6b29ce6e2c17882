"""A stopped or killed training resumes where it was: the same weights, and one curve without gaps or repeated steps."""

import json
import os
import resource
import signal
import subprocess

import mlflow
import pytest

from pipelines.config.loading import load
from pipelines.run_folder import RunFolder
from pipelines.run_record import RunRecord
from pipelines.training.checkpoints.checkpoint import ARRAYS
from pipelines.training.checkpoints.checkpoint_manifest import MANIFEST, Manifest, Position, read_manifest
from pipelines.workspace import Workspace
from tests.fixtures.trainings import logged_steps, newest_run

DETERMINISTIC = "training.deterministic=true training.decay=0 training.checkpoint_every=1 training.sheet_every=1000"
STEPS_PER_EPOCH = 2


def weights(folder):
    """Return the sha256 of the arrays in the newest checkpoint, and its step."""
    newest = max(folder.glob("workspace/runs/*/checkpoints/step-*"))
    manifest = read_manifest(newest)
    return manifest.sha256[ARRAYS], manifest.position.step


def train(prepared, *words):
    done = prepared.sat2map("train", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(prepared, make_prepared):
    other = make_prepared("uninterrupted")
    train(other, "--set", f"{DETERMINISTIC} training.epochs=200")
    expected = weights(other.folder)
    assert expected[1] == 200 * STEPS_PER_EPOCH

    # Kill all processes in the middle of an epoch, and damage the newest checkpoint.
    running = prepared.start("--set", f"{DETERMINISTIC} training.epochs=150")
    running.wait_for_step(50)
    running.kill_everything()
    run_id = newest_run()
    newest = max(running.checkpoints())
    content = bytearray((newest / ARRAYS).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / ARRAYS).write_bytes(content)

    for verb in ("export", "evaluate"):
        done = prepared.sat2map(verb)
        assert done.returncode == 2
        assert f"Error: Run {run_id} stopped at step " in done.stderr
        assert f"continue it with: sat2map train --resume {run_id}\n" in done.stderr

    # Resume from the checkpoint before, and stop.
    running = prepared.start("--resume", run_id)
    running.wait_for_step(120)
    running.process.send_signal(signal.SIGINT)
    errors = running.end()
    assert running.process.returncode == 130, errors
    assert f"Skipped checkpoint {newest.name}: the sha256 of state.npz does not match." in errors
    assert f"Resume with: sat2map train --resume {run_id}" in errors
    assert "Traceback" not in errors
    assert mlflow.get_run(run_id).info.status == "KILLED"

    # Resume to the end, and then for fifty more epochs.
    record, _ = train(prepared, "--resume", run_id)
    assert record["steps"] == 150 * STEPS_PER_EPOCH
    record, _ = train(prepared, "--resume", run_id, "--set", "training.epochs=200")
    assert (record["run_id"], record["steps"]) == (run_id, 200 * STEPS_PER_EPOCH)
    assert weights(prepared.folder) == expected
    assert logged_steps(run_id) == list(range(1, 200 * STEPS_PER_EPOCH + 1))
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    for name in ("val_l1", "input_wait"):
        steps = logged_steps(run_id, name)
        # Metrics that were not sent when everything was killed are lost; checkpoints keep only the losses.
        assert 195 <= len(set(steps)) == len(steps) <= 200


def test_a_verb_on_the_newest_finished_run_names_a_newer_one_that_was_stopped(prepared, run_prepared):
    workspace = Workspace(prepared.folder / "workspace")
    config = load(None, [prepared.settings])
    for name in ("1f0c", "2a3b"):
        run = workspace.new_run(name)
        run.pairs_file.write_bytes(workspace.pairs_file.read_bytes())
        run.config_file.write_text(config.model_dump_json())
        os.utime(run.config_file, (int(name, 16), int(name, 16)))
    (run.checkpoints / "step-00000040").mkdir(parents=True)
    finished = workspace.run("1f0c")
    finished.write_record(RunRecord(run_id="1f0c", config=config, steps=8, seconds=2, images_per_second=16))
    workspace.set_latest(finished)
    done = run_prepared("export")
    assert done.returncode == 2
    note, error = done.stderr.splitlines()
    assert note == (
        "Note: this works on run 1f0c. Run 2a3b stopped at step 40; continue it with: sat2map train --resume 2a3b"
    )
    assert error.startswith("Error: ") and "generator.keras is missing" in error


def test_resuming_a_finished_run_is_refused_unless_there_is_something_to_do(prepared, run_prepared):
    run = prepared.folder / "workspace/runs/1f0c"
    run.mkdir(parents=True)
    (run / "pairs.json").write_bytes((prepared.folder / "workspace/pairs.json").read_bytes())
    config = load(None, ["training.epochs=4", prepared.settings])
    record = RunRecord(run_id="1f0c", config=config, steps=8, seconds=2, images_per_second=16)
    (run / "config.json").write_text(config.model_dump_json())
    RunFolder(run).write_record(record)
    message = (
        "Error: Run 1f0c has finished its 4 epochs; to train it further, raise training.epochs, for instance with: "
        "sat2map train --resume 1f0c --set training.epochs=8\n"
    )
    for changes in ([], ["--set", "training.epochs=3"]):
        done = run_prepared("train", "--resume", "1f0c", *changes)
        assert (done.returncode, done.stderr) == (2, message)


def test_resuming_for_fewer_epochs_than_were_trained_is_refused_and_changes_nothing(prepared, run_prepared):
    run = RunFolder(prepared.folder / "workspace/runs/2b3c")
    (run.checkpoints / "step-00000023").mkdir(parents=True)
    run.pairs_file.write_bytes((prepared.folder / "workspace/pairs.json").read_bytes())
    config = load(None, ["training.epochs=300", prepared.settings])
    run.config_file.write_text(config.model_dump_json())
    position = Position(epoch=11, step=23, seen=4)
    manifest = Manifest(position=position, config=config, code_revision="", scores={}, sha256={})
    (run.checkpoints / "step-00000023" / MANIFEST).write_text(manifest.model_dump_json())
    done = run_prepared("train", "--resume", "2b3c", "--set", "training.epochs=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: Run 2b3c has trained in 12 epochs already, more than training.epochs=3; set it to at least 12.\n"
    )
    assert run.config() == config


def test_a_full_disk_is_found_before_mlflow_knows_that_a_finished_run_is_resumed(prepared):
    run = Workspace(prepared.folder / "workspace").new_run("1f0c")
    run.pairs_file.write_bytes((prepared.folder / "workspace/pairs.json").read_bytes())
    run.config_file.write_text(load(None, [prepared.settings]).model_dump_json())
    done = subprocess.run(
        prepared.command("train", "--resume", "1f0c"),
        cwd=prepared.folder,
        env=prepared.environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY)),
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {run.config_file} can't be written (File too large): raise the limit")


@pytest.mark.parametrize("setting", ["network.width=8", 'data.direction="map_to_photo"', "seed=3"])
def test_network_data_and_seed_cannot_change_on_resume(prepared, run_prepared, setting):
    run = prepared.folder / "workspace/runs/1f0c"
    run.mkdir(parents=True)
    (run / "pairs.json").write_bytes((prepared.folder / "workspace/pairs.json").read_bytes())
    (run / "config.json").write_text('{"network": {"image_size": 32, "depth": 4, "width": 4}}')
    done = run_prepared("train", "--resume", "1f0c", "--set", setting)
    assert done.returncode == 2
    key, _, value = setting.partition("=")
    assert f"Error: {key} was " in done.stderr and f"can't become {value};" in done.stderr


def test_unknown_run_is_refused(prepared):
    done = prepared.sat2map("train", "--resume", "1f0c")
    assert done.returncode == 2 and done.stderr.startswith("Error: No run '1f0c' in workspace")
