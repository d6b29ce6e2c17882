"""Photos and scenes -> a folder of maps and its manifest; photos are read, and maps written, while others are drawn."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from model.bundle import OpenedModel, Origin
from model.errors import DataError
from model.io.locations import Location
from model.io.prefetch import run_ahead
from model.io.progress import track
from model.spec import Frozen
from model.translator import Translator
from serving.encoding import SUFFIXES
from serving.scoring.image_scorer import ImageScorer, Outcome, ReadPhoto, ScoreSettings, Task, check_settings, plan
from serving.scoring.manifest import CSV_FILE, Journal, Row, read_rows, seal
from serving.scoring.scene_scorer import Describe, SceneScorer
from serving.scoring.sources import Photo, find_photos

THREADS, AHEAD = 2, 4
"""Threads that read, and as many that write; photos, and maps, that may wait for the next step: memory is theirs."""
REMOTE_THREADS, REMOTE_AHEAD = 8, 16
"""The same where a server is waited for."""


class Failure(Frozen):
    """A photo that has no map, and why."""

    source: str
    error: str


class ScoreReport(Frozen):
    """What a scoring did."""

    out: str
    manifest: str | None
    """Of a folder of maps; its rows say more. None where a single map went to a file."""
    drawn: int
    """Maps drawn now."""
    kept: int
    """Maps that were there already, of the same photo, model and settings."""
    failed: tuple[Failure, ...]
    model: str
    variant: str
    provider: str
    seconds: float
    """From the first photo to the last map, without what comes before and after."""
    images_per_second: float
    """Of those drawn now."""


def score(
    model: OpenedModel,
    sources: Sequence[str],
    out: Location,
    *,
    settings: ScoreSettings | None = None,
    variant: str | None = None,
    describe: Describe | None = None,
) -> ScoreReport:
    """Draw a map of every photo; one that can't be drawn is told on stderr and in the manifest, and the rest is drawn.

    One photo may go to a file, `is_file_name(out)`: it is drawn whatever is there, and no manifest is written.

    What an earlier scoring into `out` drew of the same photos, with the same model and settings, is kept, whether that
    was killed or came to its end; what it could not draw is tried again.

    A TIFF on a disk that becomes a TIFF on a disk is a scene: it is drawn by `serving.inference.scene.draw_scene`.

    Args:
        model: The bundle, and the origin that rows and report name.
        sources: Photos, as `find_photos` takes them.
        out: The folder of the maps, a path or an address: new, empty, or of an earlier scoring. Or a file.
        settings: By default PNG, a pixel of the photo to a pixel of the map.
        variant: Which of the model's files; by default the fastest here.
        describe: Writes what goes beside the map of a scene.

    Raises:
        PlaceError: A place does not answer, or is full; what was drawn counts in the next run.
        ConfigError: A setting would do nothing.
        DataError: There are no photos, none can be drawn, or `out` holds something else.
        BundleError: The model can't be loaded.
    """
    settings = settings or ScoreSettings()
    photos = find_photos(sources)
    if alone := is_file_name(out):
        tasks = [_single(photos, out)]
        check_settings(tasks, settings)
    else:
        tasks = plan(photos, out.absolute(), _earlier(out), settings)
    translator = Translator(model.bundle, variant=variant)
    scorers = make_scorers(translator, settings, origin=model.origin, describe=describe)
    began = time.perf_counter()
    drawn = draw_all(scorers, tasks)
    outcomes = _draw_one(drawn) if alone else _note_each(drawn, out)
    seconds = time.perf_counter() - began
    if not alone:
        seal(out, (outcome.row for outcome in outcomes))
    warn_lost_georeference(outcomes, settings)
    return summarise(
        outcomes,
        seconds=seconds,
        out=str(out),
        manifest=None if alone else str(out.join(CSV_FILE)),
        model=str(model.origin),
        variant=translator.variant,
        provider=translator.provider,
    )


def summarise(outcomes: Sequence[Outcome], *, seconds: float, **known: str | None) -> ScoreReport:
    """Count what became of all photos; `known` are the other fields of the report.

    Raises:
        DataError: None could be drawn.
    """
    rows = sorted((outcome.row for outcome in outcomes), key=lambda row: row.source)
    failed = tuple(Failure(source=row.source, error=row.error) for row in rows if row.error)
    if len(failed) == len(outcomes):
        reasons = "\n".join(f"  {failure.source}: {failure.error}" for failure in failed[:20])
        raise DataError(f"None of the photos can be drawn ({len(outcomes)}):\n{reasons}")
    kept = sum(outcome.kept for outcome in outcomes)
    drawn = len(outcomes) - len(failed) - kept
    rate = round(drawn / seconds, 2)
    counted = {"drawn": drawn, "kept": kept, "failed": failed, "seconds": round(seconds, 3), "images_per_second": rate}
    return ScoreReport.model_validate(known | counted)


def is_file_name(out: Location) -> bool:
    """Return whether maps go to a file, by its suffix, and not to a folder."""
    return out.name_path.suffix.lower() in SUFFIXES and out.type() != "folder"


def _single(photos: list[Photo], out: Location) -> Task:
    if len(photos) > 1:
        raise DataError(f"{len(photos)} photos can't go to the file {out}; name a folder for their maps.")
    location = out.absolute()
    if location == photos[0].location:
        raise DataError(f"The map of {location} would replace it; name another file.")
    return Task(photos[0], location, location.name_path.name)


def _earlier(out: Location) -> list[Row]:
    if out.type() == "file":
        raise DataError(f"{out} is a file; name a folder for the maps.")
    return read_rows(out)


def _draw_one(drawn: Iterable[Outcome]) -> list[Outcome]:
    """Draw a single map; why there is none is told by the error of `summarise`."""
    outcomes = list(drawn)
    for outcome in outcomes:
        _warn(outcome)
    return outcomes


def _note_each(drawn: Iterable[Outcome], out: Location) -> list[Outcome]:
    """Note the row of every map that is drawn into a folder, and tell on stderr what there is to tell."""
    outcomes = []
    with Journal(out) as journal:
        for outcome in drawn:
            print_outcome(outcome)
            journal.add(outcome.row)
            outcomes.append(outcome)
    return outcomes


def print_outcome(outcome: Outcome) -> None:
    """Say on stderr why a photo has no map, or what is odd about its map."""
    if outcome.row.error:
        print(f"{outcome.row.source}: {outcome.row.error}", file=sys.stderr)
    _warn(outcome)


def _warn(outcome: Outcome) -> None:
    for warning in outcome.warnings:
        print(f"Warning: {warning}", file=sys.stderr)


def warn_lost_georeference(outcomes: Iterable[Outcome], settings: ScoreSettings) -> None:
    """Say on stderr how many photos had a georeference that their maps have not."""
    lost = sum(outcome.georeferenced for outcome in outcomes)
    if lost and settings.format != "tiff":
        are = "is" if lost == 1 else "are"
        print(
            f"Warning: {lost} of the photos {are} georeferenced, and a {settings.format} map is not; to keep that, and "
            "to draw scenes of any size, take --format tiff.",
            file=sys.stderr,
        )


class Scorers(NamedTuple):
    """What draws photos, and what draws scenes."""

    photos: ImageScorer
    scenes: SceneScorer


def make_scorers(
    translator: Translator, settings: ScoreSettings, *, origin: Origin, describe: Describe | None = None
) -> Scorers:
    """Make both scorers with one loaded model."""
    photos = ImageScorer(translator, settings, origin=origin)
    return Scorers(photos, SceneScorer(translator, settings, origin=origin, describe=describe))


def draw_all(scorers: Scorers, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Yield the outcome of every task: of photos in their order, then of scenes, one at a time.

    Memory does not grow with their number. A bar on stderr shows how it goes.

    Raises:
        PlaceError: A place does not answer any more, or is full.
    """
    photos = [task for task in tasks if not task.is_scene]
    yield from track(_draw_photos(scorers.photos, photos), "Drawing maps", total=len(photos))
    # Not behind the others' queue: a scene takes long, and what is done by then must be noted.
    yield from (scorers.scenes.score(task) for task in tasks if task.is_scene)


def _draw_photos(scorer: ImageScorer, tasks: Sequence[Task]) -> Iterator[Outcome]:
    remote = any(task.photo.location.is_remote or task.location.is_remote for task in tasks)
    threads, ahead = (REMOTE_THREADS, REMOTE_AHEAD) if remote else (THREADS, AHEAD)
    with ThreadPoolExecutor(threads, "read") as readers, ThreadPoolExecutor(threads, "write") as writers:
        read = run_ahead(readers, scorer.read, tasks, ahead)
        drawn = (scorer.draw(photo) if isinstance(photo, ReadPhoto) else photo for photo in read)
        yield from run_ahead(writers, scorer.write, drawn, ahead)
