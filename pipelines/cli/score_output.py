"""Output of the `score` verb: errors and warnings on stderr, summaries on stdout."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.scoring.image_scorer import Outcome
    from serving.scoring.scene_products import SceneManifest
    from serving.scoring.scorer import ScoreReport


def print_outcome(outcome: "Outcome") -> None:
    """Print the error and the warnings of a photo."""
    if outcome.row.error:
        print(f"{outcome.row.source}: {outcome.row.error}", file=sys.stderr)
    print_warnings(outcome.warnings)


def print_outcome_warnings(outcome: "Outcome") -> None:
    """Print only the warnings of a photo."""
    print_warnings(outcome.warnings)


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings, one per line."""
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)


def print_lost(photos: int) -> None:
    """Print that actors of a cluster were lost."""
    print(f"Actors were lost; {photos} photos go to others.", file=sys.stderr)


def print_report(report: "ScoreReport") -> None:
    """Print the summary of a folder of maps, or of a single map."""
    counts = [f"{report.drawn} drawn in {report.seconds:.1f} s ({report.images_per_second:.1f} images/s)"]
    if report.kept:
        counts.append(f"{report.kept} already there")
    if report.failed:
        counts.append(f"{len(report.failed)} failed")
    print(f"Maps: {', '.join(counts)}.")
    rows = {"Maps": report.out, "Model": f"{report.model}, {report.variant} on {report.provider}"}
    if report.manifest:
        rows["Manifest"] = report.manifest
    _print_rows(rows)


def print_scene(manifest: "SceneManifest", out: str) -> None:
    """Print the summary of a single scene."""
    scene, folder = manifest.scene, Path(out).parent
    counts = [f"{scene.width}x{scene.height} pixels"]
    if scene.ground:
        counts.append(f"{scene.ground[0]:.3g} m per pixel")
    counts.append(f"{scene.tiles} tiles drawn in {scene.milliseconds / 1000:.1f} s")
    if scene.skipped:
        counts.append(f"{scene.skipped} empty tiles skipped")
    if scene.resumed:
        counts.append(f"{scene.resumed} rows already there")
    print(f"Scene: {', '.join(counts)}.")
    rows = {"Map": out}
    if manifest.vectors:
        areas = ", ".join(f"{found.polygons} {name}" for name, found in manifest.vectors.classes.items())
        rows["Polygons"] = f"{manifest.vectors.file}: {areas}"
    if manifest.item:
        rows["STAC"] = str(folder / manifest.item)
    rows["Manifest"] = str(folder / manifest.file)
    rows["Model"] = f"{manifest.origin}, {manifest.model.variant}"
    if scene.seams is not None:
        rows["Seams"] = f"{scene.seams:.2f} (1: steps across tile edges are like those elsewhere)"
    _print_rows(rows)


def _print_rows(rows: dict[str, str]) -> None:
    for name, value in rows.items():
        print(f"  {name:8}  {value}")
