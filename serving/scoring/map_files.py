"""The files next to a map: its manifest, its STAC item, and those that GDAL reads with it."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from model.errors import DataError
from model.io.files import check_writable
from serving.inference.scene import SIDECARS

MANIFEST_SUFFIX = ".manifest.json"
ITEM_SUFFIX = ".stac.json"
MAX_BYTES = 2**20
"""Maximum size of a manifest or an item."""


def manifest_file(map_file: Path) -> Path:
    """Return the file for the manifest of a map: `map.manifest.json` next to `map.tif`."""
    return map_file.with_name(map_file.stem + MANIFEST_SUFFIX)


def item_file(map_file: Path) -> Path:
    """Return the file for the STAC item of a map: `map.stac.json` next to `map.tif`."""
    return map_file.with_name(map_file.stem + ITEM_SUFFIX)


def check_map_files(map_file: Path) -> None:
    """Check, before a scene is drawn, that the files next to its map can be written and are not those of others.

    Raises:
        DataError: A folder or a foreign file is in the way, or a file describes another map; or it can't be written.
    """
    for file in (manifest_file(map_file), item_file(map_file)):
        check_writable(file)
        owner = _described_map(file) if file.is_file() and file.stat().st_size else map_file.name
        if owner is None:
            raise DataError(f"{file} is not a file of sat2map and would be replaced; move it, or name another map.")
        if owner != map_file.name and file.with_name(owner).exists():
            raise DataError(
                f"{file} describes {owner} and would be replaced by that of {map_file.name}; choose a name that "
                "differs in more than its suffix."
            )
    for file in (manifest_file(map_file), item_file(map_file), *_sidecars(map_file)):
        # Unlike Path.is_dir, it takes names that are too long, which no file has.
        if os.path.isdir(file):
            raise DataError(f"{file} is a folder where a file of the map belongs; move it, or name another map.")


def remove_map_files(map_file: Path) -> None:
    """Remove the manifest, the item and the sidecar files of a scene's map that a photo's map has replaced."""
    for file in (manifest_file(map_file), item_file(map_file)):
        if os.path.isfile(file) and _described_map(file) == map_file.name:
            file.unlink()
    for file in _sidecars(map_file):
        if os.path.isfile(file):
            file.unlink()


def _sidecars(map_file: Path) -> list[Path]:
    return [map_file.with_name(map_file.name + suffix) for suffix in SIDECARS]


def _described_map(file: Path) -> str | None:
    """Return the name of the map that a manifest or an item of sat2map describes; None for other files."""
    try:
        with file.open("rb") as opened:
            found: Any = json.loads(opened.read(MAX_BYTES))
        if file.name.endswith(MANIFEST_SUFFIX):
            return str(found["scene"]["map"])
        own = any(key.startswith("sat2map:") for key in found["properties"])
        return Path(unquote(found["assets"]["map"]["href"])).name if own else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
