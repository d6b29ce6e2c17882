"""The evaluation as a page to look at: one HTML file with its pictures in it, and no script, font or request."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from model.bundle import BundleManifest
from model.errors import DataError
from model.pixels import Pixels, check_images
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.metrics.catalogue import METRICS
from pipelines.metrics.scores import WIDE_GAP, Comparison, Scores, headline
from pipelines.report import charts, pictures
from pipelines.report.pictures import SHOWN, different_pairs, telling_pairs
from pipelines.report.tables import NOT_BEATEN, Mark, columns_of, gain_tables, score_tables, signed, tables_of_runs
from pipelines.tracking.loss_curve import StepLosses
from pipelines.workspace import RunRecord

TEMPLATES = Path(__file__).parent / "templates"
CURVES = {
    "generator_adversarial_loss": "Generator: adversarial loss",
    "generator_l1_loss": "Generator: L1 loss, of values in [-1, 1]",
    "discriminator_loss": "Discriminator: loss",
    "val_l1": "Held out: L1, in levels of 255",
    "val_ssim": "Held out: SSIM",
}
SETTINGS = {
    "network": ("image_size", "width", "depth", "dropout", "norm"),
    "training": (
        *("epochs", "batch_size", "workers", "learning_rate", "decay", "beta_1", "l1_weight"),
        *("jitter", "mirror", "turn", "precision", "result"),
    ),
}
"""What decides how a model draws, by the sections of the configuration."""
BEATS_ALL = Mark("good", "✓", "Beats every baseline")
BEATS_MOST = Mark("mixed", "!", "Beats the baselines, but not in every score")
LOSES = Mark("bad", "✗", "Does not beat what needs no learning")


@dataclass(frozen=True)
class Evaluation:
    """All that the page of an evaluation tells.

    Attributes:
        scores: Of the model and of the baselines.
        record: The training: settings, steps, seconds.
        manifest: The exported model.
        pairs: The data.
        curve: The losses of every step, in order; empty if they were not kept.
        sources: What was drawn from, uint8 (N, H, W, 3), in the order of `scores.names`.
        drawn: What the model drew.
        targets: What it should have drawn.
        command: What repeats the evaluation.
    """

    scores: Scores
    record: RunRecord
    manifest: BundleManifest
    pairs: PairIndex
    curve: Sequence[StepLosses]
    sources: Pixels
    drawn: Pixels
    targets: Pixels
    command: str


def render(evaluation: Evaluation) -> str:
    """Return the page of an evaluation: HTML, the same for the same input, byte for byte.

    Raises:
        DataError: The pictures, the names and the scores are not of the same pairs, or a colour of a class is none.
    """
    scores = evaluation.scores
    _check_pictures(scores.names, sources=evaluation.sources, drawn=evaluation.drawn, targets=evaluation.targets)
    _check_values(scores.names, scores.each)
    _check_colours(scores)
    return _fill(
        "evaluation.html",
        heading=f"Evaluation of {scores.run_id}",
        mark=_mark(scores),
        headline=headline(scores),
        NOT_BEATEN=NOT_BEATEN,
        head=(
            ("Model", _network(evaluation.manifest)),
            ("Held-out pairs", f"{scores.pairs:,}"),
            ("Data", evaluation.pairs.source),
        ),
        tables=score_tables(scores),
        gap=_gap(scores, norm=evaluation.record.config.network.norm),
        pairs_shown=_count(scores.pairs),
        pairs=telling_pairs(scores, sources=evaluation.sources, drawn=evaluation.drawn, targets=evaluation.targets),
        strip=pictures.error_legend(),
        legend_ticks=[pictures.WORST_ERROR * part // 4 for part in range(5)],
        histograms=[
            charts.histogram(scores.each[name], title=METRICS[name].title, digits=METRICS[name].digits)
            for name in ("l1", "ssim", "psnr")
            if name in scores.each
        ],
        classes=[
            {"name": found.name, "colours": found.colours, "share": f"{100 * found.share:.1f} %", "iou": found.iou}
            for found in scores.classes
        ],
        curves=_curves(evaluation.curve),
        training=_training(evaluation.record),
        data=_data(evaluation.pairs),
        model=_model(evaluation.manifest),
        settings=_settings(evaluation.record.config),
        command=evaluation.command,
        notes=scores.notes,
        columns=columns_of(scores.model),
    )


def render_comparison(comparison: Comparison, sources: Pixels, targets: Pixels, drawn: Mapping[str, Pixels]) -> str:
    """Return the page of a comparison: HTML, the same for the same input, byte for byte.

    Args:
        comparison: The scores.
        sources: What was drawn from, uint8 (N, H, W, 3), in the order of `comparison.names`.
        targets: What should have been drawn.
        drawn: What each run drew.

    Raises:
        DataError: The pictures, the names and the scores are not of the same pairs and runs.
    """
    runs = comparison.runs
    if set(drawn) != set(runs) or set(comparison.each) != set(runs):
        raise DataError(
            f"Found drawings of {', '.join(drawn) or 'no run'} and values of {', '.join(comparison.each) or 'none'}; "
            f"give those of {', '.join(runs)}."
        )
    _check_pictures(comparison.names, sources=sources, targets=targets, **drawn)
    _check_values(comparison.names, comparison.each)
    labels = _labels(runs)
    tables = gain_tables(comparison, labels)
    return _fill(
        "comparison.html",
        heading=f"Comparison of {len(runs)} runs",
        runs=runs,
        labels=list(labels.values()),
        mark=tables.mark,
        headline=tables.sentence,
        head=(("Held-out pairs", f"{comparison.pairs:,}"), ("Data", comparison.data_source)),
        tables=tables_of_runs(comparison, labels),
        gains=tables.tables,
        pairs_shown=(
            f"Of {comparison.pairs:,} pairs those whose L1 differs most between the runs; L1 in levels of 255, "
            "less is better."
        ),
        pairs=different_pairs(comparison, labels, sources=sources, targets=targets, drawn=drawn),
        facts=(
            *((f"Run {labels[run]}", run) for run in runs),
            ("Source", comparison.data_source),
            ("Fingerprint", comparison.data_fingerprint),
        ),
        notes=comparison.notes,
        columns=columns_of(next(iter(comparison.scores.values()))),
    )


def _fill(template: str, **values: Any) -> str:  # noqa: ANN401 - what a template shows
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["box"] = {
        name: getattr(charts, name.upper()) for name in ("width", "height", "left", "right", "top", "bottom")
    }
    return environment.get_template(template).render(**values)


def _mark(scores: Scores) -> Mark:
    if not scores.lost():
        return BEATS_ALL
    return BEATS_MOST if scores.beats_baselines() else LOSES


def _gap(scores: Scores, *, norm: str) -> dict[str, str]:
    wide = scores.gap > WIDE_GAP
    number = f"{signed(100 * scores.gap, 1)} %"
    meaning = (
        "Deployed, the network normalises with the statistics of its training and drops nothing out; in training, with "
        "those of the image itself and with dropout."
    )
    cures = (
        *(() if norm == "instance" else ("network.norm=instance, which normalises alike in both",)),
        "network.dropout=0",
        *(() if norm == "instance" else ("a larger training.batch_size",)),
        "more training.epochs",
    )
    advice = f"This is more than {100 * WIDE_GAP:.0f} %. What narrows it: {'; '.join(cures)}." if wide else ""
    return {"number": number, "kind": "mixed" if wide else "fine", "meaning": meaning, "advice": advice}


def _count(pairs: int) -> str:
    if pairs <= 3 * SHOWN:
        return f"All {pairs} held-out pairs, by L1: the best first."
    return f"Of {pairs:,} held-out pairs, by L1: the {SHOWN} best, the {SHOWN} in the middle and the {SHOWN} worst."


def _curves(curve: Sequence[StepLosses]) -> list[charts.Panel]:
    """Draw the losses of a training, and the held-out scores where the curve has them."""
    panels = []
    for name, title in CURVES.items():
        # Held-out scores are measured at some steps alone.
        points = [(taken.step, taken.losses[name]) for taken in curve if name in taken.losses]
        if points:
            steps, values = zip(*points, strict=True)
            panels.append(charts.curve(steps, values, title=title))
    return panels


def _training(record: RunRecord) -> str:
    return (
        f"{record.steps:,} steps, {record.config.training.epochs:,} epochs, {record.seconds:,.0f} s at "
        f"{record.images_per_second:.1f} images/s."
    )


def _data(pairs: PairIndex) -> tuple[tuple[str, str], ...]:
    return (
        ("Source", pairs.source),
        ("Pairs trained on", f"{len(pairs.train):,}"),
        ("Pairs held out", f"{len(pairs.val):,}"),
        ("Pairs refused", f"{len(pairs.rejected):,}"),
        ("Fingerprint", pairs.fingerprint),
    )


def _model(manifest: BundleManifest) -> tuple[tuple[str, str], ...]:
    parity = manifest.parity
    return (
        ("MLflow run", manifest.run_id),
        ("Model sha256", manifest.sha256),
        ("Code revision", manifest.code_revision),
        (
            "ONNX against TensorFlow",
            f"differ by at most {parity.max_difference:.1e} on the scale [-1, 1] (allowed: {parity.limit:g}), "
            f"on {parity.photos} held-out inputs",
        ),
    )


def _settings(config: RunConfig) -> list[tuple[str, str]]:
    given = config.flat()
    keys = [f"{section}.{name}" for section, names in SETTINGS.items() for name in names]
    return [(key, given[key]) for key in [*keys, "seed"]]


def _network(manifest: BundleManifest) -> str:
    network = manifest.network
    return (
        f"{manifest.direction.replace('_', ' ')}, {network.image_size} pixels, width {network.width}, "
        f"depth {network.depth}, {network.norm} norm"
    )


def _labels(runs: Iterable[str]) -> dict[str, str]:
    """Return short names of runs: what they begin with, as long as that tells them apart."""
    names = list(runs)
    length = next((size for size in (8, 16) if len({name[:size] for name in names}) == len(names)), None)
    return {name: name[:length] for name in names}


def _check_pictures(names: Sequence[str], **images: Pixels) -> None:
    shapes = {what: pixels.shape for what, pixels in images.items()}
    for what, pixels in images.items():
        check_images(pixels, f"Pictures ({what})")
    if len(set(shapes.values())) > 1 or any(shape[0] != len(names) for shape in shapes.values()):
        found = ", ".join(f"{what} {shape}" for what, shape in shapes.items())
        raise DataError(f"Found pictures of {found} for {len(names)} names; give one of each for every pair.")


def _check_values(names: Sequence[str], each: Mapping[str, Sequence[float]]) -> None:
    for what, values in each.items():
        if len(values) != len(names):
            raise DataError(f"Found {len(values)} values of {what} for {len(names)} pairs; give one for every pair.")


def _check_colours(scores: Scores) -> None:
    for found in scores.classes:
        for colour in found.colours:
            if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
                raise DataError(f"{colour!r} of class {found.name} is no colour; write it as #rrggbb, such as #aadaff.")
