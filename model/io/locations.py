"""The seam to where files lie: a folder on this machine, or an address that one of pyarrow's file systems opens.

A place is a text: a path, or an address (`model.io.addresses`). Files at an address are listed a folder at a time and
read one by one; nothing is copied to this machine. `model.place_writing` writes.
"""

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeVar

from model.errors import DataError, StorageError
from model.io import images
from model.io.addresses import Address, is_address, parse

ANSWER_SECONDS = 25
"""A place that has not answered by then is given up."""
_S3_SECONDS = 5
_S3_ATTEMPTS = 3

T = TypeVar("T")


class Listing(NamedTuple):
    """The names in a folder, in no order."""

    folders: frozenset[str]
    files: tuple[str, ...]


def locate(source: str | Path) -> str:
    """Return the place that a user means: `file://` becomes a path, and an address takes its one form.

    Raises:
        DataError: It is an address that can't be used.
    """
    if isinstance(source, Path) or not is_address(source):
        return str(Path(source))
    address = parse(source)
    return f"/{address.path}" if address.scheme == "file" else str(address)


def absolute(place: str) -> str:
    """Return the place as it is called from everywhere."""
    return place if is_remote(place) else str(Path(place).absolute())


def is_remote(place: str) -> bool:
    """Tell whether a place is reached over a network."""
    return is_address(place)


def inside(folder: str, *names: str) -> str:
    """Return the place of what lies below a folder."""
    return str(parse(folder).inside(*names)) if is_remote(folder) else os.path.join(folder, *names)


def as_path(place: str) -> PurePath:
    """Return the place as a path that can be taken apart and shown, but not opened."""
    if not is_remote(place):
        return PurePath(place)
    address = parse(place)
    return PurePosixPath(address.authority, address.path)


def list_folder(folder: str) -> Listing:
    """List a folder, in one call if it is remote; links are followed.

    Raises:
        PlaceError: The place does not answer, or refuses.
        DataError: It is no folder, or can't be listed.
    """
    return _list_remote(parse(folder)) if is_remote(folder) else _list_local(Path(folder))


def kind(place: str) -> Literal["file", "folder"] | None:
    """Tell what lies at a place; None: nothing.

    Raises:
        PlaceError: The place does not answer, or refuses.
    """
    if is_remote(place):
        return _remote_kind(parse(place))
    path = Path(place)
    return "folder" if path.is_dir() else "file" if path.exists() else None


def read_bytes(file: str) -> bytes:
    """Read a file once and whole, if it is a regular file of at most `images.MAX_BYTES`; any number of threads may.

    Raises:
        PlaceError: The place does not answer.
        DataError: It is no such file, or can't be opened.
    """
    return _read_remote(parse(file)) if is_remote(file) else images.read_bytes(Path(file))


def _list_local(folder: Path) -> Listing:
    folders: list[str] = []
    files: list[str] = []
    try:
        if not folder.exists():
            raise DataError(f"There is no folder {folder}.")
        if not folder.is_dir():
            raise DataError(f"{folder} is a file, not a folder.")
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise DataError(f"{folder} can't be listed ({error.strerror}): make it readable.") from error
    return Listing(frozenset(folders), tuple(files))


def _list_remote(address: Address) -> Listing:
    from pyarrow import ArrowException
    from pyarrow.fs import FileSelector, FileType

    # Arrow's client for Google finds a folder among the names of its files only if it lists those too.
    deep = address.scheme == "gs"
    try:
        # Not every client has a time limit of its own, and a long listing may well take longer than the first answer.
        if _in_time(lambda: _ask(address)) == FileType.File:
            raise DataError(f"{address} is a file, not a folder.")
        filesystem, path = connect(address)
        entries = filesystem.get_file_info(FileSelector(path, recursive=deep))
    except (OSError, ArrowException) as error:
        if isinstance(error, FileNotFoundError) or (deep and "No such file or directory" in str(error)):
            raise DataError(f"There is no folder {address}: nothing lies below it. Mind its spelling.") from error
        raise failure(address, error) from error
    folders, files = set(), []
    for entry in entries:
        name, below, _ = (entry.path.removeprefix(f"{path}/") if deep else entry.base_name).partition("/")
        if below or entry.type == FileType.Directory:
            folders.add(name)
        else:
            files.append(name)
    return Listing(frozenset(folders), tuple(files))


def _read_remote(address: Address) -> bytes:
    from pyarrow import ArrowException

    name = images.short_name(PurePosixPath(address.authority, address.path))
    try:
        filesystem, path = connect(address)
        with filesystem.open_input_file(path) as stream:
            size = stream.size()
            if size > images.MAX_BYTES:
                raise DataError(f"{name} has {size} bytes; at most {images.MAX_BYTES} are allowed")
            return bytes(stream.read(images.MAX_BYTES))
    except FileNotFoundError as error:
        raise DataError(f"{name} is missing or no regular file") from error
    except (OSError, ArrowException) as error:
        if _is_denied(error):
            raise DataError(f"{name} can't be opened (access denied)") from error
        raise failure(address, error) from error


def _remote_kind(address: Address) -> Literal["file", "folder"] | None:
    from pyarrow import ArrowException
    from pyarrow.fs import FileType

    try:
        found = _in_time(lambda: _ask(address))
    except (OSError, ArrowException) as error:
        raise failure(address, error) from error
    if found == FileType.NotFound and address.scheme == "gs":
        # Arrow's client for Google sees no folder where only files below it are.
        try:
            _list_remote(address)
        except StorageError:
            raise
        except DataError:
            return None
        return "folder"
    return {FileType.File: "file", FileType.Directory: "folder"}.get(found)  # type: ignore[return-value]


def _ask(address: Address) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the type of what lies at an address."""
    filesystem, path = connect(address)
    return filesystem.get_file_info(path).type


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
        # Google's client tries for a quarter of an hour.
        root = root._replace(options=(*root.options, ("retry_limit_seconds", "15")))
    filesystem, path = fs.FileSystem.from_uri(str(root))
    return filesystem, path


def _connect_s3(root: Address) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Connect as `FileSystem.from_uri` would, but for its retries: with them a silent server is waited for 100 s."""
    from pyarrow import fs

    options = dict(root.options)
    elsewhere = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if not ("region" in options or "endpoint_override" in options or any(name in os.environ for name in elsewhere)):
        options["region"] = fs.resolve_s3_region(root.authority)
    return fs.S3FileSystem(
        **options,
        connect_timeout=_S3_SECONDS,
        request_timeout=_S3_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_S3_ATTEMPTS),
    )


def _in_time(call: Callable[[], T]) -> T:
    """Return what a call returns, if it does so in time; its thread is left behind otherwise."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="ask", daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"no answer in {ANSWER_SECONDS} s") from error


_DENIED = ("ACCESS_DENIED", "PERMISSION_DENIED", "HTTP status 403")
_UNKNOWN_USER = ("INVALID_ACCESS_KEY", "SIGNATURE", "TOKEN", "UNAUTHENTICATED", "AuthenticationException")


def _is_denied(error: Exception) -> bool:
    # Arrow tells most refusals by their text alone.
    return isinstance(error, PermissionError) or any(word in str(error) for word in _DENIED)


def failure(address: Address, error: Exception) -> StorageError:
    """Say in a sentence what is wrong with a place, and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "NO_SUCH_BUCKET" in text or ("Bucket '" in text and "not found" in text):
        return StorageError(
            f"There is no bucket {address.authority} for {address}: mind its name, endpoint and region."
        )
    said = re.split(r" \(Request ID| error_info=|Detail: ", text)[0][:250]
    if _is_denied(error) or any(word in text for word in _UNKNOWN_USER):
        return StorageError(f"{address} refuses access ({said}): credentials belong {address.credentials}.")
    if "libjvm" in text or "libhdfs" in text:
        return StorageError(
            f"{address} needs Hadoop's client on this machine ({said}): install it with Java, and set JAVA_HOME, "
            "HADOOP_HOME and CLASSPATH."
        )
    return StorageError(f"{address} can't be reached ({said}): check the address, the network and the server.")
