"""The catalogue of scores and baselines: names, titles, and the better direction of each score."""

from collections.abc import Sequence
from typing import NamedTuple


class Metric(NamedTuple):
    """Title, decimals, direction and explanation of a score."""

    title: str
    digits: int
    lower_is_better: bool
    meaning: str


METRICS: dict[str, Metric] = {
    "l1": Metric("L1", 2, True, "mean absolute difference, in levels of 255"),
    "psnr": Metric("PSNR", 2, False, "peak signal-to-noise ratio, in dB"),
    "ssim": Metric("SSIM", 4, False, "structural similarity (Wang et al. 2004), 1 for equal images"),
    "ms_ssim": Metric("MS-SSIM", 4, False, "structural similarity at five scales (Wang et al. 2003)"),
    "lpips": Metric("LPIPS", 4, True, "perceptual distance (Zhang et al. 2018), AlexNet"),
    "within_5": Metric("pixels within 5", 4, False, "share of pixels with all channels within 5 levels"),
    "within_10": Metric("pixels within 10", 4, False, "share of pixels with all channels within 10 levels"),
    "mean_iou": Metric("mean IoU", 4, False, "mean intersection over union of the palette's classes"),
    "road_f1": Metric("road F1", 4, False, "F1 score of road pixels, within 3 pixels"),
    "edge_f1": Metric("edge F1", 4, False, "F1 score of class borders, within 3 pixels"),
    "fid": Metric("FID", 2, True, "Fréchet Inception Distance (Heusel et al. 2017)"),
    "kid": Metric("KID", 5, True, "Kernel Inception Distance (Binkowski et al. 2018)"),
    "inception_score": Metric("IS", 3, False, "Inception Score (Salimans et al. 2016)"),
    "frechet_lite0": Metric("Fréchet Lite0", 1, True, "FID's formula on EfficientNet-Lite0: not FID"),
    "kernel_lite0": Metric("Kernel Lite0", 4, True, "KID's formula on EfficientNet-Lite0: not KID"),
    "is_lite0": Metric("IS Lite0", 3, False, "Inception Score's formula on EfficientNet-Lite0: not IS"),
}

SET_SCORES = {
    "inception": ("fid", "kid", "inception_score"),
    "lite0": ("frechet_lite0", "kernel_lite0", "is_lite0"),
}
"""Names of the Fréchet distance, kernel distance and Inception Score of each network."""
SET_METRICS = frozenset(name for names in SET_SCORES.values() for name in names)
"""Scores of sets of images; the others are means over pairs."""

DECISIVE = ("l1", "ssim")
"""Scores in which a useful model beats every baseline. Set scores are left out: the nearest maps are true maps, only of
other locations, and hard to beat as a set."""

BASELINES = {
    "median_colour": "median colour",
    "mean_map": "mean map",
    "source_copied": "input copied",
    "nearest_map": "nearest map",
}
"""Titles of the baselines without learning. Nearest map: the map of the training pair with the nearest input."""

SUMMARY_METRICS = ("ssim", "l1", "psnr", "mean_iou", "frechet_lite0")
"""Scores shown where there is little room, in a terminal or the registry. The report shows all."""


def titles(names: Sequence[str]) -> str:
    """Join the titles of scores: `L1, SSIM and PSNR`."""
    return join_words([METRICS[name].title for name in names])


def join_words(words: Sequence[str]) -> str:
    """Join words for a sentence: `A, B and C`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
