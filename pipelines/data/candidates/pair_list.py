"""Lists of pairs: CSV, TSV or Parquet files with the columns photo and map, and optionally split.

Columns with other names are found by the words of `roles`, or are the first two that hold names of
images; a CSV file may lack a header. A list with one such column names side-by-side images. Relative paths start at
the folder of the list; absolute paths and addresses are taken as they are.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from model.errors import DataError
from model.io.addresses import Address, is_address
from model.io.images import is_image_name, short_name
from model.io.locations import Location
from pipelines.data.candidates.layouts import LISTS, Candidate, Layout, Unused
from pipelines.data.candidates.roles import SPLITS, Side, Split, find_side

_SEPARATORS = ",;\t"
_SPLIT = "split"


class _Row(NamedTuple):
    number: int
    """Number of the row: in a CSV file that of its line, in a Parquet file counted from 1."""
    files: tuple[str, ...]
    """The photo and the map, or the image with both; empty if there is none."""
    split: Split

    @property
    def is_whole(self) -> bool:
        return all(self.files)


def is_list(source: Location) -> bool:
    """Return whether a location is that of a list of pairs, by its suffix."""
    return source.name_path.suffix.lower() in LISTS and (source.is_remote or not source.path.is_dir())


def read_candidates(source: Location) -> Layout:
    """Read the candidates in a list.

    Raises:
        StorageError: The storage does not answer.
        DataError: The list does not exist, can't be read, or has no usable columns, rows or splits.
    """
    source = source.absolute()
    rows = _read_rows(source)
    whole = {row.split for row in rows if row.is_whole}
    held_out = next((split for split in ("val", "test") if split in whole), None)
    if held_out and "train" not in whole:
        raise DataError(f"{source} has pairs with the split {held_out}, but none with the split train.")
    splits = ("train", held_out) if held_out else ("train", "")
    used = [row for row in rows if row.split in splits]
    names = [_name(row, split=bool(held_out)) for row in used]
    counts = Counter(names)
    candidates = [
        _candidate(row, name, _parent(source), split=bool(held_out), repeated=counts[name] > 1)
        for row, name in zip(used, names, strict=True)
    ]
    reason = f"{held_out} is held out" if held_out else "not whole pairs"
    left = Counter(row.split for row in rows if row.split not in splits)
    unused = [Unused(f"split {split}", f"{count} row{'s' * (count > 1)}: {reason}") for split, count in left.items()]
    kind = "photos and maps" if len(rows[0].files) == 2 else "side-by-side images"
    found = sorted(candidates, key=lambda candidate: candidate.name)
    return Layout(found, f"{kind} listed in {short_name(source.name_path)}", unused)


def _candidate(row: _Row, name: str, folder: Location, *, split: bool, repeated: bool) -> Candidate:
    missing = [side for side, text in zip(("photo", "map"), row.files, strict=False) if not text]
    problem = f"several rows have this photo, for instance row {row.number}" if repeated else ""
    if missing:
        problem = f"its {' and its '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing in row {row.number}"
    files = tuple(_locate(folder, text) for text in row.files if text)
    return Candidate(row.split if split else "", name, files, problem)


def _name(row: _Row, *, split: bool) -> str:
    """Name a pair after its first file, without what would lead out of a folder."""
    text = next(filter(None, row.files), "")
    parts = [part for part in PurePosixPath(text.partition("://")[2] or text).parts if part not in ("/", "..", "~")]
    parts = [*parts[:-1], PurePosixPath(parts[-1]).stem] if parts else [f"row {row.number}"]
    return "/".join([*((row.split,) if split else ()), *parts])


def _parent(source: Location) -> Location:
    """Return the folder of a list."""
    if isinstance(source.target, Address):
        return Location(source.target._replace(path=source.target.path.rpartition("/")[0]))
    return Location(source.target.parent)


def _locate(folder: Location, text: str) -> Location:
    if is_address(text):
        return Location.parse(text)
    path = Path(text).expanduser()
    return Location(path) if path.is_absolute() else folder.join(*path.parts)


def _read_rows(source: Location) -> list[_Row]:
    content = source.read_bytes()
    try:
        read = _read_parquet if source.name_path.suffix.lower() == ".parquet" else _read_csv
        header, cells = read(content)
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not in UTF-8 (byte {error.start}); save it as CSV in UTF-8.") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{source} can't be read as a list of pairs ({' '.join(str(error).split())}).") from error
    if not cells:
        raise DataError(f"{source} lists no pairs; write a photo and its map in each row.")
    columns = _choose_columns(source, header, list(cells.values()))
    split = next((number for number, name in enumerate(header) if name.strip().lower() == _SPLIT), None)
    return [
        _Row(
            number,
            tuple(_read_path(_cell(row, column)) for column in columns),
            "" if split is None else _read_split(source, number, _cell(row, split)),
        )
        for number, row in cells.items()
    ]


def _cell(row: Sequence[str], column: int) -> str:
    return row[column].strip() if column < len(row) else ""


def _read_path(text: str) -> str:
    """Return a path with slashes, also if it was written on Windows."""
    return text if "/" in text else text.replace("\\", "/")


def _names_image(text: str) -> bool:
    return is_image_name(PurePosixPath(text.strip()).name)


def _read_split(source: Location, number: int, text: str) -> Split:
    split = SPLITS.get(text.lower())
    if split is None:
        raise DataError(f"{source} has the split {text!r} in row {number}; use one of: {', '.join(SPLITS)}.")
    return split


def _choose_columns(source: Location, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the numbers of the columns of photos and of maps, or of the one column of images."""
    width = max(map(len, rows))
    images = [column for column in range(width) if any(_names_image(_cell(row, column)) for row in rows)]
    if not images:
        shown = ", ".join(filter(None, header)) or ", ".join(rows[0])
        raise DataError(f"{source} has no column with names of images (found: {shown}); name two photo and map.")
    chosen = [_find_column(header, images, side) for side in ("photo", "map")]
    if None not in chosen:
        return [column for column in chosen if column is not None]
    return images[:2]


def _find_column(header: Sequence[str], images: Sequence[int], side: Side) -> int | None:
    """Return the column of this name, or else the only one whose name has a word for it."""
    named = {column: header[column].strip().lower() for column in images if column < len(header)}
    exact = [column for column, name in named.items() if name == side]
    found = exact or [column for column, name in named.items() if find_side(name) == side]
    return found[0] if len(found) == 1 else None


def _read_csv(content: bytes) -> tuple[list[str], dict[int, list[str]]]:
    """Return the header, empty if there is none, and the rows that are not empty, by their line."""
    text = content.decode("utf-8-sig")
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(_SEPARATORS, key=first.count))
    lines = [(reader.line_num, row) for row in reader]
    rows = {line: row for line, row in lines if any(map(str.strip, row))}
    line = min(rows, default=0)
    has_header = bool(rows) and not any(map(_names_image, rows[line]))
    return (rows.pop(line), rows) if has_header else ([], rows)


def _read_parquet(content: bytes) -> tuple[list[str], dict[int, list[str]]]:
    """Return the names of the columns, and the rows by their number."""
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(pa.BufferReader(content))
    columns = [["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns]
    rows = zip(*columns, strict=True)
    return list(table.column_names), {number: list(row) for number, row in enumerate(rows, start=1)}
