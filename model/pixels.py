"""The pixel contract: uint8 RGB in [0, 255] outside, float32 in [-1, 1] at the network; 127.5 is used only here."""

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

Pixels = NDArray[np.uint8]
"""Stored images: RGB, uint8 in [0, 255], the last axis is 3."""

Tensor = NDArray[np.float32]
"""Inputs and outputs of the network: RGB, float32 in [-1, 1], the last axis is 3."""


SCALING = "level / 127.5 - 1"
"""Formula of `to_tensor`, for messages."""


def to_tensor(pixels: Pixels) -> Tensor:
    """Scale uint8 pixels of any shape to float32 in [-1, 1]."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_pixels(tensor: Tensor) -> Pixels:
    """Scale float32 in [-1, 1] of any shape to the nearest uint8; values outside are clipped."""
    scaled = tensor.astype(np.float32)
    # In place: allocating a new array at each step would take ten times as long as the arithmetic.
    scaled += np.float32(1)
    scaled *= np.float32(127.5)
    np.rint(scaled, out=scaled)
    return np.asarray(np.clip(scaled, 0, 255, out=scaled), np.uint8)


def check_images(images: Pixels, what: str = "Images") -> None:
    """Check that `images` are one or more uint8 RGB images of shape (N, H, W, 3).

    Raises:
        DataError: The type or shape differs, or there are none; the message begins with `what`.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise DataError(
            f"{what} are {images.dtype} of shape {images.shape}; "
            "give one or more RGB images as uint8 in [0, 255] of shape (N, H, W, 3)."
        )
