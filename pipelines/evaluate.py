"""Measure a generator on the held-out pairs, beside what drawing nothing clever would score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.bundle import Bundle
from model.files import new_folder, write_text
from model.pixels import Pixels
from model.progress import track
from model.spec import Direction, Frozen
from model.translator import Translator
from pipelines import metrics, tracking
from pipelines.dataset import load, load_all
from pipelines.lite0 import Lite0
from pipelines.metrics import Features, Score
from pipelines.pairs import Pair, PairIndex
from pipelines.sheets import comparison
from pipelines.workspace import RunFolder

SHEET_PAIRS = 6
SCORES_FILE, SHEET_FILE = "scores.json", "sheet.png"
LOWER_IS_BETTER = frozenset({"l1", "frechet_lite0"})
PAIRED: dict[str, Callable[[Pixels, Pixels], metrics.Values]] = {
    "ssim": metrics.ssim,
    "psnr": metrics.psnr,
    "l1": metrics.l1,
}

NamedScores = dict[str, Score]


class Scores(Frozen):
    """What a model scores on the held-out pairs, and what the trivial baselines score on the same pairs.

    `ssim` in [-1, 1], `psnr` in dB, `l1` in levels of 255, `frechet_lite0` and `is_lite0` on the ImageNet network
    EfficientNet-Lite0: the formulas of FID and Inception Score, but not their network, so never under their names.
    """

    run_id: str
    pairs: int
    data_fingerprint: str
    model_sha256: str
    model: NamedScores
    baselines: dict[str, NamedScores]

    def beats(self, baseline: str, name: str) -> bool:
        """Whether the model's score is better than a baseline's."""
        mine, other = self.model[name].value, self.baselines[baseline][name].value
        return mine < other if name in LOWER_IS_BETTER else mine > other

    def flat(self) -> dict[str, float]:
        """Every number under the name that it has in MLflow: `scores/ssim`, `median_colour/ssim`, ..."""
        tables = {"scores": self.model, **self.baselines}
        numbers = {"scores/pairs": float(self.pairs)}
        for table, scores in tables.items():
            for name, number in scores.items():
                numbers |= {f"{table}/{name}": number.value, f"{table}/{name}_error": number.error}
        return numbers


@dataclass(frozen=True)
class Measured:
    """Scores, and the pictures that they were measured on, each (N, side, side, 3)."""

    scores: Scores
    sources: Pixels
    drawn: Pixels
    targets: Pixels


def measure(bundle: Bundle, pairs: PairIndex) -> Measured:
    """Draw every held-out source with a bundle's generator, and score the drawings and the trivial baselines."""
    manifest = bundle.manifest
    side, direction = manifest.network.image_size, manifest.direction
    sources, targets = load_all(pairs.val, side=side, direction=direction)
    translate = Translator(bundle)
    drawn = np.concatenate([translate(source[None]) for source in track(sources, "Drawing held-out pairs")])
    lite0 = Lite0()
    truth = lite0(targets)
    trivial = baselines(pairs.train, sources, side=side, direction=direction)
    scores = Scores(
        run_id=manifest.run_id,
        pairs=len(targets),
        data_fingerprint=pairs.fingerprint,
        model_sha256=manifest.sha256,
        model=score(drawn, targets, truth=truth, network=lite0),
        baselines={name: score(images, targets, truth=truth, network=lite0) for name, images in trivial.items()},
    )
    return Measured(scores, sources, drawn, targets)


def evaluate(run: RunFolder) -> Scores:
    """Measure a run's exported model; leave scores, sheet and maps in its evaluation folder and in MLflow.

    Raises:
        MissingStepError: The run has not been exported.
        TrackingError: MLflow does not answer, or does not know the run.
    """
    pairs, bundle = run.pairs(), run.open_bundle()
    with tracking.continue_run(run.run_id) as active:
        measured = measure(bundle, pairs)
        head = slice(SHEET_PAIRS)
        picture = comparison(
            measured.sources[head], measured.drawn[head], measured.targets[head], direction=bundle.manifest.direction
        )
        with new_folder(run.evaluation) as folder:
            write_text(folder / SCORES_FILE, measured.scores.model_dump_json(indent=2) + "\n")
            picture.save(folder / SHEET_FILE)
            _save_maps(folder / "maps", pairs, measured.drawn)
        active.log_metrics(measured.scores.flat())
        for name in (SCORES_FILE, SHEET_FILE):
            active.log_file(run.evaluation / name, "evaluation")
    return measured.scores


def _save_maps(folder: Path, pairs: PairIndex, drawn: Pixels) -> None:
    for pair, image in zip(pairs.val, drawn, strict=True):
        path = folder / f"{pair.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def score(drawn: Pixels, true: Pixels, *, truth: Features, network: Callable[[Pixels], Features]) -> NamedScores:
    """Score images (N, H, W, 3) against the true ones; `truth` is what `network` sees in these."""
    seen = network(drawn)
    paired = {name: metrics.mean_score(function(drawn, true)) for name, function in PAIRED.items()}
    return paired | {
        "frechet_lite0": metrics.frechet_score(seen.pool, truth.pool),
        "is_lite0": metrics.inception_score_with_error(seen.probabilities),
    }


def baselines(train: Sequence[Pair], sources: Pixels, *, side: int, direction: Direction) -> dict[str, Pixels]:
    """Draw what needs no learning, (N, side, side, 3) each: the training targets' median colour and mean, the source.

    The targets are read one at a time: the colour comes from a histogram of each channel, the mean from a sum.
    """
    histogram = np.zeros((3, 256), np.int64)
    total = np.zeros((side, side, 3), np.float64)
    for pair in track(train, "Reading training pairs"):
        target = load(pair, side=side, direction=direction)[1]
        histogram += [np.bincount(target[..., channel].ravel(), minlength=256) for channel in range(3)]
        total += target
    shares = np.cumsum(histogram, axis=1) / histogram.sum(axis=1, keepdims=True)
    median = np.argmax(shares >= 0.5, axis=1).astype(np.uint8)
    mean = np.rint(total / len(train)).astype(np.uint8)
    return {
        "median_colour": np.broadcast_to(median, sources.shape),
        "mean_map": np.broadcast_to(mean, sources.shape),
        "source_copied": sources,
    }
