"""The actor that draws maps on a node of a Ray cluster, and the messages between it and the driver."""

import platform
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import ray

from model.bundle import Bundle, BundleManifest, OpenedModel, Origin, variant_file
from model.errors import Sat2mapError, StorageError
from model.io.files import scratch_folder
from model.io.locations import Location
from model.spec import Frozen
from model.translator import Translator
from pipelines.cluster import environment
from serving.scoring.manifest import Journal
from serving.scoring.scene_products import describer
from serving.scoring.scorer import Scorers, draw_all, make_scorers, remove_stale_drafts
from serving.scoring.tasks import Outcome, ScoreSettings, Task


class ScoringJob(Frozen):
    """The arguments that all actors of a scoring share."""

    manifest: BundleManifest
    variant: str
    origin: Origin
    settings: ScoreSettings
    out: Location
    mark: Location
    """A file in `out` that the driver has just written."""
    photos: tuple[Location, ...]
    """Photos that the driver sees, one in each folder on a disk."""


class Batch(Frozen):
    """Photos to draw."""

    tasks: tuple[Task, ...]


class Answer(Frozen):
    """The result of a batch."""

    outcomes: tuple[Outcome, ...] = ()
    stopped: str = ""
    """The reason why no photo can be drawn on this node."""
    fault: str = ""
    """The traceback of an unexpected error."""
    provider: str = ""
    seconds: float = 0.0


class ScoringActor:
    """An actor of the pool."""

    def __init__(self, job: ScoringJob, threads: int, settings: Any, content: Any) -> None:  # noqa: ANN401 - Ray's references
        """Take over the driver's environment for storage; the model is loaded with the first batch.

        Args:
            job: The arguments of the scoring.
            threads: Number of threads that draw.
            settings: A reference to the driver's environment variables.
            content: A reference to the content of the model file, as a node need not see the driver's folder.
        """
        environment.apply(ray.get(settings))
        self._job, self._threads, self._content = job, threads, content
        self._ready: Ready | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Draw a batch. Errors are part of the answer: Ray Data would drop the batch if they were raised."""
        try:
            answer = self._draw(Batch.model_validate_json(row["batch"]))
        except Sat2mapError as error:
            answer = Answer(stopped=f"On node {platform.node()}: {error}")
        except Exception:
            answer = Answer(fault=traceback.format_exc())
        return {"answer": answer.model_dump_json()}

    def _draw(self, batch: Batch) -> Answer:
        if self._ready is None:
            self._ready = _prepare(self._job, self._threads, ray.get(self._content))
            # Only on this node is it known which processes of this node have ended.
            remove_stale_drafts(batch.tasks, self._job.out)
        began, outcomes = time.perf_counter(), []
        for outcome in draw_all(self._ready.scorers, batch.tasks):
            # Journalled here too, so that no row is lost if the driver is killed.
            self._ready.journal.add(outcome.row)
            outcomes.append(outcome)
        seconds = time.perf_counter() - began
        return Answer(outcomes=tuple(outcomes), provider=self._ready.translator.provider, seconds=seconds)


class Ready(NamedTuple):
    """The loaded model, its scorers and the journal of an actor that can draw."""

    translator: Translator
    scorers: Scorers
    journal: Journal


def _prepare(job: ScoringJob, threads: int, content: bytes) -> Ready:
    """Check that this node sees the driver's files, and load the model.

    Raises:
        StorageError: The folder of maps, or of photos, is a different one here, or can't be written to.
        BundleError: The model can't be loaded.
    """
    for needed in (job.mark, *job.photos):
        if needed.type() != "file":
            raise StorageError(
                f"{needed} is missing, though the driver sees it; photos and maps must lie on storage that every node "
                "sees under the same path, or at an address."
            )
    # The file is not needed once the model is loaded.
    with scratch_folder() as name:
        bundle = Bundle(Path(name), job.manifest)
        (bundle.folder / variant_file(job.variant)).write_bytes(content)
        translator = Translator(bundle, variant=job.variant, threads=threads)
    describe = describer(OpenedModel(bundle, job.origin), job.settings.style)
    scorers = make_scorers(translator, job.settings, origin=job.origin, describe=describe)
    return Ready(translator, scorers, Journal(job.out))
