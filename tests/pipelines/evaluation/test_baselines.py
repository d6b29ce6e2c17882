"""Baselines: median and mean as NumPy computes them, and the nearest training photo."""

import numpy as np
import pytest
from PIL import Image

from model.io.locations import Location
from pipelines.data.dataset import load_all
from pipelines.data.indexing import index_folder
from pipelines.evaluation.baselines import TrainingSummary
from pipelines.metrics.catalogue import BASELINES

SIDE = 32
TRAIN, VAL = 5, 4


def write_pairs(folder, sources, targets, *, train):
    for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
        split = folder / ("train" if number < train else "val")
        split.mkdir(exist_ok=True)
        Image.fromarray(np.concatenate([source, target], axis=1)).save(split / f"{number}.png")
    return index_folder(Location(folder), min_side=SIDE)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    rng = np.random.default_rng(0)
    sources, targets = rng.integers(0, 256, (2, TRAIN + VAL, 8, 8, 3), np.uint8).repeat(4, axis=2).repeat(4, axis=3)
    return write_pairs(tmp_path_factory.mktemp("pairs"), sources, targets, train=TRAIN)


def read(pairs, direction="photo_to_map"):
    return TrainingSummary.read(pairs.train, side=SIDE, direction=direction)


@pytest.mark.parametrize("direction", ["photo_to_map", "map_to_photo"])
def test_median_and_mean_are_those_of_all_training_targets(pairs, direction):
    sources, _ = load_all(pairs.val, side=SIDE, direction=direction)
    _, targets = load_all(pairs.train, side=SIDE, direction=direction)
    found = read(pairs, direction).baselines(sources)
    assert found.keys() == BASELINES.keys()
    for images in found.values():
        assert (images.shape, images.dtype) == ((VAL, SIDE, SIDE, 3), np.uint8)
    # Of the two middle levels the lower one, which really occurs.
    median = np.quantile(targets, 0.5, axis=(0, 1, 2), method="inverted_cdf")
    assert np.array_equal(found["median_colour"], np.broadcast_to(median, sources.shape))
    assert np.array_equal(found["mean_map"], np.broadcast_to(np.rint(targets.mean(axis=0)), sources.shape))
    assert np.array_equal(found["source_copied"], sources)


def test_nearest_map_is_that_of_the_most_similar_training_photo(tmp_path):
    """Held-out photos are training photos with noise, in another order."""
    rng = np.random.default_rng(1)
    photos = rng.integers(0, 256, (6, 8, 8, 3), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    maps = rng.integers(0, 256, (6, 8, 8, 3), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    order = [4, 0, 2, 4]
    alike = np.clip(photos[order] + rng.normal(0, 20, photos[order].shape), 0, 255).astype(np.uint8)
    sources, targets = np.concatenate([photos, alike]), np.concatenate([maps, rng.permutation(maps)[:4]])
    index = write_pairs(tmp_path, sources, targets, train=6)
    held_out, _ = load_all(index.val, side=SIDE, direction="photo_to_map")
    assert np.array_equal(read(index).baselines(held_out)["nearest_map"], maps[order])


def test_nearest_maps_of_many_photos_are_found_in_blocks(pairs):
    sources, _ = load_all(pairs.train, side=SIDE, direction="photo_to_map")
    found = read(pairs).baselines(np.tile(sources, (120, 1, 1, 1)))["nearest_map"]
    _, targets = load_all(pairs.train, side=SIDE, direction="photo_to_map")
    assert np.array_equal(found, np.tile(targets, (120, 1, 1, 1)))


@pytest.mark.parametrize("levels", [(0, 0, 0, 255, 255), (0, 0, 255, 255, 255), (7, 9, 9, 7), (0, 255)])
def test_median_of_few_levels_is_one_of_them(tmp_path, levels):
    """The level of the majority wins, also at the ends of the histogram; of two halves, the lower level."""
    images = np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in (*levels, 1)])
    sources = images.copy()
    for number in range(len(images)):
        sources[number, 0, number] = [50, 60, 70]
    index = write_pairs(tmp_path, sources, images, train=len(levels))
    held_out, _ = load_all(index.val, side=SIDE, direction="photo_to_map")
    median = np.unique(read(index).baselines(held_out)["median_colour"])
    assert median.tolist() == [sorted(levels)[(len(levels) - 1) // 2]]


def test_baselines_of_a_photo_do_not_depend_on_other_held_out_photos(pairs):
    training = read(pairs)
    sources, _ = load_all(pairs.val, side=SIDE, direction="photo_to_map")
    expected, again = training.baselines(sources), training.baselines(sources[:2])
    assert all(np.array_equal(again[name], images[:2]) for name, images in expected.items())
