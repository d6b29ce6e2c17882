"""Environment variables held for a block: nested, overlapping in threads, and after errors."""

import os
import threading

import pytest

from pipelines.config.held_variables import HeldVariables
from pipelines.tracking.mlflow_server import SHORT_TIMEOUTS

SET, UNSET, REMOVED = "S2M_SET", "S2M_UNSET", "S2M_REMOVED"
BEFORE = {SET: "before", UNSET: None, REMOVED: "before"}
HELD = {SET: "held", UNSET: "held", REMOVED: None}


def values():
    return {name: os.environ.get(name) for name in BEFORE}


@pytest.fixture
def variables(monkeypatch):
    """Two variables that are set and one that is not, and what holds all three at other values."""
    monkeypatch.setenv(SET, "before")
    monkeypatch.setenv(REMOVED, "before")
    monkeypatch.delenv(UNSET, raising=False)
    yield HeldVariables(HELD)
    os.environ.pop(UNSET, None)


def test_variables_are_held_and_restored(variables):
    for _ in range(2):
        with variables.held():
            assert values() == HELD
        assert values() == BEFORE


def test_inner_block_does_not_end_the_outer_one(variables):
    with variables.held():
        with variables.held():
            pass
        assert values() == HELD
    assert values() == BEFORE


def test_variables_are_restored_after_an_error(variables):
    with pytest.raises(KeyError), variables.held():
        raise KeyError
    assert values() == BEFORE


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_overlapping_threads_restore_the_original_values(variables, first_to_end):
    began = [threading.Event() for _ in range(2)]
    ends = [threading.Event() for _ in range(2)]

    def hold(number):
        with variables.held():
            began[number].set()
            ends[number].wait(10)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(2)]
    for thread, started in zip(threads, began, strict=True):
        thread.start()
        assert started.wait(10)
    for number in (first_to_end, 1 - first_to_end):
        assert values() == HELD
        ends[number].set()
        threads[number].join()
    assert values() == BEFORE


@pytest.mark.parametrize("own", [None, "60"])
def test_short_timeouts_of_mlflow_leave_the_users_own(monkeypatch, own):
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    if own is not None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", own)
    with SHORT_TIMEOUTS.held():
        assert (MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), MLFLOW_HTTP_REQUEST_TIMEOUT.get()) == (1, 10)
    assert os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") == own
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
