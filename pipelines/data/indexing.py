"""Indexing of a data set: every candidate is checked, and the good pairs are divided into two splits."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from model.errors import DataError, StorageError
from model.hardware import usable_cores
from model.io.images import pixel_size, short_name
from model.io.locations import Location
from model.io.progress import quiet_stderr, track
from pipelines.data import halves, splits
from pipelines.data.candidates import layouts, pair_list
from pipelines.data.candidates.layouts import LAYOUTS, Candidate, Layout, join_first
from pipelines.data.candidates.roles import Split
from pipelines.data.levels import Extremes, Measured, find_warnings
from pipelines.data.pairs import Pair, PairIndex, Rejected, Unused, fingerprint

REMOTE_READERS = 8
"""Number of threads that check remote files; they spend more time waiting for the network than decoding."""


class _Checked(NamedTuple):
    pair: Pair
    split: Split
    measured: Measured


def index_folder(
    folder: Location,
    *,
    source: str | None = None,
    min_side: int = 256,
    val_fraction: float = 0.1,
    min_good: float = 0.9,
) -> PairIndex:
    """Check every pair in a folder or a list, and return the index of the usable pairs and the rejected candidates.

    Args:
        folder: A folder with one of the layouts of `candidates.layouts`, or a list as in `candidates.pair_list`.
        source: The origin of the data, for the record; by default the folder or the list.
        min_side: Minimum width and height of one half, in pixels.
        val_fraction: Share held out by a hash of the name, if the source has no held-out part of its own.
        min_good: Minimum share of the candidates that must be good; duplicates count as bad.

    Raises:
        DataError: There are no pairs, too few of them are good, or none are left to train on or to hold out.
        StorageError: The storage does not answer.
    """
    if not folder.is_remote and folder.path.is_file() and not pair_list.is_list(folder):
        raise DataError(f"{folder} is a file, not a folder, and no list of pairs ({', '.join(layouts.LISTS)}).")
    layout = pair_list.read_candidates(folder) if pair_list.is_list(folder) else layouts.find_candidates(folder)
    results = _check_all(layout.candidates, min_side)
    good = [result for result in results if isinstance(result, _Checked)]
    _refuse_whole_pairs(good, layout)
    kept, duplicates = _drop_duplicates(good)
    bad = [*(result for result in results if isinstance(result, Rejected)), *duplicates]
    rejected = sorted(bad, key=lambda item: item.name)
    _check_share(len(kept), rejected, folder, min_good)
    train, val = _divide(kept, val_fraction, folder)
    return PairIndex(
        source=source or str(folder),
        train=tuple(train),
        val=tuple(val),
        rejected=tuple(rejected),
        fingerprint=fingerprint(train, val),
        layout=layout.description + ("" if any(item.split for item in kept) else "; held out by name"),
        unused=tuple(Unused(name=item.name, reason=item.reason) for item in layout.unused),
        warnings=tuple(find_warnings([checked.measured for checked in kept])),
    )


def _check_all(candidates: Sequence[Candidate], min_side: int) -> list[_Checked | Rejected]:
    """Check all candidates with a few threads (Pillow decodes outside the GIL); the results keep their order."""
    remote = any(file.is_remote for candidate in candidates[:1] for file in candidate.files)
    readers = REMOTE_READERS if remote else min(4, usable_cores())
    # libtiff writes lines of its own, which name no file.
    with quiet_stderr(show_on_error=False, keep_python=True), ThreadPoolExecutor(max_workers=readers) as pool:
        try:
            results = pool.map(lambda candidate: _check(candidate, min_side), candidates)
            return list(track(results, "Checking pairs", total=len(candidates)))
        finally:
            # Ctrl-C must not wait for the rest of the queue.
            pool.shutdown(cancel_futures=True)


def _check(candidate: Candidate, min_side: int) -> _Checked | Rejected:
    if candidate.problem:
        return Rejected(name=candidate.name, reason=candidate.problem)
    # A single file is named by the candidate.
    names = [""] if len(candidate.files) == 1 else ["its photo", "its map"]
    try:
        contents = halves.read_files(candidate.files, names)
        photo, street_map = halves.decode_halves(candidate.files, contents, names)
    except StorageError:
        # The storage is at fault, and would fail for every other file.
        raise
    except DataError as error:
        return Rejected(name=candidate.name, reason=str(error))
    if min(photo.size) < min_side:
        what = "each half" if len(candidate.files) == 1 else "its photo"
        reason = f"{what} has {pixel_size(photo)} pixels; network.image_size needs at least {min_side}x{min_side}"
        return Rejected(name=candidate.name, reason=reason)
    digest = halves.sha256(contents)
    pair = Pair(name=candidate.name, files=candidate.files, sha256=digest, size=photo.size)
    measured = Measured(candidate.name, Extremes.of(photo), Extremes.of(street_map), photo.size)
    return _Checked(pair, candidate.split, measured)


def _refuse_whole_pairs(good: Sequence[_Checked], layout: Layout) -> None:
    """Raise a DataError if photos and maps were told apart by their names, and all have the shape of whole pairs."""
    if layout.doubtful and good and all(width == 2 * height for width, height in (item.pair.size for item in good)):
        first, second = (short_name(file.name_path) for file in good[0].pair.files)
        raise DataError(
            f"By their names, {first} and {second} are a photo and its map, but all images are twice as wide as high, "
            "as side-by-side pairs are. Rename them, or list the pairs in a CSV file."
        )


def _drop_duplicates(good: Iterable[_Checked]) -> tuple[list[_Checked], list[Rejected]]:
    """Keep the first pair of each content; held-out pairs come first, so that none of them is trained on.

    Pairs without a split are in the order of their hashes, so that the one that may be held out comes first as well.
    """
    kept: list[_Checked] = []
    names: dict[str, str] = {}
    duplicates = []
    for checked in sorted(good, key=lambda item: (item.split == "train", splits.hash_share(item.pair.name))):
        pair = checked.pair
        if pair.sha256 in names:
            duplicates.append(Rejected(name=pair.name, reason=f"has the same content as {names[pair.sha256]}"))
        else:
            names[pair.sha256] = pair.name
            kept.append(checked)
    return sorted(kept, key=lambda item: item.pair.name), duplicates


def _check_share(good: int, rejected: Sequence[Rejected], source: Location, min_good: float) -> None:
    """Raise a DataError if too few candidates are good."""
    total = good + len(rejected)
    reasons = join_first([f"  {item.name}: {item.reason}" for item in rejected], 20, "\n")
    if not good and all(halves.SIDE_BY_SIDE in item.reason for item in rejected):
        raise DataError(
            f"None of the {total} images in {source} holds a photo and a map side by side, and no folders of photos "
            f"and maps were recognised. {LAYOUTS} Found:\n{reasons}"
        )
    if not good:
        layouts = "" if source.type() == "file" else f" {LAYOUTS}"
        raise DataError(f"No pair in {source} can be used.{layouts} Rejected ({total}):\n{reasons}")
    if good / total < min_good:
        raise DataError(
            f"Only {good} of the {total} pairs in {source} can be used; at least {100 * min_good:.4g} % must be good "
            f"(data.min_good). Repair or remove these:\n{reasons}"
        )


def _divide(kept: Sequence[_Checked], val_fraction: float, source: Location) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs to train on and those to hold out, by their folders or else by the hashes of their names.

    Raises:
        DataError: One of the two would be empty, or there are too few pairs to hold some out.
    """
    pairs = [checked.pair for checked in kept]
    held_out = {checked.pair.name for checked in kept if checked.split in ("val", "test")}
    by_name = not any(checked.split for checked in kept)
    if by_name:
        if len(pairs) < splits.MIN_PAIRS:
            raise DataError(
                f"{source} has {len(pairs)} usable pair{'' if len(pairs) == 1 else 's'}; at least "
                f"{splits.MIN_PAIRS} are needed, because "
                f"{splits.MIN_VAL} are held out. Add pairs."
            )
        held_out = splits.choose_held_out((pair.name for pair in pairs), val_fraction)
    train, val = ([pair for pair in pairs if (pair.name in held_out) == chosen] for chosen in (False, True))
    if not train:
        cure = f"decrease data.val_fraction ({val_fraction:g})" if by_name else "put more in train/"
        raise DataError(f"{source} leaves no pair to train on: {len(val)} are held out; {cure}.")
    if not val:
        raise DataError(
            f"{source} leaves no pair to evaluate on: none of those to hold out can be used. Repair or remove them."
        )
    return train, val
