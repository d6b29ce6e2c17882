"""Progress of long work: an interface for the engine, and bars on the terminal for the command line."""

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stderr, suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

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
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = _console()
    # Labels may hold names of files, which must not be read as markup.
    name = TextColumn("{task.description}", style="progress.description", markup=False)
    columns = (name, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(items, total=total, description=label)


@contextmanager
def working(label: str) -> Iterator[None]:
    """Show a spinner next to `label` during work that has no countable steps."""
    from rich.text import Text

    console = _console()
    spinner = "line" if console.options.ascii_only else "dots"
    with console.status(Text(label), spinner=spinner) if console.is_terminal else nullcontext():
        yield


@contextmanager
def stage(label: str) -> Iterator[None]:
    """Print on stderr that a stage begins and, unless it fails, how long it took."""
    from rich.text import Text

    console = _console()
    console.print(Text.assemble((label, "bold"), " ..."))
    began = time.monotonic()
    yield
    console.print(f"{label}: done in {time.monotonic() - began:.0f} s", style="dim")


def _console() -> "Console":
    """Return a console on stderr that prints text as it is, without markup, emoji codes and colours of its own."""
    from rich.console import Console

    return Console(stderr=True, markup=False, emoji=False, highlight=False)


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
            stderr = stack.enter_context(open(os.dup(real), "w", buffering=1, errors="backslashreplace"))
            stack.enter_context(redirect_stderr(stderr))
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            _flush_stderr()
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            _flush_stderr()
            os.dup2(real, 2)


def _flush_stderr() -> None:
    # The disk of the temporary folder may be full; what can't be written now follows after the block.
    with suppress(OSError):
        sys.stderr.flush()
