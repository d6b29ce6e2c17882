"""Files that appear complete or not at all: written as a hidden draft in the same folder, then renamed."""

import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from model.errors import DataError, StorageError

STALE_SECONDS = 24 * 3600
"""Seconds without a change after which a draft is abandoned, whoever wrote it."""
_DRAFT = re.compile(r"\.sat2map-(?P<host>[0-9a-f]{8})-(?P<process>\d{1,9})-[a-z0-9_]{8}(\.[^/]*)?")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a draft of `folder` to fill; on success it replaces `folder`, on an error it is removed.

    An existing `folder` stays until the new one is complete. A link is followed.

    Raises:
        StorageError: The disk is full or read-only, denies access, or has a file of this name.
        DataError: No folder can have this name, or it is a link that leads back to itself.
    """
    target = follow(folder)
    with _write_errors(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=_draft_prefix(), dir=target.parent))
    try:
        with _write_errors(folder, only=_OF_DISKS):
            yield draft
        with _write_errors(folder):
            draft.chmod(0o755)
            _replace_folder(target, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a draft of `path` with the same suffix; on success it replaces `path`, on an error it is removed.

    A link is followed: its target is written, also one that is missing.

    Raises:
        StorageError: The disk is full or read-only, or denies access.
        DataError: No file can have this name, or it is a link that leads back to itself.
    """
    target = follow(path)
    with _write_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_draft_prefix(), suffix=path.suffix, dir=target.parent)
        os.close(handle)
    draft = Path(name)
    try:
        with _write_errors(path, only=_OF_DISKS):
            yield draft
        with _write_errors(path):
            draft.chmod(0o644)
            draft.replace(target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def check_writable(path: Path) -> None:
    """Check, before long work, that a file or folder can be made at `path`; nothing is left there.

    Raises:
        StorageError: The disk is full or read-only, or denies access, or a file is in the way.
        DataError: No file can have this name.
    """
    with _write_errors(path):
        folder = follow(path).absolute().parent
        while not os.path.lexists(folder):
            folder = folder.parent
        with tempfile.TemporaryFile(prefix=_draft_prefix(), dir=folder) as file:
            file.write(b"\n")
        if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless it exists.

    Raises:
        StorageError: The disk is full or read-only, denies access, or has a file of this name.
        DataError: No folder can have this name.
    """
    with _write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


_OF_DISKS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Error numbers that only a write has."""
_OF_NAMES = {
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "a folder has this name; choose another name",
    errno.EINVAL: "choose another name",
    errno.ENOTEMPTY: "choose another name",
}
"""Error numbers that concern a single file, each with the advice."""
_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.ENOTDIR: "a file is in the way; choose another folder",
    errno.EEXIST: "a file is in the way; choose another folder",
    errno.ELOOP: "a link leads back to itself; choose another folder",
    errno.EIO: "check the disk",
}


def write_error(target: object, error: OSError) -> DataError:
    """Return the error for a file that can't be written: a StorageError unless the file's name is at fault.

    Args:
        target: The path or location, as it is shown.
        error: What the operating system reported.
    """
    number, reason = error.errno or 0, error.strerror or str(error)
    if number in _OF_NAMES:
        return DataError(f"{target} can't be written ({reason}); {_OF_NAMES[number]}")
    advice = _ADVICE.get(number, "choose a folder that you may write to")
    return StorageError(f"{target} can't be written ({reason}): {advice}.")


@contextmanager
def _write_errors(path: Path, *, only: Collection[int] = ()) -> Iterator[None]:
    """Raise an OSError as `write_error`; with `only`, those of other numbers stay as they are.

    A StorageError with the same cause, of a file in the draft of a folder, gets the name of the folder.
    """
    try:
        yield
    except (OSError, StorageError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or (only and cause.errno not in only):
            raise
        raise write_error(path, cause) from cause


def _replace_folder(folder: Path, draft: Path) -> None:
    """Rename the draft; a folder that exists is moved away first, and back if that fails."""
    if not folder.exists():
        draft.rename(folder)
        return
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    # Not named like a draft: should this process be killed now, the old folder is still there.
    old = Path(tempfile.mkdtemp(prefix=".sat2map-old-", dir=folder.parent))
    try:
        folder.rename(old / folder.name)
        try:
            draft.rename(folder)
        except OSError:
            (old / folder.name).rename(folder)
            raise
    except OSError:
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def follow(path: Path) -> Path:
    """Return the absolute path that `path` leads to, which need not exist, without links.

    Raises:
        DataError: It is a link that leads back to itself.
    """
    real = Path(os.path.realpath(path))
    if os.path.islink(real):
        raise DataError(f"{path} is a link that leads back to itself; remove it.")
    return real


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder in `parent`, by default the system's temporary folder, and remove it afterwards.

    The folder of a process that is killed is removed by the next one that makes a folder in the same parent.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_stale_drafts(parent)
    with tempfile.TemporaryDirectory(prefix=_draft_prefix(), dir=parent) as name:
        yield Path(name)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`; a reader sees the old content or the new, never a part."""
    with new_file(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, complete or not at all."""
    write_bytes(path, text.encode())


def remove_stale_drafts(folder: Path) -> None:
    """Remove the drafts in a folder that killed processes left behind, as far as they can be removed.

    A draft's name holds its machine and its process. It is removed if it is of this machine and its process has ended,
    or if nothing was written to it for a day: it may be of another machine that shares the folder. Drafts are not
    locked, as some libraries replace the file that they write to, which would lose the lock.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found = [(Path(entry), match) for entry in entries if (match := _DRAFT.fullmatch(entry.name))]
        for path, match in found:
            # Another process may remove it at the same time.
            with contextlib.suppress(OSError):
                if _is_stale(path, match["host"], int(match["process"])):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _draft_prefix() -> str:
    return f".sat2map-{this_machine()}-{os.getpid()}-"


@cache
def this_machine() -> str:
    """Return 8 hex digits for this machine since its boot, and for the container: where process ids are unique."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _is_stale(draft: Path, host: str, process: int) -> bool:
    if host == this_machine() and not _is_running(process):
        return True
    changed = max(path.lstat().st_mtime for path in (draft, *draft.rglob("*")))
    return time.time() - changed > STALE_SECONDS


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # A process of another user.
        return True
    return True


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
