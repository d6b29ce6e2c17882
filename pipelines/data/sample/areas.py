"""Areas of ground in a photo: lawns, fields, water, pitches, parking lots and pools."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipelines.data.sample.daylight import (
    ASPHALT,
    CONCRETE,
    CROPS,
    MARKING,
    PARK_GRASS,
    PAVEMENT,
    POOL,
    SCALE,
    SEASONS,
    SOIL,
    UNDERWOOD,
    WATERS,
    YARD,
    Colour,
    Look,
    mean,
    tinted,
    vary,
    xy,
)
from pipelines.data.sample.roadways import draw_car
from pipelines.data.sample.streets import Area, AreaKind, Points

TEXTURES: dict[AreaKind, tuple[Colour, Colour]] = {
    "yard": YARD,
    "paved": CONCRETE,
    "bare": SOIL,
    "wood": UNDERWOOD,
    "park": PARK_GRASS,
    "pitch": PARK_GRASS,
}


def draw_area(canvas: Image.Image, pen: ImageDraw.ImageDraw, area: Area, look: Look) -> None:
    """Draw one area of ground."""
    if area.kind in TEXTURES or area.kind == "lawn":
        colours = TEXTURES.get(area.kind, SEASONS[look.season][:2])
        _fill(canvas, look.texture(colours), area.outline)
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
    """Return the bounding box of an outline in the drawing, clipped: left, top, right, bottom."""
    low = np.clip(outline.min(axis=0) * SCALE - margin, 0, side).astype(int).tolist()
    high = np.clip(outline.max(axis=0) * SCALE + margin + 1, 0, side).astype(int).tolist()
    return low[0], low[1], max(low[0], high[0]), max(low[1], high[1])


def _mask(outline: Points, box: tuple[int, int, int, int]) -> Image.Image:
    """Return a mask of mode L and the size of the box: 255 inside the outline."""
    mask = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
    ImageDraw.Draw(mask).polygon(xy(outline - np.array(box[:2]) / SCALE), fill=255)
    return mask


def _fill(canvas: Image.Image, texture: Image.Image, outline: Points) -> None:
    box = _box(outline, canvas.width)
    if box[0] < box[2] and box[1] < box[3]:
        canvas.paste(texture.crop(box), box, _mask(outline, box))


def _pitch(pen: ImageDraw.ImageDraw, area: Area) -> None:
    """Draw the mown stripes and the lines of a pitch."""
    a, b, c, d = area.outline
    for stripe in np.arange(0, 1, 0.2):
        ends = np.stack([a + (b - a) * stripe, a + (b - a) * (stripe + 0.1)])
        pen.polygon(xy(np.concatenate([ends, (ends + d - a)[::-1]])), fill=(150, 176, 96, 60))
    middle = np.stack([a + b, c + d]) / 2
    pen.line(xy(middle), fill=(*MARKING, 170), width=1)
    pen.polygon(xy(area.outline), outline=(*MARKING, 200), width=1)


def _field(canvas: Image.Image, area: Area, look: Look) -> None:
    """Draw a field: one crop in rows along its edge, with paler and darker patches."""
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
    """Draw water: a bare bank, shallows and a darker middle."""
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
    """Draw a parking lot: rows of marked bays, some of them with a car."""
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
                draw_car(pen, x, y, turn, look.rng)
