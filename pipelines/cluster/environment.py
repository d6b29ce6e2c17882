"""What a submitted job is handed besides its code: the submitter's settings for MLflow and for storage.

They travel in a file of the job's code package, which only the job's own user can read and which the job removes as
soon as it has read it. Ray's `runtime_env` would be the usual way, but the dashboard's API shows it to every client and
Ray's agents write it to their logs (Ray 2.60).
"""

import atexit
import json
import os
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from model.provenance import PROJECT, REVISION

FILE = "job_environment.json"
PREFIXES = ("MLFLOW_", "AWS_", "GOOGLE_", "AZURE_", "DATABRICKS_", "KAGGLE_")
NAMES_OF_FILES = (
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
)
"""Variables that name a file of the submitter's machine, which goes along."""


class Settings(TypedDict):
    """What is handed over: variables, and the text of the files that some of them name."""

    environment: dict[str, str]
    files: dict[str, str]


def capture(environment: Mapping[str, str]) -> Settings:
    """Find what of an environment belongs to tracking, data and storage."""
    values = {name: value for name, value in environment.items() if name.startswith(PREFIXES)}
    named = {name: Path(values[name]) for name in NAMES_OF_FILES if name in values}
    return {
        "environment": values,
        "files": {name: path.read_text(encoding="utf-8") for name, path in named.items() if path.is_file()},
    }


def apply(settings: Settings) -> None:
    """Put what was handed over into this process's environment; the files last as long as the process."""
    os.environ.update(settings["environment"])
    if settings["files"]:
        kept = tempfile.TemporaryDirectory(prefix="sat2map-")
        atexit.register(kept.cleanup)
        for name, text in settings["files"].items():
            file = Path(kept.name, name)
            file.touch(mode=0o600)
            file.write_text(text, encoding="utf-8")
            os.environ[name] = str(file)


def write(folder: Path, settings: Settings, *, revision: str) -> None:
    """Write what a job is to be handed, readable to nobody else."""
    # Ray keeps an unpacked package for the next job with the same content, which would miss what this one removed.
    content = {**settings, "revision": revision, "once": uuid.uuid4().hex}
    path = folder / FILE
    path.touch(mode=0o600)
    path.write_text(json.dumps(content), encoding="utf-8")


def load(folder: Path = PROJECT) -> None:
    """Apply what was handed over and remove its file; do nothing where there is none."""
    path = folder / FILE
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        apply({"environment": content["environment"], "files": content["files"]})
        os.environ[REVISION] = content["revision"]


def discard(folder: Path = PROJECT) -> None:
    """Remove the file where nobody needs it: the workers are handed the settings by their driver."""
    (folder / FILE).unlink(missing_ok=True)
