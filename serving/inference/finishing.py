"""Finishing of a map: a function of pixels and of those around them, applied strip by strip as if to the whole map."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.io.files import write_bytes
from model.pixels import Pixels
from serving.geo.cog import encode_strip, read_strip

Finish = Callable[[Pixels, NDArray[np.bool_] | None], Pixels]
"""Takes drawn pixels, uint8 (H, W, 3), and the mask of those that are not transparent; returns finished pixels."""
MARGIN = 32
"""Pixels around a pixel on which its finished colour may depend."""


def finish_strips(strips: Sequence[Path], finish: Finish) -> list[Path]:
    """Write finished copies of strips next to them, in order from top to bottom, and return their files."""
    finished = []
    for number, strip in enumerate(strips):
        above, rows, below = _read_margin(strips[:number][::-1]), read_strip(strip), _read_margin(strips[number + 1 :])
        whole = np.concatenate([*above[::-1], rows, *below])
        start = sum(map(len, above))
        visible = whole[..., 3] > 0 if whole.shape[-1] == 4 else None
        colours = finish(np.ascontiguousarray(whole[..., :3]), visible)[start : start + len(rows)]
        target = strip.with_name(f"finished-{strip.name}")
        write_bytes(target, encode_strip(np.dstack([colours, rows[..., 3:]]), note=""))
        finished.append(target)
    return finished


def _read_margin(strips: Sequence[Path]) -> list[Pixels]:
    """Read strips, the nearest first, until they have the rows of a margin."""
    parts: list[Pixels] = []
    for strip in strips:
        if sum(map(len, parts)) >= MARGIN:
            break
        parts.append(read_strip(strip))
    return parts
