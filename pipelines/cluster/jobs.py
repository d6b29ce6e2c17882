"""Send a verb to a Ray cluster as a job, follow its log, and take over its exit code."""

import asyncio
import logging
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from model import provenance
from model.errors import ClusterError, ConfigError
from model.io.addresses import hide_passwords, is_address
from pipelines.cluster import environment
from pipelines.cluster.signals import STOPPED
from pipelines.config.schema import RunConfig
from pipelines.tracking import mlflow_runs

CODE = ("model", "pipelines", "serving")
ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""How long a cluster may be out of reach while its job is followed."""
STOP_SECONDS = "120"
"""What a job that is stopped is given to write its last checkpoint; Ray's default is 3."""
TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Ray's loggers that tell of every upload."""
RAYS_OWN = re.compile(
    r"\S+ \S+\tINFO job_manager\.py:\d+ -- |Running entrypoint for job |\S*\(raylet\)|\t\(\d\) raylet "
)
"""What Ray writes into a job's log: before the verb begins, and when a node is lost."""
FAULTS = (OSError, RuntimeError, ValueError, RayError, requests.RequestException, aiohttp.ClientError)
"""What Ray's client raises when a cluster is away, refuses, or is no Ray cluster at all."""


@dataclass(frozen=True)
class Job:
    """A job on a cluster.

    Attributes:
        address: Of the cluster's dashboard, `http://HEAD:8265`.
        id: The job's, by which Ray knows it.
    """

    address: str
    id: str

    @property
    def how_to(self) -> str:
        """The commands that follow and stop it."""
        options = f"--address {hide_passwords(self.address)} {self.id}"
        return f"follow it: ray job logs --follow {options}\nstop it:   ray job stop {options}"


def check(config: RunConfig, arguments: Mapping[str, Any]) -> None:
    """Refuse what would be lost with the job's folder, or what other nodes could not see.

    Raises:
        ConfigError: MLflow, the workspace, the pairs or an argument of the verb are on this machine alone.
    """
    mlflow_runs.check_shared()
    places = [(name, value) for name, value in arguments.items() if isinstance(value, Path)]
    places += [(name, Path(text)) for name, text in _scored(arguments) if not is_address(text)]
    places.append(("workspace", config.workspace))
    if config.data.source != "sample" and not is_address(config.data.source):
        places.append(("data.source", Path(config.data.source)))
    for name, path in places:
        if not path.is_absolute():
            raise ConfigError(
                f"{name} is {str(path)!r}, which in a job lies in its working directory: other nodes don't see it, and "
                f"it goes with the job. Name a folder that every node sees under the same path ({name}=/SHARED/FOLDER)."
            )


def _scored(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the places that `score` reads and writes, with the names of its arguments."""
    for photo in arguments.get("photos") or ():
        yield "photos", photo.removeprefix("@")
    for name in ("maps", "out", "vector", "model"):
        place = arguments.get(name)
        if isinstance(place, str) and place and not place.startswith("models:"):
            yield name, place


def submit(address: str, words: Sequence[str], *, config_file: str = "") -> Job:
    """Send the code and the settings for MLflow to the cluster and start a verb there.

    Args:
        address: Of the cluster's dashboard: `http://HEAD:8265`.
        words: The verb and its options.
        config_file: A configuration that goes along if it is a file below this folder.

    Raises:
        ClusterError: The address does not answer, or the cluster refuses.
    """
    address = address if "://" in address else f"http://{address}"
    client = _client(address)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="sat2map-") as name:
        folder = Path(name)
        for package in CODE:
            shutil.copytree(
                provenance.PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        extra = Path(config_file)
        if config_file and extra.is_file() and not extra.is_absolute() and ".." not in extra.parts:
            (folder / extra).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(extra, folder / extra)
        environment.write(folder, environment.capture(os.environ), revision=provenance.git_revision())
        try:
            job_id = client.submit_job(
                entrypoint=shlex.join(["python", "-m", "pipelines", *words]),
                runtime_env={"working_dir": name, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS}},
            )
        except FAULTS as error:
            raise ClusterError(
                f"The cluster at {hide_passwords(address)} did not take the job: {_message(error)}"
            ) from error
    return Job(address, job_id)


def follow(job: Job) -> int:
    """Print the job's log as it comes, and return its exit code when it has ended.

    Raises:
        ClusterError: The cluster is out of reach for a minute, or the job could not be started.
    """
    client, log, away_since = _client(job.address), Log(), 0.0
    while True:
        try:
            ended = client.get_job_info(job.id).status.is_terminal()
            away_since = 0.0
            asyncio.run(log.show(client, job.id))
            if ended:
                return _exit_code(client.get_job_info(job.id))
        except FAULTS as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_SECONDS:
                raise ClusterError(
                    f"The cluster at {hide_passwords(job.address)} has been out of reach for {PATIENCE_SECONDS:.0f} s "
                    f"({_message(error)}); job {job.id} may go on. When it is back, {job.how_to}"
                ) from error
        time.sleep(0.5)


def _exit_code(info: JobDetails) -> int:
    if info.status == JobStatus.STOPPED:
        return STOPPED
    if info.driver_exit_code is None:
        raise ClusterError(f"Job {info.submission_id} ended without an exit code: {_message(info.message)}")
    # A process that a signal ended has the negative of its number.
    return info.driver_exit_code if info.driver_exit_code >= 0 else 128 - info.driver_exit_code


def report(job: Job) -> None:
    """Say on stderr which job it is, and what can be done with it."""
    print(f"Job {job.id} is on the cluster; {hide_passwords(job.address)} shows it.", file=sys.stderr)


@dataclass
class Log:
    """A job's log on its way to stdout, each line once: a connection that was lost begins it anew."""

    lines: int = 0
    """Lines that were shown or passed over."""

    async def show(self, client: JobSubmissionClient, job_id: str) -> None:
        """Print what is new, to the log's end, without what Ray adds to it."""
        seen, begun = 0, ""
        async for text in client.tail_job_logs(job_id):
            *lines, begun = (begun + text).split("\n")
            for line in lines:
                seen += 1
                if seen > self.lines:
                    self._print(line)
        if begun and seen >= self.lines:
            self._print(begun)

    def _print(self, line: str) -> None:
        self.lines += 1
        if not RAYS_OWN.match(line):
            print(line, flush=True)


def _client(address: str) -> JobSubmissionClient:
    """Connect to the cluster at `address`, and to no other: Ray would prefer what RAY_ADDRESS names."""
    place = urlsplit(address)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ClusterError(
            f"{hide_passwords(address)} is not the address of a Ray dashboard; it begins with http:// or https://, "
            "for instance http://HEAD:8265."
        )
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    try:
        # Ray's client would wait for minutes where nobody refuses the connection.
        default = 443 if place.scheme == "https" else 80
        socket.create_connection((place.hostname, place.port or default), timeout=ANSWER_SECONDS).close()
        return JobSubmissionClient(address)
    except FAULTS as error:
        raise ClusterError(
            f"No Ray cluster answers as it should at {hide_passwords(address)}; give --address of its dashboard, which "
            f"is http://HEAD:8265 unless the cluster was started otherwise. It said: {_message(error)}"
        ) from error


def _message(error: object) -> str:
    return " ".join(str(error).split())[:300]
