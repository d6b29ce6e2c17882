"""A folder of photos -> a folder of maps and a manifest."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError

from model.bundle import Bundle
from model.errors import DataError
from model.files import new_folder
from model.images import decode, is_image_name, read_bytes
from model.pixels import Pixels
from model.progress import track
from model.spec import Frozen
from model.translator import Translate, Translator

MANIFEST = "manifest.json"


class ScoredPhoto(Frozen):
    """One photo and what became of it: the name of its map, or why it has none."""

    photo: str
    map: str | None = None
    problem: str | None = None


class ScoreReport(Frozen):
    """What `manifest.json` says."""

    model_sha256: str
    side: int
    """Height and width of the maps in pixels; every photo is resized to it."""
    photos: tuple[ScoredPhoto, ...]

    @property
    def drawn(self) -> int:
        """Photos that have a map."""
        return sum(photo.map is not None for photo in self.photos)

    @property
    def refused(self) -> tuple[ScoredPhoto, ...]:
        """Photos that have none."""
        return tuple(photo for photo in self.photos if photo.map is None)


def score_folder(bundle: Bundle, photos: Path, out: Path) -> ScoreReport:
    """Draw a map for every photo in a folder; a photo that can't be used is reported and the rest is drawn.

    Args:
        bundle: The model.
        photos: JPEG, PNG or WebP images, square, of any size; they are resized to the network's.
        out: The folder to make: NAME.png for each photo, and the manifest. An earlier result there is replaced
            when the new one is whole.

    Raises:
        DataError: There are no photos, none can be used, or `out` holds something else.
    """
    files = _find(photos)
    _check_out(out)
    translate = Translator(bundle)
    side = bundle.manifest.network.image_size
    with new_folder(out) as folder:
        results = [_score(file, translate, folder, side) for file in track(files, "Drawing maps")]
        report = ScoreReport(model_sha256=bundle.manifest.sha256, side=side, photos=tuple(results))
        if not report.drawn:
            reasons = "\n".join(f"  {photo.photo}: {photo.problem}" for photo in report.refused[:20])
            raise DataError(f"None of the {len(files)} photos in {photos} can be used:\n{reasons}")
        (folder / MANIFEST).write_text(json.dumps(report.model_dump(), indent=2) + "\n", encoding="utf-8")
    return report


def _find(photos: Path) -> list[Path]:
    if not photos.is_dir():
        raise DataError(f"There is no folder {photos}; name one that holds photos (JPEG, PNG or WebP).")
    files = sorted(path for path in photos.iterdir() if is_image_name(path.name) and path.is_file())
    if not files:
        raise DataError(f"{photos} holds no photos; put JPEG, PNG or WebP images straight into it.")
    return files


def _check_out(out: Path) -> None:
    """Refuse a folder with anything but an earlier result: it goes as a whole when the new one is there."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; name a folder for the maps.")
    if out.resolve() == Path.cwd():
        raise DataError("The maps can't take the place of the working folder; name a folder in it.")
    if out.is_dir() and {path.name for path in out.iterdir()} - _earlier(out):
        raise DataError(f"{out} holds files that no earlier scoring made; name a new or an empty folder.")


def _earlier(out: Path) -> set[str]:
    """Name what an earlier scoring left in a folder."""
    try:
        report = ScoreReport.model_validate_json((out / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return set()
    return {MANIFEST, *(photo.map for photo in report.photos if photo.map is not None)}


def _score(file: Path, translate: Translate, folder: Path, side: int) -> ScoredPhoto:
    try:
        photo = _read(file, side)
        target = folder / f"{file.stem}.png"
        if target.exists():
            raise DataError(f"another photo is called {file.stem} too")
    except DataError as error:
        return ScoredPhoto(photo=file.name, problem=str(error))
    Image.fromarray(translate(photo[None])[0]).save(target)
    return ScoredPhoto(photo=file.name, map=target.name)


def _read(file: Path, side: int) -> Pixels:
    image = decode(file, read_bytes(file))
    if image.width != image.height:
        raise DataError(f"{file.name} has {image.width}x{image.height} pixels; a photo must be square: cut it first")
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
