"""The record of a scoring: a journal while it runs, and manifests at the end, with a row for each photo.

```
OUT/
├── a.png ...           the maps
├── manifest.csv        a row for each photo, and the same as manifest.parquet
└── .journal/           rows that are not yet in a manifest, a file of JSON lines for each writer; removed at the end
```
A run that is killed leaves its journal, which the next one reads. Several writers may share one folder.
"""

import csv
import io
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import IO, Self

from pydantic import TypeAdapter, ValidationError

from model.errors import DataError
from model.io.files import write_error
from model.io.locations import Location

CSV_FILE = "manifest.csv"
PARQUET_FILE = "manifest.parquet"
JOURNAL_FOLDER = ".journal"
UPLOAD_SECONDS = 5.0
"""Seconds between the writes of a journal at an address, where files can't grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of scoring one photo."""

    source: str
    """The photo: an absolute path or an address."""
    output: str | None = None
    """The map, as a path in the folder of maps."""
    source_sha256: str | None = None
    output_sha256: str | None = None
    width: int | None = None
    """Width of the map, in pixels."""
    height: int | None = None
    model: str | None = None
    """The model's origin: models:/NAME/VERSION or runs:/ID."""
    model_sha256: str | None = None
    """Hash of the ONNX file that drew the map."""
    variant: str | None = None
    """Name of that file's variant."""
    settings: str | None = None
    """Settings that the map depends on."""
    seams: float | None = None
    """In a map of several tiles, the mean step between neighbouring pixels at tile edges divided by that elsewhere."""
    milliseconds: float | None = None
    """Time to read, draw and write; these overlap, as photos are read and written while others are drawn."""
    error: str | None = None
    """The reason why there is no map."""
    warnings: str | None = None
    """Sentences about the map, with | between them."""


_ROW = TypeAdapter(Row)
_NAMES = tuple(field.name for field in fields(Row))


class Journal:
    """Rows of one writer, written as they come, so that a kill loses at most the last few."""

    def __init__(self, out: Location) -> None:
        """Begin a new file in the journal of a folder of maps.

        Raises:
            StorageError: Nothing can be written there.
        """
        self._folder = out.join(JOURNAL_FOLDER)
        # A name that no other writer has, on this machine or another.
        self._name = uuid.uuid4().hex
        self._parts, self._waiting, self._uploaded = 0, bytearray(), time.monotonic()
        self._file: IO[bytes] | None = None
        if out.is_remote:
            return
        try:
            self._folder.path.mkdir(parents=True, exist_ok=True)
            self._file = (self._folder.path / f"{self._name}.jsonl").open("ab", buffering=0)
        except OSError as error:
            raise write_error(out, error) from error

    def add(self, row: Row) -> None:
        """Add a row.

        Raises:
            StorageError: Nothing can be written any more.
        """
        line = json.dumps({name: value for name, value in asdict(row).items() if value is not None}).encode() + b"\n"
        if self._file is None:
            self._waiting += line
            if time.monotonic() - self._uploaded > UPLOAD_SECONDS:
                self._upload()
            return
        try:
            # One write per row: a line is cut off only if the disk is full or the machine dies.
            self._file.write(line)
        except OSError as error:
            raise write_error(self._folder, error) from error

    def close(self) -> None:
        """Write the rows that are still waiting."""
        if self._file is not None:
            self._file.close()
        elif self._waiting:
            self._upload()

    def __enter__(self) -> Self:
        """Return the journal, which is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _upload(self) -> None:
        name = f"{self._name}-{self._parts:06d}.jsonl"
        self._folder.join(name).write_bytes(bytes(self._waiting))
        self._waiting.clear()
        self._parts, self._uploaded = self._parts + 1, time.monotonic()


def read_rows(out: Location) -> list[Row]:
    """Read the rows of earlier scorings into a folder of maps, complete or not; none if the folder is new or empty.

    Raises:
        DataError: The folder holds something else, or its manifest has another format.
        StorageError: The storage does not answer.
    """
    if out.type() is None:
        return []
    listing = out.list()
    if CSV_FILE not in listing.files and JOURNAL_FOLDER not in listing.folders:
        if listing.files or listing.folders:
            raise DataError(f"{out} holds files that no earlier scoring made; name a new or an empty folder.")
        return []
    rows = _read_csv(out.join(CSV_FILE)) if CSV_FILE in listing.files else []
    if JOURNAL_FOLDER in listing.folders:
        journal = out.join(JOURNAL_FOLDER)
        for name in sorted(journal.list().files):
            rows += _read_lines(journal.join(name))
    return rows


def seal(out: Location, rows: Iterable[Row]) -> list[Row]:
    """Write the manifests of a folder of maps from those that exist, the journals and `rows`; remove the journals.

    Later rows replace those of the same photo or map. The order is that of the photos' locations, whoever drew them
    and when.

    Raises:
        StorageError: Nothing can be written there.
    """
    merged = merge([*read_rows(out), *rows])
    out.join(PARQUET_FILE).write_bytes(_parquet(merged))
    out.join(CSV_FILE).write_bytes(_csv(merged))
    out.join(JOURNAL_FOLDER).remove_folder()
    return merged


def merge(rows: Iterable[Row]) -> list[Row]:
    """Keep the last row of every photo and of every map, sorted by photo."""
    by_source: dict[str, Row] = {}
    for row in rows:
        by_source.pop(row.source, None)
        by_source[row.source] = row
    owner = {row.output: row.source for row in by_source.values() if row.output}
    last = [row for row in by_source.values() if not row.output or owner[row.output] == row.source]
    return sorted(last, key=lambda row: row.source)


def _csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, _NAMES, lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def _parquet(rows: list[Row]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {"width": pyarrow.int32(), "height": pyarrow.int32()}
    types |= {"seams": pyarrow.float64(), "milliseconds": pyarrow.float64()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in _NAMES])
    target = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist([asdict(row) for row in rows], schema), target)
    return bytes(target.getvalue())


def _read_csv(file: Location) -> list[Row]:
    try:
        lines = csv.DictReader(io.StringIO(file.read_bytes().decode(), newline=""), strict=True)
        return [
            _ROW.validate_python({name: value for name, value in line.items() if value != ""}, strict=False)
            for line in lines
        ]
    except (ValidationError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file} is not a manifest of this version of sat2map; name another folder, or move the manifest away to "
            "draw all maps again."
        ) from error


def _read_lines(file: Location) -> list[Row]:
    rows = []
    for line in file.read_bytes().splitlines():
        try:
            rows.append(_ROW.validate_json(line))
        except ValidationError:
            # Cut off by a kill or a full disk: that photo is drawn again.
            continue
    return rows
