"""One Ray Train worker: it sets up its devices, builds the networks and runs the training loop."""

import platform
from collections.abc import Sequence

import keras
import ray.train
import tensorflow as tf

from model.errors import DataError, Sat2mapError
from model.networks.train_step import TrainState, build_state
from model.pixels import Pixels
from pipelines.config.schema import RunConfig
from pipelines.data.dataset import Shard, load_all
from pipelines.data.pairs import Pair, PairIndex
from pipelines.run_folder import RunFolder
from pipelines.training.channel import ActorChannel
from pipelines.training.loop import TrainingLoop
from pipelines.training.messages import Channel, TrainingUpdate, WorkerJob
from pipelines.training.preconditions import local_folders
from pipelines.training.schedule import Schedule

BYTES_PER_PACK = 16 << 20
"""Gradients are summed over the workers in packs of this size: the first while the last are still being computed."""


def train_loop(job: WorkerJob, channel: ActorChannel) -> None:
    """Train as one of the workers of Ray Train, in its own process."""
    context = ray.train.get_context()
    try:
        train_share(job, Shard(context.get_world_rank(), context.get_world_size()), channel)
    except Sat2mapError as error:
        # Otherwise Ray would restart the workers, only to fail in the same way.
        channel.send(TrainingUpdate(epoch=0, user_error=str(error)))
        channel.stop()
        raise


def train_share(job: WorkerJob, shard: Shard, channel: Channel) -> None:
    """Train one worker's share of the pairs, and send updates to the channel."""
    config, pairs, folder = job.config, job.pairs, RunFolder(job.folder)
    check_shared_storage(folder, pairs)
    _set_up_devices(config, threads=job.threads)
    strategy = _strategy(config, shard)
    with strategy.scope():
        schedule = Schedule(config.training, len(pairs.train))
        state = _build_state(config, schedule)
    loop = TrainingLoop(
        config,
        strategy,
        state,
        shard,
        channel,
        job=job,
        schedule=schedule,
        held_out=_load(pairs.val[: config.training.sheet_pairs], config),
        scored=_load(job.scored, config),
    )
    loop.run(pairs)


def check_shared_storage(folder: RunFolder, pairs: PairIndex) -> None:
    """Check that this machine sees the run's folder and the folders of the pairs.

    Raises:
        DataError: It does not: it is another node than the one that made them, without shared storage.
    """
    for needed in [folder.path, *local_folders(pairs)]:
        if not needed.is_dir():
            raise DataError(
                f"The worker on {platform.node()} does not see {needed}; on a cluster, workspace and pairs "
                "must lie on storage that every node sees under the same path. Set workspace and data.source to "
                "folders there, and run `sat2map prepare` again."
            )


def _set_up_devices(config: RunConfig, *, threads: int) -> None:
    # By default TensorFlow would use every core of the node, and so would the next worker there.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    keras.config.set_dtype_policy(config.training.precision)
    keras.utils.set_random_seed(config.seed)
    if config.training.deterministic:
        tf.config.experimental.enable_op_determinism()


def _strategy(config: RunConfig, shard: Shard) -> tf.distribute.Strategy:
    if shard.workers == 1:
        # The default strategy opens no port and reduces nothing.
        return tf.distribute.get_strategy()
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        bytes_per_pack=BYTES_PER_PACK, implementation=kinds.NCCL if config.training.gpu else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _build_state(config: RunConfig, schedule: Schedule) -> TrainState:
    training = config.training
    return build_state(
        config.network,
        learning_rate=schedule.rate,
        discriminator_learning_rate=schedule.discriminator_rate,
        beta_1=training.beta_1,
        seed=config.seed,
        average=training.average > 0,
    )


def _load(pairs: Sequence[Pair], config: RunConfig) -> tuple[Pixels, Pixels]:
    return load_all(pairs, side=config.network.image_size, direction=config.data.direction)
