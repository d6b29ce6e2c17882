"""The two networks of Pix2Pix (Isola et al. 2017): a U-Net generator and a PatchGAN discriminator."""

import keras
from keras import layers

from model.networks.convolution import KERNEL
from model.networks.layers import KERAS, LayerSet, Operation
from model.spec import NetworkConfig

SLOPE = 0.2
DROPPED_LEVELS = 3


def build_generator(network: NetworkConfig, *, seed: int = 0, layer_set: LayerSet = KERAS) -> keras.Model:
    """Build the U-Net: (N, S, S, 3) in [-1, 1] -> (N, S, S, 3) in [-1, 1], S = image_size.

    Each encoder level halves the image. Each decoder level doubles it and is concatenated with the encoder level of
    the same size. The innermost feature map is image_size / 2 ** depth pixels wide.
    """
    weights = _Initialisers(seed)
    widths = network.level_widths()
    photo = x = layers.Input((network.image_size, network.image_size, 3), name="input")
    skips = []
    for level, filters in enumerate(widths):
        x = layer_set.conv2d(
            filters, KERNEL, 2, "same", use_bias=False, kernel_initializer=weights.next(), name=f"down{level}"
        )(x)
        x = layers.LeakyReLU(SLOPE, name=f"down{level}_leaky")(x)
        x = _norm(network, layer_set, name=f"down{level}_norm")(x)
        skips.append(x)
    for number, (filters, skip) in enumerate(zip(widths[-2::-1], skips[-2::-1], strict=True)):
        name = f"up{network.depth - 1 - number}"
        x = _double(network, layer_set, filters, weights, use_bias=False, name=name)(x)
        x = _norm(network, layer_set, name=f"{name}_norm")(x)
        if number < DROPPED_LEVELS:
            x = layers.Dropout(network.dropout, seed=weights.next_seed(), name=f"{name}_dropout")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.Concatenate(name=f"{name}_skip")([x, skip])
    x = _double(network, layer_set, 3, weights, use_bias=True, name="up0")(x)
    # The output is float32 whatever the precision of the layers.
    drawn = layers.Activation("tanh", dtype="float32", name="output")(x)
    return keras.Model(photo, drawn, name="generator")


def build_discriminator(network: NetworkConfig, *, seed: int = 0, layer_set: LayerSet = KERAS) -> keras.Model:
    """Build the PatchGAN: photo and map, each (N, S, S, 3) in [-1, 1] -> logits (N, P, P, 1), one per patch.

    P is 14 at image_size 256. A positive logit means that the patch looks like a real map of that photo.
    """
    weights = _Initialisers(seed + 1)
    shape = (network.image_size, network.image_size, 3)
    photo, street_map = layers.Input(shape, name="source"), layers.Input(shape, name="target")
    x = layers.Concatenate(name="pair")([photo, street_map])
    for level in range(4):
        filters = min(network.width * 2**level, network.width * 8)
        x = layer_set.conv2d(
            filters, KERNEL, 2, "same", use_bias=False, kernel_initializer=weights.next(), name=f"down{level}"
        )(x)
        x = layers.LeakyReLU(SLOPE, name=f"down{level}_leaky")(x)
        x = _norm(network, layer_set, name=f"down{level}_norm")(x)
    # Below 64 pixels, a padding of 1 would leave an image smaller than the kernel for the last two convolutions.
    x = layers.ZeroPadding2D(1 if network.image_size >= 64 else 2, name="pad")(x)
    x = layer_set.conv2d(
        network.width * 8, KERNEL, 1, use_bias=False, kernel_initializer=weights.next(), name="same_size"
    )(x)
    x = _norm(network, layer_set, name="same_size_norm")(x)
    x = layers.LeakyReLU(SLOPE, name="same_size_leaky")(x)
    x = layers.ZeroPadding2D(1 if network.image_size >= 64 else 2, name="pad_logits")(x)
    logits = layers.Conv2D(1, KERNEL, 1, kernel_initializer=weights.next(), name="patches")(x)
    return keras.Model([photo, street_map], layers.Activation("linear", dtype="float32", name="logits")(logits))


def _double(
    network: NetworkConfig, layer_set: LayerSet, filters: int, weights: "_Initialisers", *, use_bias: bool, name: str
) -> Operation:
    """Return the layer of a decoder level that doubles the image."""
    options = {"use_bias": use_bias, "kernel_initializer": weights.next(), "name": name}
    if network.upsampling == "nearest":
        return layer_set.double(filters, **options)
    layer: Operation = layer_set.conv2d_transpose(filters, KERNEL, 2, "same", **options)
    return layer


def _norm(network: NetworkConfig, layer_set: LayerSet, *, name: str) -> layers.Layer:
    if network.norm == "instance":
        # Group normalisation with one group per channel is instance normalisation (Wu & He 2018, section 3.1).
        return layer_set.instance_normalization(groups=-1, name=name)
    if network.norm == "sync_batch":
        return layers.BatchNormalization(synchronized=True, name=name)
    return layer_set.batch_normalization(name=name)


class _Initialisers:
    """N(0, 0.02) initialisers (Isola et al. 2017, section 6.2), each with its own seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed * 1000

    def next_seed(self) -> int:
        self._seed += 1
        return self._seed

    def next(self) -> keras.initializers.Initializer:
        return keras.initializers.RandomNormal(0.0, 0.02, seed=self.next_seed())
