"""Lock for promotions, stored in the registry itself, because MLflow has no compare-and-swap for aliases.

To take the lock, a process creates a registered model with a unique name, `NAME.promotion-lock.TOKEN`, and lists all
models with this prefix. If its own is the only one, it holds the lock; otherwise it deletes its own and retries a
little later. Of two concurrent processes, the one that lists later sees the other, so that they never both hold the
lock. Names are never reused, so that the lock of a killed process can be removed without affecting a new one.
"""

import contextlib
import os
import platform
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlflow
from mlflow.entities.model_registry import RegisteredModel

from model.errors import TrackingError
from pipelines.tracking import mlflow_server

STALE = 60
"""Seconds after which a lock counts as abandoned, by the registry's clock."""
PATIENCE = 90
"""Seconds to wait for the lock; longer than STALE, so that an abandoned lock expires first."""


@dataclass(frozen=True)
class PromotionLock:
    """A held lock; it expires after half the time after which others consider it abandoned."""

    ends: float
    """Expiry, in seconds of `time.monotonic`."""

    def check(self) -> None:
        """Check that the lock has not expired.

        Raises:
            TrackingError: The lock has expired, because MLflow responds too slowly.
        """
        if time.monotonic() > self.ends:
            raise TrackingError(
                f"MLflow took more than {STALE // 2} s to respond while aliases were being moved, so another promotion "
                "may have started; check the aliases and try again."
            )


@contextmanager
def hold_lock(name: str) -> Iterator[PromotionLock]:
    """Hold the lock on the aliases of the model `name`; wait for it first, and always release it.

    Raises:
        TrackingError: The lock is not free within PATIENCE seconds, or MLflow does not answer.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        start = time.monotonic()
        own = _create(name)
        try:
            others = _active_locks(name, own)
            if not others:
                yield PromotionLock(ends=start + STALE / 2)
                return
        finally:
            _remove(own.name)
        if time.monotonic() > deadline:
            holder = others[0].tags.get("holder", "unknown")
            raise TrackingError(
                f"Another promotion ({holder}) has held the lock of {name} for more than {PATIENCE} s; try again later."
            )
        # Random, so that two concurrent processes do not collide again.
        time.sleep(random.uniform(0.05, 0.5))


def _create(name: str) -> RegisteredModel:
    holder = f"{platform.node()}, process {os.getpid()}"
    with mlflow_server.errors(registry=True):
        return mlflow.MlflowClient().create_registered_model(
            f"{_prefix(name)}{uuid.uuid4().hex}",
            tags={"holder": holder},
            description=f"Lock of a running promotion of {name}; it is removed automatically.",
        )


def _active_locks(name: str, own: RegisteredModel) -> list[RegisteredModel]:
    """Return the active locks of others; if there are none, remove abandoned ones."""
    # In a pattern, `_` matches any character, including quotes, which would end the string.
    pattern = _prefix(name).replace("'", "_").replace('"', "_") + "%"
    with mlflow_server.errors(registry=True):
        found = mlflow.MlflowClient().search_registered_models(f"name LIKE '{pattern}'", max_results=1000)
    others = [lock for lock in found if lock.name.startswith(_prefix(name)) and lock.name != own.name]
    # Both timestamps are the registry's, in milliseconds.
    active = [lock for lock in others if own.creation_timestamp - lock.creation_timestamp < 1000 * STALE]
    for lock in others if not active else []:
        _remove(lock.name)
    return active


def _remove(lock: str) -> None:
    # A lock that can't be removed now is removed as abandoned by a later promotion.
    with contextlib.suppress(TrackingError), mlflow_server.errors(registry=True):
        mlflow.MlflowClient().delete_registered_model(lock)


def _prefix(name: str) -> str:
    return f"{name}.promotion-lock."
