"""Progress of a training: losses, speed and time of the steps since it was resumed, without made-up zeros."""

import queue

import pytest
from ray.exceptions import ActorDiedError

from model.spec import LOSSES
from pipelines.config.loading import load
from pipelines.tracking.loss_curve import StepLosses
from pipelines.training.messages import TrainingUpdate
from pipelines.training.monitor import TrainingMonitor, duration

CONFIG = load(None, ["training.epochs=40 training.batch_size=4 tracking.patience=1"])
PAIRS = 72
STEPS_PER_EPOCH = 18
BEGAN = 1_000_000.0


class Channel:
    """A channel with these updates, after which Ray has ended unless the last one is None."""

    def __init__(self, *updates):
        self.updates = queue.SimpleQueue()
        for update in updates:
            self.updates.put(update)

    def send(self, update):
        self.updates.put(update)

    def next_update(self):
        update = self.updates.get(timeout=10)
        if update == "ended":
            raise ActorDiedError
        return update


class Run:
    """A run that keeps the metrics that are logged."""

    def __init__(self):
        self.speeds = []

    def log_losses(self, losses):
        pass

    def log_metrics(self, metrics, *, step, when):
        self.speeds.append((step, metrics["images_per_second"]))


def step(number, seconds):
    return StepLosses(number, BEGAN + seconds, dict.fromkeys(LOSSES, 0.25))


def losses(*steps):
    return TrainingUpdate(epoch=(steps[-1].step - 1) // STEPS_PER_EPOCH, step=steps[-1].step, losses=list(steps))


def resumed(number):
    return TrainingUpdate(epoch=0, step=number, begins=True, curve=[step(each + 1, each) for each in range(number)])


def monitored(*updates, config=CONFIG):
    """Return a monitor that has processed updates, and the run that it logged to."""
    monitor = TrainingMonitor(config, PAIRS, logged=dict.fromkeys((LOSSES[-1],), 0))
    run = Run()
    with monitor.reading(Channel(*updates), run):
        pass
    return monitor, run


@pytest.fixture
def shown(monkeypatch, capsys):
    """Return a function that returns what a terminal of some columns shows of updates."""

    def show(columns, *updates):
        for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns)}.items():
            monkeypatch.setenv(name, value)
        monitored(*updates)
        return capsys.readouterr().err

    return show


def test_speed_is_that_of_the_steps_after_the_first(capsys):
    monitor, run = monitored(losses(step(1, 30)), losses(step(2, 31), step(11, 40)))
    assert (monitor.steps_done, monitor.seconds, monitor.images_per_second) == (11, 10, 4)
    # The first step has no speed yet.
    assert run.speeds == [(11, 4)]


def test_length_is_estimated_once_after_the_first_steps(capsys):
    monitored(losses(step(1, 30)), losses(step(2, 31)), losses(step(11, 40)), losses(step(12, 41)))
    assert capsys.readouterr().err == "720 steps, about 11 min 50 s at 4.0 images/s.\n"


def test_a_resumed_training_estimates_and_times_what_is_left(capsys):
    monitor, _ = monitored(resumed(700), losses(step(701, 1000)), losses(step(711, 1010)))
    assert capsys.readouterr().err == "9 of 720 steps left, about 9 s at 4.0 images/s.\n"
    assert (monitor.resumed_after, monitor.steps_done, monitor.seconds, monitor.images_per_second) == (700, 711, 10, 4)


def test_workers_that_restart_without_a_step_to_do_take_no_time(capsys):
    monitor, _ = monitored(losses(step(719, 1)), losses(step(720, 2)), resumed(720))
    assert (monitor.steps_done, monitor.seconds, monitor.images_per_second) == (720, 0, 0)


def test_workers_that_restart_without_a_checkpoint_begin_with_a_new_clock(capsys):
    begun = TrainingUpdate(epoch=0, begins=True)
    monitor, _ = monitored(begun, losses(step(1, 0), step(9, 8)), begun, losses(step(1, 500), step(3, 502)))
    assert (monitor.resumed_after, monitor.steps_done, monitor.seconds, monitor.images_per_second) == (0, 3, 2, 4)


def test_the_end_of_each_epoch_is_a_line_of_a_log(capsys):
    monitored(losses(step(17, 1), step(18, 2)))
    assert capsys.readouterr().err == "epoch 1/40  L1 0.250  GAN 0.250  D 0.250  4.0 images/s\n"


def test_steps_of_a_training_by_minutes_are_estimated_and_then_known(capsys):
    config = load(None, ["training.minutes=20 training.batch_size=4 tracking.patience=1"])
    known = TrainingUpdate(epoch=0, step=9, total_steps=1200)
    monitor, _ = monitored(losses(step(1, 30)), losses(step(8, 37)), known, losses(step(12, 41)), config=config)
    assert capsys.readouterr().err.splitlines() == [
        "20 minutes, about 1,200 steps at 4.0 images/s.",
        "20 minutes are enough for 1,200 steps.",
    ]
    assert monitor.total_steps == 1200 and not monitor.is_over


@pytest.mark.parametrize("columns", [80, 120])
def test_the_bar_fits_the_terminal(shown, columns):
    text = shown(columns, TrainingUpdate(epoch=0), losses(step(1, 1)), losses(step(500, 1000)))
    assert "images/s" in text and "left" in text and "…" not in text
    assert ("GAN" in text) == (columns == 120)


def test_the_bar_shows_no_losses_before_the_first_step(shown):
    text = shown(120, TrainingUpdate(epoch=0))
    assert "epoch 1/40" in text and "L1" not in text and "images/s" not in text and "0.0" not in text


def test_the_end_of_ray_ends_the_reading():
    monitor = TrainingMonitor(CONFIG, PAIRS, logged=dict.fromkeys((LOSSES[-1],), 0))
    with monitor.reading(Channel("ended"), Run()):
        assert monitor.lost.wait(10)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (45, "45 s"), (140, "2 min 20 s"), (180, "3 min"), (13_200, "3 h 40 min"), (187_200, "2 d 4 h")],
)
def test_durations_are_written_in_two_units(seconds, text):
    assert duration(seconds) == text
