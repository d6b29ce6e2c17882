"""Sample data: scenes painted from a seed, each an aerial photo and the street map of the same place."""

import multiprocessing
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from model.errors import ConfigError
from model.hardware import usable_cores
from model.io.files import new_folder
from model.io.progress import track
from model.pixels import Pixels
from pipelines.data.sample.aerial import photograph
from pipelines.data.sample.districts import lay_out
from pipelines.data.sample.streets import AreaKind, Layout, Points, RoadKind, ribbon

Colour = tuple[int, int, int]

# Colours of the street map, in the style of Google Maps around 2016.
GROUND: Colour = (238, 234, 226)
BLOCK: Colour = (232, 227, 218)
BUILDING: Colour = (217, 209, 200)
BUILDING_EDGE: Colour = (203, 194, 184)
GREEN: Colour = (200, 223, 159)
PITCH: Colour = (182, 211, 138)
WATER: Colour = (163, 204, 255)
ROAD: Colour = (255, 255, 255)
ROAD_EDGE: Colour = (222, 216, 207)
PATH: Colour = (240, 245, 226)
PRIMARY: Colour = (255, 229, 124)
PRIMARY_EDGE: Colour = (235, 200, 92)
MOTORWAY: Colour = (250, 165, 52)
MOTORWAY_EDGE: Colour = (226, 132, 28)
RAIL: Colour = (176, 172, 168)

AREA_COLOURS: dict[AreaKind, Colour] = {
    "lawn": BLOCK,
    "yard": BLOCK,
    "paved": BLOCK,
    "wood": GREEN,
    "park": GREEN,
    "pitch": PITCH,
    "water": WATER,
}
"""Colours of areas on the map, which omits fields, parking lots, drives and pools, as maps of this style do."""

# In drawing order: (kind, fill, edge). All edges of a kind are drawn before its fills, which keeps crossings open.
ROAD_STYLES: tuple[tuple[RoadKind, Colour, Colour], ...] = (
    ("motorway", MOTORWAY, MOTORWAY_EDGE),
    ("residential", ROAD, ROAD_EDGE),
    ("secondary", ROAD, ROAD_EDGE),
    ("primary", PRIMARY, PRIMARY_EDGE),
)

STYLE = 1
"""Version of the painter; it goes up with every change after which a seed paints different pixels."""
SMALLEST = 32
"""Minimum size of a scene in pixels; less than two houses fit into it."""

SUPERSAMPLING = 3
"""Factor by which the map is drawn larger, then averaged down for smooth edges."""

CHUNK = 8
"""Scenes per task of a process; processes are only started for four chunks or more."""


@dataclass(frozen=True)
class Scene:
    """Photo and map of one place, uint8 of shape (size, size, 3)."""

    photo: Pixels
    street_map: Pixels


def paint(seed: int, *, size: int = 256) -> Scene:
    """Paint the scene of `seed`; the same seed and size give the same bytes.

    A pixel is about 0.8 m on the ground at every size, so a smaller scene shows a smaller part of the place.

    Raises:
        ConfigError: `seed` is negative or `size` is below 32.
    """
    _check(seed, size)
    # The look has a random stream of its own, so that changes to the photo never change the layout.
    place, look = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    layout = lay_out(place, size)
    return Scene(photo=photograph(layout, look, size), street_map=_draw_map(layout, size))


def paint_folder(folder: Path, *, train: int, val: int, size: int, seed: int) -> None:
    """Write `folder`/train/0001.png ... and `folder`/val/0001.png ..., photo left and map right in one image.

    A scene depends only on `seed`, its split and its number, so that larger folders begin with the same scenes. The
    folder is replaced as a whole, or left unchanged on failure.

    Raises:
        ConfigError: A count or `seed` is negative, or `size` is below 32.
    """
    _check(seed, size)
    if min(train, val) < 0:
        raise ConfigError(
            f"Can't paint {train} training and {val} held-out scenes; use 0 or more of each (data.sample)."
        )
    with new_folder(folder) as draft:
        jobs: list[tuple[Path, int]] = []
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            (draft / split).mkdir()
            jobs += [(draft / split / f"{n:04}.png", scene_seed(seed, number, n)) for n in range(1, count + 1)]
        write = partial(_write_scene, size=size)
        if len(jobs) < 4 * CHUNK:
            for job in track(jobs, "Painting scenes"):
                write(job)
            return
        # Spawned, because a fork can hang if the caller has threads.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=min(usable_cores(), len(jobs) // CHUNK), mp_context=spawn) as pool:
            for _ in track(pool.map(write, jobs, chunksize=CHUNK), "Painting scenes", total=len(jobs)):
                pass


def _check(seed: int, size: int) -> None:
    if seed < 0:
        raise ConfigError(f"The seed {seed} is negative; use 0 or more.")
    if size < SMALLEST:
        raise ConfigError(
            f"Scenes of {size} pixels are too small to show a street; use {SMALLEST} or more (network.image_size)."
        )


def scene_seed(seed: int, split: int, number: int) -> int:
    """Derive the seed of one scene: 64 bits, so that no two scenes of a folder share one."""
    return int(np.random.SeedSequence((seed, split, number)).generate_state(1, np.uint64)[0])


def _write_scene(job: tuple[Path, int], *, size: int) -> None:
    path, seed = job
    scene = paint(seed, size=size)
    # The photo's noise hardly compresses: looking only for runs is twice as fast and takes 10 % more bytes.
    pair = Image.fromarray(np.concatenate([scene.photo, scene.street_map], axis=1))
    pair.save(path, compress_level=1, compress_type=zlib.Z_RLE)


def _draw_map(layout: Layout, size: int) -> Pixels:
    """Draw the street map of a layout."""
    sheet = Image.new("RGB", (size * SUPERSAMPLING,) * 2, GROUND)
    draw = ImageDraw.Draw(sheet)
    for area in layout.areas:
        if area.kind in AREA_COLOURS:
            _fill(draw, area.outline, AREA_COLOURS[area.kind])
    for building in layout.buildings:
        for wing in building.wings:
            _fill(draw, wing, BUILDING, BUILDING_EDGE)
    _draw_roads(draw, layout)
    return np.asarray(sheet.reduce(SUPERSAMPLING))


def _draw_roads(draw: ImageDraw.ImageDraw, layout: Layout) -> None:
    """Draw paths, then roads by rank, then rails."""
    for road in layout.roads:
        if road.kind == "path":
            _fill(draw, road.outline(), PATH)
    for kind, colour, edge in ROAD_STYLES:
        roads = [road for road in layout.roads if road.kind == kind]
        for road in roads:
            _fill(draw, road.outline(1.0), edge)
        for road in roads:
            _fill(draw, road.outline(-0.6), colour)
            if kind == "motorway":
                _fill(draw, ribbon(road.line, 1.2), edge)
    for road in layout.roads:
        if road.kind == "rail":
            _fill(draw, ribbon(road.line, 2.0), RAIL)


def _fill(draw: ImageDraw.ImageDraw, outline: Points, colour: Colour, edge: Colour | None = None) -> None:
    corners = [(x, y) for x, y in (outline * SUPERSAMPLING).tolist()]
    draw.polygon(corners, fill=colour, outline=edge, width=2 if edge else 1)
