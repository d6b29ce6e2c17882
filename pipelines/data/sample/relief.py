"""Relief of a photo: roofs, the crowns of trees, and the shadows that both cast."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipelines.data.sample.daylight import (
    FLAT_ROOFS,
    PITCHED_ROOFS,
    SCALE,
    SEASONS,
    Colour,
    Field,
    Look,
    mean,
    vary,
    xy,
)
from pipelines.data.sample.streets import WIDTHS, AreaKind, Building, Layout, Points, along, normals

# Density of trees on each kind of ground: the probability of a tree in a cell of CELL pixels.
CELL = 5.5
GROWTH: dict[AreaKind, float] = {
    "lawn": 0.24,
    "garden": 0.3,
    "yard": 0.13,
    "paved": 0.015,
    "bare": 0.06,
    "field": 0.0,
    "wood": 0.97,
    "park": 0.26,
    "pitch": 0.0,
    "parking": 0.02,
    "drive": 0.0,
    "pool": 0.0,
    "water": 0.0,
}
WILD_GROWTH = 0.1

STEP = 8
"""Units of height in the relief per pixel."""

BROAD = 40
"""Span in pixels above which pitched roofs are metal ones, in the colours of flat roofs."""

SHADE = 0.4
"""Share of the light that remains in a shadow."""


def draw_roofs(pen: ImageDraw.ImageDraw, relief: ImageDraw.ImageDraw, buildings: list[Building], look: Look) -> None:
    """Draw the roofs on the photo, and the heights of the buildings in the relief."""
    rng = look.rng
    common = PITCHED_ROOFS[int(rng.integers(len(PITCHED_ROOFS)))]
    for building in buildings:
        broad = building.flat or float(np.ptp(building.wings[0], axis=0).max()) > BROAD
        palette = FLAT_ROOFS if broad else PITCHED_ROOFS
        colour = palette[int(rng.integers(len(palette)))]
        if not broad and rng.random() < 0.4:
            colour = common
        colour = vary(colour, rng, 8)
        hip = rng.choice([0.0, 0.5]) if building.height < 8 else 0.0
        for wing in building.wings:
            relief.polygon(xy(wing), fill=round(building.height * STEP))
            if building.flat:
                _flat_roof(pen, wing, colour, rng)
            else:
                _pitched_roof(pen, wing, colour, look, hip)


def _flat_roof(pen: ImageDraw.ImageDraw, wing: Points, colour: Colour, rng: np.random.Generator) -> None:
    """Draw a flat roof: a parapet, and machinery on larger roofs."""
    pen.polygon(xy(wing), fill=colour, outline=vary(mean(colour, (225, 223, 218)), rng, 6), width=2)
    corner, right, _, down = wing
    for _ in range(int(np.linalg.norm(right - corner) * np.linalg.norm(down - corner) / 130)):
        s, t = rng.uniform(0.12, 0.82, 2)
        origin = corner + (right - corner) * s + (down - corner) * t
        size = rng.uniform(0.8, 2.2)
        box = origin + np.array([[0, 0], [size, 0], [size, size], [0, size]])
        pen.polygon(xy(box + 0.7), fill=mean(colour, (60, 60, 64)))
        pen.polygon(xy(box), fill=vary(mean(colour, (205, 205, 205)), rng, 10))


def _pitched_roof(pen: ImageDraw.ImageDraw, wing: Points, colour: Colour, look: Look, hip: float) -> None:
    """Draw a gabled roof (`hip` 0) or a hipped one; sides that face the sun are lighter."""
    a, b, c, d = wing
    if np.linalg.norm(b - a) < np.linalg.norm(c - b):
        a, b, c, d = b, c, d, a
    run = (b - a) * hip * np.linalg.norm(d - a) / np.linalg.norm(b - a)
    start, end = (a + d) / 2 + run, (b + c) / 2 - run
    middle = wing.mean(axis=0)
    sun = -np.asarray(look.shadow) / np.linalg.norm(look.shadow)
    for side in ((a, b, end, start), (c, d, start, end), (b, c, end), (d, a, start)):
        facing = (side[0] + side[1]) / 2 - middle
        light = 1 + 0.21 * float(facing @ sun) / max(float(np.linalg.norm(facing)), 1e-6)
        red, green, blue = (int(min(255, channel * light)) for channel in colour)
        pen.polygon(xy(np.stack(side)), fill=(red, green, blue))
    pen.line(xy(np.stack([start, end])), fill=mean(colour, (225, 222, 216)), width=1)


def _growth(layout: Layout, look: Look, size: int) -> Field:
    """Return the probability of a tree for every pixel of the photo."""
    chance = Image.new("L", (size, size), round(255 * WILD_GROWTH))
    pen = ImageDraw.Draw(chance)
    for area in layout.areas:
        pen.polygon([(x, y) for x, y in area.outline.tolist()], fill=round(255 * GROWTH[area.kind]))
    for road in layout.roads:
        pen.polygon([(x, y) for x, y in road.outline(2.0).tolist()], fill=0)
    for building in layout.buildings:
        for wing in building.wings:
            pen.polygon([(x, y) for x, y in wing.tolist()], fill=0)
    clumps = np.asarray(look.mottle.reduce(SCALE), dtype=np.float32) / 128
    field = np.asarray(chance, dtype=np.float32) / 255
    return np.where(field > 0.9, field, field * np.clip(3 * clumps - 2, 0, 3))


def _tree_positions(layout: Layout, look: Look, size: int) -> Points:
    """Return the positions of trees, (x, y) in pixels of the photo."""
    rng = look.rng
    cells = np.arange(-1, size / CELL + 1) * CELL
    grid = np.stack(np.meshgrid(cells, cells), axis=-1).reshape(-1, 2)
    grid += rng.uniform(-0.45, 0.45, grid.shape) * CELL + CELL / 2
    growth = _growth(layout, look, size)
    x, y = np.clip(grid.astype(int), 0, size - 1).T
    groups = [grid[rng.random(len(grid)) < growth[y, x]]]
    leafy = rng.uniform(0.1, 0.75)
    for road in layout.roads:
        if road.kind in ("residential", "secondary", "primary"):
            for shift in (-0.5, 0.5):
                kerb = road.line + normals(road.line) * shift * (WIDTHS[road.kind] + 6)
                points, _ = along(kerb, 9.0, rng.uniform(0, 9))
                x, y = np.clip(points.astype(int), 0, size - 1).T
                groups.append(points[(rng.random(len(points)) < leafy) & (growth[y, x] > 0)])
    for hedge in layout.hedges:
        points, _ = along(hedge, 3.5)
        groups.append(points + rng.normal(0, 0.8, points.shape))
    trees = np.concatenate(groups)
    return trees[((trees > -6) & (trees < size + 6)).all(axis=1)]


def grow_trees(canvas: Image.Image, relief: Image.Image, layout: Layout, look: Look) -> tuple[Image.Image, Field]:
    """Draw the crowns of trees on the canvas; return it, and the relief including the crowns."""
    side = canvas.width
    crowns, tints = _crowns(_tree_positions(layout, look, side // SCALE), side, look)
    spots = np.flatnonzero(crowns)
    top, tint = crowns.ravel()[spots], tints.ravel()[spots]
    leaves = (np.asarray(look.grain).ravel()[spots].astype(np.float32) - 128) / 52
    # The sunny side of a crown is lighter; leaves make it rough.
    x, y = (round(2 * part / math.hypot(*look.shadow)) for part in look.shadow)
    away = crowns.ravel().take(spots + y * side + x, mode="clip")
    light = np.clip(0.92 + 0.05 * (top - away) + 0.006 * top + 0.17 * leaves, 0.35, 1.7)
    green = np.asarray(SEASONS[look.season][2], dtype=np.float32)
    hue = np.asarray([13, 5, 3] if look.season == "autumn" else [7, 4, 3], dtype=np.float32)
    colour = np.clip((green + tint[:, None] * hue) * light[:, None], 0, 255).astype(np.uint8)
    picture, heights = np.array(canvas), np.array(relief, dtype=np.float32)
    leafy = top + 0.8 * leaves > 1.2
    picture.reshape(-1, 3)[spots[leafy]] = colour[leafy]
    flat = heights.reshape(-1)
    flat[spots] = np.maximum(flat[spots], top * np.float32(1.1 * STEP / SCALE) + STEP)
    return Image.fromarray(picture), heights


def _crowns(spots: Points, side: int, look: Look) -> tuple[Field, Field]:
    """Return for every pixel of the drawing the height of the crown there, in pixels, and the tint of its tree."""
    rng, edge = look.rng, 24
    crowns = np.zeros((side + 2 * edge,) * 2, dtype=np.float32)
    tints = np.zeros_like(crowns)
    radii = np.clip(rng.gamma(9, 0.36, len(spots)) * SCALE, 3, 11).astype(int)
    domes = {radius: _dome(radius) for radius in range(3, 12)}
    centres = (spots * SCALE + edge).astype(int).tolist()
    for (x, y), radius, tint in zip(centres, radii.tolist(), rng.normal(0, 1, len(spots)).tolist(), strict=True):
        window = (slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1))
        higher = domes[radius] > crowns[window]
        np.copyto(crowns[window], domes[radius], where=higher)
        np.copyto(tints[window], tint, where=higher)
    inner = (slice(edge, -edge),) * 2
    return np.ascontiguousarray(crowns[inner]), np.ascontiguousarray(tints[inner])


def _dome(radius: int) -> Field:
    """Return the heights of a crown, in pixels of the drawing, on a square of side 2 * radius + 1."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    dome: Field = np.sqrt(np.clip(1 - (x * x + y * y) / (radius + 0.5) ** 2, 0, 1)) * np.float32(radius)
    return dome


def shade(heights: Field, look: Look) -> Image.Image:
    """Return the light on the drawing, mode L: 255 in the sun, less in shadows.

    `heights` has STEP units per pixel of the photo.
    """
    side, reach, rise = len(heights), 40, 1.2
    padded = np.pad(heights, reach)
    highest = np.zeros_like(heights)
    for step in range(1, 15):
        x, y = (round(part * rise * step * SCALE) for part in look.shadow)
        window = padded[reach - y : reach - y + side, reach - x : reach - x + side]
        np.maximum(highest, window - np.float32(rise * step * STEP), out=highest)
    light = np.where(highest > heights + STEP / 2, np.uint8(255 * SHADE), np.uint8(255))
    return Image.fromarray(light).filter(ImageFilter.BoxBlur(1))
