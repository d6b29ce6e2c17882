"""Comparison of several models on the same pairs, with paired differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from model.bundle import FP32, Bundle
from model.errors import ConfigError, DataError
from model.io.files import check_writable, new_folder, write_text
from model.io.progress import stage
from model.pixels import Pixels
from model.translator import Translator
from pipelines.config.schema import EvaluationConfig
from pipelines.data.pairs import PairIndex
from pipelines.evaluation.evaluate import HeldOut, draw, load_held_out
from pipelines.metrics.catalogue import join_words
from pipelines.metrics.intervals import Score, Tally, paired_difference
from pipelines.metrics.scores import Comparison, gain
from pipelines.report import page as report_page
from pipelines.run_folder import RunFolder

COMPARISON_FILE, PAGE_FILE = "comparison.json", "comparison.html"


def compare(runs: Sequence[RunFolder], settings: EvaluationConfig, out: Path) -> Comparison:
    """Compare the exported models of runs on the held-out pairs of the first, and write JSON and a page to `out`.

    Classes are those of the first run's palette.

    Raises:
        ConfigError: There are fewer than two different runs, or the settings have another palette than the first run.
        DataError: The models draw images of different sizes or directions, or one was trained on these pairs; or `out`
            holds something else than an earlier comparison, or can't be written.
    """
    _check_replaceable(out)
    ids = [run.run_id for run in runs]
    if len(set(ids)) < 2 or len(set(ids)) < len(ids):
        raise ConfigError(f"Found the runs {', '.join(ids) or 'none'}; name two or more different ones.")
    first, pairs = runs[0], PairIndex.load(runs[0].pairs_file)
    bundles = {run.run_id: run.open_bundle() for run in runs}
    check_alike({f"run {run}": bundle for run, bundle in bundles.items()})
    for run in runs:
        check_unseen(PairIndex.load(run.pairs_file), pairs, f"Run {run.run_id}")
    held_out = load_held_out(pairs, bundles[first.run_id].manifest, settings, cache=first.cache)
    drawn = {run: draw(Translator(bundle, variant=FP32), held_out.sources) for run, bundle in bundles.items()}
    with stage("Scoring"):
        found = _compared(held_out, drawn, pairs, notes=_palette_notes(bundles))
    with new_folder(out) as folder:
        write_text(folder / COMPARISON_FILE, found.model_dump_json(indent=2) + "\n")
        page = report_page.render_comparison(found, held_out.sources, held_out.targets, drawn)
        write_text(folder / PAGE_FILE, page)
    return found


def _check_replaceable(out: Path) -> None:
    check_writable(out)
    others = sorted({path.name for path in out.iterdir()} - {COMPARISON_FILE, PAGE_FILE}) if out.is_dir() else []
    if others:
        raise DataError(
            f"{out} contains {others[0]}, which is not of a comparison and would be lost; choose a new or empty folder."
        )


def check_alike(models: Mapping[str, Bundle]) -> None:
    """Check that models draw images of one size in one direction, so that the same pairs suit all of them.

    Raises:
        DataError: They don't.
    """
    if difference := difference_in_kind(models):
        raise DataError(f"{difference} Compare models of one size and direction.")


def difference_in_kind(models: Mapping[str, Bundle]) -> str:
    """Return a sentence about models that draw images of different sizes or directions; empty if all are alike."""
    manifests = {name: bundle.manifest for name, bundle in models.items()}
    if len({(manifest.direction, manifest.network.image_size) for manifest in manifests.values()}) == 1:
        return ""
    kinds = " and ".join(
        f"{name} draws {manifest.direction} at {manifest.network.image_size} pixels"
        for name, manifest in manifests.items()
    )
    return f"Models of different kinds can't draw the same pairs: {kinds}."


def check_unseen(trained: PairIndex, evaluated: PairIndex, model: str) -> None:
    """Check that a model was not trained on the pairs it is evaluated on.

    Raises:
        DataError: It was.
    """
    seen = {pair.sha256 for pair in trained.train} & {pair.sha256 for pair in evaluated.val}
    if seen:
        raise DataError(
            f"{model} was trained on {len(seen)} of the {len(evaluated.val)} pairs it would be evaluated on; "
            "use pairs that no model was trained on."
        )


def _palette_notes(bundles: Mapping[str, Bundle]) -> tuple[str, ...]:
    """Return a sentence about runs whose palette is not that of the first, which all are scored with."""
    first, *others = bundles
    palette = bundles[first].manifest.palette
    differing = [run for run in others if bundles[run].manifest.palette != palette]
    if palette is None or not differing:
        return ()
    return (f"Classes are those of run {first}; {join_words(differing)} had another palette when exported.",)


def _compared(held_out: HeldOut, drawn: dict[str, Pixels], pairs: PairIndex, *, notes: tuple[str, ...]) -> Comparison:
    evaluated = {run: held_out.evaluator.evaluate(images) for run, images in drawn.items()}
    tallies = {run: found.tallies for run, found in evaluated.items()}
    first, *others = drawn
    return Comparison(
        runs=tuple(drawn),
        pairs=len(held_out.targets),
        data_source=pairs.source,
        data_fingerprint=pairs.fingerprint,
        names=tuple(pair.name for pair in pairs.val),
        scores={run: found.scores for run, found in evaluated.items()},
        gains={run: _gains(tallies[run], tallies[first]) for run in others},
        each={run: tuple(found["l1"].per_image().tolist()) for run, found in tallies.items()},
        notes=held_out.notes() + notes,
    )


def _gains(mine: dict[str, Tally], other: dict[str, Tally]) -> dict[str, Score]:
    return {name: gain(name, paired_difference(mine[name], other[name])) for name in mine if name in other}
