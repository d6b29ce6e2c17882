"""PairIndex -> batches: decode, cut both halves with the same draw, and share the pairs out to the workers."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.pixels import Pixels, Tensor, to_tensor
from model.spec import Direction
from pipelines.data.pairs import Pair, read

CACHE_BYTES = 1 << 30
"""Decoded pairs that one worker keeps in memory; what does not fit is decoded again every epoch."""
AHEAD = 2
"""Batches made while the step runs."""


def load(pair: Pair, *, side: int, direction: Direction) -> Pixels:
    """Read one pair as (2, side, side, 3): what the generator is given, then what it should draw."""
    halves = [np.asarray(Image.fromarray(half).resize((side, side), Image.Resampling.BICUBIC)) for half in read(pair)]
    return np.stack(halves if direction == "photo_to_map" else halves[::-1])


def load_all(pairs: Sequence[Pair], *, side: int, direction: Direction) -> tuple[Pixels, Pixels]:
    """Read pairs as two arrays (N, side, side, 3): sources and targets."""
    loaded = np.stack([load(pair, side=side, direction=direction) for pair in pairs])
    return loaded[:, 0], loaded[:, 1]


@dataclass(frozen=True)
class Shard:
    """One worker's share: every `workers`-th pair, beginning at `rank`."""

    rank: int = 0
    workers: int = 1


def steps_per_epoch(pairs: int, batch_size: int) -> int:
    """Return how many steps see so many pairs once: what does not fill a last batch makes the others larger."""
    return max(1, pairs // batch_size)


class Batch(NamedTuple):
    """One worker's share of a step's pairs, float32 (n, side, side, 3) in [-1, 1]."""

    source: Tensor
    target: Tensor
    pairs: int
    """Pairs in the step over all workers together."""


@dataclass(frozen=True)
class TrainingPairs:
    """Training pairs as shuffled, jittered batches; the same seed gives the same batches, whoever shares them.

    In an epoch every pair is seen exactly once. What does not fill a last batch makes the first ones larger, mostly
    by one pair: so no worker is ever left without one.

    Attributes:
        pairs: All training pairs, those of the other workers too.
        side: Height and width of the crops in pixels.
        direction: Which half is the source.
        jitter: How much larger than `side` the image is when it is cropped; 1 for no crop.
        mirror: Mirror half of the pairs left to right.
        turn: Turn each pair by a random number of quarter turns.
        batch_size: Pairs in a step over all workers together.
        seed: Decides the order, the crops and the mirrors.
        shard: What this worker reads.
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
        """Yield this worker's share of each step's pairs, without the `seen` first pairs of the epoch."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.pairs))[seen:]
        batches = np.array_split(order, steps_per_epoch(len(order), self.batch_size)) if len(order) else []
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="decode") as pool:
            for indices in batches:
                waiting.append(pool.submit(self._batch, indices, number))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _batch(self, indices: NDArray[np.int64], epoch: int) -> Batch:
        mine = indices[self.shard.rank :: self.shard.workers]
        cuts = to_tensor(np.stack([self._cut(int(index), epoch) for index in mine]))
        return Batch(cuts[:, 0], cuts[:, 1], pairs=len(indices))

    def _cut(self, index: int, epoch: int) -> Pixels:
        pair = self._decoded(index)
        draw = np.random.default_rng((self.seed, epoch, index))
        top, left = draw.integers(0, pair.shape[1] - self.side + 1, size=2)
        cut = pair[:, top : top + self.side, left : left + self.side]
        if self.mirror and draw.random() < 0.5:
            cut = cut[:, :, ::-1]
        return np.rot90(cut, int(draw.integers(4)), axes=(1, 2)) if self.turn else cut

    def _decoded(self, index: int) -> Pixels:
        if index in self._cache:
            return self._cache[index]
        pair = load(self.pairs[index], side=round(self.side * self.jitter), direction=self.direction)
        with self._filling:
            if (len(self._cache) + 1) * pair.nbytes <= CACHE_BYTES:
                self._cache[index] = pair
        return pair
