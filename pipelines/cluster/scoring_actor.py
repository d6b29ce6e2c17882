"""An actor that draws maps on some node of a Ray cluster, and what the driver and it tell each other."""

import platform
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import ray

from model.bundle import Bundle, BundleManifest, OpenedModel, Origin, variant_file
from model.errors import Sat2mapError, StorageError
from model.io.locations import Location
from model.spec import Frozen
from model.translator import Translator
from pipelines.cluster import environment
from serving.scoring.image_scorer import Outcome, ScoreSettings, Task
from serving.scoring.manifest import Journal
from serving.scoring.scene_products import describer
from serving.scoring.scorer import Scorers, draw_all, make_scorers


class ScoringJob(Frozen):
    """What every actor is told before it begins."""

    manifest: BundleManifest
    variant: str
    origin: Origin
    settings: ScoreSettings
    out: Location
    mark: Location
    """A file in `out` that the driver has just written."""
    photos: tuple[Location, ...]
    """Some that the driver sees, one of each folder on a disk."""


class Batch(Frozen):
    """Photos to draw."""

    tasks: tuple[Task, ...]


class Answer(Frozen):
    """What became of a batch."""

    outcomes: tuple[Outcome, ...] = ()
    stopped: str = ""
    """Why no photo at all can be drawn there."""
    fault: str = ""
    """The trace of an error that is no user's."""
    provider: str = ""
    seconds: float = 0.0


class Drawer:
    """An actor of the pool."""

    def __init__(self, job: ScoringJob, threads: int, settings: Any, content: Any) -> None:  # noqa: ANN401 - Ray's references
        """Take what the driver was handed for places and storage; the model is loaded with the first batch.

        `content` is that of the variant's file: a node need not see the driver's folder.
        """
        environment.discard()
        environment.apply(ray.get(settings))
        self._job, self._threads, self._content = job, threads, content
        self._ready: Ready | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Draw a batch; what concerns more than a photo is told, for an error would be the loss of this batch alone."""
        try:
            answer = self._draw(Batch.model_validate_json(row["batch"]))
        except Sat2mapError as error:
            answer = Answer(stopped=f"On node {platform.node()}: {error}")
        except Exception:
            answer = Answer(fault=traceback.format_exc())
        return {"answer": answer.model_dump_json()}

    def _draw(self, batch: Batch) -> Answer:
        if self._ready is None:
            self._ready = _get_ready(self._job, self._threads, ray.get(self._content))
        began, outcomes = time.perf_counter(), []
        for outcome in draw_all(self._ready.scorers, batch.tasks):
            # Noted here as well: a driver that is killed loses none.
            self._ready.journal.add(outcome.row)
            outcomes.append(outcome)
        seconds = time.perf_counter() - began
        return Answer(outcomes=tuple(outcomes), provider=self._ready.translator.provider, seconds=seconds)


class Ready(NamedTuple):
    """What an actor has once it has seen that it can draw."""

    translator: Translator
    scorers: Scorers
    journal: Journal


def _get_ready(job: ScoringJob, threads: int, content: bytes) -> Ready:
    """Load the model, after a look at what other nodes may not see as the driver does.

    Raises:
        PlaceError: The folder of maps, or of photos, is another one here, or can't be written to.
        BundleError: The model can't be loaded.
    """
    for needed in (job.mark, *job.photos):
        if needed.type() != "file":
            raise StorageError(
                f"{needed} is missing, though the driver sees it; photos and maps must lie on storage that every node "
                "sees under the same path, or at an address."
            )
    # Once it is loaded, the model's file is not looked at again.
    with tempfile.TemporaryDirectory(prefix="sat2map-") as name:
        bundle = Bundle(Path(name), job.manifest)
        (bundle.folder / variant_file(job.variant)).write_bytes(content)
        translator = Translator(bundle, variant=job.variant, threads=threads)
    describe = describer(OpenedModel(bundle, job.origin))
    scorers = make_scorers(translator, job.settings, origin=job.origin, describe=describe)
    return Ready(translator, scorers, Journal(job.out))
