"""GeoPackages that exist already: one layer is replaced, and everything else in the file is kept."""

import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from model.errors import DataError
from model.io.images import short_name


def check_geopackage(path: Path, layer: str, columns: Collection[str]) -> None:
    """Check that a layer with these columns can be replaced in, or added to, the GeoPackage `path`, if it exists.

    Raises:
        DataError: The file is broken, read-only, in use or not a GeoPackage, or its layer has other columns.
    """
    if _is_new(path):
        return
    with _open(path) as database:
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        _check_layer(database, path, layer, columns)


@contextmanager
def copy_of(path: Path, draft: Path, layer: str) -> Iterator[None]:
    """Copy a GeoPackage, if it exists, to `draft`, in which the block replaces a layer; no other process can write.

    The layer keeps its position among the others.

    Raises:
        DataError: As `check_geopackage`.
    """
    draft.unlink(missing_ok=True)
    if _is_new(path):
        yield
        return
    with _open(path):
        shutil.copyfile(path, draft)
        before = _positions(draft, layer)
        yield
        after = _positions(draft, layer)
        with closing(sqlite3.connect(draft)) as database, database:
            for table in before.keys() & after.keys():
                database.execute(f"UPDATE {table} SET rowid = ? WHERE table_name = ?", (before[table], layer))


def _is_new(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a GeoPackage and lock it against writes of other programs."""
    name, real = short_name(path), path.resolve()
    for journal in (real.with_name(f"{real.name}-wal"), real.with_name(f"{real.name}-journal")):
        if journal.exists():
            raise DataError(
                f"{name} is open in another program, such as QGIS, or was not closed properly ({journal.name} is next "
                "to it); close it there, or open and close it once."
            )
    address = f"file:{quote(str(real))}?mode=rw"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_contents'").fetchone():
                raise DataError(f"{name} is not a GeoPackage; name another file.")
            yield database
    except sqlite3.OperationalError as error:
        advice = {
            sqlite3.SQLITE_BUSY: "another program is writing to it; wait, or close it there",
            sqlite3.SQLITE_READONLY: "it is read-only; name another file",
        }
        kind = error.sqlite_errorcode & 0xFF
        raise DataError(f"{name} can't be changed: {advice.get(kind, f'{error}; name another file')}.") from error
    except sqlite3.DatabaseError as error:
        raise DataError(f"{name} is not a GeoPackage, or is broken ({error}); name another file.") from error


def _check_layer(database: sqlite3.Connection, path: Path, layer: str, columns: Collection[str]) -> None:
    """Check that a table of the layer's name is a layer of features with the same columns."""
    tables = database.execute("SELECT name, type FROM sqlite_master WHERE lower(name) = lower(?)", (layer,)).fetchall()
    if not tables:
        return
    found, kind = tables[0]
    query = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
    geometries = {name for (name,) in database.execute(query, (found,))}
    fields = database.execute("SELECT name, pk FROM pragma_table_info(?)", (found,)).fetchall()
    own = [name for name, key in fields if not key and name not in geometries]
    if (found, kind) != (layer, "table") or not geometries or sorted(own) != sorted(columns):
        raise DataError(
            f"The layer {found} of {short_name(path)} was not made by sat2map: its columns are "
            f"{', '.join(own) or 'none'}, not {', '.join(columns)}. Rename it, or name another file."
        )


def _positions(path: Path, layer: str) -> dict[str, int]:
    """Return the row numbers of a layer in the tables by which programs list layers."""
    found = {}
    with closing(sqlite3.connect(path)) as database:
        for table in ("gpkg_contents", "gpkg_geometry_columns"):
            for (row,) in database.execute(f"SELECT rowid FROM {table} WHERE table_name = ?", (layer,)):
                found[table] = row
    return found
