"""One trial of a search: a training run with one worker in a process of Ray Tune, which reports a score every epoch."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from ray import tune as ray_tune

from model.io.files import write_text
from pipelines.cluster import environment
from pipelines.config.loading import with_settings
from pipelines.data.dataset import Shard
from pipelines.run_folder import RunFolder
from pipelines.tracking import mlflow_runs
from pipelines.tracking.outbox import Outbox
from pipelines.training.messages import TrainingUpdate, WorkerJob
from pipelines.training.metric_logger import MetricLogger, last_steps

EPOCHS, NAME = "epochs", "trial"

Setting = int | float | str
"""A sampled value of a setting."""


def run_trial(sampled: Mapping[str, Setting], job: WorkerJob, driver_settings: environment.DriverSettings) -> None:
    """Train with the sampled settings, resuming from the trial's newest checkpoint.

    Args:
        sampled: Settings by their dotted names.
        job: The settings and the folder of the search.
        driver_settings: The driver's settings for MLflow and storage.
    """
    environment.apply(driver_settings)
    # Every epoch needs a checkpoint: the trial is ranked by it and resumes from it.
    settings = {**sampled, "training.checkpoint_every": 1, "training.keep_checkpoints": 1, "training.workers": 1}
    config = with_settings(job.config, settings)
    search, name = RunFolder(job.folder), ray_tune.get_context().get_trial_name()
    folder = RunFolder(search.trials / name)
    run_file = folder.path / "mlflow_run"
    run_id = run_file.read_text(encoding="utf-8") if run_file.is_file() else None
    with mlflow_runs.trial_run(search.run_id, name, run_id, config) as run:
        write_text(run_file, run.id)
        from pipelines.training.worker import train_share

        with _TuneChannel(run, name, config.tracking.patience) as channel:
            train_share(replace(job, config=config, folder=folder.path), Shard(), channel)


class _TuneChannel(contextlib.AbstractContextManager["_TuneChannel"]):
    """The channel of a trial: it passes updates on to MLflow and to Ray Tune."""

    def __init__(self, run: mlflow_runs.Run, name: str, patience: float) -> None:
        self._name, self._patience = name, patience
        self._outbox = Outbox(notify=print)
        self._logger = MetricLogger(run, self._outbox, logged=last_steps(run))

    def send(self, update: TrainingUpdate) -> bool:
        self._logger.log(update)
        if "val_l1" in update.metrics:
            # Ray Tune may end this process as soon as it knows the score.
            self._outbox.flush(patience=self._patience)
            ray_tune.report({EPOCHS: update.epoch + 1, NAME: self._name, **update.metrics})
        # Ray Tune stops a trial by itself.
        return False

    def __exit__(self, *_: object) -> None:
        self._outbox.close(patience=self._patience)
