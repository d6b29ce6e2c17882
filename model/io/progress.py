"""Progress of long work: an interface for the engine, and bars on the terminal for the command line."""

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Receives the progress of long work; whoever starts the work decides where it is shown."""

    def track(self, items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
        """Yield `items` and count them; `total` is their number where `len(items)` is not known."""
        ...

    def working(self, label: str) -> AbstractContextManager[None]:
        """Show that work goes on which has no steps to count."""
        ...


class Silent:
    """Progress that nobody sees."""

    def track(self, items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
        """Yield `items`."""
        yield from items

    def working(self, label: str) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


class Terminal:
    """Progress on stderr; nothing is drawn when stderr is not a terminal."""

    def track(self, items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
        """Yield `items` behind a bar."""
        return track(items, label, total=total)

    def working(self, label: str) -> AbstractContextManager[None]:
        """Turn a spinner beside `label`."""
        return working(label)


SILENT = Silent()


def track(items: Iterable[Item], label: str, *, total: int | None = None) -> Iterator[Item]:
    """Yield `items` behind a bar named `label`; there is no bar when stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    yield from rich_track(
        items, description=label, total=total, console=console, transient=True, disable=not console.is_terminal
    )


@contextmanager
def working(label: str) -> Iterator[None]:
    """Turn a spinner beside `label` while work goes on that has no steps to count."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(label) if console.is_terminal else nullcontext():
        yield


@contextmanager
def stage(label: str) -> Iterator[None]:
    """Print on stderr which stage begins, and how long it took."""
    from rich.console import Console

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
