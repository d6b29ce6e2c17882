"""The outbox: requests are sent in order, repeated until they are accepted, and never block the caller."""

import threading
import time

import pytest

from model.errors import TrackingError
from pipelines.tracking import outbox as outbox_module
from pipelines.tracking.mlflow_server import UnavailableError
from pipelines.tracking.outbox import Outbox


@pytest.fixture(autouse=True)
def short_retries(monkeypatch):
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0.01)


class Server:
    """A server that is unavailable for the first requests."""

    def __init__(self, unavailable=0):
        self.unavailable, self.accepted, self.requests = unavailable, [], 0

    def request(self, content):
        def send():
            self.requests += 1
            if self.requests <= self.unavailable:
                raise UnavailableError("it does not answer:")
            self.accepted.append(content)

        return send


def test_requests_are_sent_in_order():
    server, messages = Server(), []
    outbox = Outbox(notify=messages.append)
    for number in range(100):
        outbox.put(server.request(number))
    outbox.close(patience=5)
    assert server.accepted == list(range(100)) and messages == []


def test_failed_request_is_repeated_before_later_ones():
    server, messages = Server(unavailable=7), []
    outbox = Outbox(notify=messages.append)
    for number in range(10):
        outbox.put(server.request(number))
    # More seconds than a thread can wait.
    outbox.close(patience=1e12)
    assert server.accepted == list(range(10)) and server.requests == 17
    assert messages == [
        "it does not answer: Metrics are queued until it does.",
        "MLflow answers again.",
    ]


def test_put_does_not_wait():
    go = threading.Event()
    outbox = Outbox(notify=print)
    began = time.monotonic()
    for _ in range(1000):
        outbox.put(go.wait)
    assert time.monotonic() - began < 1
    go.set()
    outbox.close(patience=5)


def test_server_that_stays_unavailable_is_given_up_with_the_number_of_unsent_requests():
    server = Server(unavailable=10**9)
    outbox = Outbox(notify=lambda _: None)
    for number in range(3):
        outbox.put(server.request(number))
    with pytest.raises(TrackingError, match=r"unavailable for 0 s \(tracking\.patience\) and 3 requests are unsent"):
        outbox.close(patience=0.2)


def test_rejected_request_is_not_repeated():
    def reject():
        raise TrackingError("MLflow rejected the request: no such run")

    server = Server()
    outbox = Outbox(notify=lambda _: None)
    outbox.put(reject)
    with pytest.raises(TrackingError, match="no such run"):
        outbox.close(patience=5)
    with pytest.raises(TrackingError, match="no such run"):
        outbox.put(server.request(1))
    assert server.accepted == []
