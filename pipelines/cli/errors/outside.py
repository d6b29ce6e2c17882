"""Errors of the operating system and of libraries that no verb has translated."""

import errno
import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

from model.io.addresses import hide_passwords
from model.provenance import PROJECT

TRACEBACK = "SAT2MAP_TRACEBACK"
"""Environment variable that, if not empty, shows the traceback of these errors instead of a sentence."""
SHOWN = 200
"""Characters of a name or a message that are shown."""


class Explanation(NamedTuple):
    """An error as a sentence.

    Attributes:
        kind: Kind of the error in JSON.
        message: What was found, and what to do.
    """

    kind: str
    message: str


class _Library(NamedTuple):
    module: str
    error: str
    kind: str
    failed: str
    advice: str


_DATABASE = "check the database that MLFLOW_TRACKING_URI names, by default mlflow.db in the current folder"
_LIBRARIES = (
    _Library("sqlalchemy.exc", "SQLAlchemyError", "tracking", "MLflow's database can't be used", _DATABASE),
    _Library("sqlite3", "DatabaseError", "tracking", "MLflow's database can't be used", _DATABASE),
    _Library("mlflow.exceptions", "MlflowException", "tracking", "MLflow failed", "check MLFLOW_TRACKING_URI"),
    _Library("ray.exceptions", "RayError", "cluster", "Ray failed", "check the cluster, or unset RAY_ADDRESS"),
    _Library(
        "requests", "RequestException", "storage", "A server can't be reached", "check its address and the network"
    ),
)
_ADVICE = {
    errno.EACCES: "check its permissions, or choose another",
    errno.EPERM: "check its permissions, or choose another",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a file stands where a folder is needed",
    errno.EEXIST: "check the path: a file stands where a folder is needed",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "a link leads back to itself",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EIO: "check the disk",
}


def explain(error: BaseException) -> Explanation | None:
    """Return what is wrong outside this program, or None if the error may be a mistake in the program itself.

    Outside are files that an OSError names, unless they belong to an installed package; a full disk or memory; a
    connection; and what MLflow, its database and Ray report. All other errors keep their traceback, which is needed to
    mend the program; with `SAT2MAP_TRACEBACK` set, all do.
    """
    if os.environ.get(TRACEBACK):
        return None
    cause = getattr(error, "cause", None)
    if type(error).__name__.startswith("RayTaskError"):
        # An error of our own code in another process.
        return explain(cause) if isinstance(cause, BaseException) else None
    for library in _LIBRARIES:
        # A library that was never imported has raised nothing.
        kind = getattr(sys.modules.get(library.module), library.error, None)
        if kind is not None and isinstance(error, kind):
            return Explanation(library.kind, f"{library.failed} ({_first_line(error)}); {library.advice}.")
    if isinstance(error, OSError):
        return _explain_system(error)
    if isinstance(error, MemoryError):
        return Explanation("memory", f"There is not enough memory ({_first_line(error)}); use smaller settings.")
    if isinstance(error, RuntimeError) and "determine home directory" in str(error):
        return Explanation("storage", "The home folder of this user is unknown; set HOME to a folder.")
    return None


def _explain_system(error: OSError) -> Explanation | None:
    reason = error.strerror or _first_line(error)
    if isinstance(error.filename, str | bytes | os.PathLike):
        name = os.fsdecode(error.filename)
        if _is_installed(Path(name)):
            return None
        advice = _ADVICE.get(error.errno or 0, "check it, or choose another")
        return Explanation("storage", f"{_shortened(name)} can't be used ({reason}); {advice}.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = tempfile.gettempdir()
        return Explanation("storage", f"A disk is full ({reason}); free some space in the workspace and in {folder}.")
    if "temporary directory" in reason:
        return Explanation("storage", f"{reason}; set TMPDIR to a folder that you may write to.")
    if isinstance(error, ConnectionError | TimeoutError):
        return Explanation("storage", f"A server can't be reached ({reason}); check its address and the network.")
    return None


def _is_installed(path: Path) -> bool:
    """Return whether a file belongs to this program or to a package that it uses."""
    folders = [PROJECT / name for name in ("model", "pipelines", "serving")]
    folders += [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    return any(path.is_relative_to(folder) for folder in folders)


def _first_line(error: BaseException) -> str:
    return _shortened(next(iter(hide_passwords(str(error)).strip().splitlines()), type(error).__name__)).rstrip(".")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}...{text[-SHOWN // 2 :]}"
