"""GeoPackages that exist already: the features of one layer are replaced, and everything else in the file is kept."""

import shutil
import sqlite3
import uuid
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
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
def copy_of(path: Path, draft: Path, layer: str) -> Iterator[str]:
    """Copy a GeoPackage, if it exists, to `draft`, and yield the name under which the block writes a new layer there.

    If the package has the layer already, its features are replaced by the new ones; its table stays, and with it all
    that belongs to it: triggers, indexes, styles, metadata, its title, and its position among the layers. No other
    process can write to the package meanwhile.

    Raises:
        DataError: As `check_geopackage`.
    """
    draft.unlink(missing_ok=True)
    if _is_new(path):
        yield layer
        return
    with _open(path):
        shutil.copyfile(path, draft)
        with closing(sqlite3.connect(draft)) as database:
            exists = database.execute("SELECT 1 FROM gpkg_contents WHERE table_name = ?", (layer,)).fetchone()
        new = f"{layer}_{uuid.uuid4().hex}" if exists else layer
        yield new
        if exists:
            with closing(sqlite3.connect(draft)) as database, database:
                _move_features(database, new, layer)


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
    unique = "SELECT name FROM pragma_index_list(?) WHERE \"unique\" AND origin = 'c'"
    if index := database.execute(unique, (found,)).fetchone():
        raise DataError(
            f"The layer {found} of {short_name(path)} has the unique index {index[0]}, which new features may not fit; "
            "drop it, or name another file."
        )


def _move_features(database: sqlite3.Connection, new: str, layer: str) -> None:
    """Replace the features of a layer by those of another with the same columns, which is removed."""
    # Triggers are left out: those of the spatial index call functions of GDAL, and others expect single changes.
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
    triggers = database.execute(query, (layer,)).fetchall()
    for name, _ in triggers:
        database.execute(f"DROP TRIGGER {_quoted(name)}")
    columns, new_columns = _columns(database, layer), _columns(database, new)
    shared = [name for name in columns.fields if name in new_columns.fields]
    to = ", ".join(map(_quoted, (columns.key, columns.geometry, *shared)))
    source = ", ".join(map(_quoted, (new_columns.key, new_columns.geometry, *shared)))
    database.execute(f"DELETE FROM {_quoted(layer)}")
    database.execute(f"INSERT INTO {_quoted(layer)} ({to}) SELECT {source} FROM {_quoted(new)}")
    index, new_index = (f"rtree_{name}_{found.geometry}" for name, found in ((layer, columns), (new, new_columns)))
    if _exists(database, index):
        database.execute(f"DELETE FROM {_quoted(index)}")
        database.execute(f"INSERT INTO {_quoted(index)} SELECT * FROM {_quoted(new_index)}")
    for table, names in _DESCRIPTIONS.items():
        if _exists(database, table):
            query = f"SELECT {names} FROM {table} WHERE table_name = ?"
            changes = f"UPDATE {table} SET ({names}) = ({query}) WHERE table_name = ?"
            database.execute(changes, (new, layer))
            database.execute(f"DELETE FROM {table} WHERE table_name = ?", (new,))
    database.execute("DELETE FROM gpkg_extensions WHERE table_name = ?", (new,))
    database.execute(f"DROP TABLE {_quoted(new_index)}")
    database.execute(f"DROP TABLE {_quoted(new)}")
    for _, text in triggers:
        database.execute(text)


_DESCRIPTIONS = {
    # In this order: rows of the second refer to those of the first.
    "gpkg_geometry_columns": "srs_id",
    "gpkg_contents": "srs_id, min_x, min_y, max_x, max_y, last_change",
    "gpkg_ogr_contents": "feature_count",
}
"""Columns that describe the features of a layer, in the tables that list the layers."""


class _Columns(NamedTuple):
    """The names of a layer's columns: the number of a feature, its geometry, and its fields."""

    key: str
    geometry: str
    fields: list[str]


def _columns(database: sqlite3.Connection, layer: str) -> _Columns:
    query = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
    geometry = database.execute(query, (layer,)).fetchone()[0]
    found = database.execute("SELECT name, pk FROM pragma_table_info(?)", (layer,)).fetchall()
    key = next((name for name, number in found if number), "rowid")
    return _Columns(key, geometry, [name for name, _ in found if name not in (key, geometry)])


def _exists(database: sqlite3.Connection, table: str) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
