"""Pictures of a page: images as `data:` URLs, coloured errors, and the choice of pairs."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image

from model.pixels import Pixels
from pipelines.metrics.catalogue import METRICS
from pipelines.metrics.scores import Comparison, Scores

MAX_SIDE = 512
"""Height and width of pictures at most; larger ones are scaled down."""
MAX_BYTES = 2
"""Bytes a pixel of a lossless picture at most."""
WORST_ERROR = 100
"""Levels of the brightest colour of an error picture: the same on every page, so that pages can be compared."""
ERROR_COLOURS = "inferno"
"""A perceptually uniform colour map (van der Walt and Smith 2015)."""
SHOWN = 3
"""Number of best, of middle and of worst pairs on a page."""
MAX_PICTURES = 36
"""Pictures on the page of a comparison at most."""


class Picture(NamedTuple):
    """A labelled picture of a pair."""

    label: str
    url: str
    width: int
    height: int
    alt: str
    below: str = ""


class PictureRow(NamedTuple):
    """The pictures of a pair, side by side."""

    name: str
    scores: str
    pictures: tuple[Picture, ...]


def choose(values: Sequence[float]) -> tuple[list[int], list[int], list[int]]:
    """Return the indices of up to three lowest, middle and highest of N values; none is chosen twice.

    The indices are in the order of their values.
    """
    order = np.argsort(np.asarray(values), kind="stable").tolist()
    n = len(order)
    low, high, middle = (min(SHOWN, (n + spare) // 3) for spare in (2, 1, 0))
    start = max(low, min((n - middle) // 2, n - high - middle))
    return order[:low], order[start : start + middle], order[n - high :]


def selected_pairs(
    scores: Scores, *, sources: Pixels, drawn: Pixels, targets: Pixels
) -> list[tuple[str, list[PictureRow]]]:
    """Return the pairs that `choose` selects by L1, with titles; images (N, H, W, 3) in the order of the names."""
    titles = ("Best", "Middle", "Worst")
    return [
        (title, [_row(scores, index, sources[index], drawn[index], targets[index]) for index in indices])
        for title, indices in zip(titles, choose(scores.each["l1"]), strict=True)
        if indices
    ]


def most_different_pairs(
    comparison: Comparison, labels: Mapping[str, str], *, sources: Pixels, targets: Pixels, drawn: Mapping[str, Pixels]
) -> list[PictureRow]:
    """Return the pairs whose L1 differs most between runs, the most different first; images as in `selected_pairs`."""
    values = np.array([comparison.each[run] for run in comparison.runs])
    count = max(1, min(2 * SHOWN, MAX_PICTURES // (len(comparison.runs) + 2)))
    rows = []
    for index in np.argsort(-np.ptp(values, axis=0), kind="stable")[:count].tolist():
        name, lowest, highest = comparison.names[index], values[:, index].min(), values[:, index].max()
        maps = [
            _picture(labels[run], drawn[run][index], f"{name} drawn by {labels[run]}")._replace(
                below=f"L1 {value:.2f}{', the lowest' if value == lowest < highest else ''}"
            )
            for run, value in zip(comparison.runs, values[:, index].tolist(), strict=True)
        ]
        source = _picture("input", sources[index], f"Input of {name}")
        true = _picture("true", targets[index], f"True image of {name}")
        rows.append(PictureRow(name, f"L1 differs by {highest - lowest:.2f}", (source, *maps, true)))
    return rows


def _row(scores: Scores, index: int, source: Pixels, drawn: Pixels, true: Pixels) -> PictureRow:
    name = scores.names[index]
    given, expected = scores.direction.split("_to_")
    pictures = (
        _picture(f"{given} (input)", source, f"Input {given} of {name}"),
        _picture(f"drawn {expected}", drawn, f"Drawn {expected} of {name}"),
        _picture(f"true {expected}", true, f"True {expected} of {name}"),
        _picture("error", drawn, f"Error of the drawn {expected} of {name}", error_picture(drawn, true)),
    )
    values = (
        f"{METRICS[score].title} {scores.each[score][index]:.{METRICS[score].digits}f}"
        for score in ("l1", "ssim")
        if score in scores.each
    )
    return PictureRow(name, " · ".join(values), pictures)


def _picture(label: str, pixels: Pixels, alt: str, url: str = "") -> Picture:
    height, width = pixels.shape[:2]
    return Picture(label, url or picture(pixels), width, height, alt)


def errors(drawn: Pixels, true: Pixels) -> Pixels:
    """Return the mean absolute difference of the channels at each pixel of (H, W, 3) images; (H, W)."""
    distance = np.abs(np.subtract(drawn, true, dtype=np.int16)).mean(axis=-1)
    return np.asarray(np.rint(distance), np.uint8)


def error_picture(drawn: Pixels, true: Pixels) -> str:
    """Return `errors` as colours from 0 to WORST_ERROR levels, in a `data:` URL."""
    # Scaled before it is coloured: averaged errors have a colour, averaged colours have no meaning.
    scaled = _fit(Image.fromarray(errors(drawn, true)))
    return _png(_coloured(np.asarray(scaled)))


def error_legend() -> str:
    """Return a strip of the colours of an error picture from 0 to WORST_ERROR levels, as a `data:` URL."""
    return _png(_coloured(np.arange(WORST_ERROR + 1, dtype=np.uint8)[None]))


def picture(pixels: Pixels) -> str:
    """Return an image (H, W, 3), scaled down to MAX_SIDE, as a `data:` URL.

    PNG keeps every pixel of a map. If it takes more than MAX_BYTES a pixel, as for photos, the image becomes a WebP of
    about a tenth of that size, without a visible difference.
    """
    image = _fit(Image.fromarray(np.ascontiguousarray(pixels)))
    exact = _encoded(image, "PNG", optimize=True)
    if len(exact) <= MAX_BYTES * image.width * image.height:
        return _data_url("png", exact)
    return _data_url("webp", _encoded(image, "WEBP", quality=90, method=6))


def _coloured(levels: Pixels) -> Image.Image:
    """Colour (H, W) levels with a palette, which takes one byte a pixel."""
    shares = np.minimum(np.arange(256) / WORST_ERROR, 1)
    palette = colormaps[ERROR_COLOURS](shares, bytes=True)[:, :3]
    image = Image.fromarray(np.minimum(levels, WORST_ERROR))
    image.putpalette(palette[: WORST_ERROR + 1].tobytes())
    return image


def _fit(image: Image.Image) -> Image.Image:
    width, height = image.size
    longer = max(width, height)
    if longer <= MAX_SIDE:
        return image
    size = (max(1, width * MAX_SIDE // longer), max(1, height * MAX_SIDE // longer))
    return image.resize(size, Image.Resampling.BOX)


def _png(image: Image.Image) -> str:
    return _data_url("png", _encoded(image, "PNG", optimize=True))


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
