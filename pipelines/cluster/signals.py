"""Ctrl-C, and the TERM signal of clusters and containers, as a request to come to an end."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = 130
"""What a shell gives a command that Ctrl-C has ended."""
LOOK_SECONDS = 0.2


@contextmanager
def graceful_stop() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C (or TERM) sets; the next one raises KeyboardInterrupt.

    Signals reach the main thread alone; in another thread the event is never set.
    """
    wanted, asked = threading.Event(), False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        wanted.set()

    if threading.current_thread() is not threading.main_thread():
        yield wanted
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(running: "Future[Any]", wanted: threading.Event) -> bool:
    """Return True when the work is done, False as soon as its end is wanted."""
    while not wanted.is_set():
        done, _ = wait_for([running], timeout=LOOK_SECONDS)
        if done:
            return True
    return False
