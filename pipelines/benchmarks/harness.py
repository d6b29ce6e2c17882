"""What every bench is made of: contenders in processes of their own that take turns, and the machine's name."""

import json
import os
import shlex
import statistics
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from model.errors import ConfigError, TrainingError


def check_parts(asked: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """Return the parts of a bench that are to be measured; by default all.

    Raises:
        ConfigError: There is no such part.
    """
    if unknown := set(asked or ()) - set(known):
        raise ConfigError(f"{', '.join(sorted(unknown))} is no part of the bench; there are: {', '.join(known)}.")
    return asked or known


def in_turn(contenders: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """Let each run once a round; return the median of each."""
    taken = [[contender() for contender in contenders] for _ in range(rounds)]
    return [statistics.median(numbers) for numbers in zip(*taken, strict=True)]


def reference_speed(command: str) -> float:
    """Run a command that others are measured against; return the images/s that it prints.

    Raises:
        ConfigError: It failed or printed something else.
    """
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout.splitlines()[-1])["images_per_second"])
    except (OSError, subprocess.CalledProcessError, ValueError, LookupError, TypeError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise ConfigError(
            f"The reference {command!r} did not print a JSON object with images_per_second as its last line: "
            f"{said.strip().splitlines()[-1] if said.strip() else error}"
        ) from error


def run(command: list[str], folder: Path) -> str:
    """Run a program of ours with an MLflow and a Ray of its own; return what it printed.

    Raises:
        TrainingError: It failed.
    """
    alone = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    alone["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrainingError(f"{shlex.join(command[1:])} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout
