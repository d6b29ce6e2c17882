"""The channel between the first worker and the driver: one small actor on the driver's node."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Self

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.training.messages import TrainingUpdate


class _Exchange:
    """An actor that holds updates until the driver takes them, and the driver's request to stop.

    One actor serves both directions: every Python process of Ray wakes up a hundred times a second, which slows down a
    training on two cores.
    """

    def __init__(self) -> None:
        self._updates: asyncio.Queue[TrainingUpdate | None] = asyncio.Queue()
        self._stop = False

    async def send(self, update: TrainingUpdate | None) -> bool:
        self._updates.put_nowait(update)
        return self._stop

    async def next_update(self) -> TrainingUpdate | None:
        return await self._updates.get()

    async def stop(self) -> None:
        self._stop = True

    async def stop_requested(self) -> bool:
        return self._stop


@dataclass(frozen=True)
class ActorChannel:
    """A channel through a Ray actor; it can be passed to any worker of the cluster."""

    exchange: Any
    """Ray's handle of the actor, which is not typed."""

    @classmethod
    def open(cls) -> Self:
        """Start the actor on the driver's node, so that losing another node does not end it."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(ray.remote(_Exchange).options(num_cpus=0, scheduling_strategy=here).remote())

    def send(self, update: TrainingUpdate | None) -> bool:
        """Send an update, or None as the last one; return whether the training should stop."""
        return bool(ray.get(self.exchange.send.remote(update)))

    def next_update(self) -> TrainingUpdate | None:
        """Wait for the next update; None is the last one."""
        update: TrainingUpdate | None = ray.get(self.exchange.next_update.remote())
        return update

    def stop(self) -> None:
        """Request the training to stop, now and after every restart of its workers."""
        ray.get(self.exchange.stop.remote())

    def stop_requested(self) -> bool:
        """Return whether the driver has requested the training to stop."""
        return bool(ray.get(self.exchange.stop_requested.remote()))

    def close(self) -> None:
        """End the actor, unless Ray has ended."""
        with contextlib.suppress(RayError):
            ray.kill(self.exchange)
