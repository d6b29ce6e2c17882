"""The hidden folder next to a map that keeps its finished strips until the map is complete."""

import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import DataError
from model.io.files import write_error
from model.spec import Frozen
from serving.geo.cog import read_note

FORMAT = 1
"""Version of the strip files; a run doesn't resume from strips of another version."""
LONG_NAME = 200
"""Maximum number of bytes of a map's name that becomes part of its folder's name; file systems allow 255."""


class StripNote(Frozen):
    """The metadata stored in a strip file."""

    top: int
    height: int
    drawn: int
    skipped: int
    seams: tuple[int, int, int, int]


@contextmanager
def open_strip_folder(out: Path, key: list[object]) -> Iterator[Path]:
    """Yield the folder for strips of the map `out` drawn with the settings `key`, locked against other processes.

    Once the map is complete, the folders of other settings are removed too. After an error the folder stays, unless
    it holds no strip.

    Raises:
        DataError: The folder can't be created (StorageError: by the disk), or another process is drawing into it.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, *key]).encode()).hexdigest()[:16]
    prefix = _folder_prefix(out)
    folder = out.parent / f"{prefix}{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise write_error(out, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"Another process is drawing {out}; wait until it has finished.") from error
        try:
            yield folder
        except BaseException:
            if not _list_strips(folder):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        for other in out.parent.glob(glob.escape(prefix) + "[0-9a-f]" * 16):
            _remove_unless_locked(other)


def _folder_prefix(out: Path) -> str:
    """Return the beginning of the names of a map's folders; that of a long name, which may not grow, is a hash."""
    name = os.fsencode(out.name)
    return f".{out.name if len(name) <= LONG_NAME else hashlib.sha256(name).hexdigest()}-"


def strip_name(top: int) -> str:
    """Return the file name of the strip that begins at row `top` of the map."""
    return f"strip-{top:06d}.tif"


def read_finished(folder: Path) -> list[StripNote]:
    """Return the notes of the intact strips that follow one another without a gap from the top of the map."""
    notes: list[StripNote] = []
    for strip in _list_strips(folder):
        if strip.name != strip_name(notes[-1].top + notes[-1].height if notes else 0):
            break
        try:
            notes.append(StripNote.model_validate_json(read_note(strip)))
        except DataError:
            # A crash of the machine can truncate a strip; it is drawn again.
            break
    return notes


def _list_strips(folder: Path) -> list[Path]:
    return sorted(folder.glob("strip-*.tif"))


def _remove_unless_locked(folder: Path) -> None:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(folder, ignore_errors=True)
