"""The record that a finished training leaves in the folder of its run."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from model.bundle import Lineage
from model.errors import MissingStepError
from model.spec import Frozen
from pipelines.config.schema import RunConfig

Record = TypeVar("Record", bound=Frozen)


class RunRecord(Frozen):
    """Record of a run whose training has ended."""

    run_id: str
    """Id of the MLflow run."""
    config: RunConfig
    steps: int
    seconds: float
    """Seconds from the end of the first step, which traces the graph, to the end of the last, since the last start."""
    images_per_second: float
    resumed_after: int = 0
    """Steps that were done before the last start."""
    generator_sha256: str = ""
    """sha256 of the trained generator's file; empty in records of version 0.2.0 and earlier."""
    discriminator_sha256: str = ""
    """sha256 of the trained discriminator's file; empty in records of version 0.2.0 and earlier."""
    started_from: Lineage | None = None
    """The model that the training began with; null if it began with random weights."""


def read(kind: type[Record], file: Path) -> Record:
    """Read a file that a training has written.

    Raises:
        FileNotFoundError: There is no such file.
        MissingStepError: It is incompatible with this version.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise MissingStepError(f"{file} is incompatible with this version of sat2map; run `train` again.") from error
