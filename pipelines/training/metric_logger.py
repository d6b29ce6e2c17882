"""What a training reports goes to MLflow: each step once, in order, however often it is reported."""

import time
from collections.abc import Mapping

from pipelines.tracking.mlflow_runs import LAST_LOSS, Run
from pipelines.tracking.outbox import Outbox
from pipelines.training.messages import EPOCH_METRICS, TrainingUpdate


class MetricLogger:
    """Logs reports through an outbox.

    Workers that start again take steps again, and send the whole curve of the checkpoint that they go on from: what
    was logged the first time stays, and what is missing is filled in.
    """

    def __init__(self, run: Run, outbox: Outbox, *, logged: Mapping[str, int]) -> None:
        """Go on after the steps that are `logged` already (`last_steps`)."""
        self._run, self._outbox = run, outbox
        self._logged = dict(logged)

    def log(self, report: TrainingUpdate, *, images_per_second: float | None = None) -> None:
        """Log what is new in a report: losses, the metrics of an epoch, and the speed if there are new losses."""
        run = self._run
        new = [taken for taken in report.curve + report.losses if taken.step > self._logged[LAST_LOSS]]
        metrics = {name: value for name, value in report.metrics.items() if report.step > self._logged[name]}
        if new:
            self._logged[LAST_LOSS] = new[-1].step
            self._outbox.put(lambda: run.log_losses(new))
            if images_per_second is not None:
                speed, at = {"images_per_second": images_per_second}, new[-1]
                self._outbox.put(lambda: run.log_metrics(speed, step=at.step, when=at.when))
        if metrics:
            self._logged.update(dict.fromkeys(metrics, report.step))
            when = time.time()
            self._outbox.put(lambda: run.log_metrics(metrics, step=report.step, when=when))


def last_steps(run: Run | None = None) -> dict[str, int]:
    """Return the last step that a run holds of the losses and of each metric of an epoch; of a new run, none."""
    return {name: run.last_step(name) if run else 0 for name in (LAST_LOSS, *EPOCH_METRICS)}
