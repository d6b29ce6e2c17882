"""Addresses of Ray clusters that don't answer, other versions, and the token of a cluster that a training starts."""

import os
import platform
import socket
import time

import pytest
import ray
from ray._private import services
from ray._raylet import AuthenticationTokenLoader

from model.errors import ClusterError
from pipelines.cluster import connection, jobs
from tests.fixtures.ray_nodes import free_port

VERSIONS = {"ray_version": ray.__version__, "python_version": platform.python_version()}


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Hide other clusters of this machine and the user's token, and shorten the wait."""
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda *_: None)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 1.0)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def silent():
    """Return the port of a server that accepts connections and never answers."""
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def refusal(call, *arguments):
    """Return the message of a refusal, which takes a few seconds at most."""
    began = time.monotonic()
    with pytest.raises(ClusterError) as refused:
        call(*arguments)
    assert time.monotonic() - began < 10
    return str(refused.value)


@pytest.mark.parametrize("address", ["", "local"])
def test_no_address_starts_a_cluster_on_this_machine(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert connection.find_head() is None


@pytest.mark.parametrize("address", ["ray://me:hidden@head:10001", "http://head:8265"])
def test_an_address_of_another_kind_is_refused_with_what_to_use(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    message = refusal(connection.find_head)
    assert "use RAY_ADDRESS=auto or HEAD:6379" in message and "submit --address http://HEAD:8265" in message
    assert "hidden" not in message


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("auto", "no Ray cluster runs on this machine; start one with `ray start --head`, or unset RAY_ADDRESS"),
        ("head", "RAY_ADDRESS is head, which is no address of a Ray cluster; use HEAD:6379 or auto"),
        ("127.0.0.1:{closed}", "No Ray cluster answered at 127.0.0.1:"),
        ("127.0.0.1:{silent}", "No Ray cluster answered at 127.0.0.1:"),
        ("no-such-host.invalid:6379", "No Ray cluster answered at no-such-host.invalid:6379"),
    ],
)
def test_an_address_without_a_cluster_is_reported_soon(monkeypatch, silent, address, message):
    # A cluster of another test may have made Ray require a token in this process.
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 32)
    AuthenticationTokenLoader.instance().reset_cache()
    monkeypatch.setenv("RAY_ADDRESS", address.format(closed=free_port(), silent=silent))
    assert message in refusal(connection.find_head)


@pytest.mark.parametrize("address", ["http://127.0.0.1:{closed}", "http://127.0.0.1:{silent}"])
def test_a_dashboard_that_does_not_answer_is_reported_soon(silent, address):
    job = jobs.Job(address.format(closed=free_port(), silent=silent), "raysubmit_1")
    assert "No Ray dashboard answers at http://127.0.0.1:" in refusal(jobs.follow, job)


def test_clusters_of_other_versions_are_refused():
    connection.check_versions("head", **VERSIONS)
    for changes, there in (
        ({"ray_version": "2.9.3"}, f"runs Ray 2.9.3 on Python {connection.minor(platform.python_version())}, and"),
        ({"python_version": "3.10.14"}, f"runs Ray {ray.__version__} on Python 3.10, and"),
    ):
        with pytest.raises(ClusterError, match="install the packages of requirements") as refused:
            connection.check_versions("head", **VERSIONS | changes)
        assert there in str(refused.value)


def test_a_cluster_of_its_own_has_a_token_that_is_never_written(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    tokens = []
    for _ in range(2):
        with connection.own_token():
            tokens.append(os.environ["RAY_AUTH_TOKEN"])
            assert AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert len({*tokens}) == 2 and not list(tmp_path.iterdir())


def test_the_token_of_the_user_is_kept(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef0123456789abcdef")
    with connection.own_token():
        assert os.environ["RAY_AUTH_TOKEN"] == "0123456789abcdef0123456789abcdef"
    AuthenticationTokenLoader.instance().reset_cache()
