"""Division of pairs into those to train on, to choose a checkpoint by and to report, by a hash of their names."""

import hashlib
import os
from collections.abc import Iterable
from typing import NamedTuple

from pipelines.data.pairs import Pair, PairIndex

MIN_VAL = 3
"""Least number of held-out pairs, which confidence intervals need."""
MIN_PAIRS = MIN_VAL + 1


def hash_share(name: str) -> float:
    """Return a number in [0, 1) that depends only on a pair's name."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") / 2**64


def choose_held_out(names: Iterable[str], val_fraction: float) -> set[str]:
    """Return the names to hold out: those whose hash is below `val_fraction`, and at least `MIN_VAL`.

    The hash decides alone as soon as enough names are below `val_fraction`: then new names move none of the others.
    Before, a new name with one of the lowest hashes takes the place of another.
    """
    ordered = sorted(names, key=lambda name: (hash_share(name), name))
    return {name for number, name in enumerate(ordered) if number < MIN_VAL or hash_share(name) < val_fraction}


class Shares(NamedTuple):
    """The pairs of a training."""

    all: PairIndex
    trained: PairIndex
    """Those without the ones that a checkpoint is chosen by."""
    scored: tuple[Pair, ...]
    """Those that checkpoints are scored on."""


def share_out(pairs: PairIndex, *, most: int, chooses: bool) -> Shares:
    """Choose the pairs that checkpoints are scored on, at most `most`.

    Whoever chooses a checkpoint or settings by these scores can't report them. If so (`chooses`), they are a third
    part, up to a tenth of the training pairs, which is not trained on; otherwise they are the first held-out pairs.
    """
    if not chooses:
        return Shares(pairs, pairs, pairs.val[:most])
    count = max(1, min(most, len(pairs.train) // 10))
    third = set(sorted((pair.name for pair in pairs.train), key=lambda name: (hash_share(name), name))[:count])
    trained = tuple(pair for pair in pairs.train if pair.name not in third)
    scored = tuple(pair for pair in pairs.train if pair.name in third)
    return Shares(pairs, pairs.model_copy(update={"train": trained}), scored)
