"""Ctrl-C, and the TERM signal of clusters and containers, as a request to stop gracefully."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")

STOPPED = 130
"""Exit code that shells report for a command ended by Ctrl-C."""
POLL_SECONDS = 0.2


@contextmanager
def graceful_stop() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C (or TERM) sets; the next one raises KeyboardInterrupt.

    Only the main thread receives signals; in another thread the event is never set.
    """
    stop, requested = threading.Event(), False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Keep the handlers of this process through a block in which Ray starts or ends.

    Ray's C++ code replaces that of TERM with one that aborts the process, and removes that at its end (Ray 2.60).

    TERM is held back for the block, and for good from processes that start in it: it is sent to all processes of a
    terminal or a container, and this process ends the others.
    """
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_on_term() -> None:
    """Make TERM end this process as Ctrl-C does, with everything cleaned up; by default Python would end at once."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def wait(running: "Future[Result]", *events: threading.Event) -> bool:
    """Return True when the work is done, or False as soon as one of the events is set."""
    while not any(event.is_set() for event in events):
        done, _ = wait_for([running], timeout=POLL_SECONDS)
        if done:
            return True
    return False
