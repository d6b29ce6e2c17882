"""Trivial baselines: maps that need no learning, which every score is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.io.progress import track
from model.pixels import Pixels
from model.spec import Direction
from pipelines.data.dataset import load
from pipelines.data.pairs import Pair

THUMBNAIL = 16
"""Height and width in pixels at which inputs are compared to find the nearest."""
BLOCK = 256
"""Inputs whose distances are held in memory at a time."""


@dataclass(frozen=True)
class TrainingSummary:
    """Statistics of a model's training pairs, from which the baselines are drawn.

    Attributes:
        pairs: The training pairs.
        side: Height and width that images are resized to.
        direction: Which half is the input.
        histogram: Counts of the levels of each channel of the targets, int64 (3, 256).
        total: Sum of the targets, float64 (side, side, 3).
        thumbnails: Small versions of the inputs, float32 (n, THUMBNAIL * THUMBNAIL * 3).
    """

    pairs: Sequence[Pair]
    side: int
    direction: Direction
    histogram: NDArray[np.int64]
    total: NDArray[np.float64]
    thumbnails: NDArray[np.float32]

    @classmethod
    def read(cls, pairs: Sequence[Pair], *, side: int, direction: Direction) -> "TrainingSummary":
        """Read the pairs one at a time.

        Raises:
            DataError: A pair can't be read.
        """
        histogram = np.zeros((3, 256), np.int64)
        total = np.zeros((side, side, 3), np.float64)
        thumbnails = np.zeros((len(pairs), THUMBNAIL**2 * 3), np.float32)
        for number, pair in enumerate(track(pairs, "Reading training pairs")):
            source, target = load(pair, side=side, direction=direction)
            for channel in range(3):
                histogram[channel] += np.bincount(target[..., channel].ravel(), minlength=256)
            total += target
            thumbnails[number] = _thumbnail(source)
        return cls(pairs, side, direction, histogram, total, thumbnails)

    def baselines(self, sources: Pixels) -> dict[str, Pixels]:
        """Draw maps for inputs (N, side, side, 3) without learning, keyed by the names of `catalogue.BASELINES`.

        These are the median colour and the mean of the training targets, the input itself, and the target of the
        training pair whose input is nearest (mean square difference of 16x16 thumbnails).
        """
        shares = np.cumsum(self.histogram, axis=1) / self.histogram.sum(axis=1, keepdims=True)
        median = np.argmax(shares >= 0.5, axis=1).astype(np.uint8)
        mean = np.rint(self.total / len(self.pairs)).astype(np.uint8)
        return {
            "median_colour": np.broadcast_to(median, sources.shape),
            "mean_map": np.broadcast_to(mean, sources.shape),
            "source_copied": sources,
            "nearest_map": self._nearest(sources),
        }

    def _nearest(self, sources: Pixels) -> Pixels:
        thumbnails = np.stack([_thumbnail(source) for source in sources])
        # |x - y|^2 without |x|^2, which is the same for all training inputs.
        lengths = np.square(self.thumbnails).sum(axis=1)
        blocks = [thumbnails[start : start + BLOCK] for start in range(0, len(thumbnails), BLOCK)]
        chosen = np.concatenate([np.argmin(lengths - 2 * block @ self.thumbnails.T, axis=1) for block in blocks])
        targets = {
            int(number): load(self.pairs[number], side=self.side, direction=self.direction)[1]
            for number in np.unique(chosen)
        }
        return np.stack([targets[int(number)] for number in chosen])


def _thumbnail(source: Pixels) -> NDArray[np.float32]:
    small = Image.fromarray(source).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel()
