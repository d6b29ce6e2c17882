"""The driver of a training run: it runs Ray Train's workers, and follows them with MLflow and a progress bar."""

import os
import shutil
import threading
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import ray
from ray.exceptions import RayError
from ray.train import FailureConfig
from ray.train import RunConfig as RayRunConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from model import provenance
from model.errors import Stopped, TrackingError, TrainingError
from model.io.files import check_writable, new_folder, sha256, write_text
from model.io.progress import quiet_stderr
from pipelines.cluster import environment, number_format, signals
from pipelines.cluster import resources as cluster
from pipelines.config import loading as settings_of
from pipelines.config.schema import RunConfig
from pipelines.data import map_colours, standardisation
from pipelines.data.pairs import PairIndex
from pipelines.data.splits import Shares, share_out
from pipelines.report import description
from pipelines.run_folder import DISCRIMINATOR_FILE, GENERATOR_FILE, LINEAGE_FILE, RunFolder
from pipelines.run_record import RunRecord
from pipelines.tracking import mlflow_runs, mlflow_server, run_page
from pipelines.training.channel import ActorChannel
from pipelines.training.leftovers import remove_leftovers
from pipelines.training.messages import StartingNetworks, TrainingUpdate, WorkerJob
from pipelines.training.metric_logger import last_steps
from pipelines.training.monitor import TrainingMonitor
from pipelines.training.preconditions import check_folders, check_steps, check_unfinished
from pipelines.workspace import Workspace


def fit(config: RunConfig, pairs: PairIndex, start: StartingNetworks | None = None) -> RunFolder:
    """Train the networks, track the run in MLflow, and write networks and record into the run's folder.

    Args:
        config: The settings.
        pairs: The pairs.
        start: The networks to begin with, by default random ones.

    Raises:
        ConfigError: The cluster has too few CPUs or GPUs for the workers, or there are too many steps.
        DataError: There are fewer training pairs than one batch needs.
        TrackingError: MLflow does not answer.
        TrainingError: The workers failed.
        Stopped: The user stopped the training.
    """
    shares = _share_out(pairs, config)
    check_steps(config, shares.trained)
    check_folders(pairs)
    workspace = Workspace(config.workspace)
    workspace.check_writable()
    mlflow_server.connect()
    remove_leftovers(workspace)
    with cluster.joined():
        resources, config = cluster.divide(config.training), number_format.choose(config)
        with mlflow_runs.new_run(config, pairs) as run:
            folder = workspace.new_run(run.id)
            pairs.save(folder.pairs_file)
            write_text(folder.config_file, config.model_dump_json(indent=2))
            if start is not None:
                _keep_start(start, folder, run)
            with folder.training():
                _train(config, shares, run, folder, resources, _monitor(config, shares, last_steps()))
    return folder


def resume(folder: RunFolder, changes: Iterable[str] = (), *, file: str | None = None) -> RunFolder:
    """Resume a training run from its newest intact checkpoint, in the same MLflow run.

    Args:
        folder: The folder of a run that was stopped or killed, or has ended and is to train for more epochs.
        changes: Settings to change, such as `training.epochs=80`; network, data and seed can't change.
        file: A YAML file, or a shipped configuration, with settings to change.

    Raises:
        MissingStepError: The run never began to train.
        ConfigError: As for `fit`; or the run has finished, and the changes leave nothing to do.
        Sat2mapError: As for `fit`; or no checkpoint of the run fits the settings.
    """
    began, pairs = folder.config(), PairIndex.load(folder.pairs_file)
    config = settings_of.change(began, changes, verb="train --resume", file=file)
    shares = _share_out(pairs, config)
    check_steps(config, shares.trained)
    check_unfinished(folder, config)
    changed = {key: value for key, value in config.flat().items() if began.flat()[key] != value}
    check_writable(folder.config_file)
    mlflow_server.connect()
    remove_leftovers(Workspace(config.workspace))
    with folder.training(), cluster.joined():
        resources, config = cluster.divide(config.training), number_format.choose(config)
        with mlflow_runs.resumed_run(folder.run_id, changed) as run:
            # The next resume continues with the changes of this one.
            write_text(folder.config_file, config.model_dump_json(indent=2))
            _train(config, shares, run, folder, resources, _monitor(config, shares, last_steps(run)))
    return folder


def _share_out(pairs: PairIndex, config: RunConfig) -> Shares:
    training = config.training
    return share_out(pairs, most=training.validation_pairs, chooses=training.result == "best")


def _monitor(config: RunConfig, shares: Shares, logged: dict[str, int]) -> TrainingMonitor:
    return TrainingMonitor(config, len(shares.trained.train), logged)


def _keep_start(start: StartingNetworks, folder: RunFolder, run: mlflow_runs.Run) -> None:
    """Copy the networks that a training begins with into its folder, where every worker finds them."""
    with new_folder(folder.start) as draft:
        shutil.copyfile(start.generator, draft / GENERATOR_FILE)
        if start.discriminator is not None:
            shutil.copyfile(start.discriminator, draft / DISCRIMINATOR_FILE)
        write_text(draft / LINEAGE_FILE, start.lineage.model_dump_json(indent=2))
    run.set_tags({f"started_from.{name}": value for name, value in start.lineage.model_dump().items()})


def start_worker(
    job: WorkerJob, channel: ActorChannel, driver_settings: "ray.ObjectRef[environment.DriverSettings]"
) -> None:
    """Train as one of Ray Train's workers; TensorFlow is imported here and not in the driver.

    Args:
        job: The job.
        channel: The channel to the driver.
        driver_settings: A reference to the driver's `environment.DriverSettings`.
    """
    # Workers read remote pairs themselves, and other nodes start them without the driver's environment.
    environment.apply(ray.get(driver_settings))
    if channel.stop_requested():
        return
    from pipelines.training.worker import train_loop

    train_loop(job, channel)


def _train(
    config: RunConfig,
    shares: Shares,
    run: mlflow_runs.Run,
    folder: RunFolder,
    resources: cluster.WorkerResources,
    monitor: TrainingMonitor,
) -> None:
    """Run the workers to the end, and record the finished training."""
    with mlflow_server.errors():
        run_page.describe(run.id, description.of_run(run.id, config, shares.all))
    channel = ActorChannel.open()

    def note(text: str) -> None:
        channel.send(TrainingUpdate(epoch=monitor.epoch, notes=(text,)))

    try:
        with (
            signals.graceful_stop() as stop,
            monitor.reading(channel, run),
            cluster.watch_placement(resources, note),
        ):
            _run_workers(config, shares, folder, resources, channel, (stop, monitor.lost))
    except (TrainingFailedError, RayError) as error:
        monitor.raise_failure()
        if not monitor.lost.is_set():
            raise TrainingError(
                f"Training failed: {_cause(error)} Resume with: {folder.command('train --resume', folder.run_id)}"
            ) from error
    except mlflow_server.UnavailableError as error:
        raise TrackingError(f"{error} Resume with: {folder.command('train --resume', folder.run_id)}") from error
    finally:
        channel.close()
        shutil.rmtree(folder.ray, ignore_errors=True)
    if monitor.lost.is_set():
        reason = "Ray ended during the training, for instance because this machine ran out of memory."
        raise TrainingError(f"{reason} {folder.stopped()}")
    if not folder.generator.is_file() or not monitor.is_over:
        if not monitor.steps_done:
            raise Stopped("Stopped before the first step.")
        total = f" of {monitor.total_steps}" if monitor.total_steps else ""
        raise Stopped(
            f"Stopped after step {monitor.steps_done}{total}; the last checkpoint includes all of "
            f"them. Resume with: {folder.command('train --resume', folder.run_id)}"
        )
    _record(config, run, folder, monitor)
    Workspace(config.workspace).set_latest(folder)


def _record(config: RunConfig, run: mlflow_runs.Run, folder: RunFolder, monitor: TrainingMonitor) -> None:
    """Write and log the record of a finished training, and log its networks."""
    record = RunRecord(
        run_id=run.id,
        config=config,
        steps=monitor.steps_done,
        seconds=monitor.seconds,
        images_per_second=monitor.images_per_second,
        resumed_after=monitor.resumed_after,
        generator_sha256=sha256(folder.generator),
        discriminator_sha256=sha256(folder.discriminator) if config.training.adversarial_weight else "",
        started_from=folder.started_from(),
    )
    with mlflow_server.errors(large_files=True):
        run.log_file(folder.generator, "keras")
        if record.discriminator_sha256:
            run.log_file(folder.discriminator, "keras")
    with mlflow_server.errors():
        run.log_metrics({"training_seconds": record.seconds, "training_images_per_second": record.images_per_second})
    folder.write_record(record)


def _run_workers(
    config: RunConfig,
    shares: Shares,
    folder: RunFolder,
    resources: cluster.WorkerResources,
    channel: ActorChannel,
    events: tuple[threading.Event, threading.Event],
) -> None:
    """Run Ray Train in another thread, so that this one can receive Ctrl-C and request the workers to stop."""
    with quiet_stderr():
        # This imports TensorFlow, whose messages are of no use here.
        from ray.train.tensorflow import TensorflowTrainer
    job = WorkerJob(
        config,
        shares.trained,
        shares.scored,
        folder.path,
        threads=resources.cpus,
        code_revision=provenance.git_revision(),
        palette=map_colours.of_run(config, shares.trained.train, folder),
        standardisation=standardisation.of_run(config, shares.trained.train, folder),
    )
    # A reference, because Ray Train shows the trainer's configuration.
    driver_settings = ray.put(environment.capture(os.environ))
    trainer = TensorflowTrainer(
        lambda: start_worker(job, channel, driver_settings),
        scaling_config=resources.scaling_config(),
        run_config=RayRunConfig(
            # Always a new name: checkpoints are kept in the run's folder, not by Ray Train.
            name=uuid.uuid4().hex,
            storage_path=str(folder.ray),
            failure_config=FailureConfig(max_failures=config.training.max_failures),
        ),
    )
    pool = ThreadPoolExecutor(1, thread_name_prefix="ray-train")
    running = pool.submit(trainer.fit)
    # Not waited for after a second Ctrl-C: it ends when Ray shuts down.
    pool.shutdown(wait=False)
    stop, lost = events
    while not signals.wait(running, stop, lost) and not lost.is_set():
        channel.stop()
        stop.clear()
    if not lost.is_set():
        running.result()


def _cause(error: BaseException) -> str:
    """Return the message of the innermost cause: Ray wraps a worker's exception in several of its own."""
    text = [line for line in str(error).splitlines() if line.strip()]
    return text[-1].strip() if text else repr(error)
