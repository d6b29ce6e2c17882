"""Kaggle datasets, named by `kaggle://OWNER/NAME[/versions/N][#FOLDER]` and cached for offline use.

`#FOLDER` is a folder inside the dataset, needed if several contain pairs: `kaggle://vikramtiwari/pix2pix-dataset#maps`.
kagglehub caches datasets in `~/.cache/kagglehub`, or in the folder `KAGGLEHUB_CACHE`.
"""

import contextlib
import logging
import re
import sys
from pathlib import Path
from typing import NamedTuple

from model.errors import DataError
from model.io.locations import Location
from pipelines.data.candidates.folder_scan import DEPTH
from pipelines.data.candidates.layouts import LAYOUTS, find_folders

_ADDRESS = re.compile(
    r"kaggle://(?P<owner>[A-Za-z0-9][\w-]*)/(?P<name>[A-Za-z0-9][\w.-]*)"
    r"(?:/versions/(?P<version>[1-9][0-9]*))?(?:#(?P<folder>.+))?",
    re.ASCII,
)

_log = logging.getLogger(__name__)


class Address(NamedTuple):
    """A Kaggle dataset, optionally with a version and a folder inside."""

    dataset: str
    version: int | None
    folder: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse `kaggle://OWNER/NAME[/versions/N][#FOLDER]`.

        Raises:
            DataError: The text does not have this form.
        """
        match = _ADDRESS.fullmatch(text)
        if not match:
            raise DataError(f"{text!r} is not a Kaggle address; use kaggle://OWNER/NAME[/versions/N][#FOLDER].")
        version = int(match["version"]) if match["version"] else None
        return cls(f"{match['owner']}/{match['name']}", version, match["folder"] or "")

    @property
    def handle(self) -> str:
        """The dataset's name in kagglehub."""
        return self.dataset if self.version is None else f"{self.dataset}/versions/{self.version}"


def fetch(address: str) -> Path:
    """Return the folder of pairs in a dataset, which is downloaded unless kagglehub has cached it.

    Without a version, the newest one is used. If Kaggle can't be reached, the newest complete version in the cache is
    used, and a warning is logged.

    Raises:
        DataError: The address is invalid, the dataset is not available, or it has no folder of pairs or several.
    """
    parsed = Address.parse(address)
    return find_paired_folder(_download(parsed), inside=parsed.folder)


def find_paired_folder(root: Path, *, inside: str = "") -> Path:
    """Return the only folder at or below `root/inside` with a layout of pairs; links are not entered.

    Raises:
        DataError: There is no such folder, there are several (the message lists them), or `inside` is not in `root`.
    """
    start = (root / inside).resolve()
    if not start.is_dir() or not start.is_relative_to(root.resolve()):
        raise DataError(f"There is no folder {inside!r} in {root}; name an existing one after '#'.")
    found = sorted(start.joinpath(*names) for names in find_folders(Location(start)))
    if not found:
        raise DataError(f"There is no folder of pairs in {start}, at most {DEPTH} levels down. {LAYOUTS}")
    if len(found) > 1:
        names = [folder.relative_to(root.resolve()).as_posix() for folder in found]
        raise DataError(
            f"There are {len(found)} folders of pairs in {start}: {', '.join(names)}. Name one of them, for example "
            f"kaggle://OWNER/NAME#{names[0]}."
        )
    return found[0]


def _download(address: Address) -> Path:
    """Return the folder of a dataset in kagglehub's cache, downloading it if necessary."""
    import requests  # kagglehub raises its exceptions.

    cached = _cached_versions(address.dataset)
    try:
        if address.version is None or address.version not in cached:
            _check_reachable()
        return _call_kagglehub(address.handle)
    except requests.RequestException as error:
        if address.version is None and cached and _is_outage(error):
            newest = max(cached)
            _log.warning(
                "Kaggle did not return the newest version of %s (%s); using version %d from the cache.",
                address.dataset,
                type(error).__name__,
                newest,
            )
            return _call_kagglehub(f"{address.dataset}/versions/{newest}")
        raise DataError(
            f"Kaggle dataset {address.handle} can't be downloaded: {_explanation(error, cached)}"
        ) from error
    except Exception as error:  # kagglehub's errors have no base class, and some are plain Exceptions.
        # Without the message, which may contain a signed address.
        detail = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise DataError(f"Kaggle dataset {address.handle} can't be downloaded: kagglehub failed ({detail}).") from error


def _cached_versions(dataset: str) -> set[int]:
    """Return the versions in kagglehub's cache that are complete: a folder `versions/N` and a marker `N.complete`."""
    from kagglehub.config import get_cache_folder

    home = Path(get_cache_folder()) / "datasets" / dataset
    numbers = {marker.stem for marker in home.glob("*.complete")}
    return {int(number) for number in numbers if number.isdecimal() and (home / "versions" / number).is_dir()}


def _check_reachable() -> None:
    """Raise within seconds if Kaggle can't be reached, because kagglehub's own calls have no timeout."""
    import requests
    from kagglesdk.kaggle_env import get_endpoint, get_env, is_in_kaggle_notebook

    # Kaggle notebooks mount datasets without this server.
    if not is_in_kaggle_notebook():
        requests.head(get_endpoint(get_env()), timeout=(5, 10))


def _call_kagglehub(handle: str) -> Path:
    """Call kagglehub with its output on stderr, because stdout is for results."""
    import kagglehub

    for handler in logging.getLogger("kagglehub").handlers:
        if type(handler) is logging.StreamHandler:
            handler.stream = sys.stderr
    with contextlib.redirect_stdout(sys.stderr):
        return Path(kagglehub.dataset_download(handle))


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an error, if it has one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_outage(error: Exception) -> bool:
    status = _status(error)
    return status is None or status == 429 or status >= 500


def _explanation(error: Exception, cached: set[int]) -> str:
    """Return an explanation without the error's own message, which may contain a signed address."""
    status = _status(error)
    if status in (401, 403):
        return (
            f"it is private, does not exist or requires a login (HTTP {status}). Check the name, and set "
            "KAGGLE_API_TOKEN if you have an account."
        )
    if status == 404:
        return "there is no such dataset or version (HTTP 404). Check the name."
    if status is not None:
        return f"the server responded with HTTP {status}. Try again later."
    copies = ", ".join(str(version) for version in sorted(cached)) or "none"
    return (
        f"no connection to Kaggle ({type(error).__name__}); versions in the cache: {copies}. "
        "Try again with a connection, or use a folder of pairs instead."
    )
