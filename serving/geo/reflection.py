"""A photo continued beyond its valid pixels, so that a network draws their edge as it draws what it was trained on."""

import numpy as np
from numpy.typing import NDArray

from model.pixels import Pixels

ROUNDS = 10
"""Each about doubles how far the photo goes."""


def reflect(photo: Pixels, valid: NDArray[np.bool_]) -> Pixels:
    """Fill what is not valid by mirroring the photo at the nearest valid pixel, again and again where that is too thin.

    Args:
        photo: uint8 (h, w, 3).
        valid: (h, w), true at least once. What mirrors do not reach has the colour of the nearest valid pixel.
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
        # Where the mirror shows what is not known either, another round may know it.
        inside[inside] = known[tuple(mirrored[inside].T)]
        if not rounds_left or not inside.any():
            inside[:], mirrored = True, nearest
        filled[tuple(empty[inside].T)] = filled[tuple(mirrored[inside].T)]
        known[tuple(empty[inside].T)] = True
    return filled
