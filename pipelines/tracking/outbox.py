"""What is on its way to MLflow: sent in order by a thread of its own, and again until the server has taken it."""

import threading
from collections import deque
from collections.abc import Callable

from model.errors import TrackingError
from pipelines.tracking.mlflow_runs import ServerAwayError, server_errors

RETRY_SECONDS = 2.0

Send = Callable[[], None]


class Outbox:
    """Keeps what a tracking server has not taken yet, so that no training waits for it and nothing is lost.

    Sending the same twice must be harmless: a server may die between taking something and saying so.
    """

    def __init__(self, *, on_news: Callable[[str], None]) -> None:
        """Start the thread; `on_news` is told when the server goes away and when it is back."""
        self._on_news = on_news
        self._waiting: deque[Send] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, send: Send) -> None:
        """Send something after all that was put before; return at once.

        Raises:
            Exception: What the server refused earlier, if it did: that would not get better by waiting.
        """
        if self._failure is not None:
            raise self._failure
        with self._changed:
            self._waiting.append(send)
            self._changed.notify()

    def flush(self, *, patience: float) -> None:
        """Wait until all is sent, for `patience` seconds at most.

        Raises:
            TrackingError: The server did not come back in time.
            Exception: What the server refused.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: not self._waiting or self._failure is not None, timeout=patience)
        if self._failure is not None:
            raise self._failure
        if not done:
            raise TrackingError(
                f"MLflow has been away for {patience:.0f} s (tracking.patience) and {len(self._waiting)} messages "
                "are not sent; the run's checkpoints hold them: start it, and resume the run."
            )

    def close(self, *, patience: float) -> None:
        """Flush, and end the thread."""
        try:
            self.flush(patience=patience)
        finally:
            with self._changed:
                self._closing.set()
                self._changed.notify_all()
            self._thread.join()

    def _run(self) -> None:
        away = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if self._closing.is_set():
                    return
                send = self._waiting[0]
            try:
                with server_errors():
                    send()
            except ServerAwayError as error:
                if not away:
                    self._on_news(f"{error} What is to be logged is kept until it does.")
                away = True
                self._closing.wait(RETRY_SECONDS)
                continue
            except Exception as error:
                self._failure = error
            if away and self._failure is None:
                self._on_news("MLflow answers again.")
                away = False
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
            if self._failure is not None:
                return
