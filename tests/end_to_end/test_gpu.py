"""Tests that need an NVIDIA GPU: `pytest -m gpu`. They have never been run, for lack of one."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.networks.layers import FastConv2D
from model.networks.train_step import Objective, build_state, stack_losses, train_step
from model.spec import NetworkConfig

GPUS = tf.config.list_physical_devices("GPU")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="no GPU on this machine")]


def losses_of(steps, *, device, jit=False):
    """Train a small network for some steps on one device; return the losses of each."""
    random = np.random.default_rng(0)
    with tf.device(device):
        network = NetworkConfig(image_size=64, width=8, depth=5, dropout=0)
        state = build_state(network, learning_rate=2e-4, beta_1=0.5, seed=0)
        step = tf.function(
            lambda *pair: stack_losses(train_step(state, *pair, objective=Objective(100.0), global_batch=4)),
            jit_compile=jit,
        )
        pairs = [tf.constant(random.uniform(-1, 1, (2, 4, 64, 64, 3)), tf.float32) for _ in range(steps)]
        return np.array([step(*pair).numpy() for pair in pairs])


def test_networks_on_a_gpu_use_keras_own_layers():
    state = build_state(NetworkConfig(image_size=32, width=2, depth=3), learning_rate=1e-3, beta_1=0.5, seed=0)
    assert not any(isinstance(layer, FastConv2D) for layer in state.generator.layers)


@pytest.mark.parametrize("jit", [False, True])
def test_gpu_trains_like_the_cpu_with_and_without_xla(jit):
    expected = losses_of(5, device="CPU:0")
    np.testing.assert_allclose(losses_of(5, device="GPU:0", jit=jit), expected, rtol=2e-2)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_matches_float32_after_fifty_steps(precision):
    expected = losses_of(50, device="GPU:0")
    keras.config.set_dtype_policy(precision)
    try:
        found = losses_of(50, device="GPU:0")
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(found[-10:].mean(axis=0), expected[-10:].mean(axis=0), rtol=0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_worker_trains_on_its_own_gpu(prepared, workers):
    if len(GPUS) < workers:
        pytest.skip(f"only {len(GPUS)} GPUs on this machine")
    done = prepared.sat2map("train", "--set", f"training.gpu=true training.workers={workers} training.epochs=2")
    assert done.returncode == 0, done.stderr


def test_memory_is_allocated_as_needed(prepared):
    code = (
        "import tensorflow as tf\n"
        "from pipelines.config.loading import RunConfig\n"
        "from pipelines.training.worker import _set_up_devices\n"
        "_set_up_devices(RunConfig(), threads=1)\n"
        "tf.zeros(1) + 1\n"
        "assert tf.config.experimental.get_memory_growth(tf.config.list_physical_devices('GPU')[0])\n"
        "assert tf.config.experimental.get_memory_info('GPU:0')['current'] < 1 << 28\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=prepared.folder)
