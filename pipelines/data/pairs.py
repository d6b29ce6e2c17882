"""The index of a data set's pairs: checked, split and fingerprinted."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, ValidationError

from model.errors import DataError, MissingStepError, StorageError
from model.hardware import usable_cores
from model.io.files import write_text
from model.io.images import decode, pixel_size, short_name
from model.io.locations import Location
from model.io.progress import track
from model.pixels import Pixels
from pipelines.data.layouts import LAYOUTS, Candidate, find_candidates, join_first

REMOTE_READERS = 8
"""Number of threads that check remote files; they spend more time waiting for the network than decoding."""


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


class PairIndex(BaseModel, frozen=True, extra="forbid"):
    """The pairs of one data set, sorted by name; the fingerprint depends on their content, not on their location."""

    source: str
    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]
    fingerprint: str

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


def index_folder(
    folder: Location,
    *,
    source: str | None = None,
    min_side: int = 256,
    val_fraction: float = 0.1,
    min_good: float = 0.9,
) -> PairIndex:
    """Check every pair in `folder`, and return the index of the usable pairs and the rejected candidates.

    Args:
        folder: A folder with one of the layouts of `data.layouts`.
        source: The origin of the data, for the record; by default the folder.
        min_side: Minimum width and height of one half, in pixels.
        val_fraction: Share held out by a hash of the name, if the folder has no held-out set of its own.
        min_good: Minimum share of the candidates that must be good; duplicates count as bad.

    Raises:
        DataError: There are no pairs, too few of them are good, or none are left to train on or to hold out.
        StorageError: The storage does not answer.
    """
    candidates = find_candidates(folder, val_fraction)
    results = _check_all(candidates, min_side)
    good = [(found.split, pair) for found, pair in zip(candidates, results, strict=True) if isinstance(pair, Pair)]
    kept, duplicates = _drop_duplicates(good)
    rejected = [result for result in results if isinstance(result, Rejected)] + duplicates
    index = PairIndex(
        source=source or str(folder),
        train=tuple(kept["train"]),
        val=tuple(kept["val"]),
        rejected=tuple(sorted(rejected, key=lambda item: item.name)),
        fingerprint=fingerprint(kept["train"], kept["val"]),
    )
    _check_usable(index, folder, min_good)
    return index


def read(pair: Pair) -> tuple[Pixels, Pixels]:
    """Return the photo and the map of a pair, uint8 `(height, width, 3)` each.

    Raises:
        StorageError: The storage does not answer.
        DataError: A file is missing, can't be read, or is not the one that was indexed.
    """
    try:
        contents = [file.read_bytes() for file in pair.files]
        if _sha256(contents) != pair.sha256:
            raise DataError("its content has changed since it was indexed")
        photo, street_map = _decode_halves(pair.files, contents)
    except StorageError:
        raise
    except DataError as error:
        files = " and ".join(map(str, pair.files))
        raise DataError(f"Pair {pair.name} ({files}) can't be read: {error}. Run `sat2map prepare` again.") from error
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


def _check_all(candidates: list[Candidate], min_side: int) -> list[Pair | Rejected]:
    """Check all candidates with a few threads (Pillow decodes outside the GIL); the results keep their order."""
    remote = any(file.is_remote for candidate in candidates[:1] for file in candidate.files)
    with ThreadPoolExecutor(max_workers=REMOTE_READERS if remote else min(4, usable_cores())) as pool:
        try:
            results = pool.map(lambda candidate: _check(candidate, min_side), candidates)
            return list(track(results, "Checking pairs", total=len(candidates)))
        finally:
            # Ctrl-C must not wait for the rest of the queue.
            pool.shutdown(cancel_futures=True)


def _check(candidate: Candidate, min_side: int) -> Pair | Rejected:
    if candidate.problem:
        return Rejected(name=candidate.name, reason=candidate.problem)
    try:
        contents = [file.read_bytes() for file in candidate.files]
        photo, _ = _decode_halves(candidate.files, contents)
    except StorageError:
        # The storage is at fault, and would fail for every other file.
        raise
    except DataError as error:
        return Rejected(name=candidate.name, reason=str(error))
    if min(photo.size) < min_side:
        reason = f"a half has {pixel_size(photo)} pixels; at least {min_side}x{min_side} are needed"
        return Rejected(name=candidate.name, reason=reason)
    return Pair(name=candidate.name, files=candidate.files, sha256=_sha256(contents), size=photo.size)


def _drop_duplicates(good: list[tuple[str, Pair]]) -> tuple[dict[str, list[Pair]], list[Rejected]]:
    """Keep the first pair of each content; held-out pairs come first, so that none of them is trained on."""
    kept: dict[str, list[Pair]] = {"val": [], "train": []}
    names: dict[str, str] = {}
    duplicates = []
    for split in kept:
        for pair in (pair for pair_split, pair in good if pair_split == split):
            if pair.sha256 in names:
                duplicates.append(Rejected(name=pair.name, reason=f"has the same content as {names[pair.sha256]}"))
            else:
                names[pair.sha256] = pair.name
                kept[split].append(pair)
    return kept, duplicates


def _check_usable(index: PairIndex, folder: Location, min_good: float) -> None:
    """Raise a DataError if too few candidates are good, or if one of the splits is empty."""
    good, bad = len(index.train) + len(index.val), len(index.rejected)
    if not good:
        raise DataError(f"None of the {bad} pairs in {folder} can be used. {LAYOUTS} Rejected:\n{_reasons(index)}")
    if good / (good + bad) < min_good:
        raise DataError(
            f"Only {good} of the {good + bad} pairs in {folder} can be used; at least {100 * min_good:.4g} % must "
            f"be good (data.min_good). Repair or remove these:\n{_reasons(index)}"
        )
    if not index.val:
        raise DataError(
            f"{folder} leaves no pair to evaluate on: {good} to train on, {bad} rejected. "
            "Put some in val/ (or valA/ and valB/), or increase the share held out by name (data.val_fraction)."
        )
    if not index.train:
        raise DataError(
            f"{folder} leaves no pair to train on: {good} held out, {bad} rejected. Put more in train/, or decrease "
            "the share held out by name (data.val_fraction)."
        )


def _reasons(index: PairIndex) -> str:
    return join_first([f"  {item.name}: {item.reason}" for item in index.rejected], 20, "\n")


def _sha256(contents: list[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _decode_halves(files: Sequence[Location], contents: list[bytes]) -> tuple[Image.Image, Image.Image]:
    """Decode a pair completely into the photo and the map: RGB images of one size."""
    images = [decode(file.name_path, content) for file, content in zip(files, contents, strict=True)]
    if len(images) == 1:
        width, height = images[0].size
        if width != 2 * height:
            raise DataError(
                f"{short_name(files[0].name_path)} has {pixel_size(images[0])} pixels; "
                "photo and map side by side are twice as wide as high"
            )
        return images[0].crop((0, 0, height, height)), images[0].crop((height, 0, width, height))
    photo, street_map = images
    if photo.size != street_map.size:
        raise DataError(
            f"its photo has {pixel_size(photo)} pixels and its map {pixel_size(street_map)}; they must be equal"
        )
    return photo, street_map
