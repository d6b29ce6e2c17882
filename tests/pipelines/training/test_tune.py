"""A search: every trial is a nested run, poor ones are stopped early, and the best is reported."""

import json
import os
import signal

import mlflow
import psutil
import pytest

from tests.fixtures.trainings import leftovers

SETTINGS = (
    "training.epochs=4 training.sheet_every=1000 tune.trials=3 tune.grace_epochs=1 tune.reduction=2 tune.width=[2,4] "
    "tune.learning_rate=[0.0001,0.01]"
)
SEARCHED = {"training.learning_rate", "training.l1_weight", "network.norm", "network.width"}


def trials_of(run_id):
    experiment = mlflow.get_run(run_id).info.experiment_id
    nested = f"tags.`mlflow.parentRunId` = '{run_id}'"
    return mlflow.MlflowClient().search_runs([experiment], nested)


def check(found):
    """Check that the result of a search agrees with its record in MLflow."""
    trials = found["trials"]
    assert len(trials) == 3 and max(trial["epochs"] for trial in trials) == 4
    assert [trial["score"] for trial in trials] == sorted(trial["score"] for trial in trials)
    parent = mlflow.get_run(found["run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best_trial"] == trials[0]["name"]
    assert parent.data.metrics["best_val_l1"] == trials[0]["score"]
    nested = {run.info.run_name: run for run in trials_of(found["run_id"])}
    assert set(nested) == {trial["name"] for trial in trials}
    for trial in trials:
        run = nested[trial["name"]]
        assert set(trial["settings"]) == SEARCHED
        assert all(run.data.params[key] == str(value) for key, value in trial["settings"].items())
        assert run.info.status == ("FINISHED" if trial["epochs"] == 4 else "KILLED")
        steps = [point.step for point in mlflow.MlflowClient().get_metric_history(run.info.run_id, "generator_loss")]
        assert steps == list(range(1, 2 * trial["epochs"] + 1))


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_or_stopped_search_is_resumed_and_reports_the_best_trial(prepared, temporary, end):
    running = prepared.start("--set", SETTINGS, verb="tune")
    running.wait_for_step(4)
    family = running.family()
    if end == signal.SIGKILL:
        running.kill_everything()
    else:
        # As a terminal, a container or a batch system sends it.
        os.killpg(running.process.pid, end)
        errors = running.end()
        assert running.process.returncode == 130, errors
        assert "Stopped the search. Resume with: sat2map tune --resume " in errors and "Traceback" not in errors
        assert {run.info.status for run in mlflow.search_runs(output_format="list", experiment_names=["sat2map"])} == {
            "KILLED"
        }
        _, living = psutil.wait_procs(family, timeout=10)
        assert not living and not leftovers(prepared, temporary)
    (search,) = (prepared.folder / "workspace/runs").iterdir()
    done = prepared.sat2map("tune", "--resume", search.name, "--json")
    assert done.returncode == 0, done.stderr
    check(json.loads(done.stdout))
    assert not leftovers(prepared, temporary)


@pytest.mark.slow
def test_search_reports_the_best_trial(prepared):
    done = prepared.sat2map("tune", "--set", SETTINGS, "--json")
    assert done.returncode == 0, done.stderr
    check(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tune.cpus_per_trial=999", "A trial requests 999 CPUs and the cluster has"),
        ("tune.learning_rate=[0.1,0.01]", "learning_rate ranges from 0.1 to 0.01; the lowest must be above 0"),
        ("tune.width=[4,1000]", "A trial can't have width 1000 and norm batch. Invalid configuration: network.width"),
        ("network.depth=5 tune.norm=[batch,instance]", "A trial can't have width 16 and norm instance. Invalid"),
        ("training.batch_size=12", "9 training pairs don't fill one batch of 12; lower training.batch_size"),
        ("training.epochs=1000000000000", "are 2000000000000 steps, and a training has at most 99999999"),
        ("tune.norm=[group]", "tune.norm.0: Input should be 'batch', 'sync_batch' or 'instance'"),
    ],
)
def test_impossible_search_is_refused(prepared, setting, message):
    done = prepared.sat2map("tune", "--set", setting)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_only_a_search_is_resumed_as_one(prepared, run_prepared):
    runs = prepared.folder / "workspace/runs"
    for name in ("train", "tune"):
        (runs / name).mkdir(parents=True)
        (runs / name / "pairs.json").write_bytes((prepared.folder / "workspace/pairs.json").read_bytes())
        (runs / name / "config.json").write_text('{"network": {"image_size": 32, "depth": 4, "width": 4}}')
    (runs / "tune/trials").mkdir()
    for verb, name, message in (
        ("tune", "train", "Run train is a training, not a search; resume it with: sat2map train --resume train\n"),
        ("train", "tune", "Run tune is a search; continue it or see its trials with: sat2map tune --resume tune\n"),
        ("tune", "tune", "The search tune stopped before its first trial; run `tune` again.\n"),
    ):
        done = run_prepared(verb, "--resume", name)
        assert (done.returncode, done.stderr) == (2, f"Error: {message}")
