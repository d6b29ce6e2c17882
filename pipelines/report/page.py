"""HTML pages of evaluations and comparisons: self-contained files without scripts, fonts or requests."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from model.bundle import BundleManifest
from model.errors import DataError
from model.pixels import Pixels, check_images
from model.spec import LossName, NetworkConfig
from pipelines.config.training_settings import ValidationScore
from pipelines.data.pairs import PairIndex
from pipelines.metrics.catalogue import METRICS
from pipelines.metrics.scores import WIDE_GAP, Comparison, Scores, headline
from pipelines.report import charts, facts, pictures
from pipelines.report.pictures import SHOWN, most_different_pairs, selected_pairs
from pipelines.report.tables import NOT_BEATEN, Mark, columns_of, gain_tables, score_tables, signed, tables_of_runs
from pipelines.run_record import RunRecord
from pipelines.tracking.loss_curve import LossCurve

TEMPLATES = Path(__file__).parent / "templates"
CURVES: dict[LossName | ValidationScore, str] = {
    "generator_adversarial_loss": "Generator: adversarial loss",
    "generator_l1_loss": "Generator: L1 loss, on the scale [-1, 1]",
    "generator_colour_loss": "Generator: cross-entropy of colours",
    "discriminator_loss": "Discriminator: loss",
    "discriminator_accuracy": "Discriminator: share of patches that it judges right",
    "val_l1": "Held-out pairs: L1, in levels of 255",
    "val_ssim": "Held-out pairs: SSIM",
}
"""Curves of the training, and their titles."""
BEATS_ALL = Mark("good", "✓", "Beats every baseline")
BEATS_MOST = Mark("mixed", "!", "Beats the baselines, but not in every score")
LOSES = Mark("bad", "✗", "Does not beat the baselines")


@dataclass(frozen=True)
class Evaluation:
    """Contents of the page of an evaluation.

    Attributes:
        scores: Scores of the model and of the baselines.
        record: Record of the training: settings, steps, seconds.
        manifest: Manifest of the exported model.
        pairs: Index of the pairs.
        curve: Losses and held-out scores of the training; empty if the checkpoints are gone.
        sources: Inputs, uint8 (N, H, W, 3), in the order of `scores.names`.
        drawn: Maps that the model drew.
        targets: True maps.
        command: Command that repeats the evaluation.
    """

    scores: Scores
    record: RunRecord
    manifest: BundleManifest
    pairs: PairIndex
    curve: LossCurve
    sources: Pixels
    drawn: Pixels
    targets: Pixels
    command: str


def render(evaluation: Evaluation) -> str:
    """Return the page of an evaluation as HTML, the same bytes for the same input.

    Raises:
        DataError: Pictures, names and scores differ in number, or a class has an invalid colour.
    """
    scores = evaluation.scores
    _check_pictures(scores.names, sources=evaluation.sources, drawn=evaluation.drawn, targets=evaluation.targets)
    _check_values(scores.names, scores.each)
    _check_colours(scores)
    return _render_template(
        "evaluation.html",
        heading=f"Evaluation of {scores.run_id}",
        mark=_badge(scores),
        headline=headline(scores),
        NOT_BEATEN=NOT_BEATEN,
        head=(
            ("Model", facts.network(evaluation.manifest)),
            ("Held-out pairs", f"{scores.pairs:,}"),
            ("Data", evaluation.pairs.source),
        ),
        tables=score_tables(scores),
        gap=_gap(scores, evaluation.record.config.network),
        pairs_shown=_pairs_shown(scores.pairs),
        pairs=selected_pairs(scores, sources=evaluation.sources, drawn=evaluation.drawn, targets=evaluation.targets),
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
        training=facts.training(evaluation.record, evaluation.curve, pairs=scores.pairs),
        data=facts.data(evaluation.pairs),
        model=facts.model(evaluation.manifest),
        settings=facts.settings(evaluation.record.config),
        command=evaluation.command,
        notes=scores.notes,
        columns=columns_of(scores.model),
    )


def render_comparison(comparison: Comparison, sources: Pixels, targets: Pixels, drawn: Mapping[str, Pixels]) -> str:
    """Return the page of a comparison as HTML, the same bytes for the same input.

    Args:
        comparison: The scores.
        sources: Inputs, uint8 (N, H, W, 3), in the order of `comparison.names`.
        targets: True maps.
        drawn: Maps that each run drew.

    Raises:
        DataError: Pictures, names and scores are not of the same pairs and runs.
    """
    runs = comparison.runs
    if set(drawn) != set(runs) or set(comparison.each) != set(runs):
        raise DataError(
            f"Found maps of {', '.join(drawn) or 'no run'} and scores of {', '.join(comparison.each) or 'no run'}; "
            f"pass those of {', '.join(runs)}."
        )
    _check_pictures(comparison.names, sources=sources, targets=targets, **drawn)
    _check_values(comparison.names, comparison.each)
    labels = _labels(runs)
    tables = gain_tables(comparison, labels)
    return _render_template(
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
            f"The pairs, out of {comparison.pairs:,}, whose L1 differs most between the runs. L1 is in levels of 255; "
            "lower is better."
        ),
        pairs=most_different_pairs(comparison, labels, sources=sources, targets=targets, drawn=drawn),
        facts=(
            *((f"Run {labels[run]}", run) for run in runs),
            ("Source", comparison.data_source),
            ("Fingerprint", comparison.data_fingerprint),
        ),
        notes=comparison.notes,
        columns=columns_of(next(iter(comparison.scores.values()))),
    )


def conclusion(comparison: Comparison) -> str:
    """Return the sentence at the top of the page of a comparison."""
    return gain_tables(comparison, _labels(comparison.runs)).sentence


def _render_template(template: str, **values: Any) -> str:  # noqa: ANN401 - variables of a template
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


def _badge(scores: Scores) -> Mark:
    if not scores.unbeaten():
        return BEATS_ALL
    return BEATS_MOST if scores.beats_baselines() else LOSES


def _gap(scores: Scores, network: NetworkConfig) -> dict[str, str]:
    """Return the texts about the L1 that is lost between training and deployment."""
    wide = scores.gap > WIDE_GAP
    differences, remedies = [], []
    if network.dropout:
        differences.append("it has no dropout")
        remedies.append("network.dropout=0")
    if network.norm != "instance":
        differences.append("its batch norms use moving statistics instead of those of the image itself")
        remedies += ["network.norm=instance (the same norms in both)", "a larger training.batch_size"]
    meaning = f"When deployed, {' and '.join(differences) or 'it draws as in training'}."
    choices = " or ".join(filter(None, [", ".join(remedies), "more training.epochs"]))
    return {
        "number": f"{signed(100 * scores.gap, 1)} %",
        "kind": "mixed" if wide else "fine",
        "meaning": meaning,
        "advice": f"This is more than {100 * WIDE_GAP:.0f} %. To narrow the gap, try {choices}." if wide else "",
    }


def _pairs_shown(pairs: int) -> str:
    if pairs <= 3 * SHOWN:
        return f"All {pairs} held-out pairs, lowest L1 first."
    return f"The {SHOWN} best, {SHOWN} middle and {SHOWN} worst of {pairs:,} held-out pairs by L1."


def _curves(curve: LossCurve) -> list[charts.Panel]:
    """Draw the losses of a training run, and the held-out scores of its checkpoints."""
    tables = {taken.step: taken.losses for taken in curve.steps}, curve.scores
    panels = []
    for name, title in CURVES.items():
        points = [(step, values[name]) for table in tables for step, values in table.items() if name in values]
        if points:
            steps, values = zip(*points, strict=True)
            panels.append(charts.curve(steps, values, title=title))
    return panels


def _labels(runs: Iterable[str]) -> dict[str, str]:
    """Return the first 8 or 16 characters of the runs' ids if these differ, else the complete ids."""
    names = list(runs)
    length = next((size for size in (8, 16) if len({name[:size] for name in names}) == len(names)), None)
    return {name: name[:length] for name in names}


def _check_pictures(names: Sequence[str], **images: Pixels) -> None:
    shapes = {what: pixels.shape for what, pixels in images.items()}
    for what, pixels in images.items():
        check_images(pixels, f"Pictures ({what})")
    if len(set(shapes.values())) > 1 or any(shape[0] != len(names) for shape in shapes.values()):
        found = ", ".join(f"{what} {shape}" for what, shape in shapes.items())
        raise DataError(f"Found pictures of {found} for {len(names)} names; pass one of each for every pair.")


def _check_values(names: Sequence[str], each: Mapping[str, Sequence[float]]) -> None:
    for what, values in each.items():
        if len(values) != len(names):
            raise DataError(f"Found {len(values)} values of {what} for {len(names)} pairs; pass one for every pair.")


def _check_colours(scores: Scores) -> None:
    for found in scores.classes:
        for colour in found.colours:
            if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
                raise DataError(
                    f"{colour!r} of class {found.name} is not a colour; write it as #rrggbb, such as #aadaff."
                )
