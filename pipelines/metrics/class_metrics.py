"""Scores of the classes on drawn maps: overlap of areas, agreement of roads and borders."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from model.palette import classify
from model.pixels import Pixels
from model.spec import Palette
from pipelines.metrics.image_metrics import check_pairs
from pipelines.metrics.intervals import Tally, Values, bootstrap, ratio
from pipelines.metrics.scores import ClassScore

REACH = 3
"""Distance in pixels within which a road counts as found (Mnih and Hinton 2010)."""

Mask = NDArray[np.bool_]
Classes = NDArray[np.uint8]
"""Indices into a palette's classes."""


@dataclass(frozen=True)
class ClassMetrics:
    """Scores of drawn maps by the classes of a palette.

    Attributes:
        tallies: `mean_iou`; `road_f1` and `edge_f1`, each only if the true maps contain a road or a border.
        classes: All classes of the palette, in its order.
    """

    tallies: dict[str, Tally]
    classes: tuple[ClassScore, ...]


def measure(drawn: Pixels, true: Pixels, palette: Palette) -> ClassMetrics:
    """Score drawn maps against true maps by the classes of their colours.

    Totals over all images are divided, not each image's, so that classes and roads weigh by their pixels:

    - IoU of a class: its pixels in both maps divided by its pixels in either.
    - `mean_iou`: the mean over the classes in the true maps.
    - `road_f1`: the harmonic mean of precision, the share of drawn road pixels with a true one within 3 pixels
      (Euclidean), and recall, the share of true ones with a drawn one within 3 pixels: the relaxed measures of Mnih and
      Hinton (2010), after the correctness and completeness of Wiedemann et al. (1998).
    - `edge_f1`: the same for borders, the pixels whose right or lower neighbour has another class.

    An image without roads in either map adds nothing to `road_f1`; a road in only one of them is wrong or missed.

    Args:
        drawn: Drawn maps, uint8 (N, H, W, 3), 2 or more.
        true: Their true maps, of the same shape.
        palette: The classes of the true maps.

    Raises:
        DataError: The two are not uint8 RGB images of the same shape, or there is only one image.
    """
    check_pairs(drawn, true)
    found, there = classify(drawn, palette), classify(true, palette)
    names = list(palette.classes)
    overlaps = _overlaps(found, there, classes=len(names))
    tallies = {"mean_iou": Tally(overlaps.reshape(len(overlaps), -1), _mean_iou)}
    if "road" in names:
        road = names.index("road")
        tallies["road_f1"] = Tally(_matches(found == road, there == road), _f1)
    tallies["edge_f1"] = Tally(_matches(_borders(found), _borders(there)), _f1)
    scores = tuple(
        _class_score(name, colours, overlaps[..., index], pixels=found.size)
        for index, (name, colours) in enumerate(palette.classes.items())
    )
    defined = {name: tally for name, tally in tallies.items() if name == "mean_iou" or tally.rows[:, 3].any()}
    return ClassMetrics(defined, scores)


def _overlaps(found: Classes, there: Classes, *, classes: int) -> Values:
    """Count the pixels of each class in both maps, in either, and in the true map: (N, 3, classes)."""
    rows = np.empty((len(found), 3, classes))
    for row, a, b in zip(rows, found, there, strict=True):
        both = np.bincount(a[a == b], minlength=classes)
        drawn, true = np.bincount(a.ravel(), minlength=classes), np.bincount(b.ravel(), minlength=classes)
        row[:] = both, drawn + true - both, true
    return rows


def _mean_iou(totals: Values) -> Values:
    """Return the mean IoU over classes with true pixels, from totals of `_overlaps`, (..., 3 x classes)."""
    both, either, true = np.moveaxis(totals.reshape(*totals.shape[:-1], 3, -1), -2, 0)
    present = true > 0
    iou = np.divide(both, either, out=np.zeros_like(both), where=present)
    mean: Values = iou.sum(axis=-1) / present.sum(axis=-1)
    return mean


def _matches(found: Mask, there: Mask) -> Values:
    """Count drawn pixels near true ones, drawn pixels, true pixels near drawn ones, and true pixels: (N, 4)."""
    return np.array(
        [[(a & _dilate(b)).sum(), a.sum(), (b & _dilate(a)).sum(), b.sum()] for a, b in zip(found, there, strict=True)],
        np.float64,
    )


def _dilate(mask: Mask) -> Mask:
    """Mark all pixels within REACH of a marked pixel."""
    y, x = np.ogrid[-REACH : REACH + 1, -REACH : REACH + 1]
    dilated: Mask = binary_dilation(mask, x * x + y * y <= REACH * REACH)
    return dilated


def _f1(totals: Values) -> Values:
    """Return the harmonic mean of precision and recall; NaN if there is nothing in either map."""
    right, drawn, recalled, true = np.moveaxis(totals, -1, 0)
    # 2 p r / (p + r) with p = right / drawn and r = recalled / true, without dividing by an empty side.
    denominator = right * true + recalled * drawn
    undefined = np.where(drawn + true > 0, 0.0, np.nan)
    f1: Values = np.divide(2 * right * recalled, denominator, out=undefined, where=denominator > 0)
    return f1


def _borders(classes: Classes) -> Mask:
    """Mark the pixels whose right or lower neighbour has another class."""
    borders = np.zeros(classes.shape, np.bool_)
    borders[:, :, :-1] |= classes[:, :, :-1] != classes[:, :, 1:]
    borders[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    return borders


def _class_score(name: str, colours: tuple[str, ...], overlaps: Values, *, pixels: int) -> ClassScore:
    """Score one class from its pixels in both maps, in either, and in the true map, (N, 3)."""
    _, either, true = overlaps.sum(axis=0)
    iou = bootstrap(Tally(overlaps, ratio)) if either else None
    return ClassScore(name=name, colours=colours, share=float(true / pixels), iou=iou)
