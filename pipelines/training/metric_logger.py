"""Logging of training updates to MLflow: each step once, in order, even if it is reported several times."""

import time
from collections.abc import Mapping

from model.spec import LOSSES
from pipelines.tracking.mlflow_runs import Run
from pipelines.tracking.outbox import Outbox
from pipelines.training.messages import EPOCH_METRICS, TrainingUpdate

LAST_LOSS = LOSSES[-1]
"""The loss that is logged last: a step that has it has the others as well."""


class MetricLogger:
    """Logger of training updates, which sends through an outbox.

    Restarted workers repeat steps, and send the complete curve of the checkpoint that they resume from: steps that are
    logged already are skipped, missing ones are added.
    """

    def __init__(self, run: Run, outbox: Outbox, *, logged: Mapping[str, int]) -> None:
        """Continue after the steps that are `logged` already (see `last_steps`)."""
        self._run, self._outbox = run, outbox
        self._logged = dict(logged)

    def log(self, update: TrainingUpdate, *, images_per_second: float | None = None) -> None:
        """Log the new losses and metrics of an update, and the speed if there are new losses."""
        run = self._run
        new = [losses for losses in update.curve + update.losses if losses.step > self._logged[LAST_LOSS]]
        metrics = {name: value for name, value in update.metrics.items() if update.step > self._logged[name]}
        if new:
            self._logged[LAST_LOSS] = new[-1].step
            self._outbox.put(lambda: run.log_losses(new))
            if images_per_second is not None:
                speed, newest = {"images_per_second": images_per_second}, new[-1]
                self._outbox.put(lambda: run.log_metrics(speed, step=newest.step, when=newest.when))
        if metrics:
            self._logged.update(dict.fromkeys(metrics, update.step))
            when = time.time()
            self._outbox.put(lambda: run.log_metrics(metrics, step=update.step, when=when))


def last_steps(run: Run | None = None) -> dict[str, int]:
    """Return the last step logged in a run, of the losses and of each epoch metric; 0 for a new run."""
    return {name: run.last_step(name) if run else 0 for name in (LAST_LOSS, *EPOCH_METRICS)}
