"""Bad values for every option of every verb, and damaged files: a short message and exit code 2, never a traceback.

All calls are made in one process, each in a folder of its own, so that libraries are imported once.
"""

import json
import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from PIL import Image

from pipelines.config.schema import RunConfig
from tests.fixtures.project import PROJECT

pytestmark = pytest.mark.slow

CALLS = """
import json, os, shutil, sys, traceback
from pathlib import Path
from pipelines.cli.main import main
template, calls = Path(sys.argv[1]), json.loads(sys.stdin.read())
environment, streams = dict(os.environ), [os.dup(1), os.dup(2)]
for number, words in enumerate(calls):
    shutil.copytree(template, folder := template.parent / f"call-{number}", symlinks=True)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["sat2map", *words]
    for stream, name in ((1, "../out.txt"), (2, "../err.txt")):
        os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        code = traceback.format_exc()
    sys.stdout.flush(), sys.stderr.flush()
    for stream, real in enumerate(streams, 1):
        os.dup2(real, stream)
    print(json.dumps([code, Path("../err.txt").read_text(errors="replace")]), flush=True)
"""
NAMES = ["missing/x", "folder", "binary.bin", "text.txt/x", "x" * 300, "a\n☃[b]", "caf\udce9"]
RUN = "1f0c"
OF_RUNS = ["export", "evaluate", "score p.png maps"]
DAMAGED = ["empty", "binary", "list", "object", "folder"]


def calls():
    """Return the words of every call; one in the workspace `damaged-FILE-CONTENT` finds that file damaged."""
    yield from ([*verb.split(), "--config", name] for verb, name in product(["prepare", "export"], NAMES))
    yield from ([*verb.split(), "--run", name] for verb, name in product([*OF_RUNS, "settings"], NAMES))
    yield from ([verb, "--resume", name] for verb, name in product(["train", "tune"], NAMES))
    yield from (["prepare", "--set", f"data.source={name}"] for name in NAMES)
    yield from (["prepare", "--set", f"data.source=missing workspace={name}"] for name in NAMES)
    yield from (["train", "--set", f"data.source=missing workspace={name}"] for name in NAMES)
    yield from (["settings", name] for name in NAMES)
    yield from (["score", name, "maps", "--model", "folder"] for name in NAMES)
    options = ["--model", "--variant", "--format", "--bands", "--stretch", "--vector"]
    yield from (["score", "p.png", "maps", option, name] for option, name in product(options, NAMES))
    yield from (["score", "p.png", "maps", "--resolution", number] for number in ("-1", "x", "nan", "9" * 400))
    yield from (["compare", RUN, name] for name in NAMES)
    yield from (["pull", "1", "--out", name] for name in NAMES)
    yield from (["pull", name, "--out", "out"] for name in NAMES)
    yield from (["promote", name] for name in NAMES)
    yield from (["bench", "training", "--batch", number] for number in ("-1", "x", "nan"))
    yield from (["bench", "inference", "--part", name] for name in NAMES)
    files = ["config.json", "pairs.json", "run.json", "latest"]
    verbs = ["export", "score p.png maps", f"train --resume {RUN}", f"compare {RUN} 2a3b"]
    for verb, file, content in product(verbs, files, DAMAGED):
        yield [*verb.split(), "--set", f"workspace=damaged-{file}-{content}"]


def damage(file, content):
    file.unlink(missing_ok=True)
    if content == "folder":
        file.mkdir()
    else:
        file.write_bytes({"empty": b"", "binary": b"\\x89PNG\xff\0", "list": b"[]", "object": b"{}"}[content])


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return the exit code, or the traceback, and stderr of every call."""
    template = tmp_path_factory.mktemp("calls") / "template"
    (template / "folder").mkdir(parents=True)
    (template / "folder" / "notes.txt").touch()
    (template / "text.txt").write_text("some text\n")
    (template / "binary.bin").write_bytes(bytes(range(256)))
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(template / "p.png")
    for file, content in product(["config.json", "pairs.json", "run.json", "latest"], DAMAGED):
        workspace = template / f"damaged-{file}-{content}"
        for run in (RUN, "2a3b"):
            (workspace / "runs" / run).mkdir(parents=True)
            (workspace / "runs" / run / "config.json").write_text(RunConfig().model_dump_json())
        (workspace / "latest").write_text(RUN)
        damage(workspace / file if file == "latest" else workspace / "runs" / RUN / file, content)
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(template)],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "HOME": str(template.parent), "PYTHONPATH": str(PROJECT)},
        input=json.dumps(list(calls())),
        capture_output=True,
        text=True,
        check=True,
    )
    return [(words, *json.loads(line)) for words, line in zip(calls(), done.stdout.splitlines(), strict=True)]


def test_no_call_ends_with_a_traceback(outcomes):
    assert [(words, code, message) for words, code, message in outcomes if code not in (0, 2, 4)] == []
    assert [words for words, _, message in outcomes if "Traceback" in message] == []
    assert sum(code == 2 for _, code, _ in outcomes) > 0.9 * len(outcomes)


def test_every_message_is_short(outcomes):
    for words, code, message in outcomes:
        if code == 2:
            # A scoring prints a line for each photo before the error.
            assert message.count("\n") <= 3 and len(message) < 1200, (words, message)
            assert "Error: " in message, (words, message)
