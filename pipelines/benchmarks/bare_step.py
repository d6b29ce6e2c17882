"""Timing of the training step without Ray, MLflow or data: `python -m pipelines.benchmarks.bare_step CONFIG STEPS`."""

import json
import statistics
import sys
import time
from pathlib import Path

import keras
import tensorflow as tf

from model.networks.train_step import Objective, build_state, stack_losses, train_step
from pipelines.config.loading import load
from pipelines.config.schema import RunConfig

WARM_UP = 2
"""Steps before those that are timed."""


def step_seconds(config: RunConfig, steps: int) -> float:
    """Return the median time of a step of both networks and optimizers on random pairs, on one worker's threads."""
    training, side = config.training, config.network.image_size
    tf.config.threading.set_intra_op_parallelism_threads(training.cpus_per_worker)
    tf.config.threading.set_inter_op_parallelism_threads(training.cpus_per_worker)
    keras.config.set_dtype_policy(training.precision)
    state = build_state(config.network, learning_rate=training.learning_rate, beta_1=training.beta_1, seed=config.seed)
    step = tf.function(
        lambda *pair: stack_losses(
            train_step(state, *pair, objective=Objective(training.l1_weight), global_batch=training.batch_size)
        )
    )
    pair = [tf.random.uniform((training.batch_size, side, side, 3), -1, 1) for _ in range(2)]
    seconds = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        # Read a loss, to wait for the end of the step on a GPU.
        float(step(*pair)[0])
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[WARM_UP:])


if __name__ == "__main__":
    config = load(Path(sys.argv[1]))
    median = step_seconds(config, int(sys.argv[2]))
    print(json.dumps({"step_seconds": median, "images_per_second": config.training.batch_size / median}))
