"""Evaluator of drawn maps: every score against the held-out true maps."""

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
"""Paired scores that are kept for every pair."""
FURTHER: dict[str, Paired] = {
    "ms_ssim": image_metrics.ms_ssim,
    "within_5": partial(image_metrics.within, levels=5),
    "within_10": partial(image_metrics.within, levels=10),
}


class Network(Protocol):
    """A network that extracts features of images."""

    name: str
    sha256: str
    """sha256 of its weights."""

    def __call__(self, images: Pixels, /) -> Features:
        """Return the features of each of N images, uint8 (N, H, W, 3)."""
        ...


class Evaluated(NamedTuple):
    """Scores of drawn maps by name, the tallies behind the paired ones, and the scores of each class."""

    scores: NamedScores
    tallies: dict[str, Tally]
    classes: tuple[ClassScore, ...]


@dataclass(frozen=True)
class Evaluator:
    """Scores drawn maps against the true maps of the same pairs.

    Attributes:
        targets: True maps, (N, side, side, 3).
        palette: Classes of the maps; None if they have none.
        networks: Networks of the set scores.
        truths: Features of the targets, by the name of the network.
        perceptual: LPIPS, if its weights are given.
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
        tallies = {name: Tally.mean(score_pairs(function, drawn, self.targets)) for name, function in functions.items()}
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
            truth, features = self.truths[network.name], extract_features(network, drawn)
            found[frechet] = frechet_score(features.pool, truth.pool)
            found[kernel] = kernel_score(features.pool, truth.pool)
            if len(drawn) >= SPLITS * LEAST_IN_SPLIT:
                found[inception] = inception_score(features.probabilities)
        return found

    def notes(self) -> tuple[str, ...]:
        """Return sentences about scores that are left out, and about limits of the set scores."""
        n, notes = len(self.targets), []
        if not self._possible("ms_ssim"):
            side = image_metrics.MS_SSIM_SIDE
            notes.append(f"MS-SSIM is left out: its five scales need images of at least {side}x{side} pixels.")
        if n < SPLITS * LEAST_IN_SPLIT:
            notes.append(
                f"Inception Scores are left out: they need {SPLITS * LEAST_IN_SPLIT} images ({LEAST_IN_SPLIT} in each "
                f"of {SPLITS} splits), and there are {n}."
            )
        if n < FULL_RANK:
            notes.append(
                f"Fréchet distances of fewer than {FULL_RANK} images are too large by an unknown amount: compare them "
                f"only with those of equally many images (here {n}). Kernel distances have no such bias."
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
    """Load the networks, and extract their features of the true maps.

    Args:
        targets: True maps, (N, side, side, 3).
        palette: Classes of the maps, if they have any.
        settings: Paths of the weights of optional networks.
        cache: Folder that keeps the features of true maps.
        data: Name of the targets in the cache: the data's fingerprint, and how they were read.

    Raises:
        DataError: Weights are not available, or are not those that the scores are named after.
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
    truths = {network.name: _cached_features(network, targets, cache, data) for network in networks}
    return Evaluator(targets, palette, tuple(networks), truths, perceptual)


def score_pairs(function: Paired, drawn: Pixels, true: Pixels) -> Values:
    """Score each pair of images, in parallel on all cores; (N,)."""
    image_metrics.check_pairs(drawn, true)
    parts = np.array_split(np.arange(len(drawn)), min(len(drawn), 4 * usable_cores()))
    with ThreadPoolExecutor(usable_cores()) as pool:
        return np.concatenate(list(pool.map(lambda rows: function(_rows(drawn, rows), _rows(true, rows)), parts)))


def extract_features(network: Network, images: Pixels) -> Features:
    """Return a network's features of images; of one image broadcast N times it extracts them once."""
    if len(images) > 1 and images.strides[0] == 0:
        once = network(images[:1])
        return Features(np.repeat(once.pool, len(images), axis=0), np.repeat(once.probabilities, len(images), axis=0))
    return network(images)


def _rows(images: Pixels, rows: NDArray[np.intp]) -> Pixels:
    # A slice copies nothing, and keeps a broadcast image broadcast.
    return images[rows[0] : rows[-1] + 1]


def _cached_features(network: Network, targets: Pixels, cache: Path, data: str) -> Features:
    """Return a network's features of the targets, from the cache if they are in it."""
    file = cache / f"{network.name}-{network.sha256[:16]}-{data}-{len(targets)}.npz"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return Features(arrays["pool"], arrays["probabilities"])
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, DataError):
        file.unlink()  # Truncated by a crash: it is written again.
    features = network(targets)
    with new_file(file) as draft:
        np.savez(draft, pool=features.pool, probabilities=features.probabilities)
    return features
