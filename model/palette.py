"""Classes of pixels: the class whose colour is nearest, looked up in a table of the RGB cube."""

import numpy as np
from numpy.typing import NDArray

from model.pixels import Pixels, check_images
from model.spec import Palette

BITS = 6
"""Bits a channel of the table; with 8, maps compressed by JPEG would keep fewer of their classes."""


def nearest_classes(palette: Palette) -> NDArray[np.uint8]:
    """Return the index of the class nearest to each cell of the RGB cube; (2 ** 18,)."""
    step = 256 >> BITS
    axis = np.arange(0, 256, step, dtype=np.float32) + np.float32((step - 1) / 2)
    least = np.full((len(axis),) * 3, np.inf, np.float32)
    nearest = np.zeros(least.shape, np.uint8)
    for index, colours in enumerate(palette.classes.values()):
        for colour in colours:
            red, green, blue = ((axis - channel) ** 2 for channel in bytes.fromhex(colour[1:]))
            distance = red[:, None, None] + green[:, None] + blue
            nearer = distance < least
            least[nearer], nearest[nearer] = distance[nearer], index
    return nearest.ravel()


def cells(pixels: Pixels) -> NDArray[np.int32]:
    """Return the index of each pixel's cell in the RGB cube; pixels (..., 3)."""
    red, green, blue = np.moveaxis(pixels >> (8 - BITS), -1, 0).astype(np.int32)
    cells: NDArray[np.int32] = (red << 2 * BITS) | (green << BITS) | blue
    return cells


def classify(images: Pixels, palette: Palette) -> NDArray[np.uint8]:
    """Return the class of the nearest colour of each pixel, as an index into `palette.classes`: (N, H, W).

    Distances are Euclidean in RGB, at 6 bits a channel: maps compressed by JPEG keep more of their classes than with
    distances in CIE Lab. A pixel on the smoothed border of two classes may look like a third.

    Args:
        images: uint8 (N, H, W, 3).
        palette: Classes and their colours.

    Raises:
        DataError: `images` have another type or shape, or there are none.
    """
    check_images(images)
    nearest = nearest_classes(palette)
    found = np.empty(images.shape[:3], np.uint8)
    for image, classes in zip(images, found, strict=True):
        classes[:] = nearest[cells(image)]
    return found
