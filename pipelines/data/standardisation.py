"""Means and deviations of the training pairs' channels, by which the discriminator's input is standardised."""

import json
from collections.abc import Sequence

import numpy as np

from model.io.files import write_text
from model.io.progress import track
from model.pixels import to_tensor
from model.spec import Standardisation
from pipelines.config.schema import RunConfig
from pipelines.data.dataset import load
from pipelines.data.pairs import Pair
from pipelines.run_folder import RunFolder

LEAST = 2 / 255
"""Least deviation, one level: channels of one value would be divided by zero."""


def of_run(config: RunConfig, pairs: Sequence[Pair], folder: RunFolder) -> Standardisation | None:
    """Return means and deviations of the training pairs if the settings need them, and write them into the run."""
    if not (config.training.standardise and config.training.adversarial_weight):
        return None
    found = measure(pairs, config)
    write_text(folder.channels_file, json.dumps(found._asdict(), indent=2))
    return found


def measure(pairs: Sequence[Pair], config: RunConfig) -> Standardisation:
    """Return the mean and the deviation of each channel of sources and targets, over all pixels."""
    sums, squares = np.zeros(6), np.zeros(6)
    for pair in track(pairs, "Reading training pairs"):
        source, target = load(pair, side=config.network.image_size, direction=config.data.direction)
        levels = to_tensor(np.concatenate([source, target], axis=-1)).astype(np.float64)
        sums += levels.mean(axis=(0, 1))
        squares += (levels**2).mean(axis=(0, 1))
    means = sums / len(pairs)
    deviations = np.maximum(np.sqrt(np.maximum(squares / len(pairs) - means**2, 0)), LEAST)
    return Standardisation(tuple(means.tolist()), tuple(deviations.tolist()))
