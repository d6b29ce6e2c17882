"""One promotion at a time: a lock that lies in the registry itself, because MLflow can't compare and swap an alias.

Who wants to move an alias makes a registered model of a name of its own, `NAME.promotion-lock.TOKEN`, and then lists
all of them. Alone on the list, it holds the lock; otherwise it takes its own away and tries again a little later. Of
two that come at once, the later to be listed sees the other, so never do both hold it. Names are never used twice: so
what a killed process left can be removed without hitting a lock that was just made.
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
from pipelines.tracking import mlflow_runs

STALE = 60
"""Seconds after which a lock counts as left behind, by the registry's own clock."""
PATIENCE = 90
"""Seconds that one waits for its turn: a lock that was left behind is outlived."""


@dataclass(frozen=True)
class PromotionLock:
    """The right to move aliases, for half the time after which others take the lock for left behind."""

    ends: float

    def check(self) -> None:
        """Make sure that the turn is not over.

        Raises:
            TrackingError: It is, because MLflow answers so slowly.
        """
        if time.monotonic() > self.ends:
            raise TrackingError(
                f"MLflow took more than {STALE // 2} s to answer in the middle of a move; others may have begun one, "
                "so look at the aliases and try again."
            )


@contextmanager
def hold_lock(name: str) -> Iterator[PromotionLock]:
    """Wait until nobody else moves aliases of the model `name`, and keep others out; the lock is always taken away.

    Raises:
        TrackingError: Others hold it for longer than PATIENCE, or MLflow does not answer.
    """
    patience = time.monotonic() + PATIENCE
    while True:
        began = time.monotonic()
        own = _make(name)
        try:
            others = _living(name, own)
            if not others:
                yield PromotionLock(ends=began + STALE / 2)
                return
        finally:
            _remove(own.name)
        if time.monotonic() > patience:
            holder = others[0].tags.get("holder", "somebody")
            raise TrackingError(f"{holder} moves aliases of {name} for more than {PATIENCE} s; try again later.")
        # Two that came at once must not come at once again.
        time.sleep(random.uniform(0.05, 0.5))


def _make(name: str) -> RegisteredModel:
    holder = f"{platform.node()}, process {os.getpid()}"
    with mlflow_runs.server_errors():
        return mlflow.MlflowClient().create_registered_model(
            f"{_prefix(name)}{uuid.uuid4().hex}",
            tags={"holder": holder},
            description=f"A promotion of {name} is being written; this goes away by itself.",
        )


def _living(name: str, own: RegisteredModel) -> list[RegisteredModel]:
    """Return the locks of others that are at work; if there are none, remove what was left behind."""
    # In a pattern, `_` stands for any letter: also for quotes, which would end the text.
    pattern = _prefix(name).replace("'", "_").replace('"', "_") + "%"
    with mlflow_runs.server_errors():
        found = mlflow.MlflowClient().search_registered_models(f"name LIKE '{pattern}'", max_results=1000)
    others = [lock for lock in found if lock.name.startswith(_prefix(name)) and lock.name != own.name]
    # Both times are the registry's, in milliseconds.
    living = [lock for lock in others if own.creation_timestamp - lock.creation_timestamp < 1000 * STALE]
    for lock in others if not living else []:
        _remove(lock.name)
    return living


def _remove(lock: str) -> None:
    # What can't be removed now is left behind, and goes with the next promotion.
    with contextlib.suppress(TrackingError), mlflow_runs.server_errors():
        mlflow.MlflowClient().delete_registered_model(lock)


def _prefix(name: str) -> str:
    return f"{name}.promotion-lock."
