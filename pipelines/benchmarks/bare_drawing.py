"""Timing of one model file: `python -m pipelines.benchmarks.bare_drawing FILE PROVIDER BATCH SECONDS`.

FILE is an ONNX file, run by PROVIDER of onnxruntime, or a Keras file, run by TensorFlow.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.providers import open_session

WARM_UP = 3
"""Batches before those that are timed, and the least number of timed ones."""


def images_per_second(draw: Callable[[], object], batch: int, seconds: float) -> float:
    """Draw a batch repeatedly for this time, after a warm-up; return the speed."""
    for _ in range(WARM_UP):
        draw()
    began, batches = time.perf_counter(), 0
    while batches < WARM_UP or time.perf_counter() - began < seconds:
        draw()
        batches += 1
    return batches * batch / (time.perf_counter() - began)


def drawing(file: Path, provider: str, batch: int) -> Callable[[], object]:
    """Return a function that draws one batch of random photos with a model file."""
    random = np.random.default_rng(0)
    if file.suffix == ".keras":
        from model.networks import keras_file

        keras_file.use_cpu()
        generator = keras_file.load_generator(file)
        photos = random.uniform(-1, 1, (batch, *generator.input_shape[1:])).astype(np.float32)
        call = keras_file.drawer(generator)
        return lambda: call(photos)
    session = open_session(file, provider)
    [tensor] = session.get_inputs()
    shape = (batch, *tensor.shape[1:])
    if tensor.type == "tensor(uint8)":
        images = random.integers(0, 256, shape, np.uint8)
    else:
        images = random.uniform(-1, 1, shape).astype(np.float32)
    return lambda: session.run(None, {tensor.name: images})


if __name__ == "__main__":
    file, provider, batch, seconds = sys.argv[1:]
    speed = images_per_second(drawing(Path(file), provider, int(batch)), int(batch), float(seconds))
    print(json.dumps({"images_per_second": speed}))
