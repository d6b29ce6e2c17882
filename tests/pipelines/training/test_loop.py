"""The training loop in this process: what it sends and keeps, and that losses are matched by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.errors import TrainingError
from model.networks.train_step import build_state, train_step
from model.spec import LOSSES
from pipelines.config.loading import load
from pipelines.data.dataset import Shard, load_all
from pipelines.run_folder import RunFolder
from pipelines.tracking.loss_curve import LossCurve, StepLosses
from pipelines.training import loop
from pipelines.training.checkpoints.checkpoint import ARRAYS
from pipelines.training.checkpoints.checkpoint_manifest import read_manifest
from pipelines.training.checkpoints.checkpoint_store import CheckpointStore
from pipelines.training.messages import WorkerJob
from pipelines.training.schedule import Schedule
from tests.fixtures.pair_folders import index, side_by_side

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
SETTINGS = "network.image_size=32 network.depth=3 network.width=2 training.batch_size=2"

NAMES = [name for name in LOSSES if name != "generator_colour_loss"]
"""Names of the losses if no colours are looked at."""


class Recorder:
    """A channel that keeps the updates."""

    def __init__(self, stop_after=None):
        self.updates, self.stop_after = [], stop_after

    def send(self, update):
        self.updates.append(update)
        return self.stop_after is not None and update.step >= self.stop_after


class Clock:
    """A clock that is a second later whenever it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture
def trained(tmp_path):
    """Return a function that trains in this process, and returns its updates and the run's folder."""

    def run(*settings, name="run", stop_after=None, length="training.epochs=2"):
        config, channel, folder = (
            load("default", [SETTINGS, length, *settings]),
            Recorder(stop_after),
            RunFolder(tmp_path / name),
        )
        pairs = index(side_by_side(tmp_path / "pairs"))
        held_out = load_all(pairs.val, side=32, direction="photo_to_map")
        schedule = Schedule(config.training, len(pairs.train), clock=Clock())
        loop.TrainingLoop(
            config,
            tf.distribute.get_strategy(),
            build_state(
                config.network,
                learning_rate=schedule.rate,
                discriminator_learning_rate=schedule.discriminator_rate,
                beta_1=0.5,
                seed=0,
                average=config.training.average > 0,
            ),
            Shard(),
            channel,
            job=WorkerJob(config, pairs, pairs.val, folder.path, threads=1, code_revision="none"),
            schedule=schedule,
            held_out=held_out,
            scored=held_out,
        ).run(pairs)
        return channel.updates, folder

    return run


def saved(folder):
    """Return the position and the sha256 of the arrays of a run's newest checkpoint."""
    newest, _ = CheckpointStore(folder.checkpoints, keep=2, best_by="val_l1").newest()
    manifest = read_manifest(newest)
    return manifest.position, manifest.sha256[ARRAYS]


def test_training_ends_after_its_steps_in_the_middle_of_an_epoch_and_goes_on_from_there(trained):
    _, whole = trained("training.decay=0", length="training.steps=7", name="whole")
    updates, folder = trained("training.decay=0", length="training.steps=3")
    position, _ = saved(folder)
    assert (position.epoch, position.step, position.seen) == (1, 3, 2)
    (drawing,) = [update for update in updates if update.drawing]
    assert drawing.epoch == 1 and folder.generator.is_file()
    trained("training.decay=0", length="training.steps=7")
    assert saved(folder)[1] == saved(whole)[1]


def test_training_by_minutes_is_the_same_as_one_with_the_steps_that_fitted(trained):
    updates, folder = trained("training.decay=0.25", length="training.minutes=2", name="timed")
    (total,) = [update.total_steps for update in updates if update.total_steps]
    position, arrays = saved(folder)
    # The clock is read a few times a step; the rate falls after 90 seconds, three quarters of the steps.
    assert position.step == position.total == total > 16 and position.seconds > 90
    _, repeated = trained("training.decay=0.25", length=f"training.steps={total}", name="repeated")
    assert saved(repeated)[1] == arrays


def test_time_and_steps_of_a_training_by_minutes_survive_a_stop(trained, monkeypatch):
    monkeypatch.setattr(loop, "UPDATE_SECONDS", 0)
    for stop_after, known in ((5, False), (25, True)):
        updates, folder = trained("training.decay=0.5", length="training.minutes=2", stop_after=stop_after)
        position, _ = saved(folder)
        assert stop_after < position.step < stop_after + 5 and (position.total is not None) == known
    totals = {update.total_steps for update in updates if update.total_steps}
    updates, _ = trained("training.decay=0.5", length="training.minutes=2")
    assert {update.total_steps for update in updates if update.total_steps} == totals == {position.total}
    assert saved(folder)[0].step == position.total
    # Twice the time is about twice the steps; the clock is read when a training begins and ends as well.
    trained("training.decay=0.5", length="training.minutes=4")
    assert saved(folder)[0].step == pytest.approx(2 * position.total, rel=0.2)


def test_losses_are_matched_by_name_whatever_the_order_of_the_dict(trained, monkeypatch):
    reordered = []

    def train_step_in_other_order(*inputs, **options):
        losses = train_step(*inputs, **options)
        reordered.append(list(reversed(losses)))
        return {name: losses[name] for name in reordered[-1]}

    monkeypatch.setattr(loop, "train_step", train_step_in_other_order)
    updates, folder = trained()
    assert reordered and all(names != NAMES for names in reordered)
    steps = [losses for update in updates for losses in update.losses]
    assert [losses.step for losses in steps] == [1, 2, 3, 4]
    for losses in (step.losses for step in steps):
        assert list(losses) == NAMES
        generator_loss = losses["generator_adversarial_loss"] + 100 * losses["generator_l1_loss"]
        discriminator_loss = losses["discriminator_real_loss"] + losses["discriminator_drawn_loss"]
        assert losses["generator_loss"] == pytest.approx(generator_loss, rel=1e-5)
        assert losses["discriminator_loss"] == pytest.approx(discriminator_loss, rel=1e-5)
        assert 0 < losses["generator_l1_loss"] < 2 and losses["generator_loss"] > losses["discriminator_loss"]
    assert LossCurve.newest(folder.checkpoints).steps == [
        StepLosses(step.step, step.when, {name: np.float32(value) for name, value in step.losses.items()})
        for step in steps
    ]


def test_result_of_an_averaged_training_is_the_average(trained, monkeypatch):
    monkeypatch.setattr(loop, "AVERAGE_EVERY", 2)
    _, folder = trained("training.average=0.9")
    newest, _ = CheckpointStore(folder.checkpoints, keep=2, best_by="val_l1").newest()
    with np.load(newest / ARRAYS) as values:
        saved = [values[name] for name in values.files if name.startswith("averaged/") and "seed" not in name]
        last = [values[name] for name in values.files if name.startswith("generator/") and "seed" not in name]
    result = keras.saving.load_model(folder.generator).get_weights()
    moving = [np.array_equal(one, other) for one, other in zip(saved, result, strict=True)]
    assert all(moving) and not np.array_equal(last[0], result[0])


def test_updates_hold_metrics_of_epochs_and_a_drawing(trained):
    updates, folder = trained()
    metrics = [(name, update.step) for update in updates for name in update.metrics]
    assert metrics == [("input_wait", 2), ("input_wait", 4), ("val_l1", 4), ("val_ssim", 4)]
    (drawing,) = [update.drawing for update in updates if update.drawing]
    assert drawing.drawn.shape == drawing.target.shape == (2, 32, 32, 3)
    assert folder.generator.is_file()


def test_finished_training_is_resumed_without_a_step(trained):
    trained()
    updates, _ = trained()
    notes = [note for update in updates for note in update.notes]
    assert notes == ["Resuming from checkpoint step-00000004 (epoch 2)."]
    assert [losses.step for update in updates for losses in update.curve] == [1, 2, 3, 4]
    assert not any(update.losses for update in updates)


def test_resumed_training_keeps_the_scores_of_earlier_checkpoints(trained):
    settings = ("training.checkpoint_every=1", "training.keep_checkpoints=1")
    trained(*settings, length="training.epochs=1")
    updates, folder = trained(*settings, length="training.epochs=3")
    scores = LossCurve.newest(folder.checkpoints).scores
    assert list(scores) == [2, 4, 6] and all(found.keys() == {"val_l1", "val_ssim"} for found in scores.values())
    logged = {update.step: update.metrics for update in updates if "val_l1" in update.metrics}
    assert logged == {4: scores[4], 6: scores[6]}


def test_no_earlier_checkpoint_is_promised_if_none_could_be_written(trained, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoints").touch()
    failed = r"The checkpoint of step 4 could not be written \(Not a directory\), and it is the final one"
    with pytest.raises(TrainingError, match=rf"{failed}\. Free some disk space, then train again\."):
        trained()
