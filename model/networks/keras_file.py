"""Keras files of both networks: writing, reading, and running generators."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from model.networks.convolution import double_kernel
from model.networks.pix2pix import build_discriminator, build_generator
from model.networks.train_step import TrainState
from model.pixels import Tensor
from model.spec import NetworkConfig


def use_cpu() -> None:
    """Hide the GPUs from TensorFlow: an export runs once, on a few photos. Call it before any other TensorFlow code."""
    tf.config.set_visible_devices([], "GPU")


def save_untrained(network: NetworkConfig, file: Path) -> None:
    """Write a generator with random weights and normalisation statistics, to be benchmarked."""
    generator = build_generator(network)
    random = np.random.default_rng(0)
    for weight in generator.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(random.normal(0, 0.1, weight.shape))
    generator.save(file)


def plain_networks(state: TrainState, network: NetworkConfig) -> tuple[keras.Model, keras.Model]:
    """Return both trained networks built from Keras' own layers, so that files can be loaded without this project."""
    plain = build_generator(network), build_discriminator(network)
    for one, trained in zip(plain, (state.deployed, state.discriminator), strict=True):
        one.set_weights(trained.get_weights())
    return plain


def load_networks(state: TrainState, network: NetworkConfig, generator: Path, discriminator: Path) -> None:
    """Begin with the weights of Keras files; a network whose file does not exist keeps its own.

    Only weights are read: the networks are those of the settings.
    """
    plain = plain_networks(state, network)
    for one, file in zip(plain, (generator, discriminator), strict=True):
        if file.is_file():
            one.load_weights(file)
    for trained in {id(network): network for network in (state.generator, state.deployed)}.values():
        trained.set_weights(plain[0].get_weights())
    state.discriminator.set_weights(plain[1].get_weights())


def load_generator(file: Path) -> keras.Model:
    """Read a generator for export: with float32 layers, whatever precision it was trained in."""
    trained = keras.saving.load_model(file, compile=False, safe_mode=True)
    config = trained.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    generator = trained.__class__.from_config(config)
    generator.set_weights(trained.get_weights())
    return generator


def fold_upsampling(generator: keras.Model, network: NetworkConfig) -> keras.Model:
    """Return the generator with transposed convolutions only, which draws the same but for rounding.

    Everything that makes exported transposed convolutions fast then serves the upsampling `nearest` as well.
    """
    if network.upsampling == "transposed":
        return generator
    folded = build_generator(network.model_copy(update={"upsampling": "transposed"}))
    for layer in folded.layers:
        weights = generator.get_layer(layer.name).get_weights()
        if isinstance(layer, keras.layers.Conv2DTranspose):
            weights[0] = double_kernel(weights[0]).numpy()
        layer.set_weights(weights)
    return folded


def drawer(generator: keras.Model, *, as_trained: bool = False) -> Callable[[Tensor], Tensor]:
    """Return the generator as a function of float32 (N, S, S, 3) in [-1, 1].

    Args:
        generator: The network.
        as_trained: Use the batch's own statistics and dropout, as in training, instead of running it as deployed.
            Dropout takes its random state from the generator.
    """
    call = tf.function(lambda batch: generator(batch, training=as_trained), autograph=False)
    return lambda batch: np.asarray(call(batch), np.float32)
