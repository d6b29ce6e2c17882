"""Addresses that can't be used: the error is one sentence, comes in time, and does not blame a file."""

import socket
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler

import pytest

from model.errors import DataError, StorageError
from model.io import object_store
from model.io.locations import Location
from tests.fixtures.http_servers import serve
from tests.fixtures.object_stores import BUCKET
from tests.fixtures.pair_folders import index

pytestmark = pytest.mark.usefixtures("store")


def error_of(address):
    """Index an address that can't be used, and return the error's single sentence."""
    with pytest.raises(DataError) as error:
        index(address)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


def test_a_missing_folder_a_missing_bucket_and_a_file_have_different_messages(store):
    store.put("file.txt", b"text")
    nowhere, file = store.address("nowhere"), store.address("file.txt")
    normal = str(Location.parse(nowhere))
    assert error_of(nowhere) == f"There is no folder {normal}, or it is empty; check the spelling."
    assert error_of(file) == f"{Location.parse(file)} is a file, not a folder."
    assert error_of(nowhere.replace(BUCKET, "other")).startswith("There is no bucket other for s3://other/nowhere?")


def test_a_folder_without_pairs_names_the_layouts(store):
    store.put("bare/maps/x.txt", b"text")
    store.put("bare/readme.txt", b"text")
    assert "(found: maps/, readme.txt). Put the pairs" in error_of(store.address("bare"))


@pytest.fixture
def port():
    """Return the port of a server that accepts connections and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        yield silent.getsockname()[1]


def test_a_closed_port_is_reported_in_time():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    message = error_of(f"s3://bucket/a?endpoint_override=127.0.0.1:{closed}&scheme=http")
    assert message.startswith(f"s3://bucket/a?endpoint_override=127.0.0.1:{closed}&scheme=http can't be reached (")
    assert message.endswith("); check the address, the network and the server.")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_silent_server_is_reported_after_the_time_limit(port, scheme, monkeypatch):
    """The client for S3 has time limits of its own; the one for Google has none, so `ANSWER_SECONDS` applies."""
    monkeypatch.setattr(object_store, "_S3_SECONDS", 1)
    monkeypatch.setattr(object_store, "_S3_ATTEMPTS", 1)
    monkeypatch.setattr(object_store, "ANSWER_SECONDS", 4 if scheme == "s3" else 1)
    bucket = "bucket" if scheme == "s3" else "anonymous@bucket"
    message = error_of(f"{scheme}://{bucket}/a?endpoint_override=127.0.0.1:{port}&scheme=http")
    assert "can't be reached" in message and ("no answer in 1 s" in message) == (scheme == "gs")


def test_a_missing_hadoop_client_is_reported():
    """On a machine with Hadoop's client, the missing server is reported instead."""
    message = error_of("hdfs://127.0.0.1:1/a")
    assert "needs Hadoop's client on this machine" in message or "can't be reached" in message


class Failing(BaseHTTPRequestHandler):
    """An S3 folder of three files: `status` answers requests for a file, `list_status` those for a listing."""

    list_status, status = 200, 503

    def log_message(self, *_):
        """Log nothing."""

    def do_HEAD(self):
        self.send_response(self.status if self.path.endswith(".png") else 404)
        self.end_headers()

    def do_GET(self):
        keys = "".join(f"<Contents><Key>a/{name}.png</Key><Size>9</Size></Contents>" for name in "xyz")
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>".encode()
        self.send_response(self.list_status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def failing():
    """Return a function that starts a server with given answers and returns the address of its folder."""
    with ExitStack() as servers:

        def start(**answers):
            server = servers.enter_context(serve(type("Answers", (Failing,), answers)))
            return f"s3://bucket/a?endpoint_override=127.0.0.1:{server.server_port}&scheme=http"

        yield start


def test_a_failing_server_stops_the_check_and_no_file_is_rejected(failing):
    with pytest.raises(StorageError, match=r"^s3://bucket/a/.\.png\?.* can't be reached \(.*503"):
        index(failing(status=503))


def test_a_file_with_denied_access_is_rejected(failing):
    with pytest.raises(
        DataError, match=r"No pair in s3://[^^]*Rejected \(3\):[^^]*x: can't be opened \(access denied\)"
    ):
        index(failing(status=403))


def test_the_error_of_denied_access_names_the_location_of_credentials(failing):
    message = error_of(failing(list_status=403))
    assert "denies access (" in message and "credentials belong in AWS_ACCESS_KEY_ID" in message
