"""Scoring on a Ray cluster: Ray Data sends batches of photos to a pool of actors, each with the model loaded."""

import contextlib
import logging
import math
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.data import ActorPoolStrategy, DataContext, from_items
from ray.exceptions import RayError

from model.bundle import Bundle, OpenedModel
from model.errors import ClusterError, ConfigError, DataError, StorageError
from model.io.locations import Location
from model.io.progress import SILENT, Progress, quiet_stderr
from model.translator import Translator
from pipelines.cluster import environment, resources
from pipelines.cluster.scoring_actor import Answer, Batch, ScoringActor, ScoringJob
from serving.scoring.manifest import CSV_FILE, JOURNAL_FOLDER, read_rows, seal
from serving.scoring.scorer import ModelUse, OnOutcome, ScoreReport, remove_stale_drafts, summarise
from serving.scoring.sources import find_photos
from serving.scoring.targets import file_format
from serving.scoring.tasks import Outcome, ScoreSettings, Task, plan

BATCH = 16
"""Maximum number of photos in a batch, which is drawn again if its actor is lost."""
BATCHES_PER_ACTOR = 8
"""Minimum number of batches per actor, if there are enough photos, so that all actors finish at about the same time."""
TRIES = 3
"""Number of times in a row that actors may be lost before a photo is drawn."""
CPUS_PER_ACTOR = 4
"""Default CPUs of an actor: a convolution's speed grows more slowly than their number."""

OnLost = Callable[[int], None]
"""Called when actors are lost, with the number of photos that other actors will draw."""


class Pool(NamedTuple):
    """The number of actors, and the CPUs of each."""

    actors: int
    cpus: int


def score_distributed(
    model: OpenedModel,
    sources: Sequence[str],
    out: Location,
    *,
    settings: ScoreSettings | None = None,
    variant: str | None = None,
    actors: int | None = None,
    cpus: int | None = None,
    progress: Progress = SILENT,
    on_outcome: OnOutcome | None = None,
    on_lost: OnLost | None = None,
) -> ScoreReport:
    """Score like `serving.scoring.scorer.score` into a folder of maps, with a pool of actors on a Ray cluster.

    Maps and manifest are the same, except for the milliseconds. Batches that are lost with an actor or a node are drawn
    again; Ray starts a new actor as soon as the cluster has room for it, and the others continue. One actor draws a
    scene; if it is lost, another resumes after the last strip.

    Args:
        model: The bundle, which is sent to every node, and its origin.
        sources: Photos, as `find_photos` takes them.
        out: The folder of the maps, a path that every node sees or an address.
        settings: As for `score`.
        variant: The variant of the model for all actors; by default the fastest on the driver's machine.
        actors: Number of actors; by default as many as the cluster has room for.
        cpus: CPUs and threads of each actor; by default 4, or fewer if that makes room for `actors`.
        progress: Receives the progress of drawing.
        on_outcome: Called with the outcome of each photo.
        on_lost: Called when actors are lost.

    Raises:
        ConfigError: The cluster has no room for the actors, or a setting would have no effect.
        StorageError: The storage does not answer, is full, or a node does not see it; maps that are drawn are kept by
            the next run.
        ClusterError: The actors were lost again and again, and drew nothing in between.
        NothingDrawn: None of the photos can be drawn.
        DataError: There are no photos, or `out` holds something else.
        BundleError: The model can't be loaded.
    """
    settings, out = settings or ScoreSettings(), out.absolute()
    if file_format(out) or out.type() == "file":
        raise DataError(f"{out} is a file, but a cluster draws into a folder; name a folder for the maps.")
    tasks = plan(find_photos(sources), out, read_rows(out), settings)
    # Loaded here too, so that errors of the model come at once, and all actors use the same variant.
    variant = Translator(model.bundle, variant=variant).variant
    with _quiet_ray(), resources.joined():
        pool = size_pool([int(node.get("CPU", 0)) for node in resources.nodes()], actors=actors, cpus=cpus)
        job = _make_job(model, variant, settings, out, tasks)
        answers = draw_in_pool(job, model.bundle, tasks, pool, on_lost=on_lost)
        drawn = _collect(answers, on_outcome, progress=progress, total=len(tasks))
    outcomes, use = drawn.outcomes, ModelUse(model.origin, variant, drawn.provider)
    remove_stale_drafts(tasks, out)
    seal(out, (outcome.row for outcome in outcomes))
    manifest = out.join(CSV_FILE)
    return summarise(outcomes, settings=settings, seconds=drawn.seconds, out=out, manifest=manifest, use=use)


def _make_job(
    model: OpenedModel, variant: str, settings: ScoreSettings, out: Location, tasks: Sequence[Task]
) -> ScoringJob:
    return ScoringJob(
        manifest=model.bundle.manifest,
        variant=variant,
        origin=model.origin,
        settings=settings,
        out=out,
        mark=_write_mark(out),
        photos=_one_of_each_folder(tasks),
    )


def size_pool(nodes: Sequence[int], *, actors: int | None, cpus: int | None) -> Pool:
    """Choose the pool for the CPUs of each node; an actor must fit on one node.

    Raises:
        ConfigError: There is no room for the actors.
    """
    largest = max(nodes, default=0)
    per_actor = cpus or (resources.share(nodes, actors) if actors else max(1, min(CPUS_PER_ACTOR, largest)))
    room = sum(node // per_actor for node in nodes)
    if room < (actors or 1):
        raise ConfigError(
            f"The nodes of the cluster have {', '.join(map(str, nodes)) or 'no'} CPUs: room for {room} of "
            f"{actors or 1} actors that take {per_actor} each; lower --actors or --cpus-per-actor."
        )
    return Pool(actors or room, per_actor)


def draw_in_pool(
    job: ScoringJob, bundle: Bundle, tasks: Sequence[Task], pool: Pool, *, on_lost: OnLost | None = None
) -> Iterator[Answer]:
    """Yield the answers for all tasks, each task once, in the order in which they are drawn.

    Batches that are lost with an actor are drawn again when all others are done. An actor that can't be reached loses
    one batch after the other, until Ray notices.

    Raises:
        StorageError: An actor can't reach or see the photos or `job.out`, or can't write there.
        ClusterError: The lost batches are lost again and again, and nothing else is left to draw.
    """
    shared = _Shared(ray.put(environment.capture(os.environ)), ray.put(bundle.verified(job.variant).read_bytes()))
    missing = {str(task.photo.location): task for task in tasks}
    failures, reason = 0, "the actors ended without a message, as if they ran out of memory"
    while missing:
        before = len(missing)
        try:
            for answer in _run_pool(job, list(missing.values()), pool, shared):
                if answer.stopped:
                    raise StorageError(answer.stopped)
                if answer.fault:
                    raise RuntimeError(f"An actor met an unexpected error:\n{answer.fault}")
                for outcome in answer.outcomes:
                    del missing[outcome.row.source]
                yield answer
        except RayError as error:
            reason = " ".join(str(error).split())[-300:]
        failures = failures + 1 if len(missing) == before else 0
        if failures == TRIES:
            raise ClusterError(
                f"{before} photos can't be drawn on this cluster, for example {min(missing)}: {reason}. Run the same "
                "command again to continue; more CPUs for each actor leave each more of a node's memory."
            )
        if missing and on_lost:
            on_lost(len(missing))


class _Shared(NamedTuple):
    """Ray's references to the arguments that are too large to send with each actor."""

    environment: Any
    content: Any


def _run_pool(job: ScoringJob, tasks: list[Task], pool: Pool, shared: _Shared) -> Iterator[Answer]:
    """Start a pool of actors, and yield their answers; there are none for batches lost with an actor."""
    batches = _make_batches(tasks, pool)
    with warnings.catch_warnings():
        # Ray Data warns of its own code, and of `ray_remote_args_fn`, which has no alternative here (Ray 2.60).
        warnings.simplefilter("ignore", DeprecationWarning)
        _set_up_ray_data()
        rows = from_items([{"batch": batch.model_dump_json()} for batch in batches], override_num_blocks=len(batches))
        answers = rows.map(
            ScoringActor,  # type: ignore[arg-type] # Ray's types know no classes
            fn_constructor_args=(job, pool.cpus, *shared),
            compute=ActorPoolStrategy(size=min(pool.actors, len(batches))),
            num_cpus=pool.cpus,
            ray_remote_args_fn=_restart_without_retries,
        )
    # Without prefetching, which would hold answers back.
    for block in answers.iter_batches(batch_size=None, prefetch_batches=0):
        for answer in block["answer"]:
            yield Answer.model_validate_json(answer)


def _make_batches(tasks: list[Task], pool: Pool) -> list[Batch]:
    """Make batches of photos, and before them one batch per scene, as scenes take longest."""
    photos = [task for task in tasks if not task.is_scene]
    # The last few photos go one by one, so that one that exceeds the memory of an actor does not take others along.
    size = min(BATCH, max(1, len(photos) // (pool.actors * BATCHES_PER_ACTOR)))
    parts = [[task] for task in tasks if task.is_scene]
    parts += [photos[start : start + size] for start in range(0, len(photos), size)]
    return [Batch(tasks=tuple(part)) for part in parts]


def _set_up_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    # Continue when a batch is lost with its actor.
    context.max_errored_blocks = -1
    # Ray Data logs to a file of its session as well. Handlers that others added to its logger are left alone.
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("ray."):
            handler.setLevel(logging.CRITICAL)


def _restart_without_retries() -> dict[str, int]:
    """Return options to restart a lost actor where there is room, and to drop its batch, which would wait for it."""
    return {"max_restarts": -1, "max_task_retries": 0}


class Drawn(NamedTuple):
    """The outcomes of a pool, sorted by photo."""

    outcomes: list[Outcome]
    provider: str
    seconds: float


def _collect(answers: Iterator[Answer], on_outcome: OnOutcome | None, *, progress: Progress, total: int) -> Drawn:
    """Collect all outcomes, and report each as it comes."""
    outcomes, providers = [], set()
    began, ended = math.inf, 0.0
    pairs = ((answer, outcome) for answer in answers for outcome in answer.outcomes)
    for answer, outcome in progress.track(pairs, "Drawing maps", total=total):
        ended = time.perf_counter()
        # Without the start of the actors, and without comparing clocks of nodes. Exact to the 0.2 s of an answer.
        began = min(began, ended - answer.seconds)
        providers.add(answer.provider)
        if on_outcome:
            on_outcome(outcome)
        outcomes.append(outcome)
    outcomes.sort(key=lambda outcome: outcome.row.source)
    return Drawn(outcomes, ", ".join(sorted(providers)), ended - began)


@contextlib.contextmanager
def _quiet_ray() -> Iterator[None]:
    """Discard what Ray prints on stdout, and what its C++ core writes to file descriptor 2: pages about lost nodes."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        with quiet_stderr(show_on_error=False, keep_python=True):
            yield


def _write_mark(out: Location) -> Location:
    """Write a file that the actors look for; it is removed with the journal, which holds no row for it."""
    mark = out.join(JOURNAL_FOLDER, f"{uuid.uuid4().hex}.mark")
    mark.write_bytes(b"\n")
    return mark


def _one_of_each_folder(tasks: Sequence[Task]) -> tuple[Location, ...]:
    """Choose local photos that the actors look for; an address that can't be reached is reported when it is read."""
    chosen: dict[Path, Location] = {}
    for photo in (task.photo.location for task in tasks if not task.photo.location.is_remote):
        # A file that can't be reached is a row, like one that can't be read.
        if photo.path.parent not in chosen and os.path.isfile(photo.path):
            chosen[photo.path.parent] = photo
    return tuple(chosen.values())
