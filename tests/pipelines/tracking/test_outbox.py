"""On the way to MLflow: in order, again until it is taken, and never in the way of who puts it there."""

import threading
import time

import pytest

from model.errors import TrackingError
from pipelines.tracking import outbox as outbox_module
from pipelines.tracking.mlflow_runs import ServerAwayError
from pipelines.tracking.outbox import Outbox


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0.01)


class Server:
    """A server that is away for some requests."""

    def __init__(self, away=0):
        self.away, self.taken, self.asked = away, [], 0

    def take(self, what):
        def send():
            self.asked += 1
            if self.asked <= self.away:
                raise ServerAwayError("it does not answer:")
            self.taken.append(what)

        return send


def test_all_is_sent_in_order():
    server, news = Server(), []
    outbox = Outbox(on_news=news.append)
    for number in range(100):
        outbox.put(server.take(number))
    outbox.close(patience=5)
    assert server.taken == list(range(100)) and news == []


def test_what_a_server_did_not_take_is_sent_again_before_what_came_later():
    server, news = Server(away=7), []
    outbox = Outbox(on_news=news.append)
    for number in range(10):
        outbox.put(server.take(number))
    outbox.close(patience=5)
    assert server.taken == list(range(10)) and server.asked == 17
    assert news == [
        "it does not answer: What is to be logged is kept until it does.",
        "MLflow answers again.",
    ]


def test_who_puts_does_not_wait():
    go = threading.Event()
    outbox = Outbox(on_news=print)
    began = time.monotonic()
    for _ in range(1000):
        outbox.put(go.wait)
    assert time.monotonic() - began < 1
    go.set()
    outbox.close(patience=5)


def test_a_server_that_stays_away_is_given_up_with_what_is_not_sent():
    server = Server(away=10**9)
    outbox = Outbox(on_news=lambda _: None)
    for number in range(3):
        outbox.put(server.take(number))
    with pytest.raises(TrackingError, match=r"away for 0 s \(tracking\.patience\) and 3 messages are not sent"):
        outbox.close(patience=0.2)


def test_a_refusal_is_not_tried_again():
    def refuse():
        raise TrackingError("MLflow refused: no such run")

    server = Server()
    outbox = Outbox(on_news=lambda _: None)
    outbox.put(refuse)
    with pytest.raises(TrackingError, match="no such run"):
        outbox.close(patience=5)
    with pytest.raises(TrackingError, match="no such run"):
        outbox.put(server.take(1))
    assert server.taken == []
