"""Fetch a Kaggle dataset by its address, `kaggle://OWNER/NAME[/versions/N][#FOLDER]`; a cached copy works offline.

`#FOLDER` is a folder inside the dataset, needed where several hold pairs: `kaggle://vikramtiwari/pix2pix-dataset#maps`.
kagglehub keeps its copies under `~/.cache/kagglehub`, or where `KAGGLEHUB_CACHE` says.
"""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from model.errors import DataError
from model.io.locations import Location
from pipelines.data.layouts import is_paired

_ADDRESS = re.compile(
    r"kaggle://(?P<owner>[A-Za-z0-9][\w-]*)/(?P<name>[A-Za-z0-9][\w.-]*)"
    r"(?:/versions/(?P<version>[1-9][0-9]*))?(?:#(?P<folder>.+))?",
    re.ASCII,
)
_MAX_DEPTH = 4
_MAX_FOLDERS = 1000

_log = logging.getLogger(__name__)


class Address(NamedTuple):
    """A Kaggle dataset, perhaps a version of it, perhaps a folder inside."""

    dataset: str
    version: int | None
    folder: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `kaggle://OWNER/NAME[/versions/N][#FOLDER]`.

        Raises:
            DataError: The text is not of this form.
        """
        match = _ADDRESS.fullmatch(text)
        if not match:
            raise DataError(f"{text!r} is not a Kaggle address: write kaggle://OWNER/NAME[/versions/N][#FOLDER].")
        version = int(match["version"]) if match["version"] else None
        return cls(f"{match['owner']}/{match['name']}", version, match["folder"] or "")

    @property
    def handle(self) -> str:
        """The name kagglehub gives it."""
        return self.dataset if self.version is None else f"{self.dataset}/versions/{self.version}"


def fetch(address: str) -> Path:
    """Download a dataset, or take it from kagglehub's cache, and return the folder inside that holds the pairs.

    Without a version the server is asked for the newest one; if it can't be reached, the newest complete copy in the
    cache is used and a warning is logged.

    Raises:
        DataError: The address is wrong, the dataset can't be had, or it has no (or no single) folder of pairs.
    """
    parsed = Address.parse(address)
    return find_paired_folder(_download(parsed), inside=parsed.folder)


def find_paired_folder(root: Path, *, inside: str = "") -> Path:
    """Return the one folder at or below `root/inside` that has `train/`, or `trainA/` and `trainB/`, with images.

    Raises:
        DataError: There is none, or there are several (the message names them), or `inside` is no folder of `root`.
    """
    start = (root / inside).resolve()
    if not start.is_dir() or not start.is_relative_to(root.resolve()):
        raise DataError(f"There is no folder {inside!r} in {root}.")
    found = list(_paired_folders(start))
    if not found:
        raise DataError(
            f"There is no folder of pairs in {start}: looked {_MAX_DEPTH} levels down for train/, or for trainA/ and "
            "trainB/, with images."
        )
    if len(found) > 1:
        names = sorted(folder.relative_to(root.resolve()).as_posix() for folder in found)
        raise DataError(
            f"There are {len(found)} folders of pairs in {start}: {', '.join(names)}. Choose one at the end of the "
            f"address, as in kaggle://OWNER/NAME#{names[0]}."
        )
    return found[0]


def _paired_folders(start: Path) -> Iterator[Path]:
    """Walk down level by level, not into links, hidden folders or what was found."""
    level, seen = [start], 0
    for _ in range(_MAX_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            seen += 1
            if seen > _MAX_FOLDERS:
                raise DataError(f"{start} has more than {_MAX_FOLDERS} folders: name the one with the pairs after '#'.")
            if is_paired(Location(folder)):
                yield folder
            else:
                below += _subfolders(folder)
        level = below


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        )


def _download(address: Address) -> Path:
    """Return the folder of a dataset in kagglehub's cache, filling the cache if need be."""
    import requests  # What kagglehub speaks, and whose errors it raises.

    cached = _cached_versions(address.dataset)
    try:
        if address.version is None or address.version not in cached:
            _knock()
        return _ask_kagglehub(address.handle)
    except requests.RequestException as error:
        if address.version is None and cached and _is_outage(error):
            newest = max(cached)
            _log.warning(
                "Kaggle can't be asked for the newest version of %s (%s): using version %d from the cache.",
                address.dataset,
                type(error).__name__,
                newest,
            )
            return _ask_kagglehub(f"{address.dataset}/versions/{newest}")
        raise DataError(f"Kaggle dataset {address.handle} can't be fetched: {_sentence(error, cached)}") from error
    except Exception as error:  # kagglehub has no common base class, and raises plain Exception too.
        # The name only: the text may hold a signed address.
        detail = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise DataError(f"Kaggle dataset {address.handle} can't be fetched: kagglehub failed ({detail}).") from error


def _cached_versions(dataset: str) -> set[int]:
    """Return the versions that kagglehub has whole: a folder `versions/N` with the marker `N.complete` beside."""
    from kagglehub.config import get_cache_folder

    home = Path(get_cache_folder()) / "datasets" / dataset
    numbers = {marker.stem for marker in home.glob("*.complete")}
    return {int(number) for number in numbers if number.isdecimal() and (home / "versions" / number).is_dir()}


def _knock() -> None:
    """Fail in seconds where Kaggle can't be reached: kagglehub's calls have no time limit of their own."""
    import requests
    from kagglesdk.kaggle_env import get_endpoint, get_env, is_in_kaggle_notebook

    # A Kaggle notebook mounts its datasets without this server.
    if not is_in_kaggle_notebook():
        requests.head(get_endpoint(get_env()), timeout=(5, 10))


def _ask_kagglehub(handle: str) -> Path:
    """Call kagglehub with its talk on stderr: stdout is for results."""
    import kagglehub

    for handler in logging.getLogger("kagglehub").handlers:
        if type(handler) is logging.StreamHandler:
            handler.stream = sys.stderr
    with contextlib.redirect_stdout(sys.stderr):
        return Path(kagglehub.dataset_download(handle))


def _status(error: Exception) -> int | None:
    """Return the HTTP status an error carries, if any."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_outage(error: Exception) -> bool:
    status = _status(error)
    return status is None or status == 429 or status >= 500


def _sentence(error: Exception, cached: set[int]) -> str:
    """Say what went wrong and what to do, without the error's own text, which may hold a signed address."""
    status = _status(error)
    if status in (401, 403):
        return (
            f"it is private, does not exist or wants a login (HTTP {status}). Check the name, and set KAGGLE_API_TOKEN "
            "if you have an account."
        )
    if status == 404:
        return "there is no such dataset or version (HTTP 404). Check the name."
    if status is not None:
        return f"the server answered HTTP {status}. Try again later."
    copies = ", ".join(str(version) for version in sorted(cached)) or "none"
    return (
        f"no connection to Kaggle ({type(error).__name__}), and versions in the cache: {copies}. "
        "Connect and try again, or give a folder instead."
    )
