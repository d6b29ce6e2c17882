"""The index of a data set's pairs: checked, split and fingerprinted."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from model.errors import DataError, MissingStepError, StorageError
from model.io.files import write_text
from model.io.locations import Location
from model.pixels import Pixels
from pipelines.data import halves


class Pair(BaseModel, frozen=True, extra="forbid"):
    """A photo and its map, checked.

    Attributes:
        name: Unique in the index: `val/12` for `val/12.jpg`, plain `12` where the split is by hash.
        files: One file (photo left, map right) or two (photo, map): absolute paths or addresses.
        sha256: Hash of the file's bytes, or of both files' bytes in order.
        size: Width and height of one half, in pixels.
    """

    name: str
    files: tuple[Location, ...]
    sha256: str
    size: tuple[int, int]


class Rejected(BaseModel, frozen=True, extra="forbid"):
    """A candidate that can't be used, with the reason."""

    name: str
    reason: str


class Unused(BaseModel, frozen=True, extra="forbid"):
    """Images that belong to no candidate: their folder, and their number with the reason."""

    name: str
    reason: str


class PairIndex(BaseModel, frozen=True, extra="forbid"):
    """The pairs of one data set, sorted by name; the fingerprint depends on their content, not on their location.

    Attributes:
        source: The origin of the pairs: `sample`, a folder, a list of pairs, or an address.
        train: The pairs to train on.
        val: The pairs that are held out.
        rejected: The candidates that can't be used.
        fingerprint: Hash of split, name and content of all pairs.
        layout: Where photos and maps were found, in words; empty in indexes of version 0.2.0 and earlier.
        unused: Images that were found and belong to no candidate.
        warnings: Sentences about pairs that can hardly be learned from.
    """

    source: str
    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]
    fingerprint: str
    layout: str = ""
    unused: tuple[Unused, ...] = ()
    warnings: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write the index to `path` as JSON, complete or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "PairIndex":
        """Read an index that `save` wrote, without opening the images.

        Raises:
            MissingStepError: There is no such file.
            DataError: The file is not an index, or its pairs do not match its fingerprint.
        """
        if not path.is_file():
            raise MissingStepError(f"There is no index of pairs at {path}; run `sat2map prepare` first.")
        try:
            index = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"{path} is not an index of pairs; run `sat2map prepare` again.") from error
        if index.fingerprint != fingerprint(index.train, index.val):
            raise DataError(f"{path} was altered after it was written; run `sat2map prepare` again.")
        return index


def read(pair: Pair) -> tuple[Pixels, Pixels]:
    """Return the photo and the map of a pair, uint8 `(height, width, 3)` each.

    Raises:
        StorageError: The storage does not answer.
        DataError: A file is missing, can't be read, or is not the one that was indexed.
    """
    names = [str(file) for file in pair.files]
    try:
        contents = halves.read_files(pair.files, names)
        if halves.sha256(contents) != pair.sha256:
            raise DataError(f"{' or '.join(names)} has changed since it was indexed")
        photo, street_map = halves.decode_halves(pair.files, contents, names)
    except StorageError:
        raise
    except DataError as error:
        raise DataError(f"Pair {pair.name} can't be read: {error}. Run `sat2map prepare` again.") from error
    return np.array(photo), np.array(street_map)


def fingerprint(train: Iterable[Pair], val: Iterable[Pair]) -> str:
    """Return a sha256 over split, name and content of all pairs, independent of their order and location."""
    lines = [("train", pair.name, pair.sha256) for pair in train] + [("val", pair.name, pair.sha256) for pair in val]
    return hashlib.sha256(json.dumps(sorted(lines)).encode()).hexdigest()


def rejected_report(index: PairIndex) -> str:
    """Return the rejected candidates as CSV with the header `name,reason`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("name", "reason"))
    rows.writerows((item.name, item.reason) for item in index.rejected)
    return text.getvalue()
