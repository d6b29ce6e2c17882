"""Output of the `score` verb: errors and warnings on stderr, summaries on stdout."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from serving.scoring.scene_report import SingleSceneReport
    from serving.scoring.scorer import ScoreReport
    from serving.scoring.tasks import Outcome


NAMED = 3
"""Number of photos that are named as examples."""


class OutcomePrinter:
    """Prints the errors and warnings of photos as they come.

    Errors wait for the first map: if there is none, they are part of the error that ends the command. Of warnings that
    differ in names and numbers only, the first is printed; the photos of the others are named at the end.
    """

    def __init__(self) -> None:
        """Begin with nothing printed."""
        self._seen: set[str] = set()
        self._alike: dict[str, list[_Warned]] = {}
        self._waiting: list[str] | None = []

    def print_outcome(self, outcome: "Outcome") -> None:
        """Print the error of a photo, and those of its warnings that are new."""
        from serving.scoring.scorer import explain

        row, waiting = outcome.row, self._waiting
        error = [explain(row.source, row.error)] if row.error else []
        if waiting is None or not row.error:
            self._print([*(waiting or []), *error])
            self._waiting = None
        else:
            waiting += error
        for warning in outcome.warnings:
            self._seen.add(warning)
            alike = self._alike.setdefault(_pattern(warning, Path(row.source)), [])
            if not alike:
                print_warnings([warning])
            alike.append(_Warned(row.source, warning))

    def finish(self, warnings: Iterable[str]) -> None:
        """Print which photos have warnings like those printed, and the report's warnings about all photos."""
        for first, *others in self._alike.values():
            print_warnings([_summarise(first, others)] if len(others) > 1 else [warned.warning for warned in others])
        print_warnings(warning for warning in dict.fromkeys(warnings) if warning not in self._seen)

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            print(line, file=sys.stderr)


class _Warned(NamedTuple):
    """A photo and its warning."""

    source: str
    warning: str


def _pattern(warning: str, source: Path) -> str:
    """Return a warning without numbers and without the names of its photo and of the files next to that."""
    for name in (str(source), f"{source.parent.name}/{source.name}", source.name):
        warning = warning.replace(name, "*")
    return re.sub(r"\d+(\.\d+)?", "#", re.sub(rf"(?<![\w-]){re.escape(source.stem)}(?=[._])", "*", warning))


def _summarise(first: _Warned, others: list[_Warned]) -> str:
    """Return a sentence that names some photos whose warnings are like the first."""
    from model.io.images import short_name

    names = [short_name(Path(warned.source)) for warned in (first, *others)]
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return (
        f"{len(others)} other photos have a warning like that of {names[0]}: {', '.join(names[1 : NAMED + 1])}{more}. "
        "The manifest and --json have all of them."
    )


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
