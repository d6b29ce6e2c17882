"""Checks of settings against the pairs, before anything is started for them."""

from itertools import product
from pathlib import Path

from model.errors import ConfigError, DataError
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.training.length import MAX_STEPS, planned_steps


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
    """Check that every candidate of a search makes a valid network.

    Raises:
        ConfigError: One of them does not.
    """
    for width, norm in product(config.tune.width, config.tune.norm):
        try:
            with_settings(config, {"network.width": width, "network.norm": norm})
        except ConfigError as error:
            raise ConfigError(f"A trial can't have width {width} and norm {norm}. {error}") from error
