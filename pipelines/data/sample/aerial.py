"""The photo of a layout from the air: ground, roads and cars, the relief above them, and the camera."""

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from model.pixels import Pixels
from pipelines.data.sample.areas import draw_area
from pipelines.data.sample.daylight import SCALE, SEASONS, Look, take_off
from pipelines.data.sample.relief import draw_roofs, grow_trees, shade
from pipelines.data.sample.roadways import draw_bridges, draw_roads, draw_traffic
from pipelines.data.sample.streets import Layout


def photograph(layout: Layout, rng: np.random.Generator, size: int) -> Pixels:
    """Paint the photo of a layout, `size` by `size` pixels; `rng` determines its look only."""
    look = take_off(rng, size)
    canvas = look.texture(SEASONS[look.season][:2]).copy()
    relief = Image.new("L", canvas.size, 0)
    # A pen of mode RGBA blends its colour with the canvas by its alpha channel.
    pen = ImageDraw.Draw(canvas, "RGBA")
    for area in layout.areas:
        draw_area(canvas, pen, area, look)
    draw_roads(pen, layout, look)
    draw_bridges(pen, layout, look)
    draw_traffic(pen, layout, look)
    draw_roofs(pen, ImageDraw.Draw(relief), layout.buildings, look)
    canvas, heights = grow_trees(canvas, relief, layout, look)
    light = shade(heights, look)
    return _develop(ImageChops.multiply(canvas, Image.merge("RGB", (light, light, light))), look)


def _develop(drawing: Image.Image, look: Look) -> Pixels:
    """Return the photo: the drawing averaged down, slightly blurred, with exposure, haze and sensor noise."""
    rng, size = look.rng, drawing.width // SCALE
    blurred = drawing.reduce(SCALE).filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.45)))
    photo = np.asarray(blurred, dtype=np.float32)
    gain = rng.uniform(0.86, 1.14) * rng.uniform(0.95, 1.15) * (1 + rng.normal(0, 0.02, 3))
    haze = rng.uniform(0, 0.08) * np.array([150, 160, 172])
    photo = (photo - 112) * gain.astype(np.float32) + (112 + haze).astype(np.float32)
    photo += rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(rng.uniform(1.5, 4))
    photo += rng.integers(-2, 3, (size, size, 3), dtype=np.int8)
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8)
