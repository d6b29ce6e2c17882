"""The layout of a painted scene as plain geometry: roads, water, parks and buildings.

All lengths are in pixels of the finished image, x to the right and y down; a pixel is about 0.8 m on the ground.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
"""Corners of a polygon or points of a line: shape (n, 2)."""

RoadKind = Literal["motorway", "primary", "secondary", "residential", "path", "rail"]
AreaKind = Literal[
    "lawn", "garden", "yard", "paved", "bare", "field", "wood", "park", "pitch", "parking", "drive", "pool", "water"
]

WIDTHS: dict[RoadKind, float] = {
    "motorway": 27.0,
    "primary": 15.0,
    "secondary": 11.5,
    "residential": 8.0,
    "path": 2.4,
    "rail": 7.0,
}

LAYERS: tuple[frozenset[AreaKind], ...] = (
    frozenset({"lawn", "garden", "yard", "paved", "bare", "field"}),
    frozenset({"wood", "park"}),
    frozenset({"pitch", "parking", "drive", "pool"}),
    frozenset({"water"}),
)
"""Kinds of ground from bottom to top."""

# Values of the site's raster.
FREE, STREET, WATER, TRUNK, RAIL, GREEN, BUILT, OUTSIDE = range(8)


@dataclass(frozen=True)
class Road:
    """A road, a path or a railway along a line."""

    kind: RoadKind
    line: Points

    def outline(self, extra: float = 0.0) -> Points:
        """Return the polygon of the road, `extra` pixels wider than the road itself."""
        return ribbon(self.line, WIDTHS[self.kind] + extra)


@dataclass(frozen=True)
class Area:
    """A piece of ground of one kind."""

    kind: AreaKind
    outline: Points


@dataclass(frozen=True)
class Building:
    """A building of one or more rectangular wings, `height` pixels high, with a flat or a pitched roof."""

    wings: tuple[Points, ...]
    height: float
    flat: bool


@dataclass
class Layout:
    """The content of a scene, shared by photo and map; each list is in drawing order."""

    setting: str

    areas: list[Area] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    bridges: list[Road] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    hedges: list[Points] = field(default_factory=list)

    def finished(self, shift: float, size: int) -> "Layout":
        """Return the layout moved by `shift`, cropped to `size` by `size` pixels, with areas sorted by layer."""
        areas = [Area(a.kind, a.outline + shift) for layer in LAYERS for a in self.areas if a.kind in layer]
        buildings = [Building(tuple(w + shift for w in b.wings), b.height, b.flat) for b in self.buildings]
        return Layout(
            self.setting,
            [area for area in areas if is_near(area.outline, size)],
            [Road(road.kind, road.line + shift) for road in self.roads],
            [Road(road.kind, road.line + shift) for road in self.bridges],
            [building for building in buildings if is_near(building.wings[0], size)],
            [hedge + shift for hedge in self.hedges],
        )


@dataclass(frozen=True)
class Frame:
    """The mapping from the plan of a district, a straight grid (u, v), to the ground: rotated, bent and waved."""

    centre: float
    angle: float
    radius: float
    wave: float
    phase: float

    def place(self, plan: Points) -> Points:
        """Map points of the plan to the ground."""
        u, v = plan[:, 0], plan[:, 1]
        if self.wave:
            u, v = u + self.wave * np.sin(v / 70 + self.phase), v + self.wave * np.sin(u / 60 + 2 * self.phase)
        if self.radius < math.inf:
            turn, reach = u / self.radius, self.radius + v
            u, v = reach * np.sin(turn), reach * np.cos(turn) - self.radius
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        ground = np.empty((len(plan), 2))
        ground[:, 0] = cos * u - sin * v + self.centre
        ground[:, 1] = sin * u + cos * v + self.centre
        return ground

    def rigid(self, low: tuple[float, float], high: tuple[float, float]) -> Points:
        """Map a rectangle of the plan to the ground without bending it."""
        u, v = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
        half_u, half_v = abs(high[0] - low[0]) / 2, abs(high[1] - low[1]) / 2
        (x, y), (ahead_x, ahead_y) = self.place(np.array([[u, v], [u + 1, v]])).tolist()
        turn = math.atan2(ahead_y - y, ahead_x - x)
        return turned_box((x, y), turn, half_u, half_v)


def is_near(outline: Points, size: int) -> bool:
    """Return whether an outline or its shadow may be visible in a scene of `size` by `size` pixels."""
    (left, top), (right, bottom) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    return bool(left < size + 20 and top < size + 20 and right > -20 and bottom > -20)


def turned_box(centre: tuple[float, float], turn: float, half_long: float, half_wide: float) -> Points:
    """Return the corners of a rectangle whose long side has the direction `turn` (radians)."""
    (x, y), cos, sin = centre, math.cos(turn), math.sin(turn)
    a, b, c, d = cos * half_long, sin * half_long, -sin * half_wide, cos * half_wide
    return np.array([[x - a - c, y - b - d], [x + a - c, y + b - d], [x + a + c, y + b + d], [x - a + c, y - b + d]])


def ribbon(line: Points, width: float | NDArray[np.float64]) -> Points:
    """Return the outline of a line of `width` pixels, which may vary from point to point."""
    side = normals(line) * (np.asarray(width).reshape(-1, 1) / 2)
    return np.concatenate([line + side, (line - side)[::-1]])


def normals(line: Points) -> Points:
    """Return the unit normals of a line, one per point."""
    across = np.empty_like(line)
    across[1:-1] = line[2:] - line[:-2]
    across[0], across[-1] = line[1] - line[0], line[-1] - line[-2]
    across = across[:, ::-1] * (-1.0, 1.0)
    return across / np.hypot(across[:, :1], across[:, 1:])


def along(line: Points, step: float, start: float = 0.0) -> tuple[Points, Points]:
    """Return points every `step` pixels along a line, and the unit tangent at each."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    where = np.arange(start, lengths[-1], step)
    points = np.stack([np.interp(where, lengths, line[:, axis]) for axis in (0, 1)], axis=1)
    across = normals(line)[np.minimum(np.searchsorted(lengths, where), len(line) - 1)]
    return points, np.stack([across[:, 1], -across[:, 0]], axis=1)


def straight(start: tuple[float, float], end: tuple[float, float], step: float = 9.0) -> Points:
    """Return a straight line with a point about every `step` pixels."""
    count = max(2, int(math.dist(start, end) / step) + 1)
    share = np.arange(count)[:, None] / (count - 1)
    return np.array(start) * (1 - share) + np.array(end) * share


def blob(rng: np.random.Generator, centre: Points, radius: float) -> Points:
    """Return the outline of a pond or a lake: a circle with a few waves."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    reach = np.full(72, radius)
    for wave in (2, 3, 5, 7):
        reach += radius * rng.uniform(0.05, 0.4) / wave * np.cos(wave * angles + rng.uniform(0, 6.3))
    shape: Points = np.stack([reach * np.cos(angles), reach * rng.uniform(0.6, 1.0) * np.sin(angles)], axis=1)
    return shape + centre


def meander(rng: np.random.Generator, extent: int, angle: float, swing: float) -> Points:
    """Return a curve across the complete extent in about the direction `angle`, deviating by about `swing` pixels."""
    run = np.arange(-0.85 * extent, 0.85 * extent, 8.0)
    sway = rng.uniform(-0.28, 0.28) * extent + sum(
        rng.uniform(0.4, 1.0) * swing / wave * np.sin(wave * run / 75 + rng.uniform(0, 6.3)) for wave in (0.6, 1.0, 1.9)
    )
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([cos * run - sin * sway, sin * run + cos * sway], axis=1) + extent / 2


class Site:
    """A layout under construction, with a raster of the ground that is taken."""

    MARGIN = 24

    def __init__(self, rng: np.random.Generator, extent: int, setting: str) -> None:
        """Create `extent` by `extent` pixels of free ground with a margin around them."""
        self.rng = rng
        self.extent = extent
        self.layout = Layout(setting)
        self._raster = Image.new("L", (extent + 2 * self.MARGIN,) * 2, FREE)
        self._draw = ImageDraw.Draw(self._raster)
        self._pixels: Any = self._raster.load()

    def claim(self, outline: Points, value: int) -> None:
        """Mark the ground inside `outline` as taken by `value`."""
        self._draw.polygon([(x, y) for x, y in (outline + self.MARGIN).tolist()], fill=value)

    def values_at(self, points: Points) -> list[int]:
        """Return the value of the raster at each point."""
        return [self._at(x, y) for x, y in points.tolist()]

    def _at(self, x: float, y: float) -> int:
        # One pixel at a time: for a handful of points, a copy of the raster would cost more.
        column, row = math.floor(x) + self.MARGIN, math.floor(y) + self.MARGIN
        side = self._raster.width
        return int(self._pixels[column, row]) if 0 <= column < side and 0 <= row < side else OUTSIDE

    def is_free(self, outline: Points) -> bool:
        """Return whether the ground is free in the middle of `outline` and just inside its corners and edges.

        Just inside, so that neighbours may share a wall.
        """
        corners = outline.tolist()
        x, y = sum(corner[0] for corner in corners) / len(corners), sum(corner[1] for corner in corners) / len(corners)
        seen = {self._at(x, y)}
        for (x1, y1), (x2, y2) in pairwise([*corners, corners[0]]):
            for dx, dy in ((x1 - x, y1 - y), ((x1 + x2) / 2 - x, (y1 + y2) / 2 - y)):
                inward = 1 - 1.6 / max(1.6, math.hypot(dx, dy))
                seen.add(self._at(x + dx * inward, y + dy * inward))
        return FREE in seen and seen <= {FREE, OUTSIDE}

    def add_area(self, kind: AreaKind, outline: Points) -> None:
        """Add an area of ground; water and greens take up their ground."""
        self.layout.areas.append(Area(kind, outline))
        if kind in ("water", "park", "wood", "pitch"):
            self.claim(outline, WATER if kind == "water" else GREEN)

    def add_road(self, kind: RoadKind, line: Points) -> None:
        """Add a road: large ones cross water, motorways and rails on bridges, small ones end there."""
        big = kind not in ("residential", "path")
        obstacles = {WATER, TRUNK} if big else {WATER, TRUNK, RAIL, OUTSIDE}
        kerb = normals(line) * (0 if big else WIDTHS[kind] / 2 + 1)
        crossed = zip(self.values_at(line - kerb), self.values_at(line), self.values_at(line + kerb), strict=True)
        for start, end, blocked in _runs([not obstacles.isdisjoint(values) for values in crossed]):
            if blocked and big:
                self.layout.bridges.append(Road(kind, line[max(0, start - 1) : end + 1]))
            elif not blocked and not big and end - start > 4:
                self._open(kind, line[start:end])
        if big:
            self._open(kind, line)

    def _open(self, kind: RoadKind, line: Points) -> None:
        self.layout.roads.append(Road(kind, line))
        if kind != "path":
            self.claim(ribbon(line, WIDTHS[kind] + 2), {"motorway": TRUNK, "rail": RAIL}.get(kind, STREET))

    def add_hedge(self, line: Points) -> None:
        """Add a hedge, with gaps at streets, water and rails."""
        for start, end, gap in _runs([value in (STREET, WATER, TRUNK, RAIL) for value in self.values_at(line)]):
            if not gap and end - start > 2:
                self.layout.hedges.append(line[start:end])

    def add_building(self, *wings: Points, height: float, flat: bool) -> bool:
        """Add a building if the ground below all of its wings is free; return whether it was added."""
        if not all(self.is_free(wing) for wing in wings):
            return False
        for wing in wings:
            self.claim(wing, BUILT)
        self.layout.buildings.append(Building(wings, height, flat))
        return True


def _runs(flags: list[bool]) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, flag) for every run of equal flags."""
    starts = [0, *(i for i in range(1, len(flags)) if flags[i] != flags[i - 1]), len(flags)]
    for start, end in pairwise(starts):
        yield start, end, flags[start]
