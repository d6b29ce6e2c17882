"""The driver's settings for MLflow and storage, passed to jobs and workers along with the code.

They travel in a file of the job's code package, which only the job's own user can read and which the job removes as
soon as it has read it. Ray's `runtime_env` would be the usual way, but the dashboard's API shows it to every client and
Ray's agents write it to their logs (Ray 2.60).
"""

import base64
import contextlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from model.errors import ConfigError
from model.io.files import this_machine
from model.provenance import PROJECT, REVISION

FILE = "job_environment.json"
PREFIXES = ("MLFLOW_", "AWS_", "GOOGLE_", "AZURE_", "DATABRICKS_", "KAGGLE_")
NAMES_OF_FILES = (
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "DATABRICKS_CONFIG_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
)
"""Variables that name a file on the driver's machine, whose content is passed as well."""
RAY_PACKAGE = "_ray_pkg_"
"""Beginning of the names of the folders that Ray unpacks code packages into."""
UNREAD_SECONDS = 3600
"""Seconds after which the file of another job's package is abandoned: that job was killed before it read it."""


@dataclass(frozen=True)
class DriverSettings:
    """Settings for MLflow and storage.

    Attributes:
        environment: Environment variables; those that name files hold full paths.
        files: The content of these files in base64, by the name of the variable.
        machine: The machine that the files are on.
    """

    environment: dict[str, str]
    files: dict[str, str]
    machine: str


def capture(environment: Mapping[str, str]) -> DriverSettings:
    """Select the variables for tracking, data and storage, and read the files that they name.

    Raises:
        ConfigError: One of the files can't be read.
    """
    values = {name: value for name, value in environment.items() if name.startswith(PREFIXES)}
    files = {}
    for name in NAMES_OF_FILES:
        path = Path(values.get(name, "")).expanduser().absolute()
        if name in values and path.is_file():
            try:
                files[name] = base64.b64encode(path.read_bytes()).decode()
            except OSError as error:
                raise ConfigError(
                    f"{name} names {path}, which can't be read: {error.strerror or error}. Make it readable, or unset "
                    "the variable."
                ) from error
            values[name] = str(path)
    return DriverSettings(values, files, this_machine())


def apply(settings: DriverSettings) -> None:
    """Set the variables in this process.

    On the machine of the driver, workers read its files. On others they get copies in memory, which end with the
    process, however it ends.
    """
    os.environ.update(settings.environment)
    for name, content in settings.files.items():
        here = settings.machine == this_machine() and os.access(settings.environment[name], os.R_OK)
        if not here:
            os.environ[name] = _in_memory(name, base64.b64decode(content))


def serialise(settings: DriverSettings, *, revision: str) -> bytes:
    """Return the content of the file that a job's code package carries."""
    # The unique value gives every package another hash: Ray would reuse an unpacked one that has lost this file.
    content = {**asdict(settings), "revision": revision, "once": uuid.uuid4().hex}
    return json.dumps(content).encode()


def load(folder: Path = PROJECT) -> None:
    """Apply the settings in the code package and remove their file; do nothing if there is none."""
    path = folder / FILE
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        discard(folder)
        # A job has its own copies of files, even on the machine that sent it: they may change there while it runs.
        apply(DriverSettings(content["environment"], content["files"], machine=""))
        os.environ[REVISION] = content["revision"]


def discard(folder: Path = PROJECT) -> None:
    """Remove the file unread: workers are passed the settings by their driver.

    The files of packages next to this one, whose jobs were killed before they read them, are removed as well.
    """
    (folder / FILE).unlink(missing_ok=True)
    if folder.name.startswith(RAY_PACKAGE):
        for other in folder.parent.glob(f"{RAY_PACKAGE}*/{FILE}"):
            # Another process may remove it at the same time.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - other.stat().st_mtime > UNREAD_SECONDS:
                    other.unlink()


def _in_memory(name: str, content: bytes) -> str:
    """Hold a file in memory for as long as this process lives; return its path for this process and its children."""
    handle = os.memfd_create(name)
    os.fchmod(handle, 0o600)
    with open(handle, "wb", closefd=False) as file:
        file.write(content)
    return f"/proc/{os.getpid()}/fd/{handle}"
