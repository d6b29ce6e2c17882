"""The driver's settings for MLflow and storage, passed to jobs and workers along with the code.

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
from dataclasses import asdict, dataclass
from pathlib import Path

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
"""Variables that name a file on the driver's machine, whose content is passed as well."""


@dataclass(frozen=True)
class DriverSettings:
    """Settings for MLflow and storage.

    Attributes:
        environment: Environment variables.
        files: The text of the files that some of them name, by the name of the variable.
    """

    environment: dict[str, str]
    files: dict[str, str]


def capture(environment: Mapping[str, str]) -> DriverSettings:
    """Select the variables for tracking, data and storage, and read the files that they name."""
    values = {name: value for name, value in environment.items() if name.startswith(PREFIXES)}
    named = {name: Path(values[name]) for name in NAMES_OF_FILES if name in values}
    files = {name: path.read_text(encoding="utf-8") for name, path in named.items() if path.is_file()}
    return DriverSettings(values, files)


def apply(settings: DriverSettings) -> None:
    """Set the variables in this process; the files exist until it ends."""
    os.environ.update(settings.environment)
    if settings.files:
        kept = tempfile.TemporaryDirectory(prefix="sat2map-")
        atexit.register(kept.cleanup)
        for name, text in settings.files.items():
            file = Path(kept.name, name)
            file.touch(mode=0o600)
            file.write_text(text, encoding="utf-8")
            os.environ[name] = str(file)


def write(folder: Path, settings: DriverSettings, *, revision: str) -> None:
    """Write the settings of a job into its code package, readable by the current user only."""
    # The unique value gives every package another hash: Ray would reuse an unpacked one that has lost this file.
    content = {**asdict(settings), "revision": revision, "once": uuid.uuid4().hex}
    path = folder / FILE
    path.touch(mode=0o600)
    path.write_text(json.dumps(content), encoding="utf-8")


def load(folder: Path = PROJECT) -> None:
    """Apply the settings in the code package and remove their file; do nothing if there is none."""
    path = folder / FILE
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        apply(DriverSettings(content["environment"], content["files"]))
        os.environ[REVISION] = content["revision"]


def discard(folder: Path = PROJECT) -> None:
    """Remove the file unread: workers are passed the settings by their driver."""
    (folder / FILE).unlink(missing_ok=True)
