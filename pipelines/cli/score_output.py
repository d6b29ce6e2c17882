"""Output of the `score` verb: errors and warnings on stderr, summaries on stdout."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.scoring.scene_report import SingleSceneReport
    from serving.scoring.scorer import ScoreReport
    from serving.scoring.tasks import Outcome


class OutcomePrinter:
    """Prints the errors and warnings of photos as they come.

    Errors wait for the first map: if there is none, they are part of the error that ends the command.
    """

    def __init__(self) -> None:
        """Begin with nothing printed."""
        self._warnings: set[str] = set()
        self._waiting: list[str] | None = []

    def print_outcome(self, outcome: "Outcome") -> None:
        """Print the error and the warnings of a photo."""
        from serving.scoring.scorer import explain

        row, waiting = outcome.row, self._waiting
        error = [explain(row.source, row.error)] if row.error else []
        if waiting is None or not row.error:
            self._print([*(waiting or []), *error])
            self._waiting = None
        else:
            waiting += error
        self.print_warnings(outcome.warnings)

    def print_warnings(self, warnings: Iterable[str]) -> None:
        """Print those warnings that were not yet printed."""
        new = [warning for warning in dict.fromkeys(warnings) if warning not in self._warnings]
        self._warnings.update(new)
        print_warnings(new)

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            print(line, file=sys.stderr)


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings, one per line."""
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)


def print_lost(photos: int) -> None:
    """Print that actors of a cluster were lost."""
    print(f"Actors were lost; others draw {_count(photos, 'photo')}.", file=sys.stderr)


def print_report(report: "ScoreReport") -> None:
    """Print the summary of a folder of maps, or of a single map."""
    rate = report.images_per_second
    speed = f" in {report.seconds:.1f} s ({rate:{'.1f' if rate >= 1 else '.2g'}} images/s)" if report.drawn else ""
    counts = [f"{report.drawn} drawn{speed}"]
    if report.kept:
        counts.append(f"{report.kept} already there")
    if report.failed:
        counts.append(f"{len(report.failed)} failed")
    print(f"Maps: {', '.join(counts)}.")
    rows = {"Maps": report.out, "Model": f"{report.model}, {report.variant} on {report.provider}"}
    if report.manifest:
        rows["Manifest"] = report.manifest
    _print_rows(rows)


def print_scene(report: "SingleSceneReport") -> None:
    """Print the summary of a single scene."""
    scene, folder = report.scene, Path(report.out).parent
    counts = [f"{scene.width}x{scene.height} pixels"]
    if scene.ground:
        counts.append(f"{scene.ground[0]:.3g} m per pixel")
    counts.append(f"{_count(scene.tiles, 'tile')} drawn in {scene.milliseconds / 1000:.1f} s")
    if scene.skipped:
        counts.append(f"{_count(scene.skipped, 'empty tile')} skipped")
    if scene.resumed:
        counts.append(f"{_count(scene.resumed, 'row')} already there")
    print(f"Scene: {', '.join(counts)}.")
    rows = {"Map": report.out}
    if report.vectors:
        areas = ", ".join(f"{found.polygons} {name}" for name, found in report.vectors.classes.items())
        rows["Polygons"] = f"{report.vectors.file}: {areas}"
    if report.item:
        rows["STAC"] = str(folder / report.item)
    rows["Manifest"] = report.manifest
    rows["Model"] = f"{report.origin}, {report.model.variant}"
    if scene.seams is not None:
        rows["Seams"] = f"{scene.seams:.2f} (1: steps across tile edges are like those elsewhere)"
    _print_rows(rows)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _print_rows(rows: dict[str, str]) -> None:
    for name, value in rows.items():
        print(f"  {name:8}  {value}")
