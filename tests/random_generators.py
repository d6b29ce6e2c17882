"""Generators as `export` converts them, with random weights that make every part of them count."""

import gc
from functools import cache

import numpy as np
import onnx

from model.spec import NetworkConfig, signature


@cache
def converted(network: NetworkConfig, seed: int = 0) -> bytes:
    """Return the ONNX file of a generator: norms with factors of both signs and zero, values of about one."""
    from model.networks.pix2pix import build_generator
    from pipelines.export.conversion import to_onnx

    generator, random = build_generator(network), np.random.default_rng(seed)
    for layer in generator.layers:
        shapes = [weight.shape for weight in layer.get_weights()]
        if "norm" in layer.name:
            scale = random.choice([-1, 1], shapes[0]) * random.uniform(0.3, 1.5, shapes[0])
            if len(scale) > 2:
                scale[1] = 0
            statistics = [random.normal(0, 0.3, shapes[0]), random.uniform(0.2, 2, shapes[0])]
            layer.set_weights([scale, random.normal(0, 0.3, shapes[0]), *statistics][: len(shapes)])
        elif shapes:
            inputs = shapes[0][2] * 16 if layer.name.startswith("down") else shapes[0][3] * 4
            kernel = random.normal(0, inputs**-0.5, shapes[0])
            layer.set_weights([kernel, *(random.normal(0, 0.3, shape) for shape in shapes[1:])])
    content = to_onnx(generator, signature(network)).SerializeToString()
    # tf2onnx leaves gigabytes in cycles.
    del generator
    gc.collect()
    return content


def plain(network: NetworkConfig, seed: int = 0) -> onnx.ModelProto:
    """Return the model that `converted` makes."""
    return onnx.load_model_from_string(converted(network, seed))


def photos(network: NetworkConfig, count: int = 2, seed: int = 0) -> np.ndarray:
    """Return smooth random photos on pixel levels, float32 (count, S, S, 3) in [-1, 1]."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, network.image_size // 8, network.image_size // 8, 3))
    smooth = coarse.repeat(8, axis=1).repeat(8, axis=2) + random.integers(-9, 10, (count, *[network.image_size] * 2, 3))
    return np.clip(smooth, 0, 255).astype(np.float32) / np.float32(127.5) - np.float32(1)
