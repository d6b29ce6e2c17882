"""Evaluation of a generator on the held-out pairs, compared with trivial baselines."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.bundle import FP32, MANIFEST_FILE, Bundle, BundleManifest
from model.errors import ConfigError
from model.io.files import check_writable, new_folder, sha256, write_text
from model.io.progress import quiet_stderr, stage, track
from model.pixels import Pixels, Tensor, to_pixels, to_tensor
from model.translator import Translate, Translator
from pipelines.config import next_commands
from pipelines.config.schema import EvaluationConfig, RunConfig
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.evaluation.baselines import TrainingSummary
from pipelines.evaluation.evaluator import CORE, Evaluator, build_evaluator, score_pairs
from pipelines.metrics.intervals import Tally, Values, bootstrap
from pipelines.metrics.scores import NamedScores, Scores
from pipelines.report import description, page
from pipelines.report.description import EVALUATION, PICTURE_FILE, PICTURE_ROWS
from pipelines.report.page import Evaluation
from pipelines.report.sheets import comparison, first_rows
from pipelines.run_folder import REPORT_FILE, SCORES_FILE, SHEET_FILE, TABLE_FILE, RunFolder
from pipelines.tracking import mlflow_runs, mlflow_server, run_page
from pipelines.tracking.loss_curve import LossCurve

SHEET_PAIRS = 6
"""Held-out pairs on the sheet of an evaluation."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out pairs, the evaluator of maps drawn for them, and the baselines' maps.

    Attributes:
        sources: Inputs, (N, side, side, 3).
        targets: True maps.
        baselines: Maps of the baselines, by their names.
        evaluator: Scores drawn maps.
        palette_missing: Reason why the evaluator has no palette; empty if it has one.
    """

    sources: Pixels
    targets: Pixels
    baselines: dict[str, Pixels]
    evaluator: Evaluator
    palette_missing: str

    def notes(self) -> tuple[str, ...]:
        """Return sentences about scores that are left out, and about limits of the others."""
        left_out = (f"Cartographic scores are left out: {self.palette_missing}",) if self.palette_missing else ()
        return self.evaluator.notes() + left_out


@dataclass(frozen=True)
class Measured:
    """Scores, every paired score of each pair (N,), and the pictures behind them, each (N, side, side, 3)."""

    scores: Scores
    values: dict[str, Values]
    sources: Pixels
    drawn: Pixels
    targets: Pixels


def load_held_out(pairs: PairIndex, manifest: BundleManifest, settings: EvaluationConfig, *, cache: Path) -> HeldOut:
    """Read the pairs at a model's size, and build the evaluator of its maps.

    Args:
        pairs: Held-out pairs to evaluate on, and training pairs to draw the baselines from.
        manifest: Manifest of the model: image size, direction and palette.
        settings: Networks to evaluate with; a palette in them must be that of the manifest.
        cache: Folder that keeps the networks' features of true maps.

    Raises:
        DataError: A pair can't be read, or weights are not available.
        ConfigError: The palette of the settings is not that of the manifest.
    """
    _check_palette(settings, manifest)
    side, direction = manifest.network.image_size, manifest.direction
    sources, targets = load_all(pairs.val, side=side, direction=direction)
    training = TrainingSummary.read(pairs.train, side=side, direction=direction)
    data = f"{pairs.fingerprint[:16]}-{direction}-{side}"
    evaluator = build_evaluator(targets, manifest.palette, settings, cache=cache, data=data)
    return HeldOut(sources, targets, training.baselines(sources), evaluator, _palette_missing(manifest))


def _check_palette(settings: EvaluationConfig, manifest: BundleManifest) -> None:
    """Check that a palette in the settings is that of the model; photos have none, whatever the settings say.

    Raises:
        ConfigError: It is another one.
    """
    if settings.palette is None or settings.palette == manifest.palette or manifest.direction == "map_to_photo":
        return
    exported = manifest.palette.classes if manifest.palette else {}
    given = settings.palette.classes
    differing = [name for name in {**given, **exported} if given.get(name) != exported.get(name)]
    raise ConfigError(
        f"evaluation.palette is not the palette that run {manifest.run_id} was exported with (they differ in "
        f"{', '.join(differing)}). Scores and polygons use the exported palette: leave evaluation.palette out, or set "
        "it and export the run again."
    )


def _palette_missing(manifest: BundleManifest) -> str:
    """Return the reason why a model's output has no classes; empty if it has."""
    if manifest.direction == "map_to_photo":
        return "the model draws photos, which have no classes."
    if manifest.palette is not None:
        return ""
    return manifest.palette_missing or (
        "the model was exported without a palette. Set evaluation.palette and export the run again."
    )


def draw(translate: Translate, sources: Pixels) -> Pixels:
    """Draw a map of every source, (N, side, side, 3)."""
    return np.concatenate([translate(source[None]) for source in track(sources, "Drawing held-out pairs")])


def draw_as_trained(generator: Path, sources: Pixels) -> Pixels:
    """Draw as the paper does: batch norm with the statistics of each image itself, and with dropout.

    Isola et al. (2017), section 3.4: "We apply dropout at test time, and we apply batch normalization using the
    statistics of the test batch", which holds one image.
    """
    with quiet_stderr():
        # TensorFlow logs irrelevant notes to stderr while it is imported.
        from model.networks import keras_file

        keras_file.use_cpu()
    call = keras_file.drawer(keras_file.load_generator(generator), as_trained=True)
    return draw(_on_pixels(call), sources)


def measure(bundle: Bundle, held_out: HeldOut, pairs: PairIndex, *, as_trained: Pixels) -> Measured:
    """Draw every held-out source with a bundle's generator, and score these maps and the baselines' maps.

    Args:
        bundle: The model.
        held_out: Its held-out pairs and evaluator.
        pairs: Index of the pairs.
        as_trained: Maps that the generator draws as in training.
    """
    evaluator, manifest = held_out.evaluator, bundle.manifest
    drawn = draw(Translator(bundle, variant=FP32), held_out.sources)
    evaluated = evaluator.evaluate(drawn)
    values = {name: tally.per_image() for name, tally in evaluated.tallies.items()}
    scores = Scores(
        run_id=manifest.run_id,
        pairs=len(held_out.targets),
        data_source=pairs.source,
        data_fingerprint=pairs.fingerprint,
        direction=manifest.direction,
        model_sha256=manifest.sha256,
        bundle_sha256=sha256(bundle.folder / MANIFEST_FILE),
        model=evaluated.scores,
        as_trained=_core_scores(as_trained, held_out.targets),
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
    """Evaluate a run's exported model, and write report, scores, sheet and maps to its evaluation folder and to MLflow.

    Raises:
        MissingStepError: The run has not been exported.
        DataError: A pair or a network's weights can't be read.
        ConfigError: The palette of the settings is not that of the exported model.
        TrackingError: MLflow does not answer, or does not know the run.
    """
    record, pairs, bundle = run.record(), PairIndex.load(run.pairs_file), run.open_bundle()
    check_writable(run.evaluation)
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
            curve=LossCurve.newest(run.checkpoints).until(record.steps),
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
        _log(active, run, measured, record.config, pairs)
    return measured.scores


def _log(active: mlflow_runs.Run, run: RunFolder, measured: Measured, config: RunConfig, pairs: PairIndex) -> None:
    """Log an evaluation: the model's scores as metrics, and all other numbers as files."""
    scores = measured.scores
    with mlflow_server.errors(large_files=True):
        for name in (REPORT_FILE, SCORES_FILE, TABLE_FILE, SHEET_FILE):
            active.log_file(run.evaluation / name, EVALUATION)
        card = first_rows(_sheet(measured), PICTURE_ROWS, side=config.network.image_size)
        active.log_image(card, f"{EVALUATION}/{PICTURE_FILE}")
    with mlflow_server.errors():
        active.log_metrics(scores.metrics())
        active.set_tags(_tags(scores))
        run_page.describe(run.run_id, description.of_run(run.run_id, config, pairs, scores))


def _command(run: RunFolder, settings: EvaluationConfig) -> str:
    """Return the command that repeats the evaluation."""
    changed = settings.model_dump(mode="json", exclude_defaults=True)
    options = next_commands.set_options({f"evaluation.{key}": value for key, value in changed.items()})
    return run.command("evaluate", "--run", run.run_id, *options)


def _core_scores(drawn: Pixels, targets: Pixels) -> NamedScores:
    return {name: bootstrap(Tally.mean(score_pairs(function, drawn, targets))) for name, function in CORE.items()}


def _on_pixels(call: Callable[[Tensor], Tensor]) -> Translate:
    """Return a function of pixels that calls one of tensors."""
    return lambda images: to_pixels(call(to_tensor(images)))


def _table(measured: Measured) -> str:
    """Return every paired score of each pair as CSV; a field is empty where the score is undefined."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["pair", *measured.values])
    for name, *numbers in zip(measured.scores.names, *measured.values.values(), strict=True):
        rows.writerow([name, *("" if np.isnan(number) else f"{number:.6g}" for number in numbers)])
    return text.getvalue()


def _tags(scores: Scores) -> dict[str, str]:
    """Return MLflow tags that name the baselines a model does not beat, and in which scores."""
    lost = ", ".join(f"{baseline}/{name}" for baseline, name in scores.lost())
    return {"evaluation.loses_to": lost or "nothing"}


def _sheet(measured: Measured) -> Image.Image:
    first = slice(SHEET_PAIRS)
    return comparison(
        measured.sources[first], measured.drawn[first], measured.targets[first], direction=measured.scores.direction
    )


def _save_maps(folder: Path, pairs: PairIndex, drawn: Pixels) -> None:
    for pair, image in zip(pairs.val, drawn, strict=True):
        path = folder / f"{pair.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
