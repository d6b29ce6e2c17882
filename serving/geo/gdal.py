"""GDAL's configuration, and its exceptions as short sentences."""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePath

from model.errors import DataError
from model.io.images import printable, short_name

MAX_REASON = 200
"""Maximum length of a reason, in characters."""
CACHE_BYTES = 256 * 2**20
"""Size of GDAL's cache of decoded blocks, which holds a few rows of them."""
# Sidecar files are neither read nor written. rasterio takes the number for bytes, GDAL itself would for megabytes.
_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": "YES",
    "GDAL_CACHEMAX": CACHE_BYTES,
}
_VARIABLES = ("GDAL_", "GTIFF_", "OGR_", "CPL_", "PROJ_", "OPJ_", "CONVERT_YCBCR")
"""Beginnings of the names of variables that GDAL and PROJ read."""
_REPLACEMENTS = {
    # GDAL begins with the name of the file, which the caller gives too, or of a function.
    r"^[^:]*\.\w+[:,] ?(?=\S)": "",
    r":/[^:]*\.\w+: ?(?=\S)": ": ",
    r"^_?[A-Za-z]\w*: ?(?=\S)": "",
    r"^(Error in )?\w+\(\)( failed\.?$)?:? ?": "",
    r"^'.*' not recognized as being in a supported file format.*": "its header can't be read",
    r"^Unrecognized error\.?$": "",
    # PROJ adds complete definitions of the two systems, and numbers of its own to errors.
    r"Cannot find coordinate operations from .*": "no conversion to another coordinate system is known",
    r"Reprojection failed, err = \d+.*": "it is not valid at this location",
    r" ?\(?\berr(or|no)? ?= ?-?\d+\)?": "",
    r" ?\{.*": "",
    r"^\s*$": "its data can't be decoded",
}


@contextmanager
def gdal() -> Iterator[None]:
    """Configure GDAL for a block: bounded cache, no network, no sidecar files, its own drivers and data.

    Variables of the environment that change how GDAL and PROJ read files have no effect. PROJ_DATA, for instance, often
    names the data of another installation, such as QGIS or conda, whose version may differ.
    """
    own_gdal, own_proj = _find_data("gdal_data"), _find_data("proj_data")
    # For good: some are read once only, and GDAL exists twice, for rasters and for vectors. Parts of GDAL ask PROJ on
    # their own, which prints a line if it finds no data.
    own = {"PROJ_NETWORK": "OFF"} | ({"PROJ_DATA": own_proj} if own_proj else {})
    for name in [name for name in os.environ if name.startswith(_VARIABLES) and name not in own]:
        del os.environ[name]
    os.environ.update(own)
    import rasterio
    from rasterio.env import set_proj_data_search_path, setenv

    # Imagery reports missing georeferences itself, and reads alpha and nodata separately. The filters stay,
    # because restoring them is not safe while other threads set theirs.
    for expected in (rasterio.errors.NotGeoreferencedWarning, rasterio.errors.NodataShadowWarning):
        warnings.simplefilter("ignore", expected)
    with rasterio.Env(**_OPTIONS):
        # After rasterio, which follows the variables when an environment begins.
        if own_gdal:
            setenv(GDAL_DATA=own_gdal)
        if own_proj:
            set_proj_data_search_path(own_proj)
        yield


def _find_data(name: str) -> str | None:
    """Return a folder of data in rasterio's package; from conda, for instance, it has none and finds them elsewhere."""
    package = find_spec("rasterio")
    folders = [Path(folder) / name for folder in (package and package.submodule_search_locations) or ()]
    return next((str(folder) for folder in folders if folder.is_dir()), None)


def check_path(path: Path) -> None:
    """Check that GDAL takes a path for that of a file: in UTF-8, and not one of its virtual files.

    Raises:
        DataError: It does not.
    """
    whole = str(path.absolute())
    if problem := find_name_problem(whole):
        raise DataError(f"{printable(readable(str(path)))} {problem}.")
    if whole.startswith("/vsi"):
        raise DataError(f"{path} names a virtual file of GDAL; choose another folder.")


def find_name_problem(name: str) -> str:
    """Return why the name of a file can't be used, and what to do; empty if it is in UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        if "\\x" in readable(name):
            return "is not a name in UTF-8; rename it"
        return f"is a name in UTF-8, but Python reads names as {sys.getfilesystemencoding()} here; set PYTHONUTF8=1"
    return ""


def readable(name: str) -> str:
    """Return the name of a file in UTF-8, with other bytes escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def gdal_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that rasterio raises for files and coordinate systems that GDAL can't use."""
    # rasterio 1.4 passes on GDAL's errors about broken tags as they are, and their class is in no public module. Texts
    # in tags, such as coordinate systems, are decoded as UTF-8.
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import CRSError, RasterioError

    return CPLE_BaseError, CRSError, RasterioError, UnicodeDecodeError


def forget_errors() -> None:
    """Clear the state of an error that GDAL or the caller got over; rasterio would raise it at the next chance."""
    from rasterio._err import stack_errors

    with stack_errors():
        pass


@contextmanager
def metadata_errors(path: PurePath) -> Iterator[None]:
    """Raise GDAL's errors about the tags or pixels of a file as a DataError."""
    try:
        yield
    except gdal_errors() as error:
        raise DataError(f"{short_name(path)} is broken or truncated ({reason(error)}); copy it again.") from error


def reason(error: BaseException) -> str:
    """Return the innermost cause of an exception of GDAL, on one line of at most `MAX_REASON` characters."""
    while isinstance(error.__cause__, gdal_errors()):
        error = error.__cause__
    text = re.sub(r"\s+", " ", str(error))
    for pattern, replacement in _REPLACEMENTS.items():
        text = re.sub(pattern, replacement, text)
    text = text.strip(" .")
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 3].rstrip()}..."
