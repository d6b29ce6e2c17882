"""Benchmark of training on this machine, compared with reference commands: `sat2map bench training`.

Every measurement runs in its own process, in interleaved rounds, so that other load affects all contenders alike.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from model.hardware import describe_processor, usable_cores
from model.io.files import check_writable, scratch_folder, write_text
from model.io.progress import stage
from pipelines.benchmarks.harness import check_parts, interleaved_medians, reference_speed, run
from pipelines.benchmarks.results import Overhead, Scaling, StepSpeed, TrainingBench, training_table
from pipelines.cluster.number_format import choose_here
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.tracking.loss_curve import CURVE, LossCurve
from pipelines.workspace import Workspace

PARTS = ("step", "inside", "scaling")
WARM_UP = 2
"""Steps of a training run before those that are timed."""
INSIDE_BATCH = 4
WORKER_BATCH = 8


@dataclass(frozen=True)
class _Rounds:
    """The rounds of all measurements, the steps timed in each, and a scratch folder."""

    rounds: int
    steps: int
    folder: Path


class _Timing(NamedTuple):
    first_step_seconds: float
    step_seconds: float


def training(
    config: RunConfig,
    *,
    parts: Sequence[str] | None,
    batches: Sequence[int],
    against: Sequence[str],
    rounds: int,
    steps: int,
) -> TrainingBench:
    """Measure the requested parts, and write `bench/training.json` and `.md` into the workspace.

    Args:
        config: Network and precision, `auto` for that of this machine; its data and workspace are not used.
        parts: `step`: the bare step. `inside`: the same inside Ray and MLflow. `scaling`: two workers. None for all.
        batches: Batch sizes of `step`.
        against: Reference commands; each prints one JSON object with `images_per_second` as its last line.
            `{batch}` stands for the batch size, and `{precision}` for the precision.
        rounds: Number of rounds.
        steps: Steps timed in each round.

    Raises:
        ConfigError: A part does not exist; or a reference command failed or printed something else.
        TrainingError: A training run of this project failed.
    """
    parts, config = check_parts(parts, PARTS), choose_here(config)
    check_writable(config.workspace / "bench" / "training.json")
    step: list[StepSpeed] = []
    inside: list[Overhead] = []
    scaling: Scaling | None = None
    with scratch_folder() as name:
        timed = _Rounds(rounds, steps, Path(name))
        if "step" in parts:
            with stage(f"Timing the step at batch {', '.join(map(str, batches))}"):
                step = [_step(config, batch, against, timed) for batch in batches]
        if "inside" in parts:
            with stage("Timing the step inside Ray and MLflow"):
                inside = [_overhead(config, threads, timed) for threads in _threads()]
        if "scaling" in parts:
            with stage("Timing two workers of one thread"):
                scaling = _scaling(config, timed)
    result = TrainingBench(
        machine=describe_processor(),
        versions={package: version(package) for package in ("tensorflow", "keras", "ray", "mlflow")},
        precision=config.training.precision,
        width=config.network.width,
        rounds=rounds,
        steps_timed=steps,
        step=tuple(step),
        inside=tuple(inside),
        scaling=scaling,
    )
    out = config.workspace / "bench"
    write_text(out / "training.json", result.model_dump_json(indent=2))
    write_text(out / "training.md", training_table(result))
    return result


def _step(config: RunConfig, batch: int, against: Sequence[str], timed: _Rounds) -> StepSpeed:
    config = with_settings(config, {"training.batch_size": batch})

    def fill(command: str) -> str:
        return command.replace("{batch}", str(batch)).replace("{precision}", config.training.precision)

    # References come first, so that a command that can't run fails at once.
    contenders: list[Callable[[], float]] = [
        *(partial(reference_speed, fill(command)) for command in against),
        lambda: batch / _bare(config, timed),
    ]
    *references, speed = interleaved_medians(contenders, timed.rounds)
    return StepSpeed(batch=batch, images_per_second=speed, references=dict(zip(against, references, strict=True)))


def _threads() -> list[int]:
    """Return the numbers of threads to measure: all cores, and one less, which leaves a core to other processes."""
    return sorted({usable_cores(), max(1, usable_cores() - 1)}, reverse=True)


def _overhead(config: RunConfig, threads: int, timed: _Rounds) -> Overhead:
    config = with_settings(config, {"training.batch_size": INSIDE_BATCH, "training.cpus_per_worker": threads})
    first_steps: list[float] = []

    def inside() -> float:
        timing = _train(config, timed)
        first_steps.append(timing.first_step_seconds)
        return timing.step_seconds

    bare_seconds, inside_seconds = interleaved_medians([lambda: _bare(config, timed), inside], timed.rounds)
    return Overhead(
        batch=INSIDE_BATCH,
        threads=threads,
        bare_seconds=bare_seconds,
        inside_seconds=inside_seconds,
        first_step_seconds=statistics.median(first_steps),
    )


def _scaling(config: RunConfig, timed: _Rounds) -> Scaling:
    def seconds(workers: int) -> float:
        settings = {
            "training.workers": workers,
            "training.cpus_per_worker": 1,
            "training.batch_size": workers * WORKER_BATCH,
        }
        return _train(with_settings(config, settings), timed).step_seconds

    one, two = interleaved_medians([partial(seconds, 1), partial(seconds, 2)], timed.rounds)
    return Scaling(batch_per_worker=WORKER_BATCH, one_seconds=one, two_seconds=two)


def _bare(config: RunConfig, timed: _Rounds) -> float:
    file = timed.folder / "bare.json"
    write_text(file, config.model_dump_json())
    command = [sys.executable, "-m", "pipelines.benchmarks.bare_step", str(file), str(timed.steps)]
    return float(json.loads(run(command, timed.folder).splitlines()[-1])["step_seconds"])


def _train(config: RunConfig, timed: _Rounds) -> _Timing:
    """Train as a user does, on painted scenes, in a new workspace; the second epoch is timed, with decoded images."""
    with tempfile.TemporaryDirectory(dir=timed.folder) as name:
        folder = Path(name)
        settings = {
            "workspace": str(folder / "work"),
            "data.source": "sample",
            "data.sample.train": config.training.batch_size * (WARM_UP + timed.steps),
            "data.sample.val": 3,
            "training.epochs": 2,
            "training.checkpoint_every": 2,
            "training.sheet_every": 2,
        }
        file = folder / "config.json"
        write_text(file, with_settings(config, settings).model_dump_json())
        run([sys.executable, "-m", "pipelines", "prepare", "--config", str(file)], folder)
        began = time.time()
        run([sys.executable, "-m", "pipelines", "train", "--config", str(file)], folder)
        [checkpoint] = Workspace(folder / "work").run().checkpoints.iterdir()
        when = [step.when for step in LossCurve.load(checkpoint / CURVE).steps]
        second_epoch = when[WARM_UP + timed.steps :][WARM_UP - 1 :]
        seconds = [later - earlier for earlier, later in pairwise(second_epoch)]
        return _Timing(when[0] - began, statistics.median(seconds))
