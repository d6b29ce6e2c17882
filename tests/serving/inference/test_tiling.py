"""Tiling: every pixel is drawn, blended without seams, and the same after an interruption."""

import numpy as np
import pytest

from model.errors import ConfigError, DataError
from serving.inference.seams import Seams
from serving.inference.tiling import draw_large, draw_tiles, hann, tile_starts
from tests.fixtures.scenes import SIDE, as_photo, negative, noise, uneven


def photo_of(height, width):
    """Return a random photo, (height, width, 3)."""
    return as_photo(noise(3, height, width))


def strips_of(photo, draw, *, overlap=0.25, start=0, batch=8, empty=lambda top, left: False):
    """Draw a photo and return its strips."""

    def read(top, left, height, width):
        return None if empty(top, left) else photo[top : top + height, left : left + width]

    height, width = photo.shape[:2]
    strips = draw_tiles(read, draw, height=height, width=width, side=SIDE, overlap=overlap, start=start, batch=batch)
    return list(strips)


def seams_of(strips):
    """Return the seams of all strips together."""
    return sum((strip.seams for strip in strips), Seams())


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (32, 32), (33, 40), (100, 131), (300, 31), (64, 400)])
def test_every_pixel_is_drawn(size, overlap):
    photo = photo_of(*size)
    assert np.array_equal(draw_large(photo, negative, side=SIDE, overlap=overlap)[0], 255 - photo)


def test_tiles_are_few_and_evenly_spread():
    assert tile_starts(SIDE, SIDE, 0.25) == [0]
    assert tile_starts(7, SIDE, 0.25) == [0]
    assert tile_starts(SIDE + 1, SIDE, 0.25) == [0, 1]
    assert tile_starts(96, SIDE, 0) == [0, 32, 64]
    assert tile_starts(104, SIDE, 0.25) == [0, 24, 48, 72]
    for length in range(33, 500, 7):
        starts = np.array(tile_starts(length, SIDE, 0.25))
        assert (starts[0], starts[-1]) == (0, length - SIDE)
        assert np.diff(starts).max() <= 24 and np.ptp(np.diff(starts)) <= 1
        assert len(starts) == np.ceil((length - SIDE) / 24) + 1


def test_the_weights_are_a_raised_cosine():
    weights = hann(SIDE)
    assert weights.dtype == np.float32 and weights.min() > 0 and np.array_equal(weights, weights[::-1])
    assert np.allclose(weights[: SIDE // 2] + weights[SIDE // 2 :], 1, atol=1e-6)


def test_an_overlap_is_the_weighted_mean_of_both_tiles():
    photo = np.zeros((SIDE, 48, 3), np.uint8)
    photo[:, :8] = 1  # Only the left tile sees this.
    drawn, _ = draw_large(
        photo, lambda tiles: np.full_like(tiles, 200) * tiles.max(axis=(1, 2, 3), keepdims=True), side=SIDE
    )
    left, right = hann(SIDE)[16:], hann(SIDE)[:16]
    assert np.array_equal(drawn[3, 16:32, 1], np.rint(200 * left / (left + right)))
    assert (drawn[:, :16] == 200).all() and (drawn[:, 32:] == 0).all()


def test_a_small_photo_is_extended_by_reflection():
    seen = []

    def look(tiles):
        seen.append(tiles.copy())
        return tiles

    photo = photo_of(20, SIDE)
    draw_large(photo, look, side=SIDE)
    assert np.array_equal(seen[0][0, :20], photo) and np.array_equal(seen[0][0, 20:], photo[18:6:-1])


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batches_have_the_requested_size_and_change_nothing(batch):
    sizes = []

    def count(tiles):
        sizes.append(len(tiles))
        return uneven(tiles)

    photo = photo_of(60, 150)
    drawn = np.concatenate([strip.rows for strip in strips_of(photo, count, batch=batch)])
    assert max(sizes) == min(batch, len(tile_starts(150, SIDE))) and sum(sizes) == 3 * len(tile_starts(150, SIDE))
    assert np.array_equal(drawn, draw_large(photo, uneven, side=SIDE)[0])


def test_strips_are_contiguous_and_no_higher_than_a_tile():
    strips = strips_of(photo_of(301, 70), negative)
    assert strips[0].top == 0 and strips[-1].end == 301
    assert [strip.end for strip in strips[:-1]] == [strip.top for strip in strips[1:]]
    assert max(len(strip.rows) for strip in strips) <= SIDE


@pytest.mark.parametrize("overlap", [0, 0.25, 0.4, 0.75])
def test_a_resumed_run_gives_the_same_strips_as_an_uninterrupted_one(overlap):
    photo = photo_of(200, 131)
    strips = strips_of(photo, uneven, overlap=overlap, empty=lambda top, left: (top + left) % 5 == 0)
    for number, strip in enumerate(strips):
        rest = strips_of(photo, uneven, overlap=overlap, start=strip.end, empty=lambda top, left: (top + left) % 5 == 0)
        assert [again.top for again in rest] == [later.top for later in strips[number + 1 :]]
        for again, later in zip(rest, strips[number + 1 :], strict=True):
            assert np.array_equal(again.rows, later.rows)
            assert (again.seams, again.drawn, again.skipped) == (later.seams, later.drawn, later.skipped)


def test_a_run_resumes_only_at_the_end_of_a_strip():
    with pytest.raises(DataError, match="No strip of tiles ends at row 17"):
        strips_of(photo_of(100, 40), negative, start=17)


def test_empty_tiles_are_not_drawn_and_their_pixels_stay_zero():
    calls = []

    def draw(tiles):
        calls.append(len(tiles))
        return negative(tiles)

    photo = photo_of(SIDE, 104)
    (strip,) = strips_of(photo, draw, empty=lambda top, left: left == 0)
    assert (strip.drawn, strip.skipped, sum(calls)) == (3, 1, 3)
    assert (strip.rows[:, :24] == 0).all() and np.array_equal(strip.rows[:, 24:], 255 - photo[:, 24:])


def test_an_empty_photo_is_not_drawn():
    strips = strips_of(photo_of(100, 100), pytest.fail, empty=lambda top, left: True)
    assert not np.concatenate([strip.rows for strip in strips]).any() and seams_of(strips) == Seams()


# Seams


def test_seams_compare_steps_at_edges_with_steps_near_them():
    photo = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
    photo[:, SIDE:] = 30  # A step of 90 in each row, at the edge of the second tile.
    photo[:, SIDE + 3] = 32  # Two steps of 6 in each row, one of them four pixels from the edge.
    photo[:, 5:7] = 200  # Too far from the edge to count.
    seams = seams_of(strips_of(photo, lambda tiles: tiles, overlap=0))
    assert seams == Seams(90 * SIDE, SIDE, 6 * SIDE, 6 * SIDE)
    assert seams.ratio == 90


def test_steps_between_strips_count():
    photo = np.zeros((2 * SIDE, SIDE, 3), np.uint8)
    photo[SIDE:] = 10
    assert seams_of(strips_of(photo, lambda tiles: tiles, overlap=0)).edge_steps == 30 * SIDE


def test_blending_removes_seams():
    photo = photo_of(300, 300) // 8
    assert seams_of(strips_of(photo, uneven, overlap=0)).ratio > 1.5
    for overlap in (0.25, 0.5):
        assert seams_of(strips_of(photo, uneven, overlap=overlap)).ratio < 1.05


def test_an_unweighted_mean_of_tiles_shows_seams(monkeypatch):
    monkeypatch.setattr("serving.inference.tiling.hann", lambda side: np.ones(side, np.float32))
    assert seams_of(strips_of(photo_of(300, 300) // 8, uneven, overlap=0.25)).ratio > 1.5


@pytest.mark.parametrize("photo", [photo_of(SIDE, SIDE), np.full((100, 100, 3), 7, np.uint8)])
def test_a_single_tile_or_a_single_colour_has_no_ratio(photo):
    assert seams_of(strips_of(photo, negative)).ratio is None


def test_edges_of_empty_tiles_do_not_count():
    photo = np.full((SIDE, 104, 3), 200, np.uint8)
    seams = seams_of(strips_of(photo, lambda tiles: tiles, empty=lambda top, left: left == 0))
    assert seams.edge_steps == seams.inner_steps == 0 and seams.edge_count > 0


# Refused images and settings


@pytest.mark.parametrize("overlap", [-0.1, 0.76, float("nan")])
def test_an_overlap_out_of_range_is_refused(overlap):
    with pytest.raises(ConfigError, match=r"give 0 to 0\.75"):
        draw_large(photo_of(10, 10), negative, side=SIDE, overlap=overlap)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DataError, match="An image of 0 pixels a side can't be drawn"):
        draw_large(photo_of(0, 10), negative, side=SIDE)
