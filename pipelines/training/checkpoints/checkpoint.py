"""Checkpoints: the arrays and the loss curve of a training run, sealed by a manifest that is written last."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError
from model.io.files import sha256, write_text
from model.networks.train_step import AVERAGED, TrainState
from pipelines.config.schema import RunConfig
from pipelines.tracking.loss_curve import CURVE, LossCurve
from pipelines.training.checkpoints.checkpoint_manifest import MANIFEST, Manifest, Position, read_manifest

ARRAYS = "state.npz"


def arrays(state: TrainState) -> dict[str, NDArray[Any]]:
    """Read every variable: both networks, both optimizers, random state.

    Call it on every worker: reading a variable may be a collective operation.
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
    """Write the values of all variables and the curve, and then the manifest that seals both."""
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
    """Return the manifest of a checkpoint after checking that its files are intact.

    Raises:
        CheckpointError: It is incomplete or was altered; the message is the reason only.
    """
    manifest = read_manifest(folder)
    if set(manifest.sha256) != {ARRAYS, CURVE}:
        raise CheckpointError("its manifest was written by another version of sat2map")
    for name, expected in manifest.sha256.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{name} is missing")
        if sha256(path) != expected:
            raise CheckpointError(f"the sha256 of {name} does not match")
    return manifest


def restore(folder: Path, state: TrainState, *, config: RunConfig) -> tuple[Position, LossCurve]:
    """Verify a checkpoint and assign its values to `state`.

    The steps of a training by minutes are only returned for the minutes and the decay that they were determined for.

    Raises:
        CheckpointError: It is incomplete, was altered, or belongs to other networks than those of `config`.
    """
    manifest = verify(folder)
    if manifest.config.network != config.network:
        raise CheckpointError(
            f"The checkpoint {folder} has {manifest.config.network!r} and the run requests {config.network!r}; "
            "use the settings that it was trained with."
        )
    with np.load(folder / ARRAYS, allow_pickle=False) as values:
        variables = state.variables()
        names = {name for name in values.files if name in variables or not name.startswith(AVERAGED)}
        # The average of a run that had none begins with the generator.
        missing = {name for name in variables if name.startswith(AVERAGED)} - names
        if names != set(variables) - missing:
            raise CheckpointError(
                f"The checkpoint {folder} was written by another version of sat2map; use that version, or train again."
            )
        for name, variable in variables.items():
            variable.assign(values[name.replace(AVERAGED, "generator", 1) if name in missing else name])
    position, began, now = manifest.position, manifest.config.training, config.training
    if (began.minutes, began.decay) != (now.minutes, now.decay):
        position = position.model_copy(update={"total": None})
    return position, LossCurve.load(folder / CURVE)
