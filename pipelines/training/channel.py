"""The line between the first worker and the driver: one small actor on the driver's own node."""

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.training.messages import TrainingUpdate


class _Exchange:
    """Holds reports until the driver takes them, and the driver's wish to stop. An actor for both ways.

    Every Python process of Ray wakes up a hundred times a second, which a training on two cores notices.
    """

    def __init__(self) -> None:
        self._reports: asyncio.Queue[TrainingUpdate | None] = asyncio.Queue()
        self._stop = False

    async def send(self, report: TrainingUpdate | None) -> bool:
        self._reports.put_nowait(report)
        return self._stop

    async def next_report(self) -> TrainingUpdate | None:
        return await self._reports.get()

    async def stop(self) -> None:
        self._stop = True

    async def stop_requested(self) -> bool:
        return self._stop


@dataclass(frozen=True)
class ActorChannel:
    """A line that goes through Ray; it can be handed to any worker of the cluster."""

    exchange: Any

    @classmethod
    def open(cls) -> Self:
        """Open a line whose actor is lost with no other node than the driver's."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(ray.remote(_Exchange).options(num_cpus=0, scheduling_strategy=here).remote())

    def send(self, report: TrainingUpdate | None) -> bool:
        """Send news to the driver, or None for the end of it; tell whether the driver wants the training to stop."""
        return bool(ray.get(self.exchange.send.remote(report)))

    def next_report(self) -> TrainingUpdate | None:
        """Wait for the next news; None is their end."""
        report: TrainingUpdate | None = ray.get(self.exchange.next_report.remote())
        return report

    def stop(self) -> None:
        """Want the training to stop, now and after every restart of its workers."""
        ray.get(self.exchange.stop.remote())

    def stop_requested(self) -> bool:
        """Tell whether the driver wants the training to stop."""
        return bool(ray.get(self.exchange.stop_requested.remote()))

    def close(self) -> None:
        """End the actor."""
        ray.kill(self.exchange)
