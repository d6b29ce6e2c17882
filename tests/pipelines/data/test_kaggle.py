"""Kaggle addresses with the real kagglehub: offline from a prepared cache, online from a local server."""

import io
import json
import logging
import re
import socket
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler

import pytest
from PIL import Image

from model.errors import DataError
from model.io.locations import Location
from pipelines.data.indexing import index_folder
from pipelines.data.kaggle import Address, fetch, find_paired_folder
from tests.fixtures.http_servers import serve
from tests.fixtures.project import PROJECT

MAPS = "alincijov/pix2pix-maps"
ALL = "vikramtiwari/pix2pix-dataset"


def fill(folder, splits=("train", "val")):
    """Write one side-by-side image into each split."""
    for shade, split in enumerate(splits):
        (folder / split).mkdir(parents=True)
        Image.new("RGB", (64, 32), (100 * shade, 0, 0)).save(folder / split / "1.jpg")
    return folder


def fill_all(root):
    """Write the layout of vikramtiwari/pix2pix-dataset."""
    fill(root / "cityscapes" / "cityscapes")
    fill(root / "facades" / "facades", ("train", "test", "val"))
    fill(root / "maps" / "maps")
    (root / "night2day" / "night2day").mkdir(parents=True)
    return root


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Set up kagglehub with an empty cache, no account, and a proxy that refuses all connections."""
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_KERNEL_RUN_TYPE", "TBE_RUNTIME_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        use_proxy(monkeypatch, free.getsockname()[1])
    return tmp_path / "cache" / "datasets"


def use_proxy(monkeypatch, port):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")


def cached(cache, dataset, version, *, complete=True):
    """Create the folder of one version in kagglehub's cache."""
    folder = cache / dataset / "versions" / str(version)
    folder.mkdir(parents=True)
    if complete:
        (cache / dataset / f"{version}.complete").touch()
    return folder


class Kaggle(BaseHTTPRequestHandler):
    """The calls of Kaggle's API that a download needs; `answers` maps them to responses."""

    answers: dict[str, tuple[int, bytes]]
    calls: list[str]

    def do_HEAD(self):
        self.reply(404, b"")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        call = self.path.rsplit("/", 1)[1]
        self.calls.append(call)
        self.reply(*self.answers[call])

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if body.startswith(b"PK") else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def kaggle(cache, monkeypatch):
    """Run a fake Kaggle server; tests set its answers."""
    handler = type("Answers", (Kaggle,), {"answers": {}, "calls": []})
    with serve(handler) as server:
        use_proxy(monkeypatch, server.server_port)
        yield handler


def newest(version):
    return 200, json.dumps({"currentVersionNumber": version}).encode()


def archive(folder):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for path in sorted(folder.rglob("*.jpg")):
            file.write(path, path.relative_to(folder))
    return 200, content.getvalue()


def refusal(address):
    with pytest.raises(DataError) as refused:
        fetch(address)
    return str(refused.value)


# Addresses


def test_addresses_are_parsed():
    assert Address.parse(f"kaggle://{MAPS}") == (MAPS, None, "")
    assert Address.parse(f"kaggle://{ALL}/versions/12#maps/maps") == (ALL, 12, "maps/maps")
    assert Address.parse(f"kaggle://{ALL}/versions/12#maps").handle == f"{ALL}/versions/12"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            MAPS,
            f"https://{MAPS}",
            "kaggle://",
            "kaggle://maps",
            "kaggle://a/b/c",
            "kaggle://../b",
            "kaggle://a/..",
        ),
        *("kaggle://a/b/versions/0", "kaggle://a/b/versions/x", "kaggle://a/b#", "kaggle://a/b?c", "kaggle://a/b\n"),
    ],
)
def test_invalid_addresses_are_refused(text):
    with pytest.raises(DataError, match=re.escape("use kaggle://OWNER/NAME[/versions/N][#FOLDER]")):
        Address.parse(text)


# The cache, offline


def test_a_cached_version_works_offline(cache):
    folder = fill(cached(cache, MAPS, 3))
    assert fetch(f"kaggle://{MAPS}/versions/3") == folder
    found = index_folder(Location(folder), min_side=32)
    assert (len(found.train), len(found.val)) == (1, 1)


def test_offline_the_newest_complete_version_is_used_with_a_warning(cache, caplog):
    fill(cached(cache, MAPS, 9))
    folder = fill(cached(cache, MAPS, 10))
    fill(cached(cache, MAPS, 11, complete=False))
    (cache / MAPS / "12.complete").touch()
    with caplog.at_level(logging.WARNING, "pipelines.data.kaggle"):
        assert fetch(f"kaggle://{MAPS}") == folder
    assert "using version 10 from the cache" in caplog.text and MAPS in caplog.text


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_a_folder_inside_the_dataset_can_be_named(cache, version):
    root = fill_all(cached(cache, ALL, 1))
    assert fetch(f"kaggle://{ALL}{version}#maps") == root / "maps" / "maps"
    assert fetch(f"kaggle://{ALL}{version}#maps/maps") == root / "maps" / "maps"


def test_several_folders_of_pairs_are_listed(cache):
    fill_all(cached(cache, ALL, 1))
    message = refusal(f"kaggle://{ALL}/versions/1")
    assert "cityscapes/cityscapes, facades/facades, maps/maps" in message
    assert "kaggle://OWNER/NAME#cityscapes/cityscapes" in message


def test_without_cache_and_network_one_sentence_explains_it(cache):
    message = refusal(f"kaggle://{MAPS}")
    assert message.startswith(f"Kaggle dataset {MAPS} can't be downloaded: no connection to Kaggle (ProxyError)")
    assert "versions in the cache: none" in message and "\n" not in message


def test_another_cached_version_does_not_replace_the_requested_one(cache):
    fill(cached(cache, MAPS, 1))
    fill(cached(cache, MAPS, 2, complete=False))
    message = refusal(f"kaggle://{MAPS}/versions/2")
    assert "no connection" in message and "versions in the cache: 1." in message


# The server


def test_a_dataset_is_downloaded_and_then_cached(kaggle, cache, tmp_path, capsys):
    kaggle.answers |= {"GetDataset": newest(4), "DownloadDataset": archive(fill(tmp_path / "made"))}
    folder = fetch(f"kaggle://{MAPS}")
    assert folder == cache / MAPS / "versions" / "4"
    assert sorted(path.name for path in folder.iterdir()) == ["train", "val"]
    assert fetch(f"kaggle://{MAPS}") == fetch(f"kaggle://{MAPS}/versions/4") == folder
    assert kaggle.calls == ["GetDataset", "DownloadDataset", "GetDataset"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "set KAGGLE_API_TOKEN"),
        (403, "requires a login"),
        (404, "no such dataset"),
        (418, "responded with HTTP 418"),
    ],
)
def test_a_refusal_is_one_sentence_even_with_a_cached_version(kaggle, cache, status, words):
    fill(cached(cache, MAPS, 1))
    kaggle.answers["GetDataset"] = status, b'{"message": "token=SECRET"}'
    message = refusal(f"kaggle://{MAPS}")
    assert words in message and MAPS in message
    assert "SECRET" not in message and "\n" not in message


@pytest.mark.parametrize("status", [429, 503])
def test_server_errors_count_as_being_offline(kaggle, cache, caplog, status):
    folder = fill(cached(cache, MAPS, 1))
    kaggle.answers["GetDataset"] = status, b"{}"
    assert fetch(f"kaggle://{MAPS}") == folder
    assert "using version 1 from the cache" in caplog.text


def test_a_download_that_is_not_an_archive_leaves_no_complete_version(kaggle, cache):
    kaggle.answers |= {"GetDataset": newest(4), "DownloadDataset": (200, b"{}")}
    assert "kagglehub failed (ValueError)" in refusal(f"kaggle://{MAPS}")
    assert not (cache / MAPS / "4.complete").exists()


def test_a_broken_account_file_is_explained_in_one_sentence(kaggle, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "kaggle.json").write_text("SECRET")
    message = refusal(f"kaggle://{MAPS}")
    assert "kagglehub failed" in message and "SECRET" not in message


# The folder inside


def test_the_folder_itself_and_two_folder_layouts_are_found(tmp_path):
    assert find_paired_folder(fill(tmp_path / "a")) == tmp_path / "a"
    assert find_paired_folder(fill(tmp_path / "b" / "c" / "d", ("trainA", "trainB")).parent) == tmp_path / "b/c/d"


def test_incomplete_layouts_hidden_folders_links_and_empty_folders_are_ignored(tmp_path):
    fill(tmp_path / "half", ("trainA",))
    fill(tmp_path / ".hidden")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(fill(tmp_path.parent / f"{tmp_path.name}-outside"))
    with pytest.raises(DataError, match="There is no folder of pairs"):
        find_paired_folder(tmp_path)


def test_the_search_is_limited_in_depth_and_number(tmp_path):
    fill(tmp_path / "deep/1/2/3/4/5/6")
    assert find_paired_folder(tmp_path / "deep/1") == tmp_path / "deep/1/2/3/4/5/6"
    with pytest.raises(DataError, match="6 levels down"):
        find_paired_folder(tmp_path / "deep")
    for i in range(1001):
        (tmp_path / "wide" / str(i)).mkdir(parents=True)
    with pytest.raises(DataError, match="more than 1000 folders"):
        find_paired_folder(tmp_path / "wide")


@pytest.mark.parametrize("inside", ["nothing", "..", "/", "../outside"])
def test_a_named_folder_must_be_inside_the_dataset(tmp_path, inside):
    fill(tmp_path / "outside")
    fill(tmp_path / "root")
    with pytest.raises(DataError, match="There is no folder"):
        find_paired_folder(tmp_path / "root", inside=inside)


def test_importing_the_module_does_not_import_kagglehub():
    code = "import sys, pipelines.data.kaggle; sys.exit('kagglehub' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0
