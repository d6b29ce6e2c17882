"""Photos -> a folder of maps and its manifest: photos are read and maps are written while others are drawn."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

from model import places
from model.bundle import Bundle
from model.errors import DataError
from model.progress import track
from model.spec import Frozen
from model.translator import Translator
from serving.encoding import SUFFIXES
from serving.image_scorer import ImageScorer, Outcome, ReadPhoto, ScoreSettings, Task, plan
from serving.score_manifest import CSV_FILE, Journal, Row, read_rows, seal
from serving.sources import Photo, find_photos

THREADS, AHEAD = 2, 4
"""Threads that read, and as many that write; photos, and maps, that may wait for the next step: memory is theirs."""
REMOTE_THREADS, REMOTE_AHEAD = 8, 16
"""The same where a server is waited for."""

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    bundle: Bundle,
    sources: Sequence[str],
    out: str,
    *,
    settings: ScoreSettings | None = None,
    variant: str | None = None,
    model: str | None = None,
) -> ScoreReport:
    """Draw a map of every photo; one that can't be drawn is told on stderr and in the manifest, and the rest is drawn.

    One photo may go to a file, `is_file_name(out)`: it is drawn whatever is there, and no manifest is written.

    What an earlier scoring into `out` drew of the same photos, with the same model and settings, is kept, whether that
    was killed or came to its end; what it could not draw is tried again.

    Args:
        bundle: The model.
        sources: Photos, as `find_photos` takes them.
        out: The folder of the maps, a path or an address: new, empty, or of an earlier scoring. Or a file.
        settings: By default PNG, a pixel of the photo to a pixel of the map.
        variant: Which of the model's files; by default the fastest here.
        model: What the manifest says of where the model comes from; by default its run.

    Raises:
        PlaceError: A place does not answer, or is full; what was drawn counts in the next run.
        DataError: There are no photos, none can be drawn, or `out` holds something else.
        BundleError: The model can't be loaded.
    """
    settings, out = settings or ScoreSettings(), places.locate(out)
    photos = find_photos(sources)
    if alone := is_file_name(out):
        tasks = [_single(photos, out)]
    else:
        tasks = plan(photos, places.absolute(out), _earlier(out), settings)
    translator = Translator(bundle, variant=variant)
    scorer = ImageScorer(translator, settings, model=model)
    began = time.perf_counter()
    outcomes = list(draw_all(scorer, tasks)) if alone else _draw_into(out, scorer, tasks)
    seconds = time.perf_counter() - began
    if not alone:
        seal(out, (row for row, _ in outcomes))
    return summarise(
        outcomes,
        seconds=seconds,
        out=out,
        manifest=None if alone else places.inside(out, CSV_FILE),
        model=scorer.model,
        variant=translator.variant,
        provider=translator.provider,
    )


def summarise(outcomes: Sequence[Outcome], *, seconds: float, **known: str | None) -> ScoreReport:
    """Count what became of all photos; `known` are the other fields of the report.

    Raises:
        DataError: None could be drawn.
    """
    failed = tuple(Failure(source=row.source, error=row.error) for row, _ in outcomes if row.error)
    if len(failed) == len(outcomes):
        reasons = "\n".join(f"  {failure.source}: {failure.error}" for failure in failed[:20])
        raise DataError(f"None of the photos can be drawn ({len(outcomes)}):\n{reasons}")
    kept = sum(kept for _, kept in outcomes)
    drawn = len(outcomes) - len(failed) - kept
    rate = round(drawn / seconds, 2)
    counted = {"drawn": drawn, "kept": kept, "failed": failed, "seconds": round(seconds, 3), "images_per_second": rate}
    return ScoreReport.model_validate(known | counted)


def is_file_name(out: str) -> bool:
    """Tell whether maps go to a file, by its suffix, and not to a folder."""
    place = places.locate(out)
    return places.as_path(place).suffix.lower() in SUFFIXES and places.kind(place) != "folder"


def _single(photos: list[Photo], out: str) -> Task:
    if len(photos) > 1:
        raise DataError(f"{len(photos)} photos can't go to the file {out}; name a folder for their maps.")
    place = places.absolute(out)
    if place == photos[0].place:
        raise DataError(f"The map of {place} would take its place; name another file.")
    return Task(photos[0], place, places.as_path(place).name)


def _earlier(out: str) -> list[Row]:
    if places.kind(out) == "file":
        raise DataError(f"{out} is a file; name a folder for the maps.")
    return read_rows(out)


def _draw_into(out: str, scorer: ImageScorer, tasks: list[Task]) -> list[Outcome]:
    """Draw maps into a folder; tell on stderr what can't be drawn, and note every row."""
    outcomes = []
    with Journal(out) as journal:
        for outcome in track(draw_all(scorer, tasks), "Drawing maps", total=len(tasks)):
            if outcome.row.error:
                print(f"{outcome.row.source}: {outcome.row.error}", file=sys.stderr)
            journal.add(outcome.row)
            outcomes.append(outcome)
    return outcomes


def draw_all(scorer: ImageScorer, tasks: list[Task]) -> Iterator[Outcome]:
    """Yield the outcome of every task, in their order; memory does not grow with their number.

    Raises:
        PlaceError: A place does not answer any more, or is full.
    """
    remote = any(places.is_remote(place) for task in tasks for place in (task.photo.place, task.place))
    threads, ahead = (REMOTE_THREADS, REMOTE_AHEAD) if remote else (THREADS, AHEAD)
    with ThreadPoolExecutor(threads, "read") as readers, ThreadPoolExecutor(threads, "write") as writers:
        read = _run_ahead(readers, scorer.read, tasks, ahead)
        drawn = (scorer.draw(photo) if isinstance(photo, ReadPhoto) else photo for photo in read)
        yield from _run_ahead(writers, scorer.write, drawn, ahead)


def _run_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield results in order while up to `ahead` more items are in work or wait."""
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
