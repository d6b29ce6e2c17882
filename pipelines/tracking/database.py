"""MLflow's SQLite databases: created by one process at a time, complete or not at all, and never migrated unasked."""

import contextlib
import re
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote

import mlflow
from alembic.script import ScriptDirectory

from model.errors import MissingStepError, TrackingError
from model.io import locks
from model.io.files import scratch_folder

PATIENCE_SECONDS = 120.0
"""Seconds to wait while another process creates the database, which takes a few."""
INCOMPLETE_SECONDS = 10.0
"""Seconds to wait for a program that makes the tables without the lock, such as `mlflow ui`."""
POLL_SECONDS = 0.1
NEW_BYTES = 4 << 20
"""Space for a database without runs (1 MB) and for its journal."""
VERSION_TABLE = "alembic_version"
"""The table that holds the version of the schema."""
_SQLITE = re.compile(r"sqlite:///(?P<path>[^?]+)(\?.*)?")


def absolute(uri: str) -> str:
    """Return the address of a SQLite database with its full path, and other addresses unchanged.

    Trials, workers and jobs run in folders of their own, where a relative path would name another file.
    """
    path = _file(uri)
    return uri if path is None else _address(path.absolute(), uri)


@contextlib.contextmanager
def ready(uri: str) -> Iterator[None]:
    """Create the SQLite database if it does not exist, check its schema, and hold other processes off for the block.

    Addresses of servers and other databases are left alone.

    Raises:
        TrackingError: Its folder is missing, or it is incomplete, not of this version of MLflow, or no database.
    """
    path = _file(uri)
    if path is None:
        yield
        return
    if not path.parent.is_dir():
        raise TrackingError(
            f"There is no folder {path.parent} for the MLflow database {path.name}; create it, or change "
            "MLFLOW_TRACKING_URI."
        )
    if path.is_dir():
        raise TrackingError(f"{path} is a folder, not an MLflow database; move it away, or change MLFLOW_TRACKING_URI.")
    busy = TrackingError(
        f"Another process has been creating an MLflow database in {path.parent} for {PATIENCE_SECONDS:.0f} s; stop it "
        "and try again."
    )
    with locks.held(path.parent, patience=PATIENCE_SECONDS, busy=busy):
        if _is_missing(path):
            _create(path, uri)
        _check_schema(path, uri)
        yield


def check_exists(uri: str) -> None:
    """Check that a SQLite database exists, for commands that only read it; other addresses are not checked.

    Raises:
        MissingStepError: It does not.
    """
    path = _file(uri)
    if path is not None and _is_missing(path):
        raise MissingStepError(
            f"There is no MLflow database {path.absolute()}, and so no run and no model; change to the folder where it "
            "is, set MLFLOW_TRACKING_URI, or register a model first."
        )


def _file(uri: str) -> Path | None:
    """Return the file of a SQLite database, and None for any other address."""
    match = _SQLITE.fullmatch(uri)
    return Path(unquote(match["path"])) if match else None


def _address(file: Path, like: str) -> str:
    """Return the address of a database file, with the options of another address."""
    _, mark, options = like.partition("?")
    return f"sqlite:///{quote(str(file))}{mark}{options}"


def _is_missing(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _create(path: Path, uri: str) -> None:
    """Create the database with MLflow under another name and rename it, so that a killed process leaves no part of it.

    Raises:
        TrackingError: The folder can't be written to, or its disk is full.
    """
    free = shutil.disk_usage(path.parent).free
    if free < NEW_BYTES:
        # MLflow would try it again for two minutes.
        raise TrackingError(
            f"The MLflow database {path} can't be created: {free:,} bytes are free on its disk, and it needs "
            f"{NEW_BYTES:,}. Free some space, or change MLFLOW_TRACKING_URI."
        )
    try:
        with scratch_folder(path.parent) as folder:
            draft = folder / path.name
            new = _address(draft.absolute(), uri)
            mlflow.MlflowClient(tracking_uri=new, registry_uri=new).search_experiments(max_results=1)
            # Unless another program, such as `mlflow ui`, has made one in the meantime.
            if _is_missing(path):
                draft.replace(path)
    except OSError as error:
        raise TrackingError(
            f"The MLflow database {path} can't be created: {error.strerror or error}. Make its folder writable, or "
            "change MLFLOW_TRACKING_URI."
        ) from error


def _check_schema(path: Path, uri: str) -> None:
    """Check that the database is complete and of the installed version of MLflow."""
    patience = time.monotonic() + INCOMPLETE_SECONDS
    while not (found := _schema(path)) and time.monotonic() < patience:
        time.sleep(POLL_SECONDS)
    known = _schemas()
    if found is None:
        raise TrackingError(
            f"{path} is no MLflow database, or its creation was interrupted; move it away, or change "
            "MLFLOW_TRACKING_URI."
        )
    if found not in known:
        raise TrackingError(
            f"The MLflow database {path} was made by a newer version of MLflow than {mlflow.__version__}; install that "
            "version, or change MLFLOW_TRACKING_URI."
        )
    if found != known[0]:
        raise TrackingError(
            f"The MLflow database {path} was made by an older version of MLflow than {mlflow.__version__}; copy it for "
            f"safety, then run: mlflow db upgrade {shlex.quote(uri)}"
        )


def _schema(path: Path) -> str | None:
    """Read the version of a database's schema; it is None while MLflow makes the tables."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if VERSION_TABLE not in tables:
                return None
            row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
    except sqlite3.Error as error:
        is_locked = "locked" in str(error)
        advice = "Another process uses it: wait for its end, and try again" if is_locked else "Move it away"
        raise TrackingError(
            f"The MLflow database {path} can't be read: {error}. {advice}, or change MLFLOW_TRACKING_URI."
        ) from error
    return str(row[0]) if row else None


@cache
def _schemas() -> tuple[str, ...]:
    """Return the versions of the schema that the installed MLflow knows, the newest first."""
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return tuple(script.revision for script in scripts.walk_revisions())
