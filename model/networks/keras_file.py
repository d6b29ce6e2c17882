"""Keras files of trained generators: read, run, and made of random weights."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from model.networks.pix2pix import build_generator
from model.pixels import Tensor
from model.spec import NetworkConfig


def use_cpu() -> None:
    """Leave GPUs to others: an export runs once, on a handful of photos. Call it before anything else."""
    tf.config.set_visible_devices([], "GPU")


def save_untrained(network: NetworkConfig, file: Path) -> None:
    """Write a generator with random weights and normalisation statistics, for those who only time it."""
    generator = build_generator(network)
    random = np.random.default_rng(0)
    for weight in generator.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(random.normal(0, 0.1, weight.shape))
    generator.save(file)


def load_generator(file: Path) -> keras.Model:
    """Read a generator with float32 layers, whatever precision it was trained in: that is what is exported."""
    trained = keras.saving.load_model(file, compile=False, safe_mode=True)
    config = trained.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    generator = trained.__class__.from_config(config)
    generator.set_weights(trained.get_weights())
    return generator


def drawer(generator: keras.Model, *, as_trained: bool = False) -> Callable[[Tensor], Tensor]:
    """Return the generator as a function of float32 (N, S, S, 3) in [-1, 1].

    Args:
        generator: The network.
        as_trained: Normalise with the batch's own statistics and drop out, as in training; else as it is deployed. The
            random state of the dropout is the generator's own.
    """
    call = tf.function(lambda batch: generator(batch, training=as_trained))
    return lambda batch: np.asarray(call(batch), np.float32)
