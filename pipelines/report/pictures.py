"""Pictures on a page: images as `data:` addresses, errors in colours, and which pairs are worth a look."""

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
"""Larger pictures are made smaller for the page."""
MAX_BYTES = 2
"""Bytes a pixel that a picture may take without loss."""
WORST_ERROR = 100
"""Levels at which the colours of an error picture end: the same on every page, so that pages compare."""
ERROR_COLOURS = "inferno"
"""A map of colours in perceptually even steps (van der Walt and Smith 2015)."""
SHOWN = 3
"""Pairs shown of the best, of those in the middle and of the worst."""
MOST_PICTURES = 36
"""Pictures on a page of a comparison."""


class Picture(NamedTuple):
    """A picture of a pair."""

    label: str
    address: str
    width: int
    height: int
    alt: str
    below: str = ""


class PictureRow(NamedTuple):
    """The pictures of a pair, side by side."""

    name: str
    scores: str
    shots: tuple[Picture, ...]


def choose(values: Sequence[float]) -> tuple[list[int], list[int], list[int]]:
    """Return the places of the up to three lowest, middle and highest of N values; none is chosen twice.

    Those of the lowest begin with the lowest, those of the highest end with the highest.
    """
    order = np.argsort(np.asarray(values), kind="stable").tolist()
    n = len(order)
    low, high, middle = (min(SHOWN, (n + spare) // 3) for spare in (2, 1, 0))
    start = max(low, min((n - middle) // 2, n - high - middle))
    return order[:low], order[start : start + middle], order[n - high :]


def telling_pairs(
    scores: Scores, *, sources: Pixels, drawn: Pixels, targets: Pixels
) -> list[tuple[str, list[PictureRow]]]:
    """Return the pairs that `choose` takes by L1, under their titles; images (N, H, W, 3) in the order of the names."""
    titles = ("Best", "In the middle", "Worst")
    return [
        (title, [_pair(scores, place, sources[place], drawn[place], targets[place]) for place in places])
        for title, places in zip(titles, choose(scores.each["l1"]), strict=True)
        if places
    ]


def different_pairs(
    comparison: Comparison, labels: Mapping[str, str], *, sources: Pixels, targets: Pixels, drawn: Mapping[str, Pixels]
) -> list[PictureRow]:
    """Return the pairs whose L1 differs most between runs, the most different first; images as `telling_pairs`."""
    values = np.array([comparison.each[run] for run in comparison.runs])
    count = max(1, min(2 * SHOWN, MOST_PICTURES // (len(comparison.runs) + 2)))
    rows = []
    for place in np.argsort(-np.ptp(values, axis=0), kind="stable")[:count].tolist():
        name, lowest, highest = comparison.names[place], values[:, place].min(), values[:, place].max()
        shots = [
            _shot(labels[run], drawn[run][place], f"What {labels[run]} drew of {name}")._replace(
                below=f"L1 {value:.2f}{', the least' if value == lowest < highest else ''}"
            )
            for run, value in zip(comparison.runs, values[:, place].tolist(), strict=True)
        ]
        given = _shot("input", sources[place], f"Input of {name}")
        true = _shot("true", targets[place], f"What should be drawn of {name}")
        rows.append(PictureRow(name, f"L1 differs by {highest - lowest:.2f}", (given, *shots, true)))
    return rows


def _pair(scores: Scores, place: int, source: Pixels, drawn: Pixels, true: Pixels) -> PictureRow:
    name = scores.names[place]
    given, wanted = scores.direction.split("_to_")
    colours = error_picture(drawn, true)
    shots = (
        _shot(f"{given}, the input", source, f"Input {given} of {name}"),
        _shot(f"drawn {wanted}", drawn, f"Drawn {wanted} of {name}"),
        _shot(f"true {wanted}", true, f"True {wanted} of {name}"),
        _shot("error", drawn, f"Where the drawn {wanted} of {name} differs from the true one", colours),
    )
    values = (
        f"{METRICS[score].title} {scores.each[score][place]:.{METRICS[score].digits}f}"
        for score in ("l1", "ssim")
        if score in scores.each
    )
    return PictureRow(name, " · ".join(values), shots)


def _shot(label: str, pixels: Pixels, alt: str, address: str = "") -> Picture:
    height, width = pixels.shape[:2]
    return Picture(label, address or picture(pixels), width, height, alt)


def errors(drawn: Pixels, true: Pixels) -> Pixels:
    """Return how far (H, W, 3) images are apart at each pixel, (H, W): the channels' mean absolute difference."""
    distance = np.abs(np.subtract(drawn, true, dtype=np.int16)).mean(axis=-1)
    return np.asarray(np.rint(distance), np.uint8)


def error_picture(drawn: Pixels, true: Pixels) -> str:
    """Paint `errors` in colours from 0 to WORST_ERROR levels, as a `data:` address."""
    # Made smaller before it is coloured: a mean of errors has a colour, a mean of colours has no meaning.
    picture = _fit(Image.fromarray(errors(drawn, true)))
    return _png(_coloured(np.asarray(picture)))


def error_legend() -> str:
    """Paint the colours of an error picture from 0 to WORST_ERROR levels as a strip, as a `data:` address."""
    return _png(_coloured(np.arange(WORST_ERROR + 1, dtype=np.uint8)[None]))


def picture(pixels: Pixels) -> str:
    """Return an image (H, W, 3) of at most 512 pixels a side as a `data:` address.

    PNG keeps every pixel of a map. Where that takes more than two bytes a pixel, as it does for photos, it is a WebP a
    tenth as large, in which no eye sees a difference.
    """
    image = _fit(Image.fromarray(np.ascontiguousarray(pixels)))
    exact = _encoded(image, "PNG", optimize=True)
    if len(exact) <= MAX_BYTES * image.width * image.height:
        return _address("png", exact)
    return _address("webp", _encoded(image, "WEBP", quality=90, method=6))


def _coloured(levels: Pixels) -> Image.Image:
    """Colour (H, W) levels with a palette: a byte a pixel."""
    places = np.minimum(np.arange(256) / WORST_ERROR, 1)
    palette = colormaps[ERROR_COLOURS](places, bytes=True)[:, :3]
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
    return _address("png", _encoded(image, "PNG", optimize=True))


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
