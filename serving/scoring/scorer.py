"""Scoring of photos and scenes into a folder of maps with a manifest; reading, drawing and writing overlap."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePath
from typing import NamedTuple

from model.bundle import OpenedModel, Origin
from model.errors import DataError
from model.io import files
from model.io.images import printable, short_name
from model.io.locations import Location
from model.io.prefetch import run_ahead
from model.io.progress import SILENT, Progress
from model.spec import Frozen
from model.translator import Translator
from serving.scoring.image_scorer import DrawnMap, ImageScorer, ReadPhoto
from serving.scoring.manifest import CSV_FILE, Journal, read_rows, seal
from serving.scoring.scene_scorer import Describe, SceneScorer
from serving.scoring.sources import find_photos
from serving.scoring.targets import file_format
from serving.scoring.tasks import Outcome, ScoreSettings, Task, plan, plan_file

THREADS, AHEAD = 2, 4
"""Number of threads to read and to write with, and of photos and maps that wait in memory for the next step."""
REMOTE_THREADS, REMOTE_AHEAD = 8, 16
"""The same for photos or maps at an address, where threads wait for a server."""
WAITING_PIXELS = 64_000_000
"""Maximum number of pixels of all photos that wait; a photo of more than its share is read when it is drawn."""

OnOutcome = Callable[[Outcome], None]
"""Called with each outcome as soon as it is known, in the thread that called `score`."""


class Failure(Frozen):
    """A photo without a map, and the reason."""

    source: str
    error: str


class ScoreReport(Frozen):
    """The result of a scoring."""

    out: str
    manifest: str | None
    """The manifest of a folder of maps, which has more details; None if a single map went to a file."""
    drawn: int
    """Number of maps drawn now."""
    kept: int
    """Number of maps kept from earlier scorings of the same photos with the same model and settings."""
    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]
    """Sentences about single maps, which are in their outcomes as well, and about all maps together."""
    model: str
    """The model's origin: models:/NAME/VERSION or runs:/ID."""
    origin: str
    """The same, under the name that it has for a scene."""
    variant: str
    provider: str
    seconds: float
    """Time from the first photo to the last map, without preparation and manifests."""
    images_per_second: float
    """Rate of the maps drawn now."""


def explain(source: str, error: str) -> str:
    """Return the error of a photo as a sentence with its complete path or address."""
    name = short_name(PurePath(source))
    if name and error.startswith(f"{name} "):
        error = f"{source}{error.removeprefix(name)}"
    return printable(error if error.startswith(source) else f"{source}: {error}")


class ModelUse(NamedTuple):
    """The model that drew the maps, and the provider that ran it."""

    origin: Origin
    variant: str
    provider: str


class NothingDrawn(DataError):
    """None of the photos can be drawn."""

    def __init__(self, report: ScoreReport) -> None:
        """Name the first failures of a report."""
        reasons = [explain(failure.source, failure.error) for failure in report.failed[:20]]
        if len(report.failed) == 1:
            super().__init__(reasons[0])
        else:
            super().__init__("\n  ".join([f"None of the photos can be drawn ({len(report.failed)}):", *reasons]))
        self.report = report


def score(
    model: OpenedModel,
    sources: Sequence[str],
    out: Location,
    *,
    settings: ScoreSettings | None = None,
    variant: str | None = None,
    describe: Describe | None = None,
    progress: Progress = SILENT,
    on_outcome: OnOutcome | None = None,
) -> ScoreReport:
    """Draw a map of every photo; photos that can't be drawn are in the report and in the manifest.

    One photo may go to a file, as `file_format` defines: it replaces an existing file, and there is no manifest.

    Maps that an earlier scoring drew into `out` from the same photos, with the same model and settings, are kept, even
    if that scoring was killed; photos that it could not draw are tried again.

    A TIFF on a disk that becomes a TIFF on a disk is a scene, drawn by `serving.inference.scene.draw_scene`.

    Args:
        model: The bundle, and the origin that rows and report name.
        sources: Photos, as `find_photos` takes them.
        out: The folder of the maps: new, empty, or of an earlier scoring. Or a file.
        settings: By default PNG, with the pixels of the photo.
        variant: The variant of the model; by default the fastest on this machine.
        describe: Writes the files next to the map of a scene.
        progress: Receives the progress of drawing.
        on_outcome: Called with the outcome of each photo.

    Raises:
        StorageError: The storage does not answer, or is full; maps that are drawn are kept by the next run.
        ConfigError: A setting would have no effect.
        NothingDrawn: None of the photos can be drawn.
        DataError: There are no photos, or `out` holds something else.
        BundleError: The model can't be loaded.
    """
    settings, to_file = settings or ScoreSettings(), file_format(out) is not None
    if not out.is_remote and os.path.islink(out.path):
        out = Location(files.follow(out.path))
    tasks = plan_file(find_photos(sources), out, settings) if to_file else _plan_folder(sources, out, settings)
    translator = Translator(model.bundle, variant=variant)
    scorers = make_scorers(translator, settings, origin=model.origin, describe=describe)
    began = time.perf_counter()
    drawn = _report_each(draw_all(scorers, tasks, progress=progress), on_outcome)
    outcomes = list(drawn) if to_file else _record(drawn, out)
    seconds = time.perf_counter() - began
    remove_stale_drafts(tasks, out)
    if not to_file:
        seal(out, (outcome.row for outcome in outcomes))
    manifest = None if to_file else out.join(CSV_FILE)
    use = ModelUse(model.origin, translator.variant, translator.provider)
    return summarise(outcomes, settings=settings, seconds=seconds, out=out, manifest=manifest, use=use)


def summarise(
    outcomes: Sequence[Outcome],
    *,
    settings: ScoreSettings,
    seconds: float,
    out: Location,
    manifest: Location | None,
    use: ModelUse,
) -> ScoreReport:
    """Return the report of all outcomes.

    Raises:
        NothingDrawn: All of them failed.
    """
    rows = sorted((outcome.row for outcome in outcomes), key=lambda row: row.source)
    failed = tuple(Failure(source=row.source, error=row.error) for row in rows if row.error)
    kept = sum(outcome.kept for outcome in outcomes)
    drawn = len(outcomes) - len(failed) - kept
    report = ScoreReport(
        out=str(out),
        manifest=None if manifest is None else str(manifest),
        drawn=drawn,
        kept=kept,
        failed=failed,
        warnings=(
            *dict.fromkeys(_each_warning(outcomes)),
            *_lost_georeferences(outcomes, settings, to_file=manifest is None),
        ),
        model=str(use.origin),
        origin=str(use.origin),
        variant=use.variant,
        provider=use.provider,
        seconds=round(seconds, 3),
        images_per_second=round(drawn / seconds, 2),
    )
    if len(failed) == len(outcomes):
        raise NothingDrawn(report)
    return report


def _plan_folder(sources: Sequence[str], out: Location, settings: ScoreSettings) -> list[Task]:
    photos = find_photos(sources)
    if out.type() == "file":
        raise DataError(f"{out} is a file; name a folder for the maps.")
    return plan(photos, out.absolute(), read_rows(out), settings)


def remove_stale_drafts(tasks: Iterable[Task], out: Location) -> None:
    """Remove the drafts of maps and manifests that killed scorings left behind; servers keep no drafts."""
    if not out.is_remote:
        for folder in {out.absolute().path, *(task.location.path.parent for task in tasks)}:
            files.remove_stale_drafts(folder)


def _report_each(outcomes: Iterable[Outcome], on_outcome: OnOutcome | None) -> Iterator[Outcome]:
    for outcome in outcomes:
        if on_outcome:
            on_outcome(outcome)
        yield outcome


def _record(outcomes: Iterable[Outcome], out: Location) -> list[Outcome]:
    """Add the row of every outcome to the journal of a folder of maps."""
    recorded = []
    with Journal(out) as journal:
        for outcome in outcomes:
            journal.add(outcome.row)
            recorded.append(outcome)
    return recorded


def _each_warning(outcomes: Iterable[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        yield from outcome.warnings


def _lost_georeferences(outcomes: Iterable[Outcome], settings: ScoreSettings, *, to_file: bool) -> tuple[str, ...]:
    """Return a warning if photos have a georeference that their maps do not have."""
    lost = sum(outcome.georeferenced for outcome in outcomes)
    if not lost or settings.format == "tiff":
        return ()
    which, advice = f"{lost} of the photos {'is' if lost == 1 else 'are'}", "use --format tiff"
    if to_file:
        which, advice = "The photo is", "name a .tif file"
    return (
        f"{which} georeferenced, and a {settings.format} map is not; to keep that, and to draw scenes of any size, "
        f"{advice}.",
    )


class Scorers(NamedTuple):
    """The scorers of photos and of scenes."""

    photos: ImageScorer
    scenes: SceneScorer


def make_scorers(
    translator: Translator, settings: ScoreSettings, *, origin: Origin, describe: Describe | None = None
) -> Scorers:
    """Make both scorers with one loaded model."""
    photos = ImageScorer(translator, settings, origin=origin)
    return Scorers(photos, SceneScorer(translator, settings, origin=origin, describe=describe))


def draw_all(scorers: Scorers, tasks: Sequence[Task], *, progress: Progress = SILENT) -> Iterator[Outcome]:
    """Yield the outcome of every task: first of the photos in their order, then of the scenes, one at a time.

    Memory does not grow with their number.

    Raises:
        StorageError: The storage no longer answers, or is full.
    """
    photos = [task for task in tasks if not task.is_scene]
    yield from progress.track(_draw_photos(scorers.photos, photos), "Drawing maps", total=len(photos))
    # Without the photos' queues: a scene takes long, and its outcome is recorded as soon as it is known.
    yield from (scorers.scenes.score(task, progress=progress) for task in tasks if task.is_scene)


def _draw_photos(scorer: ImageScorer, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Read and write in threads; a photo too large for that is read, drawn and written before the next."""
    remote = any(task.photo.location.is_remote or task.location.is_remote for task in tasks)
    threads, ahead = (REMOTE_THREADS, REMOTE_AHEAD) if remote else (THREADS, AHEAD)
    read = partial(scorer.read_ahead, max_pixels=WAITING_PIXELS // ahead)

    def draw(found: ReadPhoto | Outcome | Task) -> DrawnMap | Outcome:
        return scorer.write(scorer.draw(scorer.read(found))) if isinstance(found, Task) else scorer.draw(found)

    with ThreadPoolExecutor(threads, "read") as readers, ThreadPoolExecutor(threads, "write") as writers:
        drawn = map(draw, run_ahead(readers, read, tasks, ahead))
        yield from run_ahead(writers, scorer.write, drawn, ahead)
