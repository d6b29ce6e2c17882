"""Files written to places, whole or not at all: to a folder on this machine, or to an address."""

import errno
import shutil
from pathlib import Path

from model.errors import DataError, StorageError
from model.io import files
from model.io.addresses import Address, parse
from model.io.locations import connect, failure, is_remote


def write_bytes(file: str, content: bytes) -> None:
    """Write a file, whole or not at all, with the folders above it; any number of threads may.

    Raises:
        PlaceError: The place does not answer, is full, or refuses.
        DataError: Nothing can be written under this name.
    """
    if is_remote(file):
        _write_remote(parse(file), content)
        return
    try:
        files.write_bytes(Path(file), content)
    except OSError as error:
        raise unwritable(file, error) from error


def remove_folder(folder: str) -> None:
    """Remove a folder and all that is in it, if it is there.

    Raises:
        PlaceError: The place does not answer, or refuses.
    """
    if is_remote(folder):
        _remove_remote(parse(folder))
    elif Path(folder).is_dir():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise unwritable(folder, error) from error


_OF_THE_NAME = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL}
_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.ENOTDIR: "a file stands where a folder is needed; name another place",
    errno.EEXIST: "a file stands where a folder is needed; name another place",
}


def unwritable(place: str, error: OSError) -> DataError:
    """Say why nothing could be written on this machine: a PlaceError, unless it is the name that can't be."""
    if error.errno in _OF_THE_NAME:
        return DataError(f"{place} can't be written ({error.strerror})")
    advice = _ADVICE.get(error.errno or 0, "name a place that you may write to")
    return StorageError(f"{place} can't be written ({error.strerror}): {advice}.")


def _write_remote(address: Address, content: bytes) -> None:
    from pyarrow import ArrowException

    try:
        filesystem, path = connect(address)
        # Object stores show a file when it was sent whole; HDFS shows it while it grows, so it is renamed there.
        draft = f"{path}.part" if address.scheme == "hdfs" else path
        if draft != path:
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(draft) as stream:
            stream.write(content)
        if draft != path:
            filesystem.move(draft, path)
    except (OSError, ArrowException) as error:
        raise failure(address, error) from error


def _remove_remote(address: Address) -> None:
    from pyarrow import ArrowException
    from pyarrow.fs import FileSelector, FileType

    try:
        filesystem, path = connect(address)
        if address.scheme == "gs":
            # Arrow's client for Google removes no folder that is but a part of names.
            for entry in filesystem.get_file_info(FileSelector(path, recursive=True, allow_not_found=True)):
                if entry.type == FileType.File:
                    filesystem.delete_file(entry.path)
        else:
            filesystem.delete_dir(path)
    except FileNotFoundError:
        return
    except (OSError, ArrowException) as error:
        raise failure(address, error) from error
