"""Reflection of a photo at the edge of its valid pixels, so that the network sees no artificial edge there."""

import numpy as np
from numpy.typing import NDArray

from model.pixels import Pixels

ROUNDS = 10
"""Maximum number of reflections; each about doubles the width that is filled."""


def reflect(photo: Pixels, valid: NDArray[np.bool_]) -> Pixels:
    """Fill invalid pixels by reflecting the photo at the nearest valid pixel, repeatedly where valid areas are narrow.

    Pixels that no reflection reaches get the colour of the nearest valid pixel.

    Args:
        photo: uint8 (h, w, 3).
        valid: (h, w), true for at least one pixel.
    """
    from scipy.ndimage import distance_transform_edt

    filled, known = photo.copy(), valid.copy()
    for rounds_left in reversed(range(ROUNDS)):
        if known.all():
            break
        empty = np.argwhere(~known)
        indices = distance_transform_edt(~known, return_distances=False, return_indices=True)
        nearest = indices[:, empty[:, 0], empty[:, 1]].T
        mirrored = 2 * nearest - empty
        inside = ((mirrored >= 0) & (mirrored < known.shape)).all(axis=1)
        # Where the mirrored pixel is unknown too, another round may fill it.
        inside[inside] = known[tuple(mirrored[inside].T)]
        if not rounds_left or not inside.any():
            inside[:], mirrored = True, nearest
        filled[tuple(empty[inside].T)] = filled[tuple(mirrored[inside].T)]
        known[tuple(empty[inside].T)] = True
    return filled
