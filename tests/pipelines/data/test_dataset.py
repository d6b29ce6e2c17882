"""Training batches: both halves cropped alike, determined by the seed, every pair in exactly one worker's share."""

import threading
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from model.errors import DataError
from model.io.locations import Location
from model.pixels import to_pixels
from pipelines.data import dataset
from pipelines.data.dataset import AHEAD, Shard, TrainingPairs, load, load_all
from pipelines.data.indexing import index_folder

SIDE, LARGE = 32, 40
COUNT = 12
X, Y, NUMBER = 0, 1, 2


def street_map(number, side=LARGE):
    """Paint a map that encodes the column in red, the row in green and the pair in blue, six levels apart."""
    image = np.empty((side, side, 3), np.uint8)
    image[..., X] = 6 * np.arange(side)
    image[..., Y] = 6 * np.arange(side)[:, None]
    image[..., NUMBER] = 6 * number
    return image


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Return pairs whose photo is the negative of the map."""
    return paint(tmp_path_factory.mktemp("pairs"))


def paint(folder, count=COUNT):
    for number in range(count + 1):
        split = folder / ("val" if number == count else "train")
        split.mkdir(exist_ok=True)
        drawn = street_map(number)
        Image.fromarray(np.concatenate([255 - drawn, drawn], axis=1)).save(split / f"{number:02}.png")
    return index_folder(Location(folder), min_side=SIDE)


def training(pairs, **changes):
    settings = {
        "side": SIDE,
        "direction": "photo_to_map",
        "jitter": LARGE / SIDE,
        "mirror": True,
        "turn": False,
        "batch_size": 4,
        "seed": 0,
    }
    return TrainingPairs(pairs.train, **settings | changes)


def batches(pairs, epoch=0, **changes):
    """Return the batches of an epoch as pixels, each (sources, targets)."""
    return [tuple(map(to_pixels, batch[:2])) for batch in training(pairs, **changes).epoch(epoch)]


def targets(found):
    """Return the maps of all batches in order."""
    return np.concatenate([target for _, target in found])


def numbers(maps):
    return (maps[:, 0, 0, NUMBER] // 6).tolist()


def corners(maps):
    """Return (left, top, mirrored) of every crop: its window in the pair."""
    columns, rows = maps[:, 0, :, X] // 6, maps[:, :, 0, Y] // 6
    return [(int(c.min()), int(r.min()), bool(c[0] > c[-1])) for c, r in zip(columns, rows, strict=True)]


# Jitter


def test_both_halves_are_cropped_and_mirrored_alike(index):
    for epoch in range(3):
        for source, target in batches(index, epoch):
            assert np.array_equal(source, 255 - target)


def test_a_crop_is_a_window_of_its_pair_possibly_mirrored(index):
    maps = targets(batches(index) + batches(index, 1))
    for image, number, (left, top, mirrored) in zip(maps, numbers(maps), corners(maps), strict=True):
        window = street_map(number)[top : top + SIDE, left : left + SIDE]
        assert np.array_equal(image, window[:, ::-1] if mirrored else window)


def test_crops_cover_all_offsets_and_half_are_mirrored(index):
    found = [corner for epoch in range(30) for corner in corners(targets(batches(index, epoch)))]
    for axis in (0, 1):
        assert {corner[axis] for corner in found} == set(range(LARGE - SIDE + 1))
    assert {corner[:2] for corner in found} > {(0, 8), (8, 0), (4, 5)}
    assert len(found) == 360 and 140 < sum(mirrored for *_, mirrored in found) < 220


def test_without_jitter_and_mirror_pairs_are_unchanged(index):
    maps = targets(batches(index, side=LARGE, jitter=1, mirror=False))
    assert all(np.array_equal(image, street_map(number)) for image, number in zip(maps, numbers(maps), strict=True))


def test_without_jitter_pairs_are_mirrored_but_not_cropped(index):
    found = corners(targets(batches(index, side=LARGE, jitter=1)))
    assert {corner[:2] for corner in found} == {(0, 0)} and {mirrored for *_, mirrored in found} == {True, False}


def test_without_mirror_nothing_is_mirrored(index):
    found = [corner for epoch in range(5) for corner in corners(targets(batches(index, epoch, mirror=False)))]
    assert not any(mirrored for *_, mirrored in found) and len({corner[:2] for corner in found}) > 20


def test_quarter_turns_give_all_eight_orientations_to_both_halves_alike(index):
    sides = {}
    for turns in range(4):
        for mirrored in (False, True):
            sides[np.rot90(street_map(1)[:, ::-1] if mirrored else street_map(1), turns).tobytes()] = (turns, mirrored)
    found = set()
    for epoch in range(40):
        for source, target in batches(index, epoch, side=LARGE, jitter=1, turn=True):
            assert np.array_equal(source, 255 - target)
            found |= {sides[image.tobytes()] for image in target if image[0, 0, NUMBER] == 6}
    assert found == {(turns, mirrored) for turns in range(4) for mirrored in (False, True)}


def test_batches_have_the_shape_type_and_range_of_the_networks(index):
    for batch in training(index).epoch(0):
        assert batch.pairs == 4
        for half in batch[:2]:
            assert (half.shape, half.dtype) == ((4, SIDE, SIDE, 3), np.float32)
            assert half.min() >= -1 and half.max() <= 1 and np.ptp(half) > 1


# Order


def test_an_epoch_has_every_pair_once(index):
    for epoch in range(3):
        assert sorted(numbers(targets(batches(index, epoch)))) == list(range(COUNT))


def test_the_same_seed_gives_the_same_batches(index):
    for (source, target), (again, target_again) in zip(batches(index, 3), batches(index, 3), strict=True):
        assert np.array_equal(source, again) and np.array_equal(target, target_again)


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}])
def test_another_epoch_or_seed_changes_order_and_crops(index, other):
    one, two = targets(batches(index)), targets(batches(index, **other))
    assert numbers(one) != numbers(two)
    by_pair = [dict(zip(numbers(maps), corners(maps), strict=True)) for maps in (one, two)]
    assert sum(by_pair[0][number] == by_pair[1][number] for number in range(COUNT)) < COUNT // 2


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [1] * 12), (5, [6, 6]), (7, [12]), (9, [12]), (11, [12]), (12, [12])]
)
def test_leftover_pairs_enlarge_the_batches(index, batch_size, sizes):
    found = list(training(index, batch_size=batch_size).epoch(0))
    assert [len(batch.source) for batch in found] == [batch.pairs for batch in found] == sizes
    assert sorted(numbers(to_pixels(np.concatenate([batch.target for batch in found])))) == list(range(COUNT))


@pytest.mark.parametrize(("batch_size", "workers"), [(2, 2), (3, 3), (5, 5), (4, 2), (5, 2)])
def test_every_pair_has_one_worker_and_every_worker_a_pair_in_each_step(index, batch_size, workers):
    shares = [
        list(training(index, batch_size=batch_size, shard=Shard(rank, workers)).epoch(1)) for rank in range(workers)
    ]
    assert sorted(number for share in shares for batch in share for number in numbers(to_pixels(batch.target))) == list(
        range(COUNT)
    )
    for step in zip(*shares, strict=True):
        sizes = [len(batch.source) for batch in step]
        assert {batch.pairs for batch in step} == {sum(sizes)}
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("batch_size", [1, 4, 5, 7])
def test_an_epoch_resumes_after_the_pairs_already_seen(index, batch_size):
    whole = list(training(index, batch_size=batch_size).epoch(3))
    for done in range(len(whole) + 1):
        seen = sum(batch.pairs for batch in whole[:done])
        rest = list(training(index, batch_size=batch_size).epoch(3, seen=seen))
        assert [batch.pairs for batch in rest] == [batch.pairs for batch in whole[done:]]
        for one, other in zip(rest, whole[done:], strict=True):
            assert np.array_equal(one.source, other.source) and np.array_equal(one.target, other.target)


@pytest.mark.parametrize("workers", [2, 4])
def test_shares_of_the_workers_partition_each_batch(index, workers):
    whole = batches(index, 2)
    shares = [batches(index, 2, shard=Shard(rank, workers)) for rank in range(workers)]
    for step, (source, target) in enumerate(whole):
        assert [len(share[step][0]) for share in shares] == [4 // workers] * workers
        for rank, share in enumerate(shares):
            assert np.array_equal(share[step][0], source[rank::workers])
            assert np.array_equal(share[step][1], target[rank::workers])


# Reading


def test_the_direction_swaps_source_and_target(index):
    for (photo, drawn), (source, target) in zip(batches(index), batches(index, direction="map_to_photo"), strict=True):
        assert np.array_equal(source, drawn) and np.array_equal(target, photo)


def test_load_returns_source_and_target_at_the_requested_size(index):
    halves = load(index.train[5], side=LARGE, direction="photo_to_map")
    assert np.array_equal(halves, [255 - street_map(5), street_map(5)])
    swapped = load(index.train[5], side=LARGE, direction="map_to_photo")
    assert np.array_equal(swapped, halves[::-1])
    small = load(index.train[5], side=20, direction="photo_to_map")
    assert (small.shape, small.dtype) == ((2, 20, 20, 3), np.uint8)
    # At half size a pixel is the mean of two columns, 12 levels apart, except where the filter reaches the border.
    assert np.abs(small[1, 2:-2, 2:-2, X].astype(int) - (12 * np.arange(2, 18) + 3)).max() <= 1


def test_load_all_keeps_the_order_of_the_pairs(index):
    sources, drawn = load_all(index.train, side=LARGE, direction="photo_to_map")
    assert sources.shape == drawn.shape == (COUNT, LARGE, LARGE, 3)
    assert numbers(drawn) == list(range(COUNT)) and np.array_equal(sources, 255 - drawn)


# Memory and threads


@pytest.mark.parametrize("kept", [0, 3])
def test_the_cache_keeps_to_its_limit_and_changes_no_batch(index, monkeypatch, kept):
    expected = [batches(index, epoch) for epoch in range(2)]
    monkeypatch.setattr(dataset, "CACHE_BYTES", kept * 2 * LARGE * LARGE * 3)
    pairs = training(index)
    found = [[tuple(map(to_pixels, batch[:2])) for batch in pairs.epoch(epoch)] for epoch in range(2)]
    assert np.array_equal(found, expected)
    assert len(pairs._cache) == kept


def test_cached_pairs_are_not_read_again(tmp_path):
    pairs = training(paint(tmp_path, count=4))
    first = [batch[:2] for batch in pairs.epoch(0)]
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    again = [batch[:2] for batch in pairs.epoch(0)]
    assert len(pairs._cache) == 4 and np.array_equal(first, again)


def test_at_most_two_batches_are_prepared_ahead(index):
    pairs = training(index, batch_size=1)
    running = pairs.epoch(0)
    next(running)
    running.close()
    assert 1 <= len(pairs._cache) <= AHEAD + 1


def test_each_batch_is_computed_once_and_yielded_in_order(index, monkeypatch):
    compute, computed = TrainingPairs._batch, Counter()

    def count(self, indices, *, epoch):
        computed[tuple(indices)] += 1
        return compute(self, indices, epoch=epoch)

    pairs = training(index, batch_size=1)
    expected = [
        compute(pairs, indices, epoch=1)
        for indices in np.array_split(np.random.default_rng((0, 1)).permutation(12), 12)
    ]
    monkeypatch.setattr(TrainingPairs, "_batch", count)
    found = list(pairs.epoch(1))
    assert set(computed.values()) == {1} and len(computed) == len(found) == COUNT
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.source, other.source) and np.array_equal(one.target, other.target)


def decoders():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_closing_an_epoch_early_leaves_no_thread(index):
    running = training(index, batch_size=1).epoch(0)
    next(running)
    assert decoders()
    running.close()
    assert not decoders()


def test_a_missing_file_is_named_and_leaves_no_thread(tmp_path):
    pairs = paint(tmp_path, count=6)
    pairs.train[3].files[0].path.unlink()
    with pytest.raises(DataError, match=r"Pair train/03 .*missing"):
        list(training(pairs, batch_size=2).epoch(0))
    assert not decoders()
