"""One trial of a search: a training with one worker, in a process of Ray Tune's, that tells its score every epoch."""

import contextlib
from dataclasses import replace
from typing import Any

from ray import tune as ray_tune

from model.io.files import write_text
from pipelines.cluster import environment
from pipelines.config.loading import with_settings
from pipelines.data.dataset import Shard
from pipelines.tracking import mlflow_runs
from pipelines.tracking.outbox import Outbox
from pipelines.training.messages import TrainingUpdate, WorkerJob
from pipelines.training.metric_logger import MetricLogger, last_steps
from pipelines.workspace import RunFolder

EPOCHS, NAME = "epochs", "trial"


def run_trial(sampled: dict[str, Any], job: WorkerJob, handed: environment.Settings) -> None:
    """Train with the sampled settings, from the trial's newest checkpoint on.

    Args:
        sampled: Settings by their dotted names.
        job: Of the whole search: its settings and its folder.
        handed: The driver's settings for MLflow and storage.
    """
    environment.discard()
    environment.apply(handed)
    # A checkpoint every epoch: a trial is ranked by it, and goes on from it.
    settings = {**sampled, "training.checkpoint_every": 1, "training.keep_checkpoints": 1, "training.workers": 1}
    config = with_settings(job.config, settings)
    search, name = RunFolder(job.folder), ray_tune.get_context().get_trial_name()
    folder = RunFolder(search.trials / name)
    known = folder.path / "mlflow_run"
    run_id = known.read_text(encoding="utf-8") if known.is_file() else None
    with mlflow_runs.trial_run(search.run_id, name, run_id, config) as run:
        write_text(known, run.id)
        from pipelines.training.worker import train_share

        with _Reports(run, name, config.tracking.patience) as reports:
            train_share(replace(job, config=config, folder=folder.path), Shard(), reports)


class _Reports(contextlib.AbstractContextManager["_Reports"]):
    """Stands where the driver's line stands in a training: passes news on to MLflow and to Ray Tune."""

    def __init__(self, run: mlflow_runs.Run, name: str, patience: float) -> None:
        self._name, self._patience = name, patience
        self._outbox = Outbox(on_news=print)
        self._logger = MetricLogger(run, self._outbox, logged=last_steps(run))

    def send(self, report: TrainingUpdate) -> bool:
        self._logger.log(report)
        if "val_l1" in report.metrics:
            # Ray Tune may end this process as soon as it knows the score.
            self._outbox.flush(patience=self._patience)
            ray_tune.report({EPOCHS: report.epoch + 1, NAME: self._name, **report.metrics})
        # Ray Tune halts a trial by itself.
        return False

    def __exit__(self, *_: object) -> None:
        self._outbox.close(patience=self._patience)
