"""Division of pairs without a held-out part into training and held-out pairs, by a hash of their names."""

import hashlib
import os
from collections.abc import Iterable

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
