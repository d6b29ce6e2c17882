"""Seams: whether one can see in a map where its tiles begin and end."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEAR = (-8, -4, -2, 2, 4, 8)
"""Pixels from the edge of a tile to the lines that it is compared with."""


@dataclass(frozen=True)
class Seams:
    """Steps between neighbouring pixels, summed over the colours: across the edges of tiles, and inside tiles nearby.

    An edge is a line at which a tile begins or ends. It is compared with the lines `NEAR` pixels beside it, and not
    with all others: near, so that both cross the same fields and roads, and at even distances, because transposed
    convolutions of stride two leave every second step larger. Pixels that no tile was drawn over do not count.
    """

    edge_steps: int = 0
    edge_places: int = 0
    inner_steps: int = 0
    inner_places: int = 0

    def __add__(self, other: "Seams") -> "Seams":
        """Count both."""
        return Seams(
            self.edge_steps + other.edge_steps,
            self.edge_places + other.edge_places,
            self.inner_steps + other.inner_steps,
            self.inner_places + other.inner_places,
        )

    @property
    def ratio(self) -> float | None:
        """Mean step across edges divided by the mean step beside them: 1 is no seam; None if there are none."""
        if not self.edge_places or not self.inner_steps:
            return None
        return (self.edge_steps / self.edge_places) / (self.inner_steps / self.inner_places)


class Lines(NamedTuple):
    """For each pixel but the last of an axis, bool (length - 1,): what lies between it and the next."""

    edges: NDArray[np.bool_]
    near: NDArray[np.bool_]

    def part(self, start: int, length: int) -> "Lines":
        """Return some of them."""
        return Lines(self.edges[start : start + length], self.near[start : start + length])


def find_lines(starts: list[int], side: int, length: int) -> Lines:
    """Find the edges of tiles along an axis, and the lines beside them that are no edges."""
    places = np.array([place for start in starts for place in (start, start + side) if 0 < place < length], np.intp)
    near = (places[:, None] + NEAR).ravel()
    edges, beside = np.zeros(length - 1, np.bool_), np.zeros(length - 1, np.bool_)
    edges[places - 1] = True
    beside[near[(near > 0) & (near < length)] - 1] = True
    return Lines(edges, beside & ~edges)


def measure_steps(levels: NDArray[np.int16], covered: NDArray[np.bool_], lines: Lines, *, axis: int) -> Seams:
    """Sum the steps along an axis of (h, w, 3) at edges and near them, where both pixels are covered."""
    sums = []
    for chosen in lines:
        places = np.flatnonzero(chosen)
        steps = np.abs(levels.take(places + 1, axis) - levels.take(places, axis))
        both = covered.take(places + 1, axis) & covered.take(places, axis)
        sums += [int((steps * both[..., None]).sum(dtype=np.int64)), int(both.sum())]
    return Seams(*sums)
