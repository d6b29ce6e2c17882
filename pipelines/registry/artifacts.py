"""Files of a registered version: listed first, then fetched one by one, each up to a limit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import quote, urlsplit

import mlflow
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.request_utils import augmented_raise_for_status
from mlflow.utils.rest_utils import http_request

from model.errors import BundleError, TrackingError
from model.io.addresses import hide_passwords, one_line
from model.io.progress import quiet_stderr
from pipelines.config.held_variables import HeldVariables

MAX_FILES = 1000
BLOCK = 1 << 20
NO_BARS = HeldVariables({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
"""Setting without which MLflow shows a progress bar for every file; `quiet_stderr` would print it after an error."""
SERVED = ("mlflow-artifacts", "http", "https")
"""Schemes of files served by an MLflow server; requests for them carry this machine's credentials for it."""
STORED = ("", "file", "s3", "gs", "wasbs", "abfss", "hdfs")
"""Schemes of files that are read directly from their storage."""


class Artifacts:
    """The files below one location: a folder, a bucket or a path on an MLflow server."""

    def __init__(self, location: str) -> None:
        """Open a location that the registry names.

        Raises:
            BundleError: The location is on a server other than MLflow's, or has an unknown scheme.
        """
        _check_location(location)
        self._repository = get_artifact_repository(location)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every file, by relative path, as the registry reports it.

        Raises:
            BundleError: There are more than MAX_FILES files and folders, a size is missing, or a path leads outside.
            TrackingError: The files can't be listed.
        """
        found: dict[str, int] = {}
        folders: list[str | None] = [None]
        for listed, folder in enumerate(folders):
            for entry in self._list(folder):
                if entry.is_dir:
                    folders.append(entry.path)
                elif entry.file_size is None:
                    raise BundleError(f"The registry reports no size for {entry.path!r}; nothing was fetched.")
                else:
                    found[entry.path] = int(entry.file_size)
            if listed + len(found) > MAX_FILES:
                raise BundleError(
                    f"The version has more than {MAX_FILES} files and folders; this is not a sat2map model."
                )
        return found

    def fetch(self, path: str, file: Path, *, limit: int) -> None:
        """Copy an artifact to `file`, at most `limit` bytes of it, whatever size was listed.

        Raises:
            BundleError: The artifact is larger; the caller removes the partial file.
            TrackingError: The artifact can't be fetched.
        """
        with transfer(f"{path} can't be fetched"):
            if isinstance(self._repository, HttpArtifactRepository):
                _stream(self._repository.artifact_uri, path, file, limit)
                return
            with TemporaryDirectory(dir=file.parent) as scratch, NO_BARS.held(), quiet_stderr():
                fetched = self._repository.download_artifacts(path, dst_path=scratch)  # type: ignore[no-untyped-call]
                Path(fetched).replace(file)
        if file.stat().st_size > limit:
            raise _too_large(path, limit)

    def _list(self, folder: str | None) -> list[FileInfo]:
        with transfer("The version's files can't be listed"):
            try:
                entries = self._repository.list_artifacts(folder)
            except MlflowException as error:
                # MLflow's client raises this for `..` and for absolute paths.
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                raise BundleError(f"The version lists a file outside its own folder: {error}. Don't use it.") from error
        for entry in entries:
            path = PurePosixPath(entry.path)
            if path.is_absolute() or ".." in path.parts or "\\" in entry.path:
                raise BundleError(f"The version lists a file outside its own folder: {entry.path!r}. Don't use it.")
        return [entry for entry in entries if entry.path != folder]


@contextmanager
def transfer(failure: str) -> Iterator[None]:
    """Turn errors during a transfer into TrackingError; files are large, so MLflow's own time limits stay in force."""
    try:
        yield
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{failure}: {one_line(error)}.") from error


def _check_location(location: str) -> None:
    found, server = urlsplit(location), urlsplit(mlflow.get_tracking_uri())
    host, own = (address.netloc.rpartition("@")[2] for address in (found, server))
    if found.scheme in SERVED and host and host != own:
        raise BundleError(
            f"The version's files are on {host}, which is not the MLflow server ({own or 'a database'}) and must not "
            "receive its credentials; nothing was fetched. Register the run again."
        )
    if found.scheme not in SERVED + STORED:
        allowed = ", ".join(f"{scheme}:" for scheme in (*SERVED, *STORED) if scheme)
        raise BundleError(
            f"The version's files are at {hide_passwords(location)!r}; only {allowed} and folders are supported. "
            "Register the run again."
        )


def _stream(address: str, path: str, file: Path, limit: int) -> None:
    # MLflow's own download has no size limit. Compressed responses are refused: a small one may expand without limit.
    options = {"extra_headers": {"Accept-Encoding": "identity"}, "stream": True}
    server = get_default_host_creds(address)  # type: ignore[no-untyped-call]
    with http_request(server, f"/{quote(path)}", "GET", **options) as response:  # type: ignore[no-untyped-call]
        augmented_raise_for_status(response)  # type: ignore[no-untyped-call]
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise BundleError(
                f"The server sent {path} compressed ({response.headers['Content-Encoding']}), which was not requested; "
                "nothing was fetched."
            )
        written = 0
        with file.open("wb") as out:
            for block in response.iter_content(BLOCK):
                written += len(block)
                if written > limit:
                    raise _too_large(path, limit)
                out.write(block)


def _too_large(path: str, limit: int) -> BundleError:
    return BundleError(f"{path} is larger than {limit:,} bytes, the limit for this file; this is not a sat2map model.")
