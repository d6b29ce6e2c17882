"""The driver's settings for MLflow and storage, passed to jobs and workers along with the code.

A job takes them from the memory of the cluster's head, under a random name, and removes them. They never reach a disk:
Ray's agents (2.60) unpack code packages into folders that every user of a node can read, and write `runtime_env`, which
is the usual way, to their logs.
"""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from model.errors import ClusterError, ConfigError
from model.io.files import this_machine
from model.provenance import REVISION

TAKEN_FROM = "SAT2MAP_JOB_SETTINGS"
"""Environment variable of a job: the name under which Ray's head holds its settings."""
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
    """Return the settings, and the git revision of the code, as a job takes them."""
    return json.dumps({**asdict(settings), "revision": revision}).encode()


def load() -> None:
    """Apply the settings that a job was sent with; do nothing in any other process.

    Raises:
        ClusterError: Ray's head no longer holds them.
    """
    name = os.environ.pop(TAKEN_FROM, "")
    if not name:
        return
    content = json.loads(_take(name))
    # A job has its own copies of files, even on the machine that sent it: they may change there while it runs.
    apply(DriverSettings(content["environment"], content["files"], machine=""))
    os.environ[REVISION] = content["revision"]


def _take(name: str) -> bytes:
    """Return what Ray's head holds under a name, and remove it there."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined] # a C++ module without types

    head = GcsClient(address=os.environ["RAY_ADDRESS"])
    content: bytes | None = head.internal_kv_get(name.encode(), None)
    if content is None:
        raise ClusterError("The settings of this job are no longer on the cluster's head; submit it again.")
    head.internal_kv_del(name.encode(), False, None)
    return content


def _in_memory(name: str, content: bytes) -> str:
    """Hold a file in memory for as long as this process lives; return its path for this process and its children."""
    handle = os.memfd_create(name)
    os.fchmod(handle, 0o600)
    with open(handle, "wb", closefd=False) as file:
        file.write(content)
    return f"/proc/{os.getpid()}/fd/{handle}"
