"""Inception's weights are fetched once, over https, within limits of size and time, and kept only if they are right."""

import datetime
import hashlib
import http.server
import ipaddress
import socket
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from model.errors import DataError
from pipelines.metrics.pretrained import inception
from pipelines.metrics.pretrained.inception import OFFICIAL_URL, weights_file
from tests.fixtures.http_servers import serving

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """A local https server that records the paths of its requests."""

    daemon_threads = True

    def __init__(self, certificate):
        super().__init__(("localhost", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.requested = []

    def handle_error(self, *_):
        """Do nothing: clients should hang up on some paths."""

    def url(self, path, scheme="https"):
        """Return the address of a path."""
        return f"{scheme}://localhost:{self.server_port}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    """The response to each path, by the name of a method."""

    def do_GET(self):
        self.server.requested.append(self.path)
        getattr(self, self.path.strip("/"))()

    def log_message(self, *_):
        """Do nothing."""

    def respond(self, content, *, status=200, length=None, **headers):
        """Send headers and content."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def weights(self):
        self.respond(CONTENT)

    def login_page(self):
        self.respond(b"<p>Please log in.</p>")

    def redirect(self):
        self.respond(b"", status=302, Location=self.server.url("weights"))

    def redirect_to_http(self):
        self.respond(b"", status=302, Location=self.server.url("weights", "http"))

    def redirect_to_file(self):
        self.respond(b"", status=302, Location="file:///etc/hostname")

    def missing(self):
        self.respond(b"", status=404)

    def truncated(self):
        self.respond(CONTENT[:3500], length=len(CONTENT))

    def silent(self):
        self.respond(b"", length=10)
        time.sleep(3)

    def slow(self):
        self.respond(b"", length=10_000_000)
        for _ in range(100):
            self.wfile.write(bytes(100_000))
            time.sleep(0.02)

    def endless(self):
        self.respond(b"", length=1 << 40)
        while True:
            self.wfile.write(bytes(1 << 20))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a file with a key and its self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/sat2map"


@pytest.fixture
def server(certificate, cache, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("NO_PROXY", "localhost")
    with serving(Server(certificate)) as started:
        yield started


@pytest.mark.parametrize("path", ["weights", "redirect"])
def test_a_url_is_fetched_once(server, cache, path):
    first = weights_file(server.url(path), sha256=SHA256)
    requested = list(server.requested)
    assert first.read_bytes() == CONTENT and first.parent == cache and requested[-1] == "/weights"
    assert weights_file(server.url(path), sha256=SHA256) == first
    assert server.requested == requested
    assert [file.name for file in cache.iterdir()] == [f"inception-{SHA256}.pth"]


def test_a_damaged_copy_is_fetched_again(server):
    kept = weights_file(server.url("weights"), sha256=SHA256)
    kept.write_bytes(CONTENT[:-1])
    assert weights_file(server.url("weights"), sha256=SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("login_page", f"login_page has sha256 [0-9a-f]{{64}}, not {SHA256}, and was discarded; check the URL"),
        ("redirect_to_http", "can't be fetched .*http://localhost"),
        ("redirect_to_file", "can't be fetched .*file:///etc/hostname"),
        ("missing", "can't be fetched .*404"),
        ("truncated", "can't be fetched .*3500 bytes read"),
        ("silent", "can't be fetched .*timed out"),
        ("slow", "slow took longer than 0.3 s"),
        ("endless", "endless is larger than 4 MiB"),
    ],
)
def test_only_the_right_bytes_are_kept(server, cache, monkeypatch, path, message):
    monkeypatch.setattr(inception, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(inception, "TOTAL_SECONDS", 3600 if path != "slow" else 0.3)
    monkeypatch.setattr(inception, "MAX_BYTES", 1 << 22)
    with pytest.raises(DataError, match=message):
        weights_file(server.url(path), sha256=SHA256)
    assert list(cache.iterdir()) == []


def test_a_server_with_an_untrusted_certificate_is_refused(server, cache, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(DataError, match=r"can't be fetched .*certificate"):
        weights_file(server.url("weights"), sha256=SHA256)
    assert server.requested == [] and list(cache.iterdir()) == []


def test_an_unreachable_server_is_reported_with_the_manual_way(cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(DataError, match=r"download https://github\.com/.* and give the path"):
            weights_file(f"https://127.0.0.1:{free.getsockname()[1]}/weights", sha256=SHA256)


def test_a_cache_that_can_not_be_written_is_reported(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set XDG_CACHE_HOME to a writable folder"):
        weights_file(server.url("weights"), sha256=SHA256)


@pytest.mark.parametrize("scheme", ["http", "file", "ftp", "s3", "HTTP"])
def test_other_schemes_are_refused(cache, scheme):
    with pytest.raises(DataError, match=f"{scheme.lower()}:// is not fetched, because only https://"):
        weights_file(f"{scheme}:///etc/hostname")


def test_a_password_in_a_url_is_refused_without_being_shown(cache):
    with pytest.raises(DataError) as refused:
        weights_file("https://me:secret@localhost/weights")
    assert "secret" not in str(refused.value)


def test_a_path_is_returned_unchanged(tmp_path, monkeypatch):
    file = tmp_path / "weights.pth"
    with pytest.raises(DataError, match=rf"no file .*weights\.pth; .*{OFFICIAL_URL}"):
        weights_file(str(file))
    file.write_bytes(CONTENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_file(str(file)) == weights_file("~/weights.pth") == file
