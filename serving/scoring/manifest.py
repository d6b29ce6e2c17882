"""What a scoring made: a row for each photo, noted as it goes, and at the end the manifests that people read.

```
OUT/
├── a.png ...           the maps
├── manifest.csv        a row for each photo, and the same as manifest.parquet
└── .journal/           rows that are in no manifest yet, a file of JSON lines for each writer; gone at the end
```
A run that was killed left its journal, and the next one reads it. Several writers may work into one folder.
"""

import csv
import io
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Self

from pydantic import TypeAdapter, ValidationError

from model import place_writing
from model.errors import DataError
from model.io import locations

CSV_FILE = "manifest.csv"
PARQUET_FILE = "manifest.parquet"
JOURNAL_FOLDER = ".journal"
UPLOAD_SECONDS = 5.0
"""How often a journal at an address is written: files there can't grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A photo and what became of it."""

    source: str
    """Where it lies: an absolute path or an address."""
    output: str | None = None
    """Its map, as a path in the folder of maps."""
    source_sha256: str | None = None
    output_sha256: str | None = None
    width: int | None = None
    """Of the map, in pixels."""
    height: int | None = None
    model: str | None = None
    """Where the model comes from: models:/NAME/VERSION, or runs:/ID."""
    model_sha256: str | None = None
    """Of the ONNX file that drew."""
    variant: str | None = None
    """Which of the model's files that was."""
    settings: str | None = None
    """What else the map depends on."""
    seams: float | None = None
    """Of a map from several tiles: the mean step between neighbouring pixels at their edges, divided by that inside."""
    milliseconds: float | None = None
    """Time to read, draw and write it; no sum, for photos are read and written while others are drawn."""
    error: str | None = None
    """Why there is no map."""


_ROW = TypeAdapter(Row)
_NAMES = tuple(field.name for field in fields(Row))


class Journal:
    """Rows of one writer, kept as they come, so that a kill loses none but the last few."""

    def __init__(self, out: str) -> None:
        """Begin a new file in the journal of a folder of maps.

        Raises:
            PlaceError: Nothing can be written there.
        """
        # A name that no other writer has, on this machine or another.
        self._folder = locations.inside(out, JOURNAL_FOLDER)
        self._name = uuid.uuid4().hex
        self._parts, self._waiting, self._uploaded = 0, bytearray(), time.monotonic()
        self._file: IO[bytes] | None = None
        if locations.is_remote(out):
            return
        try:
            Path(self._folder).mkdir(parents=True, exist_ok=True)
            self._file = Path(self._folder, f"{self._name}.jsonl").open("ab", buffering=0)
        except OSError as error:
            raise place_writing.unwritable(out, error) from error

    def add(self, row: Row) -> None:
        """Note a row.

        Raises:
            PlaceError: Nothing can be written any more.
        """
        line = json.dumps({name: value for name, value in asdict(row).items() if value is not None}).encode() + b"\n"
        if self._file is None:
            self._waiting += line
            if time.monotonic() - self._uploaded > UPLOAD_SECONDS:
                self._upload()
            return
        try:
            # One write a row: a line is torn only if the disk is full or the machine dies.
            self._file.write(line)
        except OSError as error:
            raise place_writing.unwritable(self._folder, error) from error

    def close(self) -> None:
        """Write what is waiting."""
        if self._file is not None:
            self._file.close()
        elif self._waiting:
            self._upload()

    def __enter__(self) -> Self:
        """Return the journal; it is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _upload(self) -> None:
        name = f"{self._name}-{self._parts:06d}.jsonl"
        place_writing.write_bytes(locations.inside(self._folder, name), bytes(self._waiting))
        self._waiting.clear()
        self._parts, self._uploaded = self._parts + 1, time.monotonic()


def read_rows(out: str) -> list[Row]:
    """Read what earlier scorings into a folder of maps made, finished or not; none if the folder is new or empty.

    Raises:
        DataError: The folder holds something else, or its manifest was made or altered by others.
        PlaceError: The place does not answer.
    """
    if locations.kind(out) is None:
        return []
    listing = locations.list_folder(out)
    if CSV_FILE not in listing.files and JOURNAL_FOLDER not in listing.folders:
        if listing.files or listing.folders:
            raise DataError(f"{out} holds files that no earlier scoring made; name a new or an empty folder.")
        return []
    rows = _read_csv(locations.inside(out, CSV_FILE)) if CSV_FILE in listing.files else []
    if JOURNAL_FOLDER in listing.folders:
        journal = locations.inside(out, JOURNAL_FOLDER)
        for name in sorted(locations.list_folder(journal).files):
            rows += _read_lines(locations.inside(journal, name))
    return rows


def seal(out: str, rows: Iterable[Row]) -> list[Row]:
    """Write the manifests of a folder of maps: what they and the journals say, and `rows`; then drop the journals.

    Rows of a photo that was scored again, and of maps that were drawn over, give way to the later ones. The order is
    that of the photos' places, whoever drew them and when.

    Raises:
        PlaceError: Nothing can be written there.
    """
    merged = merge([*read_rows(out), *rows])
    place_writing.write_bytes(locations.inside(out, PARQUET_FILE), _parquet(merged))
    place_writing.write_bytes(locations.inside(out, CSV_FILE), _csv(merged))
    place_writing.remove_folder(locations.inside(out, JOURNAL_FOLDER))
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

    kinds = {"width": pyarrow.int32(), "height": pyarrow.int32()}
    kinds |= {"seams": pyarrow.float64(), "milliseconds": pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in _NAMES])
    target = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist([asdict(row) for row in rows], schema), target)
    return bytes(target.getvalue())


def _read_csv(file: str) -> list[Row]:
    try:
        lines = csv.DictReader(io.StringIO(locations.read_bytes(file).decode(), newline=""), strict=True)
        return [
            _ROW.validate_python({name: value for name, value in line.items() if value != ""}, strict=False)
            for line in lines
        ]
    except (ValidationError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file} is no manifest of this version of sat2map: name another folder, or move the manifest away to "
            "draw all maps anew."
        ) from error


def _read_lines(file: str) -> list[Row]:
    rows = []
    for line in locations.read_bytes(file).splitlines():
        try:
            rows.append(_ROW.validate_json(line))
        except ValidationError:
            # Torn off by a kill or a full disk: that photo is drawn again.
            continue
    return rows
