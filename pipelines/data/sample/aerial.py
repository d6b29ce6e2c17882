"""Photograph a layout from the air: ground, roads and cars below, relief above, and a camera that adds its own."""

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from model.pixels import Pixels
from pipelines.data.sample.daylight import (
    ASPHALT,
    BALLAST,
    CARS,
    CONCRETE,
    CROPS,
    GRAVEL,
    LIGHT_ASPHALT,
    MARKING,
    PARK_GRASS,
    PAVEMENT,
    POOL,
    SCALE,
    SEASONS,
    SOIL,
    TRACK,
    UNDERWOOD,
    WATERS,
    YARD,
    YELLOW_MARKING,
    Colour,
    Look,
    mean,
    take_off,
    tinted,
    vary,
    xy,
)
from pipelines.data.sample.relief import draw_roofs, grow_trees, shade
from pipelines.data.sample.streets import (
    WIDTHS,
    Area,
    AreaKind,
    Layout,
    Points,
    Road,
    RoadKind,
    along,
    normals,
    ribbon,
    turned_box,
)

TEXTURES: dict[AreaKind, tuple[Colour, Colour]] = {
    "yard": YARD,
    "paved": CONCRETE,
    "bare": SOIL,
    "wood": UNDERWOOD,
    "park": PARK_GRASS,
    "pitch": PARK_GRASS,
}


LANES: dict[RoadKind, tuple[tuple[float, ...], float]] = {
    "motorway": ((3.6, 7.1, 10.5), 30.0),
    "primary": ((1.9, 5.4), 34.0),
    "secondary": ((2.8,), 36.0),
    "residential": ((2.6,), 17.0),
}
"""Where the cars drive or stand, in pixels from the middle of the road, and how far apart when it is busy."""


def photograph(layout: Layout, rng: np.random.Generator, size: int) -> Pixels:
    """Photograph the `size` by `size` pixels of a layout; `rng` draws the look, never the place."""
    look = take_off(rng, size)
    canvas = look.texture(SEASONS[look.season][:2]).copy()
    relief = Image.new("L", canvas.size, 0)
    # A pen of mode RGBA lays its colour over what is there, as thin as its fourth channel says.
    pen = ImageDraw.Draw(canvas, "RGBA")
    for area in layout.areas:
        _ground(canvas, pen, area, look)
    _roads(pen, layout, look)
    _bridges(pen, layout, look)
    _traffic(pen, layout, look)
    draw_roofs(pen, ImageDraw.Draw(relief), layout.buildings, look)
    canvas, heights = grow_trees(canvas, relief, layout, look)
    light = shade(heights, look)
    return _develop(ImageChops.multiply(canvas, Image.merge("RGB", (light, light, light))), look)


def _ground(canvas: Image.Image, pen: ImageDraw.ImageDraw, area: Area, look: Look) -> None:
    """Lay one piece of ground."""
    if area.kind in TEXTURES or area.kind == "lawn":
        colours = TEXTURES.get(area.kind, SEASONS[look.season][:2])
        _lay(canvas, look.texture(colours), area.outline)
    if area.kind == "pitch":
        _pitch(pen, area)
    elif area.kind == "garden":
        shade, alpha = look.rng.integers(60, 190), look.rng.integers(0, 46)
        pen.polygon(xy(area.outline), fill=(int(shade), int(shade) - 4, int(shade) - 34, int(alpha)))
        pen.line(xy(area.outline[[1, 2, 3]]), fill=(56, 60, 40, 110), width=2)
    elif area.kind == "field":
        _field(canvas, area, look)
    elif area.kind == "water":
        _water(canvas, area, look)
    elif area.kind == "parking":
        _parking(pen, area, look)
    elif area.kind == "drive":
        pen.polygon(xy(area.outline), fill=vary(PAVEMENT, look.rng, 14))
    elif area.kind == "pool":
        pen.polygon(xy(area.outline), fill=vary(POOL, look.rng, 10), outline=(214, 208, 196), width=2)


def _box(outline: Points, side: int, margin: int = 0) -> tuple[int, int, int, int]:
    """Return the part of the drawing that an outline may touch: left, top, right, bottom."""
    low = np.clip(outline.min(axis=0) * SCALE - margin, 0, side).astype(int).tolist()
    high = np.clip(outline.max(axis=0) * SCALE + margin + 1, 0, side).astype(int).tolist()
    return low[0], low[1], max(low[0], high[0]), max(low[1], high[1])


def _mask(outline: Points, box: tuple[int, int, int, int]) -> Image.Image:
    """Return a mask of type L, as large as the box: 255 inside the outline."""
    mask = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
    ImageDraw.Draw(mask).polygon(xy(outline - np.array(box[:2]) / SCALE), fill=255)
    return mask


def _lay(canvas: Image.Image, texture: Image.Image, outline: Points) -> None:
    box = _box(outline, canvas.width)
    if box[0] < box[2] and box[1] < box[3]:
        canvas.paste(texture.crop(box), box, _mask(outline, box))


def _pitch(pen: ImageDraw.ImageDraw, area: Area) -> None:
    """Mow a pitch and draw its lines."""
    a, b, c, d = area.outline
    for stripe in np.arange(0, 1, 0.2):
        ends = np.stack([a + (b - a) * stripe, a + (b - a) * (stripe + 0.1)])
        pen.polygon(xy(np.concatenate([ends, (ends + d - a)[::-1]])), fill=(150, 176, 96, 60))
    middle = np.stack([a + b, c + d]) / 2
    pen.line(xy(middle), fill=(*MARKING, 170), width=1)
    pen.polygon(xy(area.outline), outline=(*MARKING, 200), width=1)


def _field(canvas: Image.Image, area: Area, look: Look) -> None:
    """Lay a field: one crop in rows along its edge, paler and darker in places."""
    rng, box = look.rng, _box(area.outline, canvas.width)
    if box[0] == box[2] or box[1] == box[3]:
        return
    run = area.outline[1] - area.outline[0]
    across = np.array([-run[1], run[0]]) / np.linalg.norm(run) * (2 * math.pi / (rng.uniform(2.6, 6) * SCALE))
    y, x = np.mgrid[box[1] : box[3], box[0] : box[2]].astype(np.float32)
    slow, fine = (np.asarray(noise.crop(box), dtype=np.float32) - 128 for noise in (look.mottle, look.grain))
    rows = np.sin(x * np.float32(across[0]) + y * np.float32(across[1]) + slow / 90) * np.float32(rng.uniform(4, 26))
    tone = np.clip(128 + rng.choice([-0.5, 0.5]) * slow + 0.35 * fine + rows, 0, 255).astype(np.uint8)
    light, dark = CROPS[int(rng.integers(len(CROPS)))]
    crop = tinted(Image.fromarray(tone), vary(light, rng, 7), vary(dark, rng, 7))
    canvas.paste(crop, box, _mask(area.outline, box))


def _water(canvas: Image.Image, area: Area, look: Look) -> None:
    """Lay water: a bare bank, shallows, and a darker middle."""
    box = _box(area.outline, canvas.width, margin=12)
    if box[0] == box[2] or box[1] == box[3]:
        return
    mask = _mask(area.outline, box)
    shallow, deep = WATERS[look.water]
    bank = mask.filter(ImageFilter.BoxBlur(4)).point(lambda value: min(255, value * 2))
    middle = mask.filter(ImageFilter.BoxBlur(9)).point(lambda value: max(0, value * 2 - 255))
    for colours, where in (
        ((SOIL[1], UNDERWOOD[0]), bank),
        ((shallow, mean(shallow, deep)), mask),
        ((mean(shallow, deep), deep), middle),
    ):
        canvas.paste(look.texture(colours, grain=0.25).crop(box), box, where)


def _parking(pen: ImageDraw.ImageDraw, area: Area, look: Look) -> None:
    """Lay a parking lot: rows of marked bays, most of them with a car."""
    corner, right, _, down = area.outline
    pen.polygon(xy(area.outline), fill=vary(ASPHALT, look.rng, 9))
    wide, deep = float(np.linalg.norm(right - corner)), float(np.linalg.norm(down - corner))
    if min(wide, deep) < 8:
        return
    if wide < deep:
        corner, right, down, wide, deep = corner, down, right, deep, wide
    run, fall = (right - corner) / wide, (down - corner) / deep
    busy, turn = look.rng.uniform(0.2, 0.85), math.atan2(fall[1], fall[0])
    for row in np.arange(1.0, deep - 6, 11.5):
        for bay in np.arange(2.0, wide - 4, 3.6):
            start = corner + run * bay + fall * row
            pen.line(xy(np.stack([start, start + fall * 6])), fill=MARKING, width=1)
            if look.rng.random() < busy:
                x, y = (start + run * 1.8 + fall * 3.1).tolist()
                _car(pen, x, y, turn, look.rng)


def _car(pen: ImageDraw.ImageDraw, x: float, y: float, turn: float, rng: np.random.Generator) -> None:
    """Park a car that looks to `turn`: its shadow, its body and the dark of its windows."""
    paint = vary(CARS[int(rng.integers(len(CARS)))], rng, 6)
    long, wide = (2.6, 1.15) if rng.random() < 0.94 else (4.8, 1.4)
    pen.polygon(xy(turned_box((x + 0.4, y - 0.5), turn, long, wide)), fill=(20, 20, 30, 120))
    pen.polygon(xy(turned_box((x, y), turn, long, wide)), fill=paint)
    cos, sin = math.cos(turn), math.sin(turn)
    pen.polygon(xy(turned_box((x + cos * 0.8, y + sin * 0.8), turn, 0.3, 0.9)), fill=(40, 46, 54, 190))


def _roads(pen: ImageDraw.ImageDraw, layout: Layout, look: Look) -> None:
    """Draw paths and pavements, then surfaces by rank, then rails, so that crossings are open."""
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
    """Draw the asphalt of a road; wheels polish its lanes."""
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


def _bridges(pen: ImageDraw.ImageDraw, layout: Layout, look: Look) -> None:
    """Draw the bridges over what they cross, with a shadow below and a parapet on both sides."""
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


def _traffic(pen: ImageDraw.ImageDraw, layout: Layout, look: Look) -> None:
    """Put cars on the lanes, and along the kerbs of residential streets."""
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
                        _car(pen, x + slip * math.cos(turn), y + slip * math.sin(turn), turn, rng)


def _develop(drawing: Image.Image, look: Look) -> Pixels:
    """Take the photo: average down, then a slight blur, light, haze and the noise of the sensor."""
    rng, size = look.rng, drawing.width // SCALE
    blurred = drawing.reduce(SCALE).filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.45)))
    photo = np.asarray(blurred, dtype=np.float32)
    gain = rng.uniform(0.86, 1.14) * rng.uniform(0.95, 1.15) * (1 + rng.normal(0, 0.02, 3))
    haze = rng.uniform(0, 0.08) * np.array([150, 160, 172])
    photo = (photo - 112) * gain.astype(np.float32) + (112 + haze).astype(np.float32)
    photo += rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(rng.uniform(1.5, 4))
    photo += rng.integers(-2, 3, (size, size, 3), dtype=np.int8)
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8)
