"""Shared parts of the benchmarks: contenders in separate processes, measured in interleaved rounds."""

import json
import os
import shlex
import statistics
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from model.errors import ConfigError, TrainingError


def check_parts(requested: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """Return the parts of a benchmark to measure, by default all.

    Raises:
        ConfigError: A requested part does not exist.
    """
    if unknown := set(requested or ()) - set(known):
        names = ", ".join(sorted(unknown))
        raise ConfigError(f"The benchmark has no part {names}; use one of: {', '.join(known)}.")
    return requested or known


def interleaved_medians(contenders: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """Run every contender once per round; return the median of each."""
    results = [[contender() for contender in contenders] for _ in range(rounds)]
    return [statistics.median(numbers) for numbers in zip(*results, strict=True)]


def reference_speed(command: str) -> float:
    """Run the command of a reference; return the images/s that it prints.

    Raises:
        ConfigError: It failed, or printed something else.
    """
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout.splitlines()[-1])["images_per_second"])
    except (OSError, subprocess.CalledProcessError, ValueError, LookupError, TypeError) as error:
        output = (getattr(error, "stderr", "") or str(error)).strip()
        raise ConfigError(
            f"The reference {command!r} did not print a JSON object with images_per_second as its last line: "
            f"{output.splitlines()[-1] if output else error}"
        ) from error


def run(command: list[str], folder: Path) -> str:
    """Run a program of this project with its own MLflow and Ray; return its stdout.

    Raises:
        TrainingError: It failed.
    """
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrainingError(f"{shlex.join(command[1:])} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout
