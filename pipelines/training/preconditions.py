"""Checks of settings against the pairs, before anything is started for them."""

import contextlib
from itertools import product
from pathlib import Path

from model.errors import CheckpointError, ConfigError, DataError
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.config.training_settings import LengthUnit
from pipelines.data.pairs import PairIndex
from pipelines.run_folder import RunFolder
from pipelines.training.checkpoints.checkpoint_manifest import read_manifest
from pipelines.training.length import MAX_STEPS, own_length, planned_steps


def check_steps(config: RunConfig, pairs: PairIndex) -> None:
    """Check that the pairs fill a batch, and that the steps of all epochs can be counted.

    Raises:
        DataError: There are fewer training pairs than one batch needs.
        ConfigError: There are more than MAX_STEPS steps.
    """
    training = config.training
    if len(pairs.train) < training.batch_size:
        raise DataError(
            f"{len(pairs.train)} training pairs don't fill one batch of {training.batch_size}; "
            "lower training.batch_size or add pairs."
        )
    steps = planned_steps(training, len(pairs.train))
    if steps is not None and steps > MAX_STEPS:
        raise ConfigError(
            f"{training.epochs} epochs of {len(pairs.train)} training pairs are {steps} steps, and a training has at "
            f"most {MAX_STEPS}; lower training.epochs."
        )


def local_folders(pairs: PairIndex) -> list[Path]:
    """Return the folders of all pairs that are not at an address."""
    files = (file for pair in pairs.train + pairs.val for file in pair.files)
    return sorted({file.path.parent for file in files if not file.is_remote})


def check_folders(pairs: PairIndex) -> None:
    """Check that the folders of the prepared pairs on this machine still exist, before anything is started.

    Raises:
        DataError: One does not.
    """
    for folder in local_folders(pairs):
        if not folder.is_dir():
            raise DataError(
                f"The folder {folder} of the prepared pairs does not exist here; prepare pairs that do (data.source)."
            )


def check_candidates(config: RunConfig) -> None:
    """Check that every candidate of a search makes a valid network, and that its trials can be compared by epochs.

    Raises:
        ConfigError: One of them does not, or they end after a time.
    """
    if config.training.minutes is not None:
        raise ConfigError(
            "A search compares trials after equal epochs, which training.minutes does not determine; set "
            "training.epochs or training.steps."
        )
    for width, norm in product(config.tune.width, config.tune.norm):
        try:
            with_settings(config, {"network.width": width, "network.norm": norm})
        except ConfigError as error:
            raise ConfigError(f"A trial can't have width {width} and norm {norm}. {error}") from error


def check_unfinished(folder: RunFolder, config: RunConfig) -> None:
    """Check that a run that is to be resumed has something left to do.

    Raises:
        ConfigError: It is a search, has finished, or has trained for longer than the settings request.
    """
    if folder.is_search():
        raise ConfigError(
            f"Run {folder.run_id} is a search; continue it or see its trials with: "
            f"{folder.command('tune --resume', folder.run_id)}"
        )
    asked = config.training
    setting, length = own_length(asked)
    done = _done(folder, setting)
    if length < done:
        raise ConfigError(
            f"Run {folder.run_id} has trained in {done:g} {setting} already, more than training.{setting}={length:g}; "
            f"set it to at least {done:g}."
        )
    if not folder.record_file.is_file():
        return
    finished = folder.record().config.training
    unit, trained = own_length(finished)
    if unit == setting and length <= trained and asked.result == finished.result:
        longer = f"training.{setting}={2 * finished.length[1]:g}"
        more = folder.command("train --resume", folder.run_id, "--set", longer)
        raise ConfigError(
            f"Run {folder.run_id} has finished its {finished.length_text()}; to train it further, raise "
            f"training.{setting}, for instance with: {more}"
        )


def _done(folder: RunFolder, unit: LengthUnit) -> float:
    """Return what the newest readable checkpoint of a run has done: epochs begun, steps, or full minutes."""
    for checkpoint in sorted(folder.checkpoints.glob("step-????????"), reverse=True):
        with contextlib.suppress(CheckpointError):
            position = read_manifest(checkpoint).position
            done: dict[LengthUnit, float] = {
                "epochs": position.begun,
                "steps": position.step,
                "minutes": position.seconds // 60,
            }
            return done[unit]
    return 0
