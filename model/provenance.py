"""The version and the revision of the code that runs."""

import os
import subprocess
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

REVISION = "SAT2MAP_REVISION"
"""Environment variable with the submitted git revision: a job's folder is not a checkout."""


def git_revision() -> str:
    """Return the checked out revision, with `-dirty` appended if files differ, or `none` outside a git checkout.

    In a submitted job, it is the revision of the submitter.
    """
    if REVISION in os.environ:
        return os.environ[REVISION]
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return "none"
    return answer.stdout.strip() if answer.returncode == 0 else "none"


def software_version() -> str:
    """Return the version of sat2map, or the revision of a checkout that is run without being installed."""
    try:
        return metadata.version("sat2map")
    except metadata.PackageNotFoundError:
        return git_revision()
