"""The revision of the code that runs."""

import os
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


REVISION = "SAT2MAP_REVISION"
"""The git revision that was submitted: a job's folder is no checkout."""


def git_revision() -> str:
    """The checked out revision, `-dirty` behind it when files differ; `none` outside a git checkout.

    In a submitted job it is the submitter's.
    """
    if REVISION in os.environ:
        return os.environ[REVISION]
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return "none"
    return answer.stdout.strip() if answer.returncode == 0 else "none"
