"""Training batches: pairs are decoded, both halves cropped alike, and shared out among the workers."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.io.prefetch import run_ahead
from model.pixels import Pixels, Tensor, to_tensor
from model.spec import AUGMENTATION_DRAWS, Direction
from pipelines.data.pairs import Pair, read

CACHE_BYTES = 1 << 30
"""Bytes of decoded pairs that one worker keeps in memory; the other pairs are decoded anew in every epoch."""
AHEAD = 2
"""Batches prepared while a step runs."""


def load(pair: Pair, *, side: int, direction: Direction) -> Pixels:
    """Read one pair as an array (2, side, side, 3): the generator's input, then its target."""
    halves = [np.asarray(Image.fromarray(half).resize((side, side), Image.Resampling.BICUBIC)) for half in read(pair)]
    return np.stack(halves if direction == "photo_to_map" else halves[::-1])


def load_all(pairs: Sequence[Pair], *, side: int, direction: Direction) -> tuple[Pixels, Pixels]:
    """Read pairs as two arrays (N, side, side, 3): sources and targets."""
    loaded = np.stack([load(pair, side=side, direction=direction) for pair in pairs])
    return loaded[:, 0], loaded[:, 1]


@dataclass(frozen=True)
class Shard:
    """One worker's share of the pairs: every `workers`-th, starting at `rank`."""

    rank: int = 0
    workers: int = 1


def steps_per_epoch(pairs: int, batch_size: int) -> int:
    """Return the number of steps in an epoch; pairs left over enlarge the batches rather than forming a smaller one."""
    return max(1, pairs // batch_size)


class Batch(NamedTuple):
    """One worker's share of a step's pairs, float32 (n, side, side, 3) in [-1, 1]."""

    source: Tensor
    target: Tensor
    draws: Tensor
    """Random numbers for the training step, (n, AUGMENTATION_DRAWS) in [0, 1)."""
    pairs: int
    """Pairs in the step, over all workers."""


@dataclass(frozen=True)
class TrainingPairs:
    """Training pairs as shuffled, jittered batches; the seed determines them, whatever the number of workers.

    Every pair is seen exactly once in an epoch. Pairs left over after the last full batch enlarge the first batches,
    mostly by one pair each, so that every worker has at least one pair in every step.

    Attributes:
        pairs: All training pairs, including those of the other workers.
        side: Height and width of the crops in pixels.
        direction: The half that is the source.
        jitter: Size of the image before cropping, relative to `side`; 1 for no crop.
        mirror: Mirror half of the pairs left to right.
        turn: Rotate each pair by a random number of quarter turns.
        batch_size: Pairs in a step, over all workers.
        seed: Seed of the order, the crops, the mirroring and the rotations.
        shard: The share that this worker reads.
    """

    pairs: Sequence[Pair]
    side: int
    direction: Direction
    jitter: float
    mirror: bool
    turn: bool
    batch_size: int
    seed: int
    shard: Shard = Shard()
    _cache: dict[int, Pixels] = field(default_factory=dict, repr=False)
    _filling: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def epoch(self, number: int, *, seen: int = 0) -> Iterator[Batch]:
        """Yield this worker's share of each step's pairs, skipping the first `seen` pairs of the epoch."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.pairs))[seen:]
        batches = np.array_split(order, steps_per_epoch(len(order), self.batch_size)) if len(order) else []
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="decode") as pool:
            yield from run_ahead(pool, partial(self._batch, epoch=number), batches, AHEAD)

    def _batch(self, indices: NDArray[np.int64], *, epoch: int) -> Batch:
        mine = indices[self.shard.rank :: self.shard.workers]
        # By pair, so that neither a resumed training nor the number of workers changes them.
        generators = [np.random.default_rng((self.seed, epoch, int(index))) for index in mine]
        crops = to_tensor(
            np.stack([self._crop(int(index), draw) for index, draw in zip(mine, generators, strict=True)])
        )
        draws = np.stack([generator.random(AUGMENTATION_DRAWS, np.float32) for generator in generators])
        return Batch(crops[:, 0], crops[:, 1], draws, pairs=len(indices))

    def _crop(self, index: int, draw: np.random.Generator) -> Pixels:
        pair = self._decoded(index)
        top, left = draw.integers(0, pair.shape[1] - self.side + 1, size=2)
        crop = pair[:, top : top + self.side, left : left + self.side]
        if self.mirror and draw.random() < 0.5:
            crop = crop[:, :, ::-1]
        return np.rot90(crop, int(draw.integers(4)), axes=(1, 2)) if self.turn else crop

    def _decoded(self, index: int) -> Pixels:
        if index in self._cache:
            return self._cache[index]
        pair = load(self.pairs[index], side=round(self.side * self.jitter), direction=self.direction)
        with self._filling:
            if (len(self._cache) + 1) * pair.nbytes <= CACHE_BYTES:
                self._cache[index] = pair
        return pair
