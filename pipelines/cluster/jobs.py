"""Jobs on a Ray cluster: submitting a verb, following its log, and returning its exit code."""

import asyncio
import hashlib
import io
import logging
import os
import secrets
import shlex
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import requests
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from model import provenance
from model.errors import ClusterError, ConfigError
from model.io.addresses import hide_passwords, is_address, one_line
from pipelines.cluster import connection, environment
from pipelines.cluster.job_log import Log
from pipelines.cluster.signals import STOPPED
from pipelines.config import job
from pipelines.config.held_variables import HeldVariables
from pipelines.config.schema import RunConfig
from pipelines.tracking import mlflow_server

CODE = ("model", "pipelines", "serving")
PATIENCE_SECONDS = 60.0
"""Seconds that a cluster may be unreachable while its job is followed."""
STOP_SECONDS = "120"
"""Seconds for a stopped job to write its last checkpoint; Ray's default is 3."""
VERBOSE_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
"""Ray's loggers that report every upload."""
CLIENT_ERRORS = (OSError, RuntimeError, ValueError, RayError, requests.RequestException, aiohttp.ClientError)
"""Exceptions of Ray's client for an address that is unreachable, rejects a request, or is not a Ray cluster."""
GIVEN_ADDRESS = HeldVariables({"RAY_ADDRESS": None, "RAY_API_SERVER_ADDRESS": None})
"""Variables without which Ray's client connects to the address that it is given; it would prefer theirs."""


@dataclass(frozen=True)
class Job:
    """A job on a cluster.

    Attributes:
        address: Address of the cluster's dashboard, `http://HEAD:8265`.
        id: Ray's id of the job.
    """

    address: str
    id: str

    @property
    def how_to(self) -> str:
        """The commands that follow and stop the job."""
        options = f"--address {hide_passwords(self.address)} {self.id}"
        ray_job = "RAY_AUTH_MODE=token ray job" if is_token_auth_enabled() else "ray job"
        return f"follow it: {ray_job} logs --follow {options}\nstop it:   {ray_job} stop {options}"


def check(config: RunConfig, arguments: Mapping[str, Any]) -> None:
    """Check that no path of a job would be lost with the job's folder, or be invisible to other nodes.

    Raises:
        ConfigError: MLflow, the workspace, the pairs or an argument of the verb are on this machine only.
    """
    mlflow_server.check_shared()
    paths = [(name, value) for name, value in arguments.items() if isinstance(value, Path)]
    paths += [(name, Path(text)) for name, text in _score_locations(arguments) if not is_address(text)]
    settings = {
        "workspace": str(config.workspace),
        "data.source": "" if config.data.source == "sample" else config.data.source,
        "evaluation.inception_weights": config.evaluation.inception_weights,
        "evaluation.lpips_weights": config.evaluation.lpips_weights,
        "promotion.pairs": config.promotion.pairs,
    }
    paths += [(name, Path(text)) for name, text in settings.items() if text and not is_address(text)]
    for name, path in paths:
        if not path.is_absolute():
            raise ConfigError(
                f"{name} is {str(path)!r}, which is relative to the job's working directory: other nodes don't see it, "
                "and it is removed with the job. Use one that every node sees under the same path"
                f"{f' ({name}=/SHARED/FOLDER)' if name in settings else ''}."
            )


def _score_locations(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the locations that `score` reads and writes, with the names of its arguments."""
    for photo in arguments.get("photos") or ():
        yield "photos", photo.removeprefix("@")
    for name in ("maps", "out", "vector", "model"):
        location = arguments.get(name)
        if isinstance(location, str) and location and not location.startswith("models:"):
            yield name, location


def submit(address: str, words: Sequence[str], *, config_file: str = "") -> Job:
    """Send the code and the settings for MLflow to the cluster and start a verb there.

    Args:
        address: Address of the cluster's dashboard, `http://HEAD:8265`.
        words: The verb and its options.
        config_file: A configuration, sent as well if it is a file below the current folder.

    Raises:
        ClusterError: The address does not answer, or the cluster rejects the job.
    """
    address = address if "://" in address else f"http://{address}"
    client = _client(address)
    for name in VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        _check_versions(client, address)
        settings = environment.serialise(environment.capture(os.environ), revision=provenance.git_revision())
        variables = {
            "RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS,
            job.VARIABLE: hide_passwords(address),
            # A name that can't be guessed: whoever knows it and may use the cluster can read them until the job does.
            environment.TAKEN_FROM: _send(client, settings, name=secrets.token_hex(16)),
        }
        code = _package(config_file)
        package = _send(client, code, name=hashlib.sha1(code, usedforsecurity=False).hexdigest())
        job_id = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "pipelines", *words]),
            runtime_env={"working_dir": package, "env_vars": variables},
        )
    except AuthenticationError as error:
        raise connection.token_error(address) from error
    except CLIENT_ERRORS as error:
        raise ClusterError(f"The cluster at {hide_passwords(address)} rejected the job: {one_line(error)}.") from error
    return Job(address, job_id)


def _check_versions(client: JobSubmissionClient, address: str) -> None:
    answer = client._do_request("GET", "/api/v0/cluster_metadata")
    answer.raise_for_status()
    try:
        cluster = answer.json()["data"]
        ray_version, python_version = cluster["rayVersion"], cluster["pythonVersion"]
    except (KeyError, TypeError) as error:
        raise _foreign(address) from error
    connection.check_versions(address, ray_version=ray_version, python_version=python_version)


def _foreign(address: str) -> ClusterError:
    """Return the error for a server that answers in another form than Ray's dashboard does."""
    return ClusterError(
        f"{hide_passwords(address)} answers, but not as a Ray dashboard does; set --address to the cluster's "
        "dashboard, by default http://HEAD:8265."
    )


def _package(config_file: str) -> bytes:
    """Return the job's code and configuration as a ZIP file.

    Ray's client would write it to the temporary folder, where it would stay if this process were killed.
    """
    files = {
        file.relative_to(provenance.PROJECT).as_posix(): file.read_bytes()
        for package in CODE
        for file in sorted((provenance.PROJECT / package).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    extra = Path(config_file)
    if config_file and extra.is_file() and not extra.is_absolute() and ".." not in extra.parts:
        files[extra.as_posix()] = extra.read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            # Without times, so that the same code is the same package, which Ray does not send again.
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _send(client: JobSubmissionClient, content: bytes, *, name: str) -> str:
    """Upload content to the memory of Ray's head, which drops it after ten minutes unless a running job uses it."""
    path = f"/api/packages/gcs/_ray_pkg_{name}.zip"
    # The question whether it is there makes Ray keep it for that time, and drop it afterwards.
    if client._do_request("GET", path).status_code != HTTPStatus.OK:
        client._do_request("PUT", path, data=content).raise_for_status()
    return f"gcs://_ray_pkg_{name}.zip"


def follow(job: Job) -> int:
    """Print the job's log as it is written, its result to stdout and the rest to stderr; return its exit code.

    Raises:
        ClusterError: The cluster is unreachable for a minute, or the job could not be started.
    """
    client, log, away_since = _client(job.address), Log(), 0.0
    while True:
        try:
            ended = client.get_job_info(job.id).status.is_terminal()
            away_since = 0.0
            asyncio.run(log.show(client, job.id))
            if ended:
                return _exit_code(client.get_job_info(job.id))
        except AuthenticationError as error:
            raise connection.token_error(job.address) from error
        except CLIENT_ERRORS as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_SECONDS:
                raise ClusterError(
                    f"The cluster at {hide_passwords(job.address)} has been unreachable for {PATIENCE_SECONDS:.0f} s "
                    f"({one_line(error)}); job {job.id} may still be running. When it is back, {job.how_to}"
                ) from error
        time.sleep(0.5)


def _exit_code(info: JobDetails) -> int:
    if info.status == JobStatus.STOPPED:
        return STOPPED
    if info.driver_exit_code is None:
        raise ClusterError(f"Job {info.submission_id} ended without an exit code: {one_line(info.message)}.")
    # The exit code of a process ended by a signal is the negative number of the signal.
    return info.driver_exit_code if info.driver_exit_code >= 0 else 128 - info.driver_exit_code


def report(job: Job) -> None:
    """Print the job's id and the dashboard's address to stderr."""
    print(f"Submitted job {job.id}; dashboard: {hide_passwords(job.address)}", file=sys.stderr)


def _client(address: str) -> JobSubmissionClient:
    """Connect to the dashboard at `address`."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(
            f"{hide_passwords(address)} is not the address of a Ray dashboard; it begins with http:// or https://, "
            "for instance http://HEAD:8265."
        )
    try:
        # Ray's own requests have no timeout.
        requests.get(f"{address.rstrip('/')}/api/version", timeout=connection.ANSWER_SECONDS)
        connection.use_token()
        with GIVEN_ADDRESS.held():
            return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise connection.token_error(address) from error
    except (KeyError, TypeError) as error:
        raise _foreign(address) from error
    except CLIENT_ERRORS as error:
        raise ClusterError(
            f"No Ray dashboard answers at {hide_passwords(address)}; set --address to the cluster's dashboard, by "
            f"default http://HEAD:8265. The error was: {one_line(error)}."
        ) from error
