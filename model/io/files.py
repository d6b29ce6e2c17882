"""Files that appear complete or not at all: written as a hidden draft in the same folder, then renamed."""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

STALE_SECONDS = 24 * 3600
"""Seconds without a change after which a draft is abandoned, whoever wrote it."""
_DRAFT = re.compile(r"\.sat2map-(?P<host>[0-9a-f]{8})-(?P<process>\d{1,9})-[a-z0-9_]{8}(\.[^/]*)?")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a draft of `folder` to fill; on success it replaces `folder`, on an error it is removed.

    An existing `folder` stays until the new one is complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=_draft_prefix(), dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)
        if folder.exists():
            # Not named like a draft: should this process be killed now, the old folder is still there.
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(old / folder.name)
            draft.rename(folder)
            shutil.rmtree(old)
        else:
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a draft of `path` with the same suffix; on success it replaces `path`, on an error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_draft_prefix(), suffix=path.suffix, dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


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
    return f".sat2map-{_host()}-{os.getpid()}-"


@cache
def _host() -> str:
    """Return 8 hex digits for this machine since its boot, and for the container: where process ids are unique."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _is_stale(draft: Path, host: str, process: int) -> bool:
    if host == _host() and not _is_running(process):
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
