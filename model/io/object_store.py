"""Files at addresses, listed, read and written with the file systems of pyarrow.

Nothing is copied to this machine. `model.io.locations` chooses between this module and the local disk.
"""

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, TypeVar

from model.errors import DataError, StorageError
from model.io import images
from model.io.addresses import Address

ANSWER_SECONDS = 25
"""Seconds to wait for the first answer of a server."""
_S3_SECONDS = 5
_S3_ATTEMPTS = 3
_GOOGLE_RETRY_SECONDS = "15"

T = TypeVar("T")


class Listing(NamedTuple):
    """The names in a folder, in no particular order."""

    folders: frozenset[str]
    files: tuple[str, ...]


def list_folder(address: Address) -> Listing:
    """List a folder in one call.

    Raises:
        StorageError: The server does not answer, or denies access.
        DataError: There is no such folder, or it is a file.
    """
    from pyarrow import ArrowException
    from pyarrow.fs import FileSelector, FileType

    # Arrow's client for Google infers folders from the names of files only if it lists those files too.
    recursive = address.scheme == "gs"
    try:
        # Not every client has a time limit of its own. Only this call is limited: a long listing may take longer.
        if _with_timeout(lambda: _arrow_type(address)) == FileType.File:
            raise DataError(f"{address} is a file, not a folder.")
        filesystem, path = connect(address)
        entries = filesystem.get_file_info(FileSelector(path, recursive=recursive))
    except (OSError, ArrowException) as error:
        if isinstance(error, FileNotFoundError) or (recursive and "No such file or directory" in str(error)):
            raise DataError(f"There is no folder {address}, or it is empty; check the spelling.") from error
        raise storage_error(address, error) from error
    folders, files = set(), []
    for entry in entries:
        name, below, _ = (entry.path.removeprefix(f"{path}/") if recursive else entry.base_name).partition("/")
        if below or entry.type == FileType.Directory:
            folders.add(name)
        else:
            files.append(name)
    return Listing(frozenset(folders), tuple(files))


def find_type(address: Address) -> Literal["file", "folder"] | None:
    """Return the type of the entry at an address; None if there is none.

    Raises:
        StorageError: The server does not answer, or denies access.
    """
    from pyarrow import ArrowException
    from pyarrow.fs import FileType

    try:
        found = _with_timeout(lambda: _arrow_type(address))
    except (OSError, ArrowException) as error:
        raise storage_error(address, error) from error
    if found == FileType.NotFound and address.scheme == "gs":
        # Arrow's client for Google does not see a folder that exists only in the names of its files.
        try:
            list_folder(address)
        except StorageError:
            raise
        except DataError:
            return None
        return "folder"
    return {FileType.File: "file", FileType.Directory: "folder"}.get(found)  # type: ignore[return-value]


def read_bytes(address: Address, *, limit: int | None = None) -> bytes:
    """Read a file of at most `limit` bytes, by default `images.MAX_BYTES`.

    Raises:
        StorageError: The server does not answer.
        TooLarge: The file has more bytes.
        DataError: There is no such file, or access to it is denied.
    """
    from pyarrow import ArrowException

    name = images.short_name(PurePosixPath(address.authority, address.path))
    limit = images.MAX_BYTES if limit is None else limit
    try:
        filesystem, path = connect(address)
        with filesystem.open_input_file(path) as stream:
            size = stream.size()
            if size > limit:
                raise images.TooLarge(f"{name} has {size} bytes; at most {limit} are allowed")
            return bytes(stream.read(limit))
    except FileNotFoundError as error:
        raise DataError(f"{name} is missing") from error
    except (OSError, ArrowException) as error:
        if _is_denied(error):
            raise DataError(f"{name} can't be opened (access denied)") from error
        raise storage_error(address, error) from error


def write_bytes(address: Address, content: bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        StorageError: The server does not answer, is full, or denies access.
    """
    from pyarrow import ArrowException

    try:
        filesystem, path = connect(address)
        # HDFS shows incomplete files, so the file is renamed at the end; object stores show only complete files.
        draft = f"{path}.part" if address.scheme == "hdfs" else path
        if draft != path:
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(draft) as stream:
            stream.write(content)
        if draft != path:
            filesystem.move(draft, path)
    except (OSError, ArrowException) as error:
        raise storage_error(address, error) from error


def remove_folder(address: Address) -> None:
    """Remove a folder with its content, if it exists.

    Raises:
        StorageError: The server does not answer, or denies access.
    """
    from pyarrow import ArrowException
    from pyarrow.fs import FileSelector, FileType

    try:
        filesystem, path = connect(address)
        if address.scheme == "gs":
            # Arrow's client for Google does not remove a folder that exists only in the names of its files.
            for entry in filesystem.get_file_info(FileSelector(path, recursive=True, allow_not_found=True)):
                if entry.type == FileType.File:
                    filesystem.delete_file(entry.path)
        else:
            filesystem.delete_dir(path)
    except FileNotFoundError:
        return
    except (OSError, ArrowException) as error:
        raise storage_error(address, error) from error


_connecting = threading.Lock()


def connect(address: Address) -> tuple[Any, str]:
    """Return pyarrow's file system for an address, one for each bucket in a process, and the path in it."""
    with _connecting:
        filesystem, root = _connect(address.root)
    return filesystem, f"{root.rstrip('/')}/{address.path}" if address.path else root


@cache
def _connect(root: Address) -> tuple[Any, str]:
    from pyarrow import fs

    if root.scheme == "s3":
        return _connect_s3(root), root.authority
    if root.scheme == "gs" and "retry_limit_seconds" not in dict(root.options):
        # Google's client retries for a quarter of an hour by default.
        root = root._replace(options=(*root.options, ("retry_limit_seconds", _GOOGLE_RETRY_SECONDS)))
    filesystem, path = fs.FileSystem.from_uri(str(root))
    return filesystem, path


def _connect_s3(root: Address) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Connect as `FileSystem.from_uri` does, but with fewer retries: its defaults wait 100 s for a silent server."""
    from pyarrow import fs

    options = dict(root.options)
    endpoints = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if not ("region" in options or "endpoint_override" in options or any(name in os.environ for name in endpoints)):
        options["region"] = fs.resolve_s3_region(root.authority)
    return fs.S3FileSystem(
        **options,
        connect_timeout=_S3_SECONDS,
        request_timeout=_S3_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_S3_ATTEMPTS),
    )


def _arrow_type(address: Address) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return pyarrow's type of the entry at an address."""
    filesystem, path = connect(address)
    return filesystem.get_file_info(path).type


def _with_timeout(call: Callable[[], T]) -> T:
    """Return the result of a call within `ANSWER_SECONDS`; a thread that takes longer is abandoned."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="storage", daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"no answer in {ANSWER_SECONDS} s") from error


_DENIED = ("ACCESS_DENIED", "PERMISSION_DENIED", "HTTP status 403")
_UNKNOWN_USER = ("INVALID_ACCESS_KEY", "SIGNATURE", "TOKEN", "UNAUTHENTICATED", "AuthenticationException")


def _is_denied(error: Exception) -> bool:
    # Arrow reports most refusals only in the text of the error.
    return isinstance(error, PermissionError) or any(word in str(error) for word in _DENIED)


def storage_error(address: Address, error: Exception) -> StorageError:
    """Return the error that explains in one sentence why an address can't be used."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "NO_SUCH_BUCKET" in text or ("Bucket '" in text and "not found" in text):
        return StorageError(
            f"There is no bucket {address.authority} for {address}; check the name, the endpoint and the region."
        )
    reason = re.split(r" \(Request ID| error_info=|Detail: ", text)[0][:250]
    if _is_denied(error) or any(word in text for word in _UNKNOWN_USER):
        return StorageError(f"{address} denies access ({reason}); credentials belong {address.credentials}.")
    if "libjvm" in text or "libhdfs" in text:
        return StorageError(
            f"{address} needs Hadoop's client on this machine ({reason}); install it with Java, and set JAVA_HOME, "
            "HADOOP_HOME and CLASSPATH."
        )
    return StorageError(f"{address} can't be reached ({reason}); check the address, the network and the server.")
