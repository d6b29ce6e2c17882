"""Ray clusters: joining one or starting one on this machine, and dividing its CPUs and GPUs among workers."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.train import ScalingConfig
from ray.util import placement_group_table
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from model.errors import ClusterError, ConfigError
from model.io.addresses import one_line
from pipelines.cluster import connection, signals
from pipelines.config import telemetry
from pipelines.config.held_variables import HeldVariables
from pipelines.config.training_settings import TrainingConfig

OBJECT_STORE_BYTES = 256 << 20
"""Size of the local object store: it carries little but the sheets, since batches are made in the workers."""
NO_PREEMPTION = HeldVariables({"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"})
"""Setting that keeps Ray Train from polling for preemptions, which are not announced on a single machine."""
NOTICE_SECONDS = 20.0
"""Seconds that workers wait for resources before the user is notified."""
POLL_SECONDS = 2.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class WorkerResources:
    """Number of workers, and the CPUs and GPUs of each."""

    workers: int
    cpus: int
    gpus: int = 0

    def bundle(self) -> dict[str, float]:
        """Return the resources of one worker, as Ray requests them."""
        return {"CPU": self.cpus, "GPU": self.gpus} if self.gpus else {"CPU": self.cpus}

    def scaling_config(self) -> ScalingConfig:
        """Return the configuration for Ray Train."""
        return ScalingConfig(num_workers=self.workers, use_gpu=self.gpus > 0, resources_per_worker=self.bundle())

    def __str__(self) -> str:
        """Describe them for the user."""
        each = " and ".join(_count(int(number), kind) for kind, number in self.bundle().items())
        return f"{_count(self.workers, 'worker')} with {each} each"


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the cluster named by RAY_ADDRESS or already joined; otherwise start one on this machine for the block.

    Raises:
        ClusterError: RAY_ADDRESS names no cluster that can be joined, or none can be started.
    """
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    head = connection.find_head()
    with contextlib.ExitStack() as stack:
        if head is not None:
            try:
                with signals.kept_handlers():
                    ray.init(address=head, runtime_env={"env_vars": telemetry.chosen()}, **quiet)
            except (ConnectionError, RuntimeError, RayError) as error:
                raise ClusterError(f"The Ray cluster at {head} can't be joined: {one_line(error)}.") from error
        else:
            # Ray's HTTP agents then listen on this machine only; its gRPC servers have no such setting (Ray 2.60).
            quiet |= {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
            if "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER" not in os.environ:
                # Ray Train reads it when a training run begins, so it must not outlast this cluster.
                stack.enter_context(NO_PREEMPTION.held())
            stack.enter_context(connection.own_token())
            try:
                with signals.kept_handlers():
                    ray.init(address="local", object_store_memory=OBJECT_STORE_BYTES, **quiet)
            except Exception as error:
                # Ray has no common class for them, and raises a plain Exception if the machine is too busy.
                _leave()
                raise ClusterError(
                    f"Ray can't be started on this machine ({one_line(error)}); stop other programs, or set "
                    f"RAY_TMPDIR to a folder that you may write to{_wrong_tmpdir()}."
                ) from error
        stack.callback(_leave)
        yield


def _wrong_tmpdir() -> str:
    named = os.environ.get("TMPDIR", "")
    return f" (TMPDIR is {named}, which is none)" if named and not os.access(named, os.W_OK) else ""


def _leave() -> None:
    with signals.kept_handlers():
        ray.shutdown()


def divide(training: TrainingConfig) -> WorkerResources:
    """Divide the cluster among the workers, each of which must fit on one node.

    Raises:
        ConfigError: The cluster has too few CPUs or GPUs.
    """
    cpus, gpus = total("CPU"), total("GPU")
    if training.gpu and gpus < training.workers:
        raise ConfigError(
            f"{training.workers} GPU workers were requested and the cluster has {gpus} GPUs; "
            "lower training.workers or set training.gpu=false."
        )
    per_worker = training.cpus_per_worker or share([int(node.get("CPU", 0)) for node in nodes()], training.workers)
    if per_worker * training.workers > cpus:
        raise ConfigError(
            f"{training.workers} workers with {per_worker} CPUs each were requested and the cluster has {cpus} CPUs; "
            "lower training.workers or training.cpus_per_worker."
        )
    return WorkerResources(training.workers, per_worker, 1 if training.gpu else 0)


def total(kind: str) -> int:
    """Return the number of `CPU` or `GPU` on all living nodes."""
    return sum(int(node.get(kind, 0)) for node in nodes())


def share(cpus: Sequence[int], workers: int) -> int:
    """Return the most CPUs per worker with which all workers fit on nodes of these CPUs; 1 if they never fit."""
    for each in range(sum(cpus) // workers, 1, -1):
        if sum(node // each for node in cpus) >= workers:
            return each
    return 1


@contextlib.contextmanager
def watch_placement(requested: WorkerResources, notify: Callable[[str], None]) -> Iterator[None]:
    """Notify the user once whenever the workers have to wait for resources, for instance after the loss of a node.

    Ray Train waits for the same number of workers for as long as it takes, and only reports it in its own log.
    """
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(requested, notify, done), name="placement", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        # It may wait for a cluster that has ended.
        watcher.join(POLL_SECONDS)


def _watch(requested: WorkerResources, notify: Callable[[str], None], done: threading.Event) -> None:
    # The end of Ray is reported by those who wait for its workers.
    with contextlib.suppress(RayError):
        _report(requested, notify, done)


def _report(requested: WorkerResources, notify: Callable[[str], None], done: threading.Event) -> None:
    since, notified = 0.0, False
    while not done.wait(POLL_SECONDS):
        states = _placement_states(requested)
        if "CREATED" in states:
            if notified:
                notify("The cluster has enough resources again; starting the workers.")
            since, notified = 0.0, False
        elif states & {"PENDING", "RESCHEDULING"}:
            # Ray Train makes a new request every minute, so the time is counted from when workers were last placed.
            since = since or time.monotonic()
            if not notified and time.monotonic() - since > NOTICE_SECONDS:
                notify(
                    f"Waiting for {requested}: {_describe_available()}. "
                    "Training resumes automatically when there is room."
                )
                notified = True


def _placement_states(requested: WorkerResources) -> set[str]:
    """Return the states of Ray Train's placement groups, which have one bundle for each worker."""
    bundles = [requested.bundle()] * requested.workers
    return {group["state"] for group in placement_group_table().values() if [*group["bundles"].values()] == bundles}


def _describe_available() -> str:
    living, free = nodes(), ray.available_resources()  # type: ignore[no-untyped-call]
    kinds = [kind for kind in ("CPU", "GPU") if any(kind in node for node in living)]
    totals = [f"{_count(total(kind), kind)} ({int(free.get(kind, 0))} free)" for kind in kinds]
    return f"the cluster has {_count(len(living), 'node')} with {' and '.join(totals) or 'no CPU'}"


def ask_nodes(question: Callable[[], Answer], *, kind: str) -> list[Answer]:
    """Return the answer of each living node that has any `CPU` or `GPU` to a function without arguments."""
    task = ray.remote(num_cpus=0)(question)
    asked = [node["NodeID"] for node in _living() if node["Resources"].get(kind)]
    strategies = [NodeAffinitySchedulingStrategy(node, soft=True) for node in asked]
    return ray.get([task.options(scheduling_strategy=strategy).remote() for strategy in strategies])


def nodes() -> list[dict[str, float]]:
    """Return the resources of each living node, such as CPU and GPU."""
    return [node["Resources"] for node in _living()]


def _living() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call] # Ray has no types for it


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
