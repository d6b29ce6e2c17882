"""Save and restore a TrainState: one array file, sealed by a manifest that is written last."""

from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from model.errors import CheckpointError
from model.files import sha256, write_text
from model.spec import Frozen, NetworkConfig
from model.step import TrainState

ARRAYS = "state.npz"
MANIFEST = "checkpoint.json"


class Position(Frozen):
    """How far a training is."""

    epoch: int = Field(ge=0)
    """Finished epochs."""
    step: int = Field(ge=0)
    """Finished steps."""


class Manifest(Frozen):
    """What a checkpoint holds; a checkpoint without it was never finished."""

    position: Position
    network: NetworkConfig
    sha256: str
    """Of the array file."""


def save(folder: Path, state: TrainState, *, position: Position, network: NetworkConfig) -> None:
    """Write every variable of `state` and then the manifest into `folder`."""
    arrays = {name: np.asarray(variable.value) for name, variable in state.variables().items()}
    np.savez(folder / ARRAYS, allow_pickle=False, **arrays)
    manifest = Manifest(position=position, network=network, sha256=sha256(folder / ARRAYS))
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2))


def restore(folder: Path, state: TrainState, *, network: NetworkConfig) -> Position:
    """Put a checkpoint's values into `state`.

    Raises:
        CheckpointError: It is unfinished, altered, or of other networks than `network`.
    """
    manifest = _read_manifest(folder)
    if manifest.network != network:
        raise CheckpointError(
            f"The checkpoint {folder} is of {manifest.network!r} and the run asks for {network!r}; "
            "use the settings that it was trained with."
        )
    if not (folder / ARRAYS).is_file() or sha256(folder / ARRAYS) != manifest.sha256:
        raise CheckpointError(f"{folder / ARRAYS} is missing or not what was saved (sha256); use another checkpoint.")
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        variables = state.variables()
        if set(arrays.files) != set(variables):
            raise CheckpointError(f"{folder} was written by another version of sat2map; train again, or go back to it.")
        for name, variable in variables.items():
            variable.assign(arrays[name])
    return manifest.position


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} holds no finished checkpoint ({MANIFEST} is missing).") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} can't be read; use another checkpoint.") from error
