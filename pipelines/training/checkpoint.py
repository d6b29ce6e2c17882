"""Save and restore all that a training is: arrays and loss curve, sealed by a manifest that is written last."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from model.errors import CheckpointError
from model.io.files import sha256, write_text
from model.networks.train_step import TrainState
from model.spec import Frozen, NetworkConfig
from pipelines.config.schema import RunConfig
from pipelines.tracking.loss_curve import CURVE, LossCurve

ARRAYS = "state.npz"
MANIFEST = "checkpoint.json"


class Position(Frozen):
    """How far a training is."""

    epoch: int = Field(ge=0)
    """Finished epochs."""
    step: int = Field(ge=0)
    """Finished steps."""
    seen: int = Field(default=0, ge=0)
    """Pairs of the running epoch that are done; its order follows from the seed and the epoch's number."""


class Manifest(Frozen):
    """What a checkpoint holds; a checkpoint without it was never finished."""

    position: Position
    config: RunConfig
    code_revision: str
    scores: dict[str, float]
    """Of the generator on held-out pairs, by name."""
    sha256: dict[str, str]
    """Of every other file."""


def arrays(state: TrainState) -> dict[str, NDArray[Any]]:
    """Read every variable: both networks, both optimizers, random state.

    Every worker calls it, for reading a variable may be a conversation of all.
    """
    return {name: np.asarray(variable.value) for name, variable in state.variables().items()}


def save(
    folder: Path,
    values: dict[str, NDArray[Any]],
    curve: LossCurve,
    *,
    position: Position,
    config: RunConfig,
    code_revision: str,
    scores: dict[str, float],
) -> None:
    """Write the values of all variables, the curve, and then the manifest that seals both."""
    np.savez(folder / ARRAYS, allow_pickle=False, **values)
    curve.save(folder / CURVE)
    manifest = Manifest(
        position=position,
        config=config,
        code_revision=code_revision,
        scores=scores,
        sha256={name: sha256(folder / name) for name in (ARRAYS, CURVE)},
    )
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2))


def verify(folder: Path) -> Manifest:
    """Return the manifest of a checkpoint whose files are all what was saved.

    Raises:
        CheckpointError: It is unfinished or altered; the message is the reason alone.
    """
    manifest = read_manifest(folder)
    if set(manifest.sha256) != {ARRAYS, CURVE}:
        raise CheckpointError("its manifest is of another version of sat2map")
    for name, expected in manifest.sha256.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{name} is missing")
        if sha256(path) != expected:
            raise CheckpointError(f"{name} is not what was saved (sha256)")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read what a checkpoint says of itself.

    Raises:
        CheckpointError: It was never finished, or its manifest can't be read.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"it was never finished ({MANIFEST} is missing)") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{MANIFEST} can't be read") from error


def restore(folder: Path, state: TrainState, *, network: NetworkConfig) -> tuple[Position, LossCurve]:
    """Put a verified checkpoint's values into `state`.

    Raises:
        CheckpointError: It is unfinished, altered, or of other networks than `network`.
    """
    manifest = verify(folder)
    if manifest.config.network != network:
        raise CheckpointError(
            f"The checkpoint {folder} is of {manifest.config.network!r} and the run asks for {network!r}; "
            "use the settings that it was trained with."
        )
    with np.load(folder / ARRAYS, allow_pickle=False) as values:
        variables = state.variables()
        if set(values.files) != set(variables):
            raise CheckpointError(f"{folder} was written by another version of sat2map; train again, or go back to it.")
        for name, variable in variables.items():
            variable.assign(values[name])
    return manifest.position, LossCurve.load(folder / CURVE)
