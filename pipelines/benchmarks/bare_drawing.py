"""One model file drawing alone: `python -m pipelines.benchmarks.bare_drawing FILE PROVIDER BATCH SECONDS` times it.

FILE is an ONNX file, run by PROVIDER of onnxruntime, or a Keras file, run by TensorFlow.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.providers import open_session

WARM_UP = 3


def images_per_second(draw: Callable[[], Any], batch: int, seconds: float) -> float:
    """Draw a batch again and again for so long, after some that are not counted; at least three times."""
    for _ in range(WARM_UP):
        draw()
    began, batches = time.perf_counter(), 0
    while batches < WARM_UP or time.perf_counter() - began < seconds:
        draw()
        batches += 1
    return batches * batch / (time.perf_counter() - began)


def drawing(file: Path, provider: str, batch: int) -> Callable[[], Any]:
    """Return what draws one batch of random photos with a model file."""
    random = np.random.default_rng(0)
    if file.suffix == ".keras":
        from model.networks import keras_file

        keras_file.use_cpu()
        generator = keras_file.load_generator(file)
        photos = random.uniform(-1, 1, (batch, *generator.input_shape[1:])).astype(np.float32)
        call = keras_file.drawer(generator)
        return lambda: call(photos)
    session = open_session(file, provider)
    [given] = session.get_inputs()
    shape = (batch, *given.shape[1:])
    if given.type == "tensor(uint8)":
        images = random.integers(0, 256, shape, np.uint8)
    else:
        images = random.uniform(-1, 1, shape).astype(np.float32)
    return lambda: session.run(None, {given.name: images})


if __name__ == "__main__":
    name, asked, size, length = sys.argv[1:]
    found = images_per_second(drawing(Path(name), asked, int(size)), int(size), float(length))
    print(json.dumps({"images_per_second": found}))
