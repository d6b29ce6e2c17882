"""Locks on files and folders, which leave nothing behind and end with the process that holds them, even if killed."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.1
UNSUPPORTED = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of file systems without locks, such as some network mounts, on which nothing is locked."""


@contextmanager
def held(path: Path, *, patience: float = 0, busy: Exception | None = None) -> Iterator[None]:
    """Hold the lock on an existing file or folder for the block; wait for it for at most `patience` seconds.

    A file must not be replaced while it is locked: the lock is on its content, not on its name.

    Raises:
        TimeoutError: Another process holds the lock, and `busy` was not given.
        Exception: `busy`, for the same reason.
    """
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        deadline = time.monotonic() + patience
        while not _take(handle):
            if time.monotonic() >= deadline:
                raise busy or TimeoutError(f"{path} is locked by another process")
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock on a file or folder."""
    with contextlib.suppress(FileNotFoundError):
        try:
            with held(path):
                pass
        except TimeoutError:
            return True
    return False


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    return True
