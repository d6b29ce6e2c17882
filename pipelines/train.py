"""The driver of a training: Ray Train's workers on one side, MLflow and the progress bar on the other."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.train import CheckpointConfig, ScalingConfig
from ray.train import RunConfig as RayRunConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.queue import Queue

from model.errors import ConfigError, DataError, TrainingError
from model.progress import quiet_stderr
from pipelines import tracking
from pipelines.config import RunConfig, TrainingConfig
from pipelines.follow import Follower
from pipelines.pairs import PairIndex
from pipelines.workspace import GENERATOR_FILE, RunFolder, RunRecord, Workspace

KEPT_CHECKPOINTS = 2
OBJECT_STORE_BYTES = 256 << 20
"""Batches are made in the workers, so that Ray's object store carries little but the sheets."""


def fit(config: RunConfig, pairs: PairIndex) -> RunFolder:
    """Train the networks, track the run in MLflow, and leave generator and record in the run's folder.

    Raises:
        ConfigError: The cluster has too few CPUs or GPUs for the workers.
        DataError: There are fewer training pairs than one batch takes.
        TrackingError: MLflow does not answer.
        TrainingError: The workers failed.
    """
    if len(pairs.train) < config.training.batch_size:
        raise DataError(
            f"{len(pairs.train)} training pairs don't fill one batch of {config.training.batch_size}; "
            "lower training.batch_size or add pairs."
        )
    tracking.connect()
    with _cluster(), tracking.new_run(config, pairs) as run:
        scaling = _scaling(config.training)
        folder = Workspace(config.workspace).new_run(run.id)
        pairs.save(folder.pairs_file)
        record = _train(config, pairs, run, folder, scaling)
        run.log_file(folder.generator, "keras")
        run.log_metrics({"training_seconds": record.seconds, "training_images_per_second": record.images_per_second})
        folder.write_record(record)
    Workspace(config.workspace).set_latest(folder)
    return folder


def train_loop_per_worker(settings: dict[str, Any]) -> None:
    """Train as one of Ray Train's workers; TensorFlow is imported there and not in the driver."""
    from pipelines.worker import train_loop

    train_loop(settings)


def _train(
    config: RunConfig, pairs: PairIndex, run: tracking.Run, folder: RunFolder, scaling: ScalingConfig
) -> RunRecord:
    reports: Queue = Queue(actor_options={"num_cpus": 0})
    follower = Follower(config, steps_per_epoch=len(pairs.train) // config.training.batch_size)
    reader = threading.Thread(target=follower.read, args=(reports, run), name="reports")
    reader.start()
    with quiet_stderr():
        # This imports TensorFlow, whose notes help nobody here.
        from ray.train.tensorflow import TensorflowTrainer
    trainer = TensorflowTrainer(
        train_loop_per_worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "pairs": pairs.model_dump(mode="json"),
            "reports": reports,
        },
        scaling_config=scaling,
        run_config=RayRunConfig(
            name=folder.checkpoints.name,
            storage_path=str(folder.path),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise TrainingError(f"Training failed: {_cause(error)}") from error
    finally:
        reports.put(None)
        reader.join()
        reports.shutdown()
    follower.raise_failure()
    assert result.checkpoint is not None, "the last epoch always leaves a checkpoint"
    with result.checkpoint.as_directory() as last:
        shutil.copyfile(Path(last) / GENERATOR_FILE, folder.generator)
    return RunRecord(
        run_id=run.id,
        config=config,
        steps=follower.steps_done,
        seconds=follower.seconds,
        images_per_second=follower.images_per_second,
    )


@contextlib.contextmanager
def _cluster() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names or that runs here already; start one of this machine otherwise."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**quiet)
    else:
        # Ray's HTTP agents then listen on this machine alone; its gRPC servers know no such setting (Ray 2.60).
        quiet |= {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
        ray.init(address="local", object_store_memory=OBJECT_STORE_BYTES, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _scaling(training: TrainingConfig) -> ScalingConfig:
    """Share the cluster out to the workers; say at once when it is too small."""
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    if training.gpu and gpus < training.workers:
        raise ConfigError(
            f"{training.workers} GPU workers were asked for and the cluster has {gpus} GPUs; "
            "lower training.workers or set training.gpu=false."
        )
    each = training.cpus_per_worker or max(1, cpus // training.workers)
    if each * training.workers > cpus:
        raise ConfigError(
            f"{training.workers} workers with {each} CPUs each were asked for and the cluster has {cpus} CPUs; "
            "lower training.workers or training.cpus_per_worker."
        )
    resources = {"CPU": each, "GPU": 1} if training.gpu else {"CPU": each}
    return ScalingConfig(num_workers=training.workers, use_gpu=training.gpu, resources_per_worker=resources)


def _cause(error: BaseException) -> str:
    """The innermost cause's own words: Ray wraps a worker's exception in several of its own."""
    text = [line for line in str(error).splitlines() if line.strip()]
    return text[-1].strip() if text else repr(error)
