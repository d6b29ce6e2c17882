"""Ray: join the cluster that is there, or start one of this machine, and share it out to the workers."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import ray
from ray.train import ScalingConfig

from model.errors import ConfigError
from pipelines.config import TrainingConfig

OBJECT_STORE_BYTES = 256 << 20
"""Batches are made in the workers, so that Ray's object store carries little but the sheets."""


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names or that runs here already; start one of this machine otherwise."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**quiet)
    else:
        # Ray's HTTP agents then listen on this machine alone; its gRPC servers know no such setting (Ray 2.60).
        quiet |= {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
        ray.init(address="local", object_store_memory=OBJECT_STORE_BYTES, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def cpus() -> int:
    """Return the CPUs of the cluster."""
    return int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]


def scaling(training: TrainingConfig) -> ScalingConfig:
    """Share the cluster out to the workers.

    Raises:
        ConfigError: It has too few CPUs or GPUs for them.
    """
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    if training.gpu and gpus < training.workers:
        raise ConfigError(
            f"{training.workers} GPU workers were asked for and the cluster has {gpus} GPUs; "
            "lower training.workers or set training.gpu=false."
        )
    each = training.cpus_per_worker or max(1, cpus // training.workers)
    if each * training.workers > cpus:
        raise ConfigError(
            f"{training.workers} workers with {each} CPUs each were asked for and the cluster has {cpus} CPUs; "
            "lower training.workers or training.cpus_per_worker."
        )
    resources = {"CPU": each, "GPU": 1} if training.gpu else {"CPU": each}
    return ScalingConfig(num_workers=training.workers, use_gpu=training.gpu, resources_per_worker=resources)
