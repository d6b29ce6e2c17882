"""The layout of a scene: water and trunk roads, then a grid of streets, then the blocks between them."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipelines.data.sample.blocks import Block, pick
from pipelines.data.sample.streets import (
    WIDTHS,
    Frame,
    Layout,
    Points,
    RoadKind,
    Site,
    blob,
    meander,
    ribbon,
    straight,
)

SMALLEST_EXTENT = 256
"""Extent in pixels below which a scene is the middle of a larger layout, so that its streets form a town."""


@dataclass(frozen=True)
class Setting:
    """A kind of place: distances between its streets in pixels, and weights of what its blocks contain.

    `streets` is the share of the planned streets that exist, `bigger` the share of larger ones.
    """

    depth: tuple[float, float]
    length: tuple[float, float]
    streets: float
    bigger: float
    blocks: dict[str, float]


SETTINGS: dict[str, Setting] = {
    "suburb": Setting(
        depth=(56, 72),
        length=(85, 170),
        streets=1.0,
        bigger=0.35,
        blocks={"houses": 80, "park": 9, "slabs": 4, "wood": 3, "halls": 4},
    ),
    "town": Setting(
        depth=(50, 70),
        length=(70, 140),
        streets=1.0,
        bigger=0.55,
        blocks={"terraces": 66, "slabs": 9, "halls": 7, "park": 11, "parking": 7},
    ),
    "works": Setting(
        depth=(70, 105),
        length=(110, 190),
        streets=0.9,
        bigger=0.4,
        blocks={"halls": 64, "parking": 10, "bare": 9, "terraces": 7, "wood": 10},
    ),
    "country": Setting(
        depth=(75, 130),
        length=(90, 190),
        streets=0.5,
        bigger=0.0,
        blocks={"field": 56, "wood": 19, "houses": 12, "farm": 9, "park": 4},
    ),
}


def lay_out(rng: np.random.Generator, size: int) -> Layout:
    """Return a random layout for a scene of `size` by `size` pixels."""
    extent = max(size, SMALLEST_EXTENT)
    name = str(rng.choice(list(SETTINGS), p=[0.35, 0.31, 0.14, 0.2]))
    site = Site(rng, extent, name)
    angle = rng.uniform(0, math.pi)
    _lay_water(site, angle)
    _lay_trunks(site, angle + math.pi / 2 + rng.normal(0, 0.3), name)
    frame = Frame(
        centre=extent / 2,
        angle=angle + rng.choice([0.0, rng.normal(0, 0.4)]),
        radius=float(rng.choice([math.inf, rng.uniform(1.8, 4.0) * extent])),
        wave=float(rng.choice([0.0, rng.uniform(3, 10)], p=[0.45, 0.55])),
        phase=rng.uniform(0, 6.3),
    )
    blocks, hedges = _lay_grid(site, frame, SETTINGS[name])
    for hedge in hedges:
        site.add_hedge(hedge)
    for block in blocks:
        block.fill(str(rng.choice(list(SETTINGS[name].blocks), p=_shares(SETTINGS[name]))))
    return site.layout.finished((size - extent) / 2, size)


def _shares(setting: Setting) -> list[float]:
    total = sum(setting.blocks.values())
    return [weight / total for weight in setting.blocks.values()]


def _lay_water(site: Site, angle: float) -> None:
    """Add a river, a lake or neither, often with green banks."""
    rng = site.rng
    draw = rng.random()
    if draw < 0.27:
        line = meander(rng, site.extent, angle, swing=26)
        waves = np.sin(np.linspace(0, rng.uniform(4, 12), len(line)) + rng.uniform(0, 6.3))
        width = rng.uniform(16, 46) * (1 + 0.18 * waves)
        if rng.random() < 0.6:
            site.add_area(pick(rng, "park", "wood"), ribbon(line + rng.uniform(-9, 9), width + rng.uniform(12, 60)))
        site.add_area("water", ribbon(line, width))
    elif draw < 0.42:
        centre = rng.uniform(0.05, 0.95, 2) * site.extent
        outline = blob(rng, centre, rng.uniform(0.14, 0.4) * site.extent)
        if rng.random() < 0.7:
            site.add_area(pick(rng, "park", "wood"), centre + (outline - centre) * rng.uniform(1.15, 1.5))
        site.add_area("water", outline)


def _lay_trunks(site: Site, angle: float, name: str) -> None:
    """Add at most one motorway, one railway and the main road of a village, each across the complete scene."""
    rng = site.rng
    draw = rng.random()
    if draw < 0.2:
        site.add_road("motorway", meander(rng, site.extent, angle, swing=20))
    if draw < 0.05 or 0.2 < draw < 0.4:
        # With a motorway, the railway takes another direction, or it would run on top of it.
        angle += 1.0 if draw < 0.05 else 0.0
        line = meander(rng, site.extent, angle + rng.normal(0, 0.15), swing=12)
        site.add_road("rail", line)
        if rng.random() < 0.5:
            site.add_road("rail", line + 9.0 * np.array([-math.sin(angle), math.cos(angle)]))
    if name == "country" and rng.random() < 0.9:
        kind: RoadKind = "primary" if rng.random() < 0.5 else "secondary"
        site.add_road(kind, meander(rng, site.extent, angle + rng.normal(0, 0.5), swing=22))


def _cuts(rng: np.random.Generator, reach: float, step: tuple[float, float]) -> list[float]:
    """Return ascending positions from about -reach to reach, with random distances in the range `step`."""
    cuts = [-reach - rng.uniform(0, step[1])]
    while cuts[-1] < reach:
        cuts.append(cuts[-1] + rng.uniform(*step))
    return cuts


@dataclass(frozen=True)
class Strip:
    """Rows of blocks between two larger streets; `kind` is that of the street above the first row."""

    kind: RoadKind
    levels: list[float]
    cuts: list[float]


def _strips(rng: np.random.Generator, reach: float, setting: Setting, one_grid: bool) -> list[Strip]:
    """Cut the plan into strips; with `one_grid`, cross streets continue through all strips."""
    rows, columns = _cuts(rng, reach, setting.depth), _cuts(rng, reach, setting.length)
    high_street = int(rng.integers(1, 3)) if rng.random() < setting.bigger else -1
    strips: list[Strip] = []
    while len(rows) > 1:
        count = min(int(rng.integers(1, 4)), len(rows) - 1)
        kind: RoadKind = "secondary" if rng.random() < setting.bigger else "residential"
        strips.append(Strip("primary" if len(strips) == high_street else kind, rows[: count + 1], columns))
        rows = rows[count:]
        columns = columns if one_grid else _cuts(rng, reach, setting.length)
    return strips


def _lay_grid(site: Site, frame: Frame, setting: Setting) -> tuple[list[Block], list[Points]]:
    """Add the streets of a district; return its blocks, and hedges in place of the streets that were not built."""
    reach, blocks, hedges = 0.75 * site.extent, list[Block](), list[Points]()

    def lay(kind: RoadKind, start: tuple[float, float], end: tuple[float, float]) -> None:
        line = frame.place(straight(start, end))
        if kind != "residential" or site.rng.random() < setting.streets:
            site.add_road(kind, line)
        else:
            hedges.append(line)

    one_grid = site.rng.random() < 0.45
    strips = _strips(site.rng, reach, setting, one_grid)
    for strip, below in zip(strips, [*strips[1:], strips[0]], strict=True):
        lay(strip.kind, (-reach, strip.levels[0]), (reach, strip.levels[0]))
        for level in strip.levels[1:-1]:
            lay("residential", (-reach, level), (reach, level))
        avenue = strip.cuts[len(strip.cuts) // 2] if one_grid and setting.bigger > 0.38 else None
        for cut in strip.cuts:
            lay("secondary" if cut == avenue else "residential", (cut, strip.levels[0]), (cut, strip.levels[-1]))
        halves = [WIDTHS[strip.kind] / 2, *[4.0] * (len(strip.levels) - 2), WIDTHS[below.kind] / 2]
        blocks += [
            Block(site, frame, (left + 8, top + above + 3), (right - 8, bottom - under - 3))
            for (top, above), (bottom, under) in pairwise(zip(strip.levels, halves, strict=True))
            for left, right in pairwise(strip.cuts)
        ]
    return [block for block in blocks if block.is_near()], hedges
