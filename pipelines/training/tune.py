"""Search for good settings with Ray Tune: ASHA stops poor trials early, and each trial is a nested MLflow run."""

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler

from model import provenance
from model.errors import ConfigError, MissingStepError, Stopped, TrackingError, TrainingError
from model.io.files import check_writable, write_text
from model.spec import Frozen
from pipelines.cluster import environment, number_format, resources
from pipelines.config.held_variables import HeldVariables
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.config.training_settings import BEST_IS_LOWEST, NO_START
from pipelines.data import map_colours, standardisation
from pipelines.data.pairs import PairIndex
from pipelines.data.splits import Shares, share_out
from pipelines.run_folder import RunFolder
from pipelines.tracking import mlflow_runs, mlflow_server
from pipelines.training.leftovers import remove_leftovers
from pipelines.training.length import planned_epochs
from pipelines.training.messages import WorkerJob
from pipelines.training.preconditions import check_candidates, check_folders, check_steps
from pipelines.training.trial import EPOCHS, NAME, Setting, run_trial
from pipelines.workspace import Workspace

_log = logging.getLogger(__name__)
NO_SIGNAL_HANDLER = HeldVariables({"TUNE_DISABLE_SIGINT_HANDLER": "1"})
"""Setting that keeps Ray Tune from ending as if the search were complete after Ctrl-C."""


class Trial(Frozen):
    """One trial, with its settings and the held-out score of its last epoch."""

    name: str
    settings: dict[str, Setting]
    epochs: int
    score: float


class TuneResult(Frozen):
    """All trials of a search, best first."""

    run_id: str
    """The MLflow run that the trials are nested in."""
    score: str
    """The held-out score that they are ranked by."""
    trials: tuple[Trial, ...]


def search(config: RunConfig, pairs: PairIndex) -> TuneResult:
    """Run a new search.

    Raises:
        ConfigError: The cluster has too few CPUs for a trial, a candidate is impossible, or there are too many steps.
        DataError: There are fewer training pairs than one batch needs.
        TrackingError: MLflow does not answer.
        TrainingError: No trial reached a score.
        Stopped: The user stopped the search.
    """
    if config.training.start_from != NO_START:
        _log.warning(
            "Trials begin with random weights; training.start_from is for the training with the best settings."
        )
        config = with_settings(config, {"training.start_from": NO_START})
    shares = _share_out(pairs, config)
    check_steps(config, shares.trained)
    check_folders(pairs)
    check_candidates(config)
    workspace = Workspace(config.workspace)
    workspace.check_writable()
    mlflow_server.connect()
    remove_leftovers(workspace)
    with contextlib.ExitStack() as stack:
        stack.enter_context(resources.joined())
        config = number_format.choose(config)
        run = stack.enter_context(mlflow_runs.new_run(config, pairs))
        folder = workspace.new_run(run.id)
        pairs.save(folder.pairs_file)
        write_text(folder.config_file, config.model_dump_json(indent=2))
        folder.trials.mkdir(exist_ok=True)
        _check_size(config)
        tuner = ray_tune.Tuner(
            _trainable(config, shares, folder),
            param_space=_param_space(config),
            tune_config=ray_tune.TuneConfig(
                metric=config.training.best_by,
                mode="min" if BEST_IS_LOWEST[config.training.best_by] else "max",
                num_samples=config.tune.trials,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
                scheduler=ASHAScheduler(
                    time_attr=EPOCHS,
                    max_t=planned_epochs(config.training, len(shares.trained.train)),
                    grace_period=min(
                        config.tune.grace_epochs, planned_epochs(config.training, len(shares.trained.train))
                    ),
                    reduction_factor=config.tune.reduction,
                ),
            ),
            run_config=ray_tune.RunConfig(name=folder.ray.name, storage_path=str(folder.path), verbose=1),
        )
        return _finish(tuner, config, shares, folder, run)


def resume(folder: RunFolder) -> TuneResult:
    """Resume a search that was stopped or killed: unfinished trials resume from their checkpoints.

    Raises:
        MissingStepError: The run is no search, or stopped before its first trial.
        Sat2mapError: As for `search`.
    """
    config = folder.config()
    shares = _share_out(PairIndex.load(folder.pairs_file), config)
    if not folder.is_search():
        raise MissingStepError(
            f"Run {folder.run_id} is a training, not a search; resume it with: "
            f"{folder.command('train --resume', folder.run_id)}"
        )
    if not ray_tune.Tuner.can_restore(str(folder.ray)):
        raise MissingStepError(f"The search {folder.run_id} stopped before its first trial; run `tune` again.")
    check_writable(folder.search_file)
    mlflow_server.connect()
    remove_leftovers(Workspace(config.workspace))
    with resources.joined(), mlflow_runs.resumed_run(folder.run_id, {}) as run:
        tuner = ray_tune.Tuner.restore(
            str(folder.ray), _trainable(config, shares, folder), resume_unfinished=True, restart_errored=True
        )
        return _finish(tuner, config, shares, folder, run)


def _share_out(pairs: PairIndex, config: RunConfig) -> Shares:
    """Trials are ranked by pairs that no report shows."""
    return share_out(pairs, most=config.training.validation_pairs, chooses=True)


def _trainable(config: RunConfig, shares: Shares, folder: RunFolder) -> Any:  # noqa: ANN401 - has no type in Ray
    revision = provenance.git_revision()
    job = WorkerJob(
        config,
        shares.trained,
        shares.scored,
        folder.path,
        threads=config.tune.cpus_per_trial,
        code_revision=revision,
        palette=map_colours.of_run(config, shares.trained.train, folder),
        standardisation=standardisation.of_run(config, shares.trained.train, folder),
    )
    # Parameters go to the object store; passed otherwise, Ray Tune would write secrets into the run's folder.
    trainable = ray_tune.with_parameters(run_trial, job=job, driver_settings=environment.capture(os.environ))
    gpus = 1 if config.training.gpu else 0
    return ray_tune.with_resources(trainable, {"CPU": config.tune.cpus_per_trial, "GPU": gpus})


def _name(trial: Any) -> str:  # noqa: ANN401 - a trial of Ray Tune
    """Name a trial by its number: `trial-00003`."""
    return f"trial-{trial.trial_id.rpartition('_')[2]}"


def _param_space(config: RunConfig) -> dict[str, Any]:
    return {
        "training.learning_rate": ray_tune.loguniform(*config.tune.learning_rate),
        "training.l1_weight": ray_tune.loguniform(*config.tune.l1_weight),
        "network.norm": ray_tune.choice(config.tune.norm),
        "network.width": ray_tune.choice(config.tune.width),
    }


def _check_size(config: RunConfig) -> None:
    requested, available = config.tune.cpus_per_trial, resources.total("CPU")
    if requested > available:
        raise ConfigError(
            f"A trial requests {requested} CPUs and the cluster has {available}; lower tune.cpus_per_trial."
        )


def _finish(
    tuner: ray_tune.Tuner, config: RunConfig, shares: Shares, folder: RunFolder, run: mlflow_runs.Run
) -> TuneResult:
    score = config.training.best_by
    results = _run(tuner, folder, run)
    trials = []
    for ended in (results[number] for number in range(len(results))):
        if ended.metrics and ended.config and score in ended.metrics:
            settings = {key: ended.config[key] for key in _param_space(config)}
            name, epochs = ended.metrics[NAME], ended.metrics[EPOCHS]
            trials.append(Trial(name=name, settings=settings, epochs=epochs, score=ended.metrics[score]))
    if not trials:
        raise TrainingError(f"No trial reached a score. The first error was: {_first_error(results)}")
    trials.sort(key=lambda trial: trial.score, reverse=not BEST_IS_LOWEST[score])
    result = TuneResult(run_id=folder.run_id, score=score, trials=tuple(trials))
    write_text(folder.search_file, result.model_dump_json(indent=2))
    with mlflow_server.errors():
        epochs = planned_epochs(config.training, len(shares.trained.train))
        mlflow_runs.end_trials(run.id, [trial.name for trial in trials if trial.epochs == epochs])
        run.log_file(folder.search_file)
        run.log_metrics({f"best_{score}": trials[0].score})
        run.set_tags({"best_trial": trials[0].name, **_tags(trials[0].settings)})
    return result


def _run(tuner: ray_tune.Tuner, folder: RunFolder, run: mlflow_runs.Run) -> ray_tune.ResultGrid:
    try:
        # Ray Tune prints its progress to stdout, which is for results.
        with folder.training(), NO_SIGNAL_HANDLER.held(), contextlib.redirect_stdout(sys.stderr):
            return tuner.fit()
    except KeyboardInterrupt as error:
        with contextlib.suppress(TrackingError), mlflow_server.errors():
            mlflow_runs.end_trials(run.id, finished=())
        raise Stopped(f"Stopped the search. Resume with: {folder.command('tune --resume', folder.run_id)}") from error


def _tags(settings: Mapping[str, Setting]) -> dict[str, str]:
    return {f"best.{key}": str(value) for key, value in settings.items()}


def _first_error(results: ray_tune.ResultGrid) -> str:
    lines = [line for error in results.errors for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "none was reported"
