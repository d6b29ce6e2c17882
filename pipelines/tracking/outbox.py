"""A queue of requests to MLflow, sent in order by its own thread and repeated until the server accepts them."""

import threading
from collections import deque
from collections.abc import Callable

from pipelines.tracking import mlflow_server

RETRY_SECONDS = 2.0

Send = Callable[[], None]


class Outbox:
    """Requests that the tracking server has not accepted yet: training never waits for them, and none is lost.

    Requests must be idempotent: a server may die after it has handled one and before it has answered.
    """

    def __init__(self, *, notify: Callable[[str], None]) -> None:
        """Start the thread; `notify` is called with a message when the server becomes unavailable and available."""
        self._notify = notify
        self._waiting: deque[Send] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, send: Send) -> None:
        """Queue a request after all earlier ones; return at once.

        Raises:
            Exception: The server has rejected an earlier request, which repeating would not change.
        """
        if self._failure is not None:
            raise self._failure
        with self._changed:
            self._waiting.append(send)
            self._changed.notify()

    def flush(self, *, patience: float) -> None:
        """Wait until every request is sent, for at most `patience` seconds.

        Raises:
            UnavailableError: The server did not become available in time.
            Exception: The server has rejected a request.
        """
        with self._changed:
            timeout = min(patience, threading.TIMEOUT_MAX)
            done = self._changed.wait_for(lambda: not self._waiting or self._failure is not None, timeout=timeout)
        if self._failure is not None:
            raise self._failure
        if not done:
            raise mlflow_server.UnavailableError(
                f"MLflow has been unavailable for {patience:.0f} s (tracking.patience) and {len(self._waiting)} "
                "requests are unsent; they are in the run's checkpoints. Start the server and resume the run."
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
        unavailable = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if self._closing.is_set():
                    return
                send = self._waiting[0]
            try:
                with mlflow_server.errors():
                    send()
            except mlflow_server.UnavailableError as error:
                if not unavailable:
                    self._notify(f"{error} Metrics are queued until it does.")
                unavailable = True
                self._closing.wait(RETRY_SECONDS)
                continue
            except Exception as error:
                self._failure = error
            if unavailable and self._failure is None:
                self._notify("MLflow answers again.")
                unavailable = False
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
            if self._failure is not None:
                return
