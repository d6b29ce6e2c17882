"""Sheets of pictures: one pair a row, under column titles."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.pixels import Pixels
from model.spec import Direction

GAP = 8
"""Pixels between two images."""
TITLE = 30
"""Height of the column titles in pixels."""
PAPER, INK = (255, 255, 255), (40, 44, 52)


def comparison(source: Pixels, drawn: Pixels, target: Pixels, *, direction: Direction) -> Image.Image:
    """Lay out inputs, drawn and true images, each (N, H, W, 3), one pair a row."""
    given, expected = ("photo", "map") if direction == "photo_to_map" else ("map", "photo")
    return sheet([(given, source), (f"drawn {expected}", drawn), (f"true {expected}", target)])


def first_rows(image: Image.Image, rows: int, *, side: int) -> Image.Image:
    """Return the titles and the first rows of a sheet of pairs of `side` pixels."""
    return image.crop((0, 0, image.width, min(image.height, TITLE + rows * (side + GAP))))


def sheet(columns: Sequence[tuple[str, Pixels]]) -> Image.Image:
    """Lay image columns side by side, one pair a row.

    Args:
        columns: Titles and images (N, H, W, 3), with the same N, H and W in every column.
    """
    rows, height, width, _ = columns[0][1].shape
    canvas = Image.new("RGB", (len(columns) * (width + GAP) + GAP, TITLE + rows * (height + GAP)), PAPER)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(10, min(16, width // 12)))
    for number, (title, images) in enumerate(columns):
        left = GAP + number * (width + GAP)
        pen.text((left + width / 2, TITLE / 2), title, fill=INK, font=font, anchor="mm")
        for row, image in enumerate(np.asarray(images)):
            canvas.paste(Image.fromarray(image), (left, TITLE + row * (height + GAP)))
    return canvas
