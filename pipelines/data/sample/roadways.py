"""Roads in a photo: surfaces, markings, rails, bridges and traffic."""

import math

import numpy as np
from PIL import ImageDraw

from pipelines.data.sample.daylight import (
    ASPHALT,
    BALLAST,
    CARS,
    GRAVEL,
    LIGHT_ASPHALT,
    MARKING,
    PAVEMENT,
    SOIL,
    TRACK,
    YELLOW_MARKING,
    Colour,
    Look,
    mean,
    vary,
    xy,
)
from pipelines.data.sample.streets import WIDTHS, Layout, Points, Road, RoadKind, along, normals, ribbon, turned_box

LANES: dict[RoadKind, tuple[tuple[float, ...], float]] = {
    "motorway": ((3.6, 7.1, 10.5), 30.0),
    "primary": ((1.9, 5.4), 34.0),
    "secondary": ((2.8,), 36.0),
    "residential": ((2.6,), 17.0),
}
"""Lanes in pixels from the middle of the road, and the gap between cars in dense traffic."""


def draw_roads(pen: ImageDraw.ImageDraw, layout: Layout, look: Look) -> None:
    """Draw paths and pavements, then road surfaces by rank, then rails; this order keeps crossings open."""
    for road in layout.roads:
        if road.kind == "path":
            pen.polygon(xy(road.outline()), fill=GRAVEL)
        elif road.kind == "rail":
            pen.polygon(xy(road.outline()), fill=BALLAST)
        elif road.kind == "motorway" or layout.setting == "country":
            pen.polygon(xy(road.outline(1.6)), fill=(*SOIL[1], 150))
        else:
            pen.polygon(xy(road.outline(2.6)), fill=vary(PAVEMENT, look.rng, 5))
    worn = vary(ASPHALT, look.rng, 7)
    for kind in ("motorway", "residential", "secondary", "primary"):
        roads = [road for road in layout.roads if road.kind == kind]
        for road in roads:
            _surface(pen, road, vary(LIGHT_ASPHALT if kind == "motorway" else worn, look.rng, 4))
        for road in roads:
            _markings(pen, road)
    for road in layout.roads:
        if road.kind == "rail":
            _rails(pen, road)


def _surface(pen: ImageDraw.ImageDraw, road: Road, colour: Colour) -> None:
    """Draw the asphalt of a road, with paler wheel tracks."""
    pen.polygon(xy(road.outline(-0.4)), fill=colour)
    width = WIDTHS[road.kind]
    for shift in (-width * 0.24, width * 0.24):
        pen.polygon(xy(ribbon(road.line + normals(road.line) * shift, width * 0.27)), fill=(150, 150, 148, 26))


def _rails(pen: ImageDraw.ImageDraw, road: Road) -> None:
    pen.polygon(xy(ribbon(road.line, 3.4)), fill=(*mean(BALLAST, (60, 54, 50)), 150))
    for shift in (-0.9, 0.9):
        pen.line(xy(road.line + normals(road.line) * shift), fill=TRACK, width=1)


def _markings(pen: ImageDraw.ImageDraw, road: Road) -> None:
    across = normals(road.line)
    if road.kind == "motorway":
        pen.polygon(xy(ribbon(road.line, 2.6)), fill=(120, 122, 92))
        for shift in (-12.3, -1.9, 1.9, 12.3):
            pen.line(xy(road.line + across * shift), fill=MARKING, width=1)
        for shift in (-8.8, -5.4, 5.4, 8.8):
            _dashes(pen, road.line + across * shift)
    elif road.kind == "primary":
        pen.line(xy(road.line), fill=YELLOW_MARKING, width=2)
        for shift in (-3.6, 3.6):
            _dashes(pen, road.line + across * shift)
    elif road.kind == "secondary":
        _dashes(pen, road.line)


def _dashes(pen: ImageDraw.ImageDraw, line: Points) -> None:
    points, ahead = along(line, 8.0)
    for start, end in zip(points, points + ahead * 3.6, strict=True):
        pen.line(xy(np.stack([start, end])), fill=MARKING, width=1)


def draw_bridges(pen: ImageDraw.ImageDraw, layout: Layout, look: Look) -> None:
    """Draw bridges, with a shadow below and a parapet on both sides."""
    for bridge in layout.bridges:
        pen.polygon(xy(bridge.outline(1.0) + np.asarray(look.shadow) * 4), fill=(10, 14, 20, 140))
    for bridge in layout.bridges:
        pen.polygon(xy(bridge.outline(2.6)), fill=(190, 187, 180))
        if bridge.kind == "rail":
            pen.polygon(xy(bridge.outline(-0.5)), fill=BALLAST)
            _rails(pen, bridge)
        else:
            _surface(pen, bridge, vary(ASPHALT, look.rng, 6))
            _markings(pen, bridge)


def draw_traffic(pen: ImageDraw.ImageDraw, layout: Layout, look: Look) -> None:
    """Draw cars on the lanes and along the kerbs of residential streets."""
    rng, busy = look.rng, look.rng.uniform(0.3, 1.0)
    for road in layout.roads:
        lanes, gap = LANES.get(road.kind, ((), 1.0))
        if layout.setting == "country" and road.kind != "motorway":
            gap *= 4
        across = normals(road.line)
        for lane in lanes:
            for shift in (-lane, lane):
                points, ahead = along(road.line + across * shift, gap / busy, rng.uniform(0, gap / busy))
                turns = np.arctan2(ahead[:, 1], ahead[:, 0]) + (math.pi if shift > 0 else 0)
                for (x, y), turn in zip(points.tolist(), turns.tolist(), strict=True):
                    slip = rng.uniform(-6, 6)
                    if rng.random() < 0.6:
                        draw_car(pen, x + slip * math.cos(turn), y + slip * math.sin(turn), turn, rng)


def draw_car(pen: ImageDraw.ImageDraw, x: float, y: float, turn: float, rng: np.random.Generator) -> None:
    """Draw a car heading towards `turn` (radians): shadow, body and windscreen."""
    paint = vary(CARS[int(rng.integers(len(CARS)))], rng, 6)
    long, wide = (2.6, 1.15) if rng.random() < 0.94 else (4.8, 1.4)
    pen.polygon(xy(turned_box((x + 0.4, y - 0.5), turn, long, wide)), fill=(20, 20, 30, 120))
    pen.polygon(xy(turned_box((x, y), turn, long, wide)), fill=paint)
    cos, sin = math.cos(turn), math.sin(turn)
    pen.polygon(xy(turned_box((x + cos * 0.8, y + sin * 0.8), turn, 0.3, 0.9)), fill=(40, 46, 54, 190))
