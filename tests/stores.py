"""Stores of files that run on this machine: one that speaks S3, one that speaks as Google's does."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import quote

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "photos"


class Store:
    """An S3 server with one bucket."""

    def __init__(self):
        self.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.server.start()
        self.host = "{}:{}".format(*self.server.get_host_and_port())
        self.client = boto3.client("s3", endpoint_url=f"http://{self.host}", region_name="us-east-1")
        self.client.create_bucket(Bucket=BUCKET)

    def address(self, key):
        """Return an address in which a key stands as it is, but for what would end it."""
        return f"s3://{BUCKET}/{key.replace('#', '%23')}?endpoint_override={self.host}&scheme=http"

    def put(self, key, content):
        """Store one file."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def upload(self, folder, key):
        """Store the files of a folder, and return their address."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return self.address(key)

    def stop(self):
        """End the server."""
        self.server.stop()


class GoogleStore(Store):
    """A server of Google's kind with one bucket.

    It is a process of its own: Arrow's client for Google holds Python's lock while it waits.
    """

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.host = f"127.0.0.1:{port}"
        words = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={BUCKET}", "-q"]
        self.process = subprocess.Popen([sys.executable, "-m", "gcp_storage_emulator", *words])
        patience = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < patience
            time.sleep(0.05)

    def _answers(self):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.host}/storage/v1/b/{BUCKET}"):
            return True
        return False

    def address(self, key):
        """Return an address that asks for no credentials."""
        return f"gs://anonymous@{BUCKET}/{key}?endpoint_override={self.host}&scheme=http"

    def put(self, key, content):
        """Store one file."""
        target = f"http://{self.host}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(key, safe='')}"
        with urllib.request.urlopen(urllib.request.Request(target, data=content, method="POST")):
            pass

    def stop(self):
        """End the server."""
        self.process.terminate()
        self.process.wait(30)


@contextlib.contextmanager
def s3_credentials():
    """Let pyarrow and boto3 find credentials where they look, and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "anyone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield
