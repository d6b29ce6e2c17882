"""Light and colours of a photo: the season, the sun and the noise behind all textures."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.data.sample.streets import Points

Colour = tuple[int, int, int]
Field = NDArray[np.float32]

SCALE = 2
"""Factor by which the drawing is larger than the photo, which is averaged down from it."""

# By season: dry grass, lush grass, and the crowns of trees.
SEASONS: dict[str, tuple[Colour, Colour, Colour]] = {
    "summer": ((126, 124, 84), (84, 104, 56), (68, 84, 48)),
    "drought": ((158, 145, 108), (122, 120, 78), (72, 86, 50)),
    "spring": ((138, 136, 92), (98, 122, 62), (84, 102, 58)),
    "autumn": ((142, 128, 86), (104, 108, 62), (104, 92, 48)),
}
PARK_GRASS: tuple[Colour, Colour] = ((108, 122, 66), (74, 106, 48))
UNDERWOOD: tuple[Colour, Colour] = ((64, 72, 44), (40, 54, 30))
SOIL: tuple[Colour, Colour] = ((182, 165, 134), (148, 128, 98))
CONCRETE: tuple[Colour, Colour] = ((176, 170, 157), (146, 141, 130))
YARD: tuple[Colour, Colour] = ((152, 142, 118), (98, 98, 76))
WATERS: tuple[tuple[Colour, Colour], ...] = (
    ((58, 84, 82), (30, 52, 58)),
    ((64, 82, 66), (36, 56, 48)),
    ((60, 92, 108), (32, 58, 80)),
)
CROPS: tuple[tuple[Colour, Colour], ...] = (
    ((176, 158, 112), (150, 132, 90)),
    ((150, 126, 98), (118, 97, 74)),
    ((190, 174, 128), (166, 150, 106)),
    ((134, 136, 84), (110, 112, 66)),
)
ASPHALT: Colour = (116, 116, 117)
LIGHT_ASPHALT: Colour = (136, 135, 132)
PAVEMENT: Colour = (164, 160, 152)
BALLAST: Colour = (112, 102, 94)
TRACK: Colour = (160, 157, 156)
GRAVEL: Colour = (186, 174, 148)
MARKING: Colour = (226, 226, 218)
YELLOW_MARKING: Colour = (214, 184, 92)
POOL: Colour = (86, 180, 196)
PITCHED_ROOFS: tuple[Colour, ...] = (
    (150, 84, 66),
    (166, 100, 76),
    (122, 74, 62),
    (112, 108, 106),
    (90, 90, 94),
    (134, 122, 110),
    (156, 148, 138),
    (104, 90, 80),
    (126, 128, 132),
)
FLAT_ROOFS: tuple[Colour, ...] = (
    (196, 194, 190),
    (216, 215, 211),
    (168, 166, 162),
    (140, 138, 136),
    (112, 110, 108),
    (176, 164, 148),
    (148, 126, 108),
    (96, 98, 102),
    (186, 190, 194),
)
CARS: tuple[Colour, ...] = (
    (236, 236, 234),
    (226, 226, 226),
    (188, 190, 194),
    (150, 152, 156),
    (44, 46, 50),
    (62, 64, 70),
    (146, 38, 36),
    (48, 70, 122),
    (112, 96, 80),
)


@dataclass(frozen=True)
class Look:
    """The look of one photo: the season, the sun and the noise behind all textures.

    `shadow` points from an object to its shadow, in pixels of the photo per pixel of height; `mottle` and `grain`
    are the coarse and the fine noise, images of mode L.
    """

    rng: np.random.Generator
    season: str
    shadow: tuple[float, float]
    water: int
    mottle: Image.Image
    grain: Image.Image
    _textures: dict[tuple[Colour, Colour], Image.Image] = field(default_factory=dict)

    def texture(self, colours: tuple[Colour, Colour], *, grain: float = 0.4) -> Image.Image:
        """Return a texture between a light and a dark colour, as large as the drawing."""
        if colours not in self._textures:
            self._textures[colours] = tinted(Image.blend(self.mottle, self.grain, grain), *colours)
        return self._textures[colours]


def take_off(rng: np.random.Generator, size: int) -> Look:
    """Draw a random look for a photo of `size` by `size` pixels."""
    side = size * SCALE
    # The sun is in the south, so shadows point north, to the top of the picture.
    azimuth = rng.uniform(-1.1, 1.1)
    length = rng.uniform(0.55, 1.15)
    return Look(
        rng=rng,
        season=str(rng.choice(list(SEASONS), p=[0.4, 0.2, 0.22, 0.18])),
        shadow=(length * math.sin(azimuth), -length * math.cos(azimuth)),
        water=int(rng.integers(len(WATERS))),
        mottle=_noise(rng, side, 4, (6, 14, 30, 70)),
        grain=_noise(rng, side, SCALE, (128, 256)),
    )


def _noise(rng: np.random.Generator, side: int, coarse: int, grids: tuple[int, ...]) -> Image.Image:
    """Return fractal value noise of mode L around 128: one octave per grid, each weaker than the one before.

    Grid sizes refer to a photo of 256 pixels; other sizes have the same number of cells per pixel. The octaves are
    summed at 1 / `coarse` of the size, which is faster and looks the same.
    """
    small = max(2, side // coarse)
    total = np.zeros((small, small), dtype=np.float32)
    for octave, grid in enumerate(grids):
        cells = max(2, round(grid * side / (256 * SCALE)))
        values = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        total += np.asarray(values.resize((small, small), Image.Resampling.BICUBIC)) * np.float32(0.8**octave)
    total *= np.float32(52) / total.std()
    noise = Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))
    return noise.resize((side, side), Image.Resampling.BILINEAR)


def tinted(noise: Image.Image, light: Colour, dark: Colour) -> Image.Image:
    """Map noise of mode L to a picture between two colours (PIL's `colorize` spends more time on its table)."""
    table = np.linspace(dark, light, 256).round().astype(int).T.ravel().tolist()
    return Image.merge("RGB", (noise, noise, noise)).point(table)


def xy(outline: Points) -> list[tuple[float, float]]:
    """Return an outline in pixels of the drawing, in the form that ImageDraw takes."""
    return [(x, y) for x, y in (outline * SCALE).tolist()]


def vary(colour: Colour, rng: np.random.Generator, amount: float) -> Colour:
    """Return the colour with a random change of lightness and a smaller one of hue."""
    light, *hues = (rng.standard_normal(4) * amount).tolist()
    red, green, blue = (min(255, max(0, round(c + light + 0.3 * hue))) for c, hue in zip(colour, hues, strict=True))
    return red, green, blue


def mean(one: Colour, other: Colour) -> Colour:
    """Return the average of two colours."""
    return (one[0] + other[0]) // 2, (one[1] + other[1]) // 2, (one[2] + other[2]) // 2
