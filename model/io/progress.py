"""What people see on stderr while they wait; bars are drawn only where somebody looks."""

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar("Item")


def track(items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
    """Yield `items` behind a bar named `label`; the bar is left out when stderr is not a terminal."""
    console = Console(stderr=True)
    yield from rich_track(
        items, description=label, total=total, console=console, transient=True, disable=not console.is_terminal
    )


@contextmanager
def working(label: str) -> Iterator[None]:
    """Turn a wheel beside `label` for what has no steps to count; nothing is shown when stderr is not a terminal."""
    console = Console(stderr=True)
    with console.status(label) if console.is_terminal else nullcontext():
        yield


@contextmanager
def stage(label: str) -> Iterator[None]:
    """Say on stderr what begins, and how long it took when it is done."""
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold]{label}[/] ...")
    began = time.monotonic()
    yield
    console.print(f"{label}: done in {time.monotonic() - began:.0f} s", style="dim")


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what this process writes to file descriptor 2, C++ libraries too; show it if an error comes."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
