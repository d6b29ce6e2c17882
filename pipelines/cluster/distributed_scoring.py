"""Photos -> maps on a Ray cluster: Ray Data hands them in batches to a pool of actors, each with the model loaded."""

import contextlib
import logging
import math
import os
import sys
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.data import ActorPoolStrategy, DataContext, from_items
from ray.exceptions import RayError

from model.bundle import Bundle, OpenedModel
from model.errors import ClusterError, ConfigError, DataError, StorageError
from model.io.locations import Location
from model.io.progress import track
from model.translator import Translator
from pipelines.cluster import environment, resources
from pipelines.cluster.scoring_actor import Answer, Batch, Drawer, ScoringJob
from serving.scoring.image_scorer import Outcome, ScoreSettings, Task, plan
from serving.scoring.manifest import CSV_FILE, JOURNAL_FOLDER, read_rows, seal
from serving.scoring.scorer import (
    ScoreReport,
    is_file_name,
    print_outcome,
    summarise,
    warn_lost_georeference,
)
from serving.scoring.sources import find_photos

BATCH = 16
"""Photos that an actor is handed at once, and that are drawn again if it is lost."""
BATCHES_EACH = 8
"""Batches for each actor at the least, where there are photos enough, so that all come to their end together."""
TRIES = 3
"""How often in a row the actors may be lost without a photo drawn."""
CPUS_EACH = 4
"""An actor's CPUs unless told otherwise: a convolution's speed grows slower than their number."""


class Pool(NamedTuple):
    """How many actors draw, and the CPUs of each."""

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
) -> ScoreReport:
    """Do what `serving.scoring.scorer.score` does for a folder of maps, with a pool of actors over a Ray cluster.

    Maps and manifest are the same, but for the milliseconds. What was in work where an actor or a node is lost is drawn
    again; an actor is started anew as soon as the cluster has room for it, and the others go on in the meantime. One
    actor draws a scene; if it is lost, another goes on from the last strip.

    Args:
        model: The bundle, which is sent to every node, and its origin.
        sources: Photos, as `find_photos` takes them.
        out: The folder of the maps, a path that every node sees or an address.
        settings: As for `score`.
        variant: Which of the model's files; by default the fastest on the driver's machine, for all actors.
        actors: By default as many as the cluster has room for.
        cpus: Of each actor, which draws with so many threads; by default 4, or fewer if that makes room for `actors`.

    Raises:
        ConfigError: The cluster has no room for the actors, or a setting would do nothing.
        PlaceError: A place does not answer, is full, or is not seen by a node; what was drawn counts in the next run.
        ClusterError: The actors were lost again and again, and drew nothing in the meantime.
        DataError: There are no photos, none can be drawn, or `out` holds something else.
        BundleError: The model can't be loaded.
    """
    settings, out = settings or ScoreSettings(), out.absolute()
    if is_file_name(out) or out.type() == "file":
        raise DataError(f"{out} is a file, and a cluster draws into a folder; name one for the maps.")
    tasks = plan(find_photos(sources), out, read_rows(out), settings)
    # Loaded here too: what is wrong with the model is told at once, and all actors take the same variant.
    bundle = model.bundle
    variant = Translator(bundle, variant=variant).variant
    with _hushed(), resources.joined():
        pool = size_pool([int(node.get("CPU", 0)) for node in resources.nodes()], actors=actors, cpus=cpus)
        job = ScoringJob(
            manifest=bundle.manifest,
            variant=variant,
            origin=model.origin,
            settings=settings,
            out=out,
            mark=_leave_mark(out),
            photos=_one_of_each_folder(tasks),
        )
        drawn = _collect(draw_in_pool(job, bundle, tasks, pool), total=len(tasks))
    seal(out, (outcome.row for outcome in drawn.outcomes))
    warn_lost_georeference(drawn.outcomes, settings)
    made_by = {"model": str(model.origin), "variant": variant, "provider": drawn.provider}
    return summarise(drawn.outcomes, seconds=drawn.seconds, out=str(out), manifest=str(out.join(CSV_FILE)), **made_by)


def size_pool(nodes: Sequence[int], *, actors: int | None, cpus: int | None) -> Pool:
    """Decide on the pool for nodes with so many CPUs; an actor must fit on one of them.

    Raises:
        ConfigError: There is no room for the actors.
    """
    largest = max(nodes, default=0)
    each = cpus or (resources.share(nodes, actors) if actors else max(1, min(CPUS_EACH, largest)))
    room = sum(node // each for node in nodes)
    if room < (actors or 1):
        raise ConfigError(
            f"The nodes of the cluster have {', '.join(map(str, nodes)) or 'no'} CPUs: room for {room} of "
            f"{actors or 1} actors that take {each} each; lower --actors or --cpus-per-actor."
        )
    return Pool(actors or room, each)


def draw_in_pool(job: ScoringJob, bundle: Bundle, tasks: Sequence[Task], pool: Pool) -> Iterator[Answer]:
    """Yield what becomes of the photos, each once, in the order in which they are drawn.

    Batches that were lost with an actor are drawn again when all others are done. An actor that can't be reached loses
    one after the other, until Ray knows of it.

    Raises:
        PlaceError: An actor can't reach or see the photos or `job.out`, or can't write there.
        ClusterError: What was lost is lost again and again, and nothing else is left to draw.
    """
    content = bundle.verified(job.variant).read_bytes()
    handed = ray.put(environment.capture(os.environ)), ray.put(content)
    missing = {str(task.photo.location): task for task in tasks}
    in_vain, reason = 0, "the actors ended without a word, as if they were out of memory"
    while missing:
        before = len(missing)
        try:
            for answer in _run_pool((job, pool.cpus, *handed), list(missing.values()), pool):
                if answer.stopped:
                    raise StorageError(answer.stopped)
                if answer.fault:
                    raise RuntimeError(f"An actor met a fault of ours:\n{answer.fault}")
                for outcome in answer.outcomes:
                    del missing[outcome.row.source]
                yield answer
        except RayError as error:
            reason = " ".join(str(error).split())[-300:]
        in_vain = in_vain + 1 if len(missing) == before else 0
        if in_vain == TRIES:
            raise ClusterError(
                f"{before} photos can't be drawn on this cluster, {min(missing)} for one: {reason}. Run the same again "
                "to go on; more CPUs for each actor leave each more of a node's memory."
            )
        if missing:
            print(f"Actors were lost; {len(missing)} photos go to others.", file=sys.stderr)


def _run_pool(told: tuple[Any, ...], tasks: list[Task], pool: Pool) -> Iterator[Answer]:
    """Make a pool of `Drawer`s, and yield the answers to batches; those to batches lost with an actor are missing."""
    batches = _make_batches(tasks, pool)
    with warnings.catch_warnings():
        # Ray Data warns of itself, and of `ray_remote_args_fn`, beside which it has no way to say this (Ray 2.60).
        warnings.simplefilter("ignore", DeprecationWarning)
        _set_up_ray_data()
        rows = from_items([{"batch": batch.model_dump_json()} for batch in batches], override_num_blocks=len(batches))
        answers = rows.map(
            Drawer,  # type: ignore[arg-type] # Ray's types know no classes
            fn_constructor_args=told,
            compute=ActorPoolStrategy(size=min(pool.actors, len(batches))),
            num_cpus=pool.cpus,
            ray_remote_args_fn=_restart_without_retries,
        )
    # Each as it comes: what Ray Data fetches ahead, it holds back.
    for block in answers.iter_batches(batch_size=None, prefetch_batches=0):
        for answer in block["answer"]:
            yield Answer.model_validate_json(answer)


def _make_batches(tasks: list[Task], pool: Pool) -> list[Batch]:
    """Let scenes go first and alone, for they take longest, and photos by the dozen."""
    photos = [task for task in tasks if not task.is_scene]
    # The last few one by one: a photo that is too much for the memory of an actor takes no other along.
    size = min(BATCH, max(1, len(photos) // (pool.actors * BATCHES_EACH)))
    parts = [[task] for task in tasks if task.is_scene]
    parts += [photos[start : start + size] for start in range(0, len(photos), size)]
    return [Batch(tasks=tuple(part)) for part in parts]


def _set_up_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    # A batch that is lost with its actor is no reason to stop.
    context.max_errored_blocks = -1
    # Ray Data logs to a file of its session as well. Handlers of others on its logger are none of ours.
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("ray."):
            handler.setLevel(logging.CRITICAL)


def _restart_without_retries() -> dict[str, int]:
    """Let Ray start a lost actor anew where there is room, and give up its batch: it would wait for this very actor."""
    return {"max_restarts": -1, "max_task_retries": 0}


class Drawn(NamedTuple):
    """What the pool has made."""

    outcomes: list[Outcome]
    provider: str
    seconds: float


def _collect(answers: Iterator[Answer], *, total: int) -> Drawn:
    """Show how it goes, tell on stderr what there is to tell, and return it all, sorted by photo."""
    outcomes, providers = [], set()
    began, ended = math.inf, 0.0
    pairs = ((answer, outcome) for answer in answers for outcome in answer.outcomes)
    for answer, outcome in track(pairs, "Drawing maps", total=total):
        ended = time.perf_counter()
        # The start of actors does not count; clocks of nodes are not compared. Right to the 0.2 s that an answer takes.
        began = min(began, ended - answer.seconds)
        providers.add(answer.provider)
        print_outcome(outcome)
        outcomes.append(outcome)
    outcomes.sort(key=lambda outcome: outcome.row.source)
    return Drawn(outcomes, ", ".join(sorted(providers)), ended - began)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Drop what Ray prints on stdout and its C++ core on file descriptor 2, of lost nodes for instance, pages of it."""
    sys.stderr.flush()
    real = os.dup(2)
    with open(os.devnull, "w") as nowhere, open(os.dup(2), "w", buffering=1) as stderr:
        os.dup2(nowhere.fileno(), 2)
        try:
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(stderr):
                yield
        finally:
            os.dup2(real, 2)
            os.close(real)


def _leave_mark(out: Location) -> Location:
    """Write a file that the actors look for; it is removed with the journal, which holds no row for it."""
    mark = out.join(JOURNAL_FOLDER, f"{uuid.uuid4().hex}.mark")
    mark.write_bytes(b"\n")
    return mark


def _one_of_each_folder(tasks: Sequence[Task]) -> tuple[Location, ...]:
    """Choose local photos that the actors look for; an address that can't be reached is reported when it is read."""
    chosen: dict[Path, Location] = {}
    for photo in (task.photo.location for task in tasks if not task.photo.location.is_remote):
        if photo.path.parent not in chosen and photo.type() == "file":
            chosen[photo.path.parent] = photo
    return tuple(chosen.values())
