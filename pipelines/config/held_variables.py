"""Environment variables held at other values for the duration of a block."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class HeldVariables:
    """Arguments of a library that it reads from environment variables only.

    Blocks may nest, and overlap in several threads: the first one to begin sets the variables, the last one to end
    restores what was there before. Until then the entire process sees the new values.
    """

    def __init__(self, values: Mapping[str, str | None]) -> None:
        """Hold variables at these values; None unsets one."""
        self._values = dict(values)
        self._before: dict[str, str | None] = {}
        self._depth = 0
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the variables while the block runs."""
        with self._lock:
            if self._depth == 0:
                self._before = {name: os.environ.get(name) for name in self._values}
                _set(self._values)
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    _set(self._before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
