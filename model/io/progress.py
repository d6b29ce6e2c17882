"""Progress of long work: an interface for the engine, and bars on the terminal for the command line."""

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stderr
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Receiver of the progress of long work; the caller decides where it is shown."""

    def track(self, items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
        """Yield `items` and count them; `total` is their number if `len(items)` is unknown."""
        ...

    def working(self, label: str) -> AbstractContextManager[None]:
        """Show that work without countable steps is running."""
        ...


class Silent:
    """Progress that is not shown."""

    def track(self, items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
        """Yield `items`."""
        yield from items

    def working(self, label: str) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


class Terminal:
    """Progress on stderr; nothing is shown if stderr is not a terminal."""

    def track(self, items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
        """Yield `items` with a bar."""
        return track(items, label, total=total)

    def working(self, label: str) -> AbstractContextManager[None]:
        """Show a spinner next to `label`."""
        return working(label)


SILENT = Silent()


def track(items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
    """Yield `items` with a bar named `label`; there is no bar if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    yield from rich_track(
        items, description=label, total=total, console=console, transient=True, disable=not console.is_terminal
    )


@contextmanager
def working(label: str) -> Iterator[None]:
    """Show a spinner next to `label` during work that has no countable steps."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(label) if console.is_terminal else nullcontext():
        yield


@contextmanager
def stage(label: str) -> Iterator[None]:
    """Print on stderr that a stage begins and, unless it fails, how long it took."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print(f"[bold]{label}[/] ...")
    began = time.monotonic()
    yield
    console.print(f"{label}: done in {time.monotonic() - began:.0f} s", style="dim")


@contextmanager
def quiet_stderr(*, show_on_error: bool = True, keep_python: bool = False) -> Iterator[None]:
    """Hold back everything that this process writes to file descriptor 2, including output of C++ libraries.

    Args:
        show_on_error: Print the output if an error is raised; if false, it is always discarded.
        keep_python: Let `sys.stderr` through, and hold back only output that bypasses it.
    """
    sys.stderr.flush()
    with ExitStack() as stack:
        real = os.dup(2)
        stack.callback(os.close, real)
        held = stack.enter_context(tempfile.TemporaryFile() if show_on_error else open(os.devnull, "r+b"))
        if keep_python:
            stderr = stack.enter_context(open(os.dup(real), "w", buffering=1))
            stack.enter_context(redirect_stderr(stderr))
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
