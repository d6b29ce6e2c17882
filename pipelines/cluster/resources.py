"""Ray: join the cluster that is there, or start one of this machine, and share it out to the workers."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.train import ScalingConfig
from ray.util import placement_group_table

from model.errors import ConfigError
from pipelines.config.schema import TrainingConfig

OBJECT_STORE_BYTES = 256 << 20
"""Batches are made in the workers, so that Ray's object store carries little but the sheets."""
WAIT_SECONDS = 20.0
"""Workers that have waited this long for their places are worth a word."""
LOOK_SECONDS = 2.0


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
        # No scheduler announces that it will take this machine away: Ray Train need not ask for it all the time.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        ray.init(address="local", object_store_memory=OBJECT_STORE_BYTES, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def scaling(training: TrainingConfig) -> ScalingConfig:
    """Share the cluster out to the workers, each of which must fit on a node.

    Raises:
        ConfigError: It has too few CPUs or GPUs for them.
    """
    cpus, gpus = total("CPU"), total("GPU")
    if training.gpu and gpus < training.workers:
        raise ConfigError(
            f"{training.workers} GPU workers were asked for and the cluster has {gpus} GPUs; "
            "lower training.workers or set training.gpu=false."
        )
    each = training.cpus_per_worker or share([int(node.get("CPU", 0)) for node in nodes()], training.workers)
    if each * training.workers > cpus:
        raise ConfigError(
            f"{training.workers} workers with {each} CPUs each were asked for and the cluster has {cpus} CPUs; "
            "lower training.workers or training.cpus_per_worker."
        )
    resources = {"CPU": each, "GPU": 1} if training.gpu else {"CPU": each}
    return ScalingConfig(num_workers=training.workers, use_gpu=training.gpu, resources_per_worker=resources)


def total(kind: str) -> int:
    """How many `CPU` or `GPU` the living nodes have together."""
    return sum(int(node.get(kind, 0)) for node in nodes())


def share(cpus: Sequence[int], workers: int) -> int:
    """How many CPUs each worker can have at most, so that all fit on nodes with so many; 1 if they never do."""
    for each in range(sum(cpus) // workers, 1, -1):
        if sum(node // each for node in cpus) >= workers:
            return each
    return 1


@contextlib.contextmanager
def watch_placement(scaling: ScalingConfig, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell, once each time, that the workers have been waiting for their places, as after the loss of a node.

    Ray Train waits for the same number of workers for as long as it takes, and says so in a log that nobody sees.
    """
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(scaling, tell, over), name="places", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(scaling: ScalingConfig, tell: Callable[[str], None], over: threading.Event) -> None:
    since, told = 0.0, False
    while not over.wait(LOOK_SECONDS):
        states = _states_of_places(scaling)
        if "CREATED" in states:
            if told:
                tell("The cluster has room again: starting the workers.")
            since, told = 0.0, False
        elif states & {"PENDING", "RESCHEDULING"}:
            # Ray Train asks anew every minute: what counts is the time since the workers last had their places.
            since = since or time.monotonic()
            if not told and time.monotonic() - since > WAIT_SECONDS:
                tell(f"Waiting for {_wanted(scaling)}: {_there()} now. Training goes on by itself when there is room.")
                told = True


def _states_of_places(scaling: ScalingConfig) -> set[str]:
    """The states of what Ray Train has asked for: a group of one place for each worker."""
    workers, each = _asked(scaling)
    table = placement_group_table()
    return {group["state"] for group in table.values() if [*group["bundles"].values()] == [each] * workers}


def _wanted(scaling: ScalingConfig) -> str:
    workers, resources = _asked(scaling)
    each = " and ".join(_count(int(number), kind) for kind, number in resources.items())
    return f"{_count(workers, 'worker')} with {each} each"


def _asked(scaling: ScalingConfig) -> tuple[int, dict[str, float]]:
    """How many workers were asked for, and what each is to have."""
    workers: Any = scaling.num_workers
    resources: Any = scaling.resources_per_worker
    return int(workers), dict(resources)


def _there() -> str:
    there, free = nodes(), ray.available_resources()  # type: ignore[no-untyped-call]
    kinds = [kind for kind in ("CPU", "GPU") if any(kind in node for node in there)]
    held = [f"{_count(total(kind), kind)} ({int(free.get(kind, 0))} free)" for kind in kinds]
    return f"the cluster has {_count(len(there), 'node')} with {' and '.join(held) or 'no CPU'}"


def nodes() -> list[dict[str, float]]:
    """What each living node has, such as CPU and GPU."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
