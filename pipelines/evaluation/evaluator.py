"""The judge: held-out true maps, and everything that drawn maps are asked beside them."""

import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.hardware import usable_cores
from model.io.files import new_file
from model.pixels import Pixels
from model.spec import Palette
from pipelines.config.schema import EvaluationConfig
from pipelines.metrics import class_metrics, image_metrics
from pipelines.metrics.catalogue import SET_SCORES
from pipelines.metrics.intervals import Score, Tally, Values, bootstrap
from pipelines.metrics.scores import FULL_RANK, ClassScore, NamedScores
from pipelines.metrics.set_metrics import LEAST_IN_SPLIT, SPLITS, Features, frechet_score, inception_score, kernel_score

Paired = Callable[[Pixels, Pixels], Values]

CORE: dict[str, Paired] = {
    "l1": image_metrics.l1,
    "psnr": image_metrics.psnr,
    "ssim": image_metrics.ssim,
}
"""The paired scores that are kept of every pair."""
FURTHER: dict[str, Paired] = {
    "ms_ssim": image_metrics.ms_ssim,
    "within_5": partial(image_metrics.within, levels=5),
    "within_10": partial(image_metrics.within, levels=10),
}


class Network(Protocol):
    """What sees features in images."""

    name: str
    sha256: str
    """Of its weights."""

    def __call__(self, images: Pixels, /) -> Features:
        """Return what it sees in each of uint8 images (N, H, W, 3)."""
        ...


class Evaluated(NamedTuple):
    """What drawn maps score: by name, what the paired scores add up over the pairs, and each class of the palette."""

    scores: NamedScores
    tallies: dict[str, Tally]
    classes: tuple[ClassScore, ...]


@dataclass(frozen=True)
class Evaluator:
    """What drawn maps are compared with, and how.

    Attributes:
        targets: True maps, (N, side, side, 3).
        palette: The maps' classes; None where photos are drawn.
        networks: Those of the set scores.
        truths: What each network sees in the targets, by its name.
        perceptual: LPIPS, where its weights are given.
    """

    targets: Pixels
    palette: Palette | None
    networks: tuple[Network, ...]
    truths: dict[str, Features]
    perceptual: Paired | None = None

    def score(self, drawn: Pixels) -> NamedScores:
        """Score drawn maps, one by one and as a set."""
        return self.evaluate(drawn).scores

    def evaluate(self, drawn: Pixels) -> Evaluated:
        """Score drawn maps, one by one and as a set, and each class of the palette."""
        tallies, classes = self._tallies(drawn)
        paired = {name: bootstrap(tally) for name, tally in tallies.items()}
        return Evaluated(paired | self._set_scores(drawn), tallies, classes)

    def _tallies(self, drawn: Pixels) -> tuple[dict[str, Tally], tuple[ClassScore, ...]]:
        functions = CORE | {name: function for name, function in FURTHER.items() if self._possible(name)}
        if self.perceptual is not None:
            functions["lpips"] = self.perceptual
        tallies = {name: Tally.mean(each(function, drawn, self.targets)) for name, function in functions.items()}
        if self.palette is None:
            return tallies, ()
        found = class_metrics.measure(drawn, self.targets, self.palette)
        return tallies | found.tallies, found.classes

    def _possible(self, name: str) -> bool:
        return name != "ms_ssim" or min(self.targets.shape[1:3]) >= image_metrics.MS_SSIM_SIDE

    def _set_scores(self, drawn: Pixels) -> NamedScores:
        found: dict[str, Score] = {}
        for network in self.networks:
            frechet, kernel, inception = SET_SCORES[network.name]
            truth, seen = self.truths[network.name], see(network, drawn)
            found[frechet] = frechet_score(seen.pool, truth.pool)
            found[kernel] = kernel_score(seen.pool, truth.pool)
            if len(drawn) >= SPLITS * LEAST_IN_SPLIT:
                found[inception] = inception_score(seen.probabilities)
        return found

    def notes(self) -> tuple[str, ...]:
        """Say what is left out, and what a reader of the set scores must know."""
        n, notes = len(self.targets), []
        if not self._possible("ms_ssim"):
            side = image_metrics.MS_SSIM_SIDE
            notes.append(f"MS-SSIM is left out: its five scales take images of {side}x{side} pixels or more.")
        if n < SPLITS * LEAST_IN_SPLIT:
            notes.append(
                f"Inception Scores are left out: {n} images in {SPLITS} splits are fewer than {LEAST_IN_SPLIT} a "
                "split, and would say little more than how few they are."
            )
        if n < FULL_RANK:
            notes.append(
                f"Fréchet distances are of {n} images: below {FULL_RANK} they are too large by an unknown amount, so "
                "compare them only with those of equally many images. Kernel distances have no such bias."
            )
        return tuple(notes)


def build_evaluator(
    targets: Pixels,
    palette: Palette | None,
    settings: EvaluationConfig,
    *,
    cache: Path,
    data: str,
) -> Evaluator:
    """Load the networks, and what they see in the true maps.

    Args:
        targets: True maps, (N, side, side, 3).
        palette: Their classes.
        settings: Which weights are given.
        cache: Folder that keeps what a network saw in true maps.
        data: What the targets are the held-out maps of: the data's fingerprint, and how they were read.

    Raises:
        DataError: Weights can't be had, or are not the ones that the scores are named after.
    """
    from pipelines.metrics.pretrained.lite0 import Lite0

    networks: list[Network] = [Lite0()]
    if settings.inception_weights:
        from pipelines.metrics.pretrained.inception import Inception, weights_file

        networks.insert(0, Inception(weights_file(settings.inception_weights)))
    perceptual = None
    if settings.lpips_weights:
        from pipelines.metrics.pretrained.lpips import Lpips

        perceptual = Lpips(Path(settings.lpips_weights))
    truths = {network.name: _remembered(network, targets, cache, data) for network in networks}
    return Evaluator(targets, palette, tuple(networks), truths, perceptual)


def each(function: Paired, drawn: Pixels, true: Pixels) -> Values:
    """Score each pair of images, some at a time on every core; (N,)."""
    image_metrics.check_pairs(drawn, true)
    parts = np.array_split(np.arange(len(drawn)), min(len(drawn), 4 * usable_cores()))
    with ThreadPoolExecutor(usable_cores()) as pool:
        return np.concatenate(list(pool.map(lambda rows: function(_rows(drawn, rows), _rows(true, rows)), parts)))


def see(network: Network, images: Pixels) -> Features:
    """Return what a network sees in images; in N times the same one it looks once."""
    if len(images) > 1 and images.strides[0] == 0:
        once = network(images[:1])
        return Features(np.repeat(once.pool, len(images), axis=0), np.repeat(once.probabilities, len(images), axis=0))
    return network(images)


def _rows(images: Pixels, rows: NDArray[np.intp]) -> Pixels:
    # A slice is no copy, and of N times the same image it stays one.
    return images[rows[0] : rows[-1] + 1]


def _remembered(network: Network, targets: Pixels, cache: Path, data: str) -> Features:
    """Return what a network sees in the targets; from a file, where it has seen them before."""
    file = cache / f"{network.name}-{network.sha256[:16]}-{data}-{len(targets)}.npz"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return Features(arrays["pool"], arrays["probabilities"])
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, DataError):
        file.unlink()  # Cut short by a crash: it is made again.
    seen = network(targets)
    with new_file(file) as draft:
        np.savez(draft, pool=seen.pool, probabilities=seen.probabilities)
    return seen
