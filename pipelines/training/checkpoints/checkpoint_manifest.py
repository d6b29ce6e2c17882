"""Manifests of checkpoints: the position of the training, and the hashes of the other files."""

from pathlib import Path

from pydantic import Field, ValidationError

from model.errors import CheckpointError
from model.spec import Frozen
from pipelines.config.schema import RunConfig

MANIFEST = "checkpoint.json"


class Position(Frozen):
    """Progress of a training run."""

    epoch: int = Field(ge=0)
    """Finished epochs."""
    step: int = Field(ge=0)
    """Finished steps."""
    seen: int = Field(default=0, ge=0)
    """Pairs of the running epoch that were trained on; their order follows from the seed and the epoch's number."""
    seconds: float = Field(default=0, ge=0)
    """Time of the training so far; 0 in checkpoints of version 0.2.0 and earlier."""
    total: int | None = None
    """Steps of a training by minutes, once they are known."""

    @property
    def begun(self) -> int:
        """Number of epochs that have begun."""
        return self.epoch + (self.seen > 0)


class Manifest(Frozen):
    """Contents of a checkpoint; a checkpoint without a manifest is incomplete."""

    position: Position
    config: RunConfig
    code_revision: str
    scores: dict[str, float]
    """The generator's scores on held-out pairs, by name."""
    sha256: dict[str, str]
    """sha256 of every other file, by name."""


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint, without checking the other files.

    Raises:
        CheckpointError: It is missing or can't be read.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"it is incomplete ({MANIFEST} is missing)") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{MANIFEST} can't be read") from error
