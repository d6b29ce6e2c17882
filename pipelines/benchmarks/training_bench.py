"""How fast training is on this machine, beside a reference: `sat2map bench training`.

Everything is measured in processes of their own, in turn: what the machine does at one moment meets all alike.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from model.hardware import processor, usable_cores
from model.io.files import write_text
from model.io.progress import stage
from pipelines.benchmarks.harness import check_parts, in_turn, reference_speed, run
from pipelines.benchmarks.results import Inside, Scaling, StepSpeed, TrainingBench, table
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.tracking.loss_curve import CURVE, LossCurve
from pipelines.workspace import Workspace

PARTS = ("step", "inside", "scaling")
WARM_UP = 2
"""Steps of a training that are not counted."""
INSIDE_BATCH = 4
WORKER_BATCH = 8


class Timed(NamedTuple):
    """One training: until its first step was done, and a step after that."""

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
    """Measure the parts that are asked for, and write `bench/training.json` and `.md` into the workspace.

    Args:
        config: Network and precision; data and workspace are not used.
        parts: `step`: the bare step. `inside`: the same inside Ray and MLflow. `scaling`: two workers. None is all.
        batches: Batch sizes of `step`.
        against: Commands to be as fast as; each prints one JSON object with `images_per_second` as its last line.
            `{batch}` in it is the batch size.
        rounds: How often each is measured, in turn.
        steps: Steps that are timed each time.

    Raises:
        ConfigError: There is no such part; or a reference command failed or printed something else.
        TrainingError: A training of ours failed.
    """
    parts = check_parts(parts, PARTS)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sat2map-bench-") as name:
        folder = Path(name)
        if "step" in parts:
            with stage(f"Timing the step at batch {', '.join(map(str, batches))}"):
                found["step"] = [_step(config, batch, against, rounds, steps, folder) for batch in batches]
        if "inside" in parts:
            with stage("Timing the step inside Ray and MLflow"):
                found["inside"] = [_inside(config, threads, rounds, steps, folder) for threads in _threads()]
        if "scaling" in parts:
            with stage("Timing two workers of one thread"):
                found["scaling"] = _scaling(config, rounds, steps, folder)
    result = TrainingBench(
        machine=f"{processor()}, {usable_cores()} cores",
        versions={package: version(package) for package in ("tensorflow", "keras", "ray", "mlflow")},
        precision=config.training.precision,
        width=config.network.width,
        rounds=rounds,
        steps_timed=steps,
        **found,
    )
    folder = config.workspace / "bench"
    write_text(folder / "training.json", result.model_dump_json(indent=2))
    write_text(folder / "training.md", table(result))
    return result


def _step(config: RunConfig, batch: int, against: Sequence[str], rounds: int, steps: int, folder: Path) -> StepSpeed:
    ours_alone = with_settings(config, {"training.batch_size": batch})

    def ours() -> float:
        return batch / _bare(ours_alone, steps, folder)

    # The references first: a command that can't run is known at once.
    contenders: list[Callable[[], float]] = [
        *(partial(reference_speed, command.replace("{batch}", str(batch))) for command in against),
        ours,
    ]
    *references, speed = in_turn(contenders, rounds)
    return StepSpeed(batch=batch, images_per_second=speed, references=dict(zip(against, references, strict=True)))


def _threads() -> list[int]:
    """All cores, and all but one: what else runs on a machine then has a core of its own."""
    return sorted({usable_cores(), max(1, usable_cores() - 1)}, reverse=True)


def _inside(config: RunConfig, threads: int, rounds: int, steps: int, folder: Path) -> Inside:
    config = with_settings(config, {"training.batch_size": INSIDE_BATCH, "training.cpus_per_worker": threads})
    firsts: list[float] = []

    def inside() -> float:
        timed = _train(config, steps, folder)
        firsts.append(timed.first_step_seconds)
        return timed.step_seconds

    bare_seconds, inside_seconds = in_turn([lambda: _bare(config, steps, folder), inside], rounds)
    return Inside(
        batch=INSIDE_BATCH,
        threads=threads,
        bare_seconds=bare_seconds,
        inside_seconds=inside_seconds,
        first_step_seconds=statistics.median(firsts),
    )


def _scaling(config: RunConfig, rounds: int, steps: int, folder: Path) -> Scaling:
    def trained(workers: int) -> Callable[[], float]:
        settings = {
            "training.workers": workers,
            "training.cpus_per_worker": 1,
            "training.batch_size": workers * WORKER_BATCH,
        }
        return lambda: _train(with_settings(config, settings), steps, folder).step_seconds

    one, two = in_turn([trained(1), trained(2)], rounds)
    return Scaling(batch_per_worker=WORKER_BATCH, one_seconds=one, two_seconds=two)


def _bare(config: RunConfig, steps: int, folder: Path) -> float:
    file = folder / "bare.json"
    write_text(file, config.model_dump_json())
    printed = run([sys.executable, "-m", "pipelines.benchmarks.bare_step", str(file), str(steps)], folder)
    return float(json.loads(printed.splitlines()[-1])["step_seconds"])


def _train(config: RunConfig, steps: int, folder: Path) -> Timed:
    """Train as a user does, on painted scenes, in a workspace of its own; the first epoch has decoded the images."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        settings = {
            "workspace": str(place / "work"),
            "data.source": "sample",
            "data.sample.train": config.training.batch_size * (WARM_UP + steps),
            "data.sample.val": 3,
            "training.epochs": 2,
            "training.checkpoint_every": 2,
            "training.sheet_every": 2,
        }
        file = place / "config.json"
        write_text(file, with_settings(config, settings).model_dump_json())
        run([sys.executable, "-m", "pipelines", "prepare", "--config", str(file)], place)
        began = time.time()
        run([sys.executable, "-m", "pipelines", "train", "--config", str(file)], place)
        [checkpoint] = Workspace(place / "work").run().checkpoints.iterdir()
        when = [step.when for step in LossCurve.load(checkpoint / CURVE).steps]
        second_epoch = when[WARM_UP + steps :][WARM_UP - 1 :]
        between = [later - earlier for earlier, later in pairwise(second_epoch)]
        return Timed(when[0] - began, statistics.median(between))
