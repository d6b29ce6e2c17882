"""Places that can't be used: told in one sentence, in bounded time, and never as the fault of a file."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from model.errors import DataError, StorageError
from model.io import locations
from tests.fixtures.object_stores import BUCKET
from tests.fixtures.pair_folders import index

pytestmark = pytest.mark.usefixtures("store")


def stops(place):
    """Index a place that can't be used, and return what is said of it in one sentence."""
    with pytest.raises(DataError) as stopped:
        index(place)
    assert "\n" not in str(stopped.value) and str(stopped.value).endswith(".")
    return str(stopped.value)


def test_a_missing_folder_a_missing_bucket_and_a_file_are_told_apart(store):
    store.put("file.txt", b"text")
    nowhere, file = store.address("nowhere"), store.address("file.txt")
    normal = str(locations.parse(nowhere))
    assert stops(nowhere) == f"There is no folder {normal}: nothing lies below it. Mind its spelling."
    assert stops(file) == f"{locations.parse(file)} is a file, not a folder."
    assert stops(nowhere.replace(BUCKET, "other")).startswith("There is no bucket other for s3://other/nowhere?")


def test_a_folder_without_pairs_tells_the_layouts(store):
    store.put("bare/maps/x.txt", b"text")
    store.put("bare/readme.txt", b"text")
    assert "(found: maps/, readme.txt). Put the pairs" in stops(store.address("bare"))


@pytest.fixture
def port():
    """Return the port of a server that takes connections and never says a word."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        yield silent.getsockname()[1]


def test_a_port_where_nobody_listens_is_told_in_time():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    said = stops(f"s3://bucket/a?endpoint_override=127.0.0.1:{closed}&scheme=http")
    assert said.startswith(f"s3://bucket/a?endpoint_override=127.0.0.1:{closed}&scheme=http can't be reached (")
    assert said.endswith("): check the address, the network and the server.")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_silent_server_is_given_up(port, scheme, monkeypatch):
    """S3's client by its own limits, Google's, which has none, by ours."""
    monkeypatch.setattr(locations, "_S3_SECONDS", 1)
    monkeypatch.setattr(locations, "_S3_ATTEMPTS", 1)
    monkeypatch.setattr(locations, "ANSWER_SECONDS", 4 if scheme == "s3" else 1)
    bucket = "bucket" if scheme == "s3" else "anonymous@bucket"
    said = stops(f"{scheme}://{bucket}/a?endpoint_override=127.0.0.1:{port}&scheme=http")
    assert "can't be reached" in said and ("no answer in 1 s" in said) == (scheme == "gs")


def test_hadoop_that_is_not_there_is_named():
    """On a machine with Hadoop's client it is the server that is missing."""
    said = stops("hdfs://127.0.0.1:1/a")
    assert "needs Hadoop's client on this machine" in said or "can't be reached" in said


class Moody(BaseHTTPRequestHandler):
    """S3 with a folder of three files in it, which answers `status` to whoever wants one; `listed` to who lists."""

    listed, status = 200, 503

    def log_message(self, *_):
        """Say nothing."""

    def do_HEAD(self):
        self.send_response(self.status if self.path.endswith(".png") else 404)
        self.end_headers()

    def do_GET(self):
        keys = "".join(f"<Contents><Key>a/{name}.png</Key><Size>9</Size></Contents>" for name in "xyz")
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>".encode()
        self.send_response(self.listed)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def moody():
    """Return a function that starts a server with moods, and returns the address of its folder."""
    servers = []

    def start(**moods):
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), type("Mood", (Moody,), moods)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"s3://bucket/a?endpoint_override=127.0.0.1:{servers[-1].server_port}&scheme=http"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_that_fails_stops_the_check_and_blames_no_file(moody):
    with pytest.raises(StorageError, match=r"^s3://bucket/a/.\.png\?.* can't be reached \(.*503"):
        index(moody(status=503))


def test_a_file_that_may_not_be_read_is_refused_like_any_other(moody):
    with pytest.raises(DataError, match=r"None of the 3 pairs[^^]*x: a/x\.png can't be opened \(access denied\)"):
        index(moody(status=403))


def test_a_folder_that_may_not_be_listed_tells_where_credentials_belong(moody):
    said = stops(moody(listed=403))
    assert "refuses access (" in said and "credentials belong in AWS_ACCESS_KEY_ID" in said
