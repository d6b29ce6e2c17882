"""Measure a generator on the held-out pairs, beside what drawing nothing clever would score."""

import csv
import io
import json
import shlex
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.bundle import FP32, Bundle, BundleManifest
from model.io.files import new_folder, write_text
from model.io.progress import quiet_stderr, stage, track
from model.pixels import Pixels, Tensor, to_pixels, to_tensor
from model.spec import Palette
from model.translator import Translate, Translator
from pipelines.config.schema import EvaluationConfig
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.data.palette_extraction import NoPaletteError, find_palette
from pipelines.evaluation.baselines import TrainingMaps
from pipelines.evaluation.evaluator import CORE, Evaluator, build_evaluator, each
from pipelines.metrics.intervals import Tally, Values, bootstrap
from pipelines.metrics.scores import NamedScores, Scores
from pipelines.report import page
from pipelines.report.page import Evaluation
from pipelines.report.sheets import comparison
from pipelines.tracking import mlflow_runs
from pipelines.tracking.loss_curve import LossCurve
from pipelines.workspace import REPORT_FILE, SCORES_FILE, SHEET_FILE, TABLE_FILE, RunFolder

SHEET_PAIRS = 6


@dataclass(frozen=True)
class HeldOut:
    """The held-out pairs, who judges what is drawn for them, and what draws for them without learning.

    Attributes:
        sources: What is drawn from, (N, side, side, 3).
        targets: What should be drawn.
        trivial: What the baselines draw, by their names.
        judge: Of what is drawn.
        missing: Why the judge has no palette, if it has none.
    """

    sources: Pixels
    targets: Pixels
    baselines: dict[str, Pixels]
    evaluator: Evaluator
    missing: str

    def notes(self) -> tuple[str, ...]:
        """Say what is left out, and what a reader must know."""
        left_out = (f"Cartographic scores are left out: {self.missing}",) if self.missing else ()
        return self.evaluator.notes() + left_out


@dataclass(frozen=True)
class Measured:
    """Scores, every paired score of each pair (N,), and the pictures they were measured on, each (N, side, side, 3)."""

    scores: Scores
    values: dict[str, Values]
    sources: Pixels
    drawn: Pixels
    targets: Pixels


def load_held_out(pairs: PairIndex, manifest: BundleManifest, settings: EvaluationConfig, *, cache: Path) -> HeldOut:
    """Read the pairs as a model sees them, and appoint their judge.

    Args:
        pairs: The held-out ones are judged on; the baselines and the palette come from the training ones.
        manifest: Of the model: its image size and direction.
        settings: What is judged with.
        cache: Folder that keeps what networks saw in true maps.

    Raises:
        DataError: A pair can't be read, or weights can't be had.
        ConfigError: The palette of the settings can't be used.
    """
    side, direction = manifest.network.image_size, manifest.direction
    sources, targets = load_all(pairs.val, side=side, direction=direction)
    training = TrainingMaps.of(pairs.train, side=side, direction=direction)
    palette, missing = _palette(training, settings)
    data = f"{pairs.fingerprint[:16]}-{direction}-{side}"
    evaluator = build_evaluator(targets, palette, settings, cache=cache, data=data)
    return HeldOut(sources, targets, training.baselines(sources), evaluator, missing)


def _palette(training: TrainingMaps, settings: EvaluationConfig) -> tuple[Palette | None, str]:
    """Read the training pairs; return the classes of what is drawn, or why it has none."""
    targets = training.targets()
    if training.direction == "map_to_photo":
        deque(targets, maxlen=0)
        return None, "photos are drawn here, and they have no classes."
    try:
        found = find_palette(targets)
    except NoPaletteError as error:
        return settings.palette, "" if settings.palette else str(error)
    return settings.palette or found, ""


def draw(translate: Translate, sources: Pixels) -> Pixels:
    """Draw for every source, (N, side, side, 3)."""
    return np.concatenate([translate(source[None]) for source in track(sources, "Drawing held-out pairs")])


def draw_as_trained(generator: Path, sources: Pixels) -> Pixels:
    """Draw as the paper does: batch norm with the statistics of each image itself, and with dropout.

    Isola et al. (2017), section 3.4: "We apply dropout at test time, and we apply batch normalization using the
    statistics of the test batch", which holds one image.
    """
    with quiet_stderr():
        # TensorFlow is imported now, and writes notes that help nobody.
        from model.networks import keras_file

        keras_file.use_cpu()
    call = keras_file.drawer(keras_file.load_generator(generator), as_trained=True)
    return draw(_pixelwise(call), sources)


def measure(bundle: Bundle, held_out: HeldOut, pairs: PairIndex, *, as_trained: Pixels) -> Measured:
    """Draw every held-out source with a bundle's generator, and score the drawings and the trivial baselines.

    Args:
        bundle: The model.
        held_out: What it is measured on.
        pairs: Where that comes from.
        as_trained: What the generator draws as in training.
    """
    evaluator, manifest = held_out.evaluator, bundle.manifest
    drawn = draw(Translator(bundle, variant=FP32), held_out.sources)
    evaluated = evaluator.evaluate(drawn)
    values = {name: tally.of_each() for name, tally in evaluated.tallies.items()}
    scores = Scores(
        run_id=manifest.run_id,
        pairs=len(held_out.targets),
        data_source=pairs.source,
        data_fingerprint=pairs.fingerprint,
        direction=manifest.direction,
        model_sha256=manifest.sha256,
        model=evaluated.scores,
        as_trained=_core(as_trained, held_out.targets),
        baselines={
            name: evaluator.score(images) for name, images in track(held_out.baselines.items(), "Scoring baselines")
        },
        classes=evaluated.classes,
        names=tuple(pair.name for pair in pairs.val),
        each={name: tuple(values[name].tolist()) for name in CORE},
        notes=held_out.notes(),
    )
    return Measured(scores, values, held_out.sources, drawn, held_out.targets)


def evaluate(run: RunFolder, settings: EvaluationConfig) -> Scores:
    """Measure a run's exported model; leave report, scores, sheet and maps in its evaluation folder and in MLflow.

    Raises:
        MissingStepError: The run has not been exported.
        DataError: A pair or a network's weights can't be read.
        TrackingError: MLflow does not answer, or does not know the run.
    """
    record, pairs, bundle = run.record(), PairIndex.load(run.pairs_file), run.open_bundle()
    with mlflow_runs.continue_run(run.run_id) as active:
        held_out = load_held_out(pairs, bundle.manifest, settings, cache=run.cache)
        with stage("Drawing as in training, for comparison"):
            as_trained = draw_as_trained(run.generator, held_out.sources)
        measured = measure(bundle, held_out, pairs, as_trained=as_trained)
        evaluation = Evaluation(
            scores=measured.scores,
            record=record,
            manifest=bundle.manifest,
            pairs=pairs,
            curve=LossCurve.newest(run.checkpoints).steps,
            sources=measured.sources,
            drawn=measured.drawn,
            targets=measured.targets,
            command=_command(run, settings),
        )
        with new_folder(run.evaluation) as folder:
            write_text(folder / SCORES_FILE, measured.scores.model_dump_json(indent=2) + "\n")
            write_text(folder / TABLE_FILE, _table(measured))
            write_text(folder / REPORT_FILE, page.render(evaluation))
            _sheet(measured).save(folder / SHEET_FILE)
            _save_maps(folder / "maps", pairs, measured.drawn)
        active.log_metrics(measured.scores.flat())
        active.set_tags(_tags(measured.scores))
        for name in (REPORT_FILE, SCORES_FILE, TABLE_FILE, SHEET_FILE):
            active.log_file(run.evaluation / name, "evaluation")
    return measured.scores


def _command(run: RunFolder, settings: EvaluationConfig) -> str:
    """Return what evaluates the run in the same way again."""
    changed = settings.model_dump(mode="json", exclude_defaults=True)
    values = {f"evaluation.{key}": json.dumps(value) for key, value in changed.items()}
    words = ["sat2map", "evaluate", "--run", run.run_id, *run.in_workspace()]
    for key, value in values.items():
        words += ["--set", f"{key}={value}"]
    return shlex.join(words)


def _core(drawn: Pixels, targets: Pixels) -> NamedScores:
    return {name: bootstrap(Tally.mean(each(function, drawn, targets))) for name, function in CORE.items()}


def _pixelwise(call: Callable[[Tensor], Tensor]) -> Translate:
    return lambda images: to_pixels(call(to_tensor(images)))


def _table(measured: Measured) -> str:
    """Write every paired score of each pair as CSV; a field is empty where the score is undefined."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["pair", *measured.values])
    for name, *numbers in zip(measured.scores.names, *measured.values.values(), strict=True):
        rows.writerow([name, *("" if np.isnan(number) else f"{number:.6g}" for number in numbers)])
    return text.getvalue()


def _tags(scores: Scores) -> dict[str, str]:
    """Mark a model that is no better than what needs no learning."""
    lost = ", ".join(f"{baseline}/{name}" for baseline, name in scores.lost())
    return {"evaluation.loses_to": lost or "nothing"}


def _sheet(measured: Measured) -> Image.Image:
    head = slice(SHEET_PAIRS)
    return comparison(
        measured.sources[head], measured.drawn[head], measured.targets[head], direction=measured.scores.direction
    )


def _save_maps(folder: Path, pairs: PairIndex, drawn: Pixels) -> None:
    for pair, image in zip(pairs.val, drawn, strict=True):
        path = folder / f"{pair.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
