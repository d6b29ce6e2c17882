"""Locations of files and folders: a path on this machine, or an address that `model.io.object_store` opens."""

import errno
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal, Self

from pydantic_core import CoreSchema, core_schema

from model.errors import DataError, StorageError
from model.io import addresses, files, images, object_store
from model.io.addresses import Address
from model.io.object_store import Listing


@dataclass(frozen=True, slots=True)
class Location:
    """A file or folder, whether it exists or not; `str()` gives the text that `parse` reads.

    Attributes:
        target: A path on this machine, or an address.
    """

    target: Path | Address

    @classmethod
    def parse(cls, source: str | Path) -> Self:
        """Read a path or an address; `file://` becomes a path.

        Raises:
            DataError: It is an address that `addresses.parse` rejects.
        """
        if isinstance(source, Path) or not addresses.is_address(source):
            return cls(Path(source))
        address = addresses.parse(source)
        return cls(Path(f"/{address.path}") if address.scheme == "file" else address)

    def __str__(self) -> str:
        """Return the path, or the address in its normal form."""
        return str(self.target)

    @property
    def is_remote(self) -> bool:
        """Whether it is reached over a network."""
        return isinstance(self.target, Address)

    @property
    def path(self) -> Path:
        """The path of a location on this machine, to open."""
        assert isinstance(self.target, Path), f"{self} is an address"
        return self.target

    @property
    def name_path(self) -> PurePath:
        """The path, or bucket and path, to split or show, but not to open."""
        if isinstance(self.target, Path):
            return PurePath(self.target)
        return PurePosixPath(self.target.authority, self.target.path)

    def absolute(self) -> Self:
        """Return the location with an absolute path."""
        return self if isinstance(self.target, Address) else type(self)(self.target.absolute())

    def join(self, *names: str) -> Self:
        """Return the location of an entry below this folder."""
        if isinstance(self.target, Address):
            return type(self)(self.target.inside(*names))
        return type(self)(self.target.joinpath(*names))

    def type(self) -> Literal["file", "folder"] | None:
        """Return the type of the entry; None if there is none. Links are followed.

        Raises:
            StorageError: The storage does not answer, or denies access.
        """
        if isinstance(self.target, Address):
            return object_store.find_type(self.target)
        try:
            return "folder" if stat.S_ISDIR(self.target.stat().st_mode) else "file"
        except ValueError:  # A zero byte, which no name has.
            return None
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise StorageError(f"{self} can't be opened ({error.strerror}); make it readable.") from error

    def list(self) -> Listing:
        """List this folder, in one call if it is remote; links are followed.

        Raises:
            StorageError: The storage does not answer, or denies access.
            DataError: It is not a folder, or can't be listed.
        """
        if isinstance(self.target, Address):
            return object_store.list_folder(self.target)
        return _list_folder(self.target)

    def read_bytes(self, *, limit: int | None = None) -> bytes:
        """Read this file once and completely, if it has at most `limit` bytes, by default `images.MAX_BYTES`.

        Raises:
            StorageError: The storage does not answer.
            TooLarge: The file has more bytes.
            DataError: The file is missing or can't be opened.
        """
        if isinstance(self.target, Address):
            return object_store.read_bytes(self.target, limit=limit)
        return images.read_bytes(self.target, limit=limit)

    def write_bytes(self, content: bytes) -> None:
        """Write this file, complete or not at all, and the folders above it. Safe for any number of threads.

        Raises:
            StorageError: The storage does not answer, is full, or denies access.
            DataError: No file can have this name.
        """
        if isinstance(self.target, Address):
            object_store.write_bytes(self.target, content)
        else:
            files.write_bytes(self.target, content)

    def remove_folder(self) -> None:
        """Remove this folder with its content, if it exists.

        Raises:
            StorageError: The storage does not answer, or denies access.
        """
        if isinstance(self.target, Address):
            object_store.remove_folder(self.target)
        elif self.target.is_dir():
            try:
                shutil.rmtree(self.target)
            except OSError as error:
                raise files.write_error(self, error) from error

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> CoreSchema:  # noqa: ANN401 - as pydantic declares it
        """Store a location in JSON as its text."""
        text = core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )


_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link that can't be followed is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _list_folder(folder: Path) -> Listing:
    folders: list[str] = []
    names: list[str] = []
    try:
        if not folder.exists():
            raise DataError(f"There is no folder {folder}; check the spelling.")
        if not folder.is_dir():
            raise DataError(f"{folder} is a file, not a folder.")
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if _is_folder(entry) else names).append(entry.name)
    except OSError as error:
        raise DataError(f"{folder} can't be listed ({error.strerror}); make it readable.") from error
    return Listing(frozenset(folders), tuple(names))
