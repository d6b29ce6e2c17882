"""Painted scenes: reproducible, all different, with a photo and a map of the same place."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from model.errors import ConfigError
from pipelines.data.sample import painter
from pipelines.data.sample.districts import lay_out
from pipelines.data.sample.painter import paint, paint_folder, scene_seed
from pipelines.data.sample.streets import AreaKind, RoadKind


def is_colour(street_map, *colours):
    """Return a mask of the pixels of a map that have exactly one of the colours."""
    return np.any([(street_map == np.array(colour, np.uint8)).all(axis=-1) for colour in colours], axis=0)


def saturation(pixels):
    return np.ptp(pixels.astype(int), axis=-1)


def read(path: Path):
    return np.asarray(Image.open(path))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_a_seed_gives_the_same_bytes(scenes):
    again = paint(3)
    assert again.photo.tobytes() == scenes[3].photo.tobytes()
    assert again.street_map.tobytes() == scenes[3].street_map.tobytes()


def test_seeds_give_different_scenes(scenes):
    assert len({scene.photo.tobytes() for scene in scenes}) == len(scenes)
    assert len({scene.street_map.tobytes() for scene in scenes}) == len(scenes)


@pytest.mark.parametrize("size", [32, 64, 100, 300])
def test_any_size_can_be_painted(size):
    scene = paint(5, size=size)
    for image in (scene.photo, scene.street_map):
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8


def test_a_small_scene_is_the_middle_of_a_large_one(scenes):
    small = paint(3, size=64).street_map
    middle = scenes[3].street_map[96:160, 96:160]
    assert (small == middle).all(axis=-1).mean() > 0.98


@pytest.mark.parametrize(("seed", "size"), [(-1, 64), (0, 31)])
def test_invalid_seeds_and_sizes_are_refused(seed, size):
    with pytest.raises(ConfigError, match=str(seed if seed < 0 else size)):
        paint(seed, size=size)


def test_layouts_contain_every_kind_of_area_and_road():
    layouts = [lay_out(np.random.default_rng(seed), 256) for seed in range(48)]
    assert {area.kind for layout in layouts for area in layout.areas} == set(get_args(AreaKind))
    assert {road.kind for layout in layouts for road in layout.roads} == set(get_args(RoadKind))
    assert any(layout.bridges for layout in layouts)
    assert {building.flat for layout in layouts for building in layout.buildings} == {True, False}


@pytest.mark.parametrize("name", ["WATER", "GREEN", "PITCH", "ROAD", "PRIMARY", "MOTORWAY", "RAIL", "BUILDING", "PATH"])
def test_every_colour_of_the_map_occurs(scenes, name):
    assert any(is_colour(scene.street_map, getattr(painter, name)).any() for scene in scenes)


def test_most_pixels_of_a_map_have_a_palette_colour(scenes):
    # The others are smoothed edges.
    palette = [value for name, value in vars(painter).items() if name.isupper() and str(value).count(", ") == 2]
    assert len(palette) == 15
    assert min(is_colour(scene.street_map, *palette).mean() for scene in scenes) > 0.6


def test_water_on_the_map_is_dark_and_blue_or_green_in_the_photo(scenes):
    seen = 0
    for scene in scenes:
        water = is_colour(scene.street_map, painter.WATER)
        if water.sum() < 800:
            continue
        seen += 1
        wet, dry = scene.photo[water].mean(axis=0), scene.photo[~water].mean(axis=0)
        assert wet.mean() < dry.mean()
        assert wet[2] - wet[0] > dry[2] - dry[0]
    assert seen >= 3


def test_roads_on_the_map_are_greyer_than_parks_in_the_photo(scenes):
    seen = 0
    for scene in scenes:
        road = is_colour(scene.street_map, painter.ROAD, painter.PRIMARY, painter.MOTORWAY)
        park = is_colour(scene.street_map, painter.GREEN)
        if min(road.sum(), park.sum()) < 800:
            continue
        seen += 1
        assert saturation(scene.photo[road]).mean() < 0.75 * saturation(scene.photo[park]).mean()
        red, green, blue = scene.photo[park].mean(axis=0)
        assert green > max(red, blue) or red > green > blue  # Woods are brown in autumn.
    assert seen >= 8


def test_a_photo_is_not_a_recoloured_map(scenes):
    for scene in scenes:
        ground = is_colour(scene.street_map, painter.GROUND, painter.BLOCK)
        assert scene.photo[ground].std(axis=0).min() > 8


def test_a_folder_holds_both_splits_side_by_side(tmp_path):
    paint_folder(tmp_path / "sample", train=3, val=2, size=48, seed=9)
    assert list(contents(tmp_path / "sample")) == [
        "train/0001.png",
        "train/0002.png",
        "train/0003.png",
        "val/0001.png",
        "val/0002.png",
    ]
    pair = read(tmp_path / "sample" / "train" / "0002.png")
    scene = paint(scene_seed(9, 0, 2), size=48)
    assert np.array_equal(pair[:, :48], scene.photo)
    assert np.array_equal(pair[:, 48:], scene.street_map)


def test_a_larger_folder_begins_with_the_same_scenes_even_when_painted_by_processes(tmp_path):
    paint_folder(tmp_path / "few", train=2, val=1, size=32, seed=4)
    paint_folder(tmp_path / "many", train=31, val=1, size=32, seed=4)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    assert len(many) == 32
    assert few.items() <= many.items()


def test_no_two_scenes_of_a_folder_share_a_seed():
    seeds = {scene_seed(0, split, number) for split in (0, 1) for number in range(1, 2000)}
    assert len(seeds) == 2 * 1999


@pytest.mark.parametrize("wrong", [{"train": -1}, {"size": 16}, {"seed": -3}])
def test_invalid_folder_settings_are_refused_and_nothing_is_written(tmp_path, wrong):
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        paint_folder(tmp_path / "sample", **{"train": 2, "val": 1, "size": 32, "seed": 0, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_the_existing_folder(tmp_path, monkeypatch):
    paint_folder(tmp_path / "sample", train=1, val=0, size=32, seed=0)
    before = contents(tmp_path / "sample")
    paints = iter([paint(0, size=32)])
    monkeypatch.setattr(painter, "paint", lambda seed, size: next(paints))
    with pytest.raises(StopIteration):
        paint_folder(tmp_path / "sample", train=4, val=0, size=32, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]
    assert contents(tmp_path / "sample") == before
