"""`sat2map bench inference`: its measurements of a small network, and its table."""

import json
import subprocess
import sys

import pytest

from pipelines.benchmarks.results import DrawingSpeed, EndToEnd, InferenceBench, inference_table

TINY = "network.image_size=32 network.depth=4 network.width=2"
REFERENCE = """python -c 'import json; print(json.dumps({"images_per_second": 1e-3 * {batch}}))' {model}"""


@pytest.fixture
def bench(tmp_path):
    def call(*words):
        command = [
            sys.executable,
            "-m",
            "pipelines",
            "bench",
            "inference",
            "--set",
            f"{TINY} workspace={tmp_path}/work",
        ]
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=400)

    return call


@pytest.mark.slow
def test_all_parts_are_measured(bench, tmp_path):
    done = bench("--batch", "2", "--rounds", "1", "--seconds", "0.05", "--photos", "12", "--against", REFERENCE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    speeds = {line["name"]: line["images_per_second"]["2"] for line in found["lines"]}
    assert speeds.pop(REFERENCE) == pytest.approx(2e-3)
    assert speeds.keys() >= {"tf2onnx fp32", "TensorFlow fp32", "sat2map fp32", "sat2map int8"}
    # Any plausible speed.
    assert all(2 < speed < 1e6 for speed in speeds.values())
    assert found["folder"]["images"] == 12 and 0 < found["folder"]["share"] < 3
    # A scene of 16 x 32 pixels a side, in tiles that overlap by at least 8.
    assert found["scene"]["images"] == 21**2 and 0 < found["scene"]["share"] < 3
    assert 0.1 < found["start_seconds"] < 60
    assert json.loads((tmp_path / "work/bench/inference.json").read_text()) == found
    assert "| tf2onnx fp32 | CPU | " in (tmp_path / "work/bench/inference.md").read_text()


def test_unknown_part_is_refused(bench, tmp_path):
    done = bench("--part", "stop")
    assert done.returncode == 2
    assert "Error: The benchmark has no part stop; use one of: session, score, scene, start." in done.stderr
    assert not (tmp_path / "work").exists()


def test_table_compares_with_the_plain_file():
    lines = (
        DrawingSpeed(name="tf2onnx fp32", provider="CPUExecutionProvider", images_per_second={1: 10.0, 8: 12.0}),
        DrawingSpeed(name="sat2map int8", provider="CPUExecutionProvider", images_per_second={1: 35.0, 8: 48.0}),
        DrawingSpeed(name="torch --batch {batch}", provider="reference", images_per_second={1: 20.0, 8: 18.0}),
    )
    measured = {
        "machine": "A machine",
        "versions": {"onnx": "1"},
        "width": 64,
        "side": 256,
        "rounds": 3,
        "seconds": 5.0,
    }
    by = {"variant": "int8", "provider": "CPUExecutionProvider"}
    folder = EndToEnd(images=400, batch=1, bare_per_second=35, scored_per_second=33.25, **by)
    scene = EndToEnd(images=484, batch=8, bare_per_second=48, scored_per_second=24, **by)
    table = inference_table(InferenceBench(**measured, lines=lines, folder=folder, scene=scene, start_seconds=1.234))
    assert table.index("tf2onnx fp32") < table.index("torch --batch") < table.index("sat2map int8")
    assert "| sat2map int8 | CPU | 35.0 (3.50 x) | 48.0 (4.00 x) |" in table
    assert "| 400 photos in a folder | int8, CPU | 1 | 35.0 images/s | 33.2 images/s | 0.95 |" in table
    assert "| 484 tiles of a scene | int8, CPU | 8 | 48.0 images/s | 24.0 images/s | 0.50 |" in table
    assert "| 1.23 s |" in table
    assert "session" not in inference_table(InferenceBench(**measured))
