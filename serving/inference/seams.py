"""A measure of visible seams: steps between pixels across tile edges, compared with steps next to them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEAR = (-8, -4, -2, 2, 4, 8)
"""Offsets in pixels from a tile edge to the lines that it is compared with."""


@dataclass(frozen=True)
class Seams:
    """Steps between neighbouring pixels, summed over the colours, across tile edges and inside tiles near them.

    An edge is a line at which a tile begins or ends. It is compared with the lines at the offsets `NEAR`: close to it,
    so that both cross the same fields and roads, and at even distances, because transposed convolutions of stride two
    leave every second step larger. Pixels that no tile covers don't count.
    """

    edge_steps: int = 0
    edge_count: int = 0
    inner_steps: int = 0
    inner_count: int = 0

    def __add__(self, other: "Seams") -> "Seams":
        """Return the sums over both."""
        return Seams(
            self.edge_steps + other.edge_steps,
            self.edge_count + other.edge_count,
            self.inner_steps + other.inner_steps,
            self.inner_count + other.inner_count,
        )

    @property
    def ratio(self) -> float | None:
        """Mean step across edges divided by the mean step near them: 1 means no seam; None without edges or steps."""
        if not self.edge_count or not self.inner_steps:
            return None
        return (self.edge_steps / self.edge_count) / (self.inner_steps / self.inner_count)


class Lines(NamedTuple):
    """Masks of the lines between pixels along an axis, bool (length - 1,): tile edges, and the lines near them."""

    edges: NDArray[np.bool_]
    near: NDArray[np.bool_]

    def part(self, start: int, length: int) -> "Lines":
        """Return `length` lines from `start` on."""
        return Lines(self.edges[start : start + length], self.near[start : start + length])


def find_lines(starts: list[int], side: int, length: int) -> Lines:
    """Find the edges of tiles along an axis, and the lines near them that are not edges."""
    positions = np.array([edge for start in starts for edge in (start, start + side) if 0 < edge < length], np.intp)
    neighbours = (positions[:, None] + NEAR).ravel()
    edges, near = np.zeros(length - 1, np.bool_), np.zeros(length - 1, np.bool_)
    edges[positions - 1] = True
    near[neighbours[(neighbours > 0) & (neighbours < length)] - 1] = True
    return Lines(edges, near & ~edges)


def measure_steps(levels: NDArray[np.int16], covered: NDArray[np.bool_], lines: Lines, *, axis: int) -> Seams:
    """Sum the steps along an axis of (h, w, 3) at edges and near them, where both pixels are covered."""
    sums = []
    for chosen in lines:
        indices = np.flatnonzero(chosen)
        steps = np.abs(levels.take(indices + 1, axis) - levels.take(indices, axis))
        both = covered.take(indices + 1, axis) & covered.take(indices, axis)
        sums += [int((steps * both[..., None]).sum(dtype=np.int64)), int(both.sum())]
    return Seams(*sums)
