"""`sat2map bench training`: its measurements of a small network, bad references, and its table."""

import json
import subprocess
import sys

import pytest

from model.hardware import has_bfloat16, usable_cores
from pipelines.benchmarks.results import Overhead, Scaling, StepSpeed, TrainingBench, training_table

TINY = "network.image_size=32 network.depth=4 network.width=2"
REFERENCE = """python -c 'import json; print("warming up"); print(json.dumps({"images_per_second": 1e-3 * {batch}}))'"""


@pytest.fixture
def bench(tmp_path):
    def call(*words):
        command = [sys.executable, "-m", "pipelines", "bench", "training", "--set", f"{TINY} workspace={tmp_path}/work"]
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=400)

    return call


def short(*words):
    return ("--rounds", "1", "--steps", "2", *words)


def test_bare_step_is_compared_with_references(bench, tmp_path):
    slower = REFERENCE.replace("1e-3", "1e-4")
    done = bench(*short("--part", "step", "--batch", "2", "--batch", "3", "--against", slower, "--against", REFERENCE))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["batch"] for row in found["step"]] == [2, 3]
    for row in found["step"]:
        assert list(row["references"].values()) == pytest.approx([1e-4 * row["batch"], 1e-3 * row["batch"]])
        assert row["ratio"] == pytest.approx(row["images_per_second"] / (1e-3 * row["batch"]))
        # Any plausible speed.
        assert 2 < row["images_per_second"] < 1e6
    precision = "mixed_bfloat16" if has_bfloat16() else "float32"
    assert (found["precision"], found["inside"], found["scaling"]) == (precision, [], None)
    assert json.loads((tmp_path / "work/bench/training.json").read_text()) == found
    assert (
        f"| 2 | {found['step'][0]['images_per_second']:.2f} | 0.00 | 0.00 | "
        in (tmp_path / "work/bench/training.md").read_text()
    )


@pytest.mark.parametrize("reference", ["false", "no-such-program", "echo 3 images a second", "echo []"])
def test_reference_that_does_not_print_its_speed_is_refused(bench, tmp_path, reference):
    done = bench(*short("--part", "step", "--batch", "1", "--against", reference))
    assert done.returncode == 2
    assert f"Error: The reference {reference!r} did not print a JSON object" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "work").exists()


def test_unknown_part_is_refused(bench):
    done = bench("--part", "stop")
    assert done.returncode == 2
    assert "Error: The benchmark has no part stop; use one of: step, inside, scaling." in done.stderr


@pytest.mark.slow
def test_complete_trainings_are_timed(bench):
    done = bench(*short("--part", "inside", "--part", "scaling"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    overheads, scaling = found["inside"], found["scaling"]
    assert [inside["threads"] for inside in overheads] == sorted(
        {usable_cores(), max(1, usable_cores() - 1)}, reverse=True
    )
    for inside in overheads:
        assert inside["cost"] == pytest.approx(inside["inside_seconds"] / inside["bare_seconds"] - 1)
        assert inside["first_step_seconds"] > inside["inside_seconds"] > 0
    assert scaling["efficiency"] == pytest.approx(scaling["one_seconds"] / scaling["two_seconds"])


def test_table_gives_every_number_its_unit():
    speeds = [StepSpeed(batch=4, images_per_second=4.2, references={"python torch.py": 2.1})]
    result = TrainingBench(
        machine="EPYC, 2 cores",
        versions={"tensorflow": "2.21.0"},
        precision="mixed_bfloat16",
        width=64,
        rounds=3,
        steps_timed=8,
        step=speeds,
        inside=[Overhead(batch=4, threads=2, bare_seconds=1.0, inside_seconds=1.02, first_step_seconds=31.4)],
        scaling=Scaling(batch_per_worker=8, one_seconds=3.6, two_seconds=4.0),
    )
    lines = training_table(result).splitlines()
    assert "Reference 1: `python torch.py`  " in lines
    assert "| 4 | 4.20 | 2.10 | **2.00** |" in lines
    assert "| 4 | 2 | 1.000 s | 1.020 s | +2.0% | 31.4 s |" in lines
    assert "| 8 | 3.60 s | 4.00 s | 0.90 |" in lines
