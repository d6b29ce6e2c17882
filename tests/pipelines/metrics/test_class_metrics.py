"""Class scores are right on maps small enough to count by hand."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from model.errors import DataError
from model.spec import Palette
from pipelines.metrics.class_metrics import measure
from pipelines.metrics.intervals import bootstrap, paired_difference

PALETTE = Palette(
    classes={
        "road": ("#ffffff", "#ffe57c"),
        "water": ("#a3ccff",),
        "park": ("#c8df9f",),
        "building": ("#d9d1c8",),
        "ground": ("#eeeae2",),
    }
)
SIDE = 48


def colour(name, shade=0):
    return tuple(bytes.fromhex(PALETTE.classes[name][shade][1:]))


def ground(count=2):
    return np.full((count, SIDE, SIDE, 3), colour("ground"), np.uint8)


def with_road(column, *, width=1, count=2, shade=0):
    """Draw a road from top to bottom."""
    maps = ground(count)
    maps[:, :, column : column + width] = colour("road", shade)
    return maps


def with_dot(y, x):
    maps = ground()
    maps[:, y, x] = colour("road")
    return maps


def painted(names):
    """Draw maps from (N, H, W) indices into the palette's classes."""
    return np.array([colour(name) for name in PALETTE.classes], np.uint8)[names]


def random_maps(seed, *, count=3):
    """Draw blocks of 6x6 pixels of random classes."""
    blocks = np.random.default_rng(seed).integers(0, len(PALETTE.classes), (count, SIDE // 6, SIDE // 6))
    return painted(blocks.repeat(6, axis=1).repeat(6, axis=2))


def values(drawn, true, palette=PALETTE):
    return {name: tally.value() for name, tally in measure(drawn, true, palette).tallies.items()}


def ious(drawn, true):
    return {score.name: score.iou for score in measure(drawn, true, PALETTE).classes}


# Equal maps


@pytest.mark.parametrize("seed", range(4))
def test_equal_maps_score_one_in_everything(seed):
    true = random_maps(seed)
    found = measure(true, true, PALETTE)
    assert {name: tally.value() for name, tally in found.tallies.items()} == {
        "mean_iou": 1,
        "road_f1": 1,
        "edge_f1": 1,
    }
    for score in found.classes:
        assert (score.iou.value, score.iou.low, score.iou.high, score.iou.n) == (1, 1, 1, 3)


def test_classes_have_the_palettes_order_with_colours_and_shares():
    true = with_road(10, width=6)
    true[:, :12, 24:] = colour("park")
    classes = measure(true, true, PALETTE).classes
    assert {score.name: score.colours for score in classes} == PALETTE.classes
    assert [score.name for score in classes] == list(PALETTE.classes)
    assert [score.share for score in classes] == pytest.approx([1 / 8, 0, 1 / 8, 0, 3 / 4])


# Roads


@pytest.mark.parametrize(("shift", "f1"), [(0, 1), (2, 1), (3, 1), (4, 0), (9, 0)])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_thin_road_is_found_within_three_pixels(shift, side, f1):
    assert values(with_road(20 + side * shift), with_road(20))["road_f1"] == f1


@pytest.mark.parametrize(("shift", "f1"), [(3, 1), (4, 0.75), (5, 0.5), (7, 0)])
def test_a_wide_road_is_found_in_part(shift, f1):
    """Of four columns of road, the nearest 7 - shift lie within 3 pixels of the other's edge."""
    assert values(with_road(20 + shift, width=4), with_road(20, width=4))["road_f1"] == pytest.approx(f1)


@pytest.mark.parametrize(("down", "right", "f1"), [(3, 0, 1), (2, 2, 1), (3, 1, 0), (0, 4, 0)])
def test_the_distance_is_euclidean(down, right, f1):
    assert values(with_dot(20 + down, 20 + right), with_dot(20, 20))["road_f1"] == f1


def test_precision_and_recall_both_count():
    """One of two drawn roads is right (1/2), and the only true road is found (1): 2 * 1/2 * 1 / (3/2)."""
    drawn = with_road(10)
    drawn[:, :, 30] = colour("road")
    assert values(drawn, with_road(10))["road_f1"] == pytest.approx(2 / 3)
    assert values(with_road(10), drawn)["road_f1"] == pytest.approx(2 / 3)


def test_all_colours_of_a_class_count():
    assert values(with_road(10, shade=1), with_road(10))["road_f1"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_roads_and_borders_agree_with_a_distance_transform(seed):
    drawn, true = random_maps(seed), random_maps(seed + 10)
    road = [(maps == colour("road")).all(axis=-1) for maps in (drawn, true)]
    borders = []
    for maps in (drawn, true):
        border = np.zeros(maps.shape[:3], bool)
        border[:, :, :-1] = (maps[:, :, :-1] != maps[:, :, 1:]).any(axis=-1)
        border[:, :-1] |= (maps[:, :-1] != maps[:, 1:]).any(axis=-1)
        borders.append(border)
    for name, (ours, theirs) in {"road_f1": road, "edge_f1": borders}.items():
        precision, recall = (
            sum((distance_transform_edt(~there) <= 3)[here].sum() for here, there in zip(a, b, strict=True)) / a.sum()
            for a, b in ((ours, theirs), (theirs, ours))
        )
        assert values(drawn, true)[name] == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_symmetric(seed):
    a, b = random_maps(seed), random_maps(seed + 20)
    there, back = values(a, b), values(b, a)
    assert there["road_f1"] == pytest.approx(back["road_f1"]) and 0 < there["road_f1"] < 1
    assert there["edge_f1"] == pytest.approx(back["edge_f1"]) and 0 < there["edge_f1"] < 1


# Absent classes


def test_an_image_without_roads_adds_nothing():
    drawn, true = with_road(14, width=4), with_road(10, width=4)
    more = [np.concatenate([maps, ground(3)]) for maps in (drawn, true)]
    assert values(*more)["road_f1"] == pytest.approx(values(drawn, true)["road_f1"]) == 0.75


def test_a_road_where_there_is_none_counts_as_wrong():
    true = np.concatenate([with_road(10), ground()])
    assert values(with_road(10, count=4), true)["road_f1"] == pytest.approx(2 / 3)


def test_a_model_that_draws_no_road_scores_zero():
    assert values(ground(), with_road(10))["road_f1"] == 0


def test_maps_without_roads_or_borders_have_no_scores_for_them():
    assert values(with_road(10), ground()) == {"mean_iou": pytest.approx(47 / 48)}
    roadless = Palette(classes={"water": ("#a3ccff",), "ground": ("#eeeae2",)})
    assert set(values(with_road(10), with_road(10), roadless)) == {"mean_iou"}


# Areas


def test_a_missing_class_halves_the_mean():
    true = ground()
    true[:, :, 24:] = colour("park")
    found = ious(ground(), true)
    assert (found["ground"].value, found["park"].value, found["water"]) == (0.5, 0, None)
    assert values(ground(), true)["mean_iou"] == 0.25


def test_a_class_only_in_drawn_maps_is_scored_but_not_in_the_mean():
    drawn = ground()
    drawn[:, :, :12] = colour("water")
    found = ious(drawn, ground())
    assert (found["water"].value, found["ground"].value, found["park"]) == (0, 0.75, None)
    assert values(drawn, ground())["mean_iou"] == 0.75


def test_totals_are_taken_before_they_are_divided():
    """A missed pond of 1 pixel weighs little compared with a lake of 1152 pixels that is found."""
    true = ground()
    true[0, :, :24] = true[1, 0, 0] = colour("water")
    drawn = ground()
    drawn[0] = true[0]
    assert ious(drawn, true)["water"].value == pytest.approx(1152 / 1153)


def test_swapped_classes_lose_overlap_but_not_borders():
    true = with_road(22, width=4)
    true[:, :, :10], true[:, :, 40:] = colour("park"), colour("water")
    drawn = with_road(22, width=4)
    drawn[:, :, :10], drawn[:, :, 40:] = colour("water"), colour("park")
    found = ious(drawn, true)
    assert (found["park"].value, found["water"].value, found["road"].value, found["ground"].value) == (0, 0, 1, 1)
    assert values(drawn, true) == {"mean_iou": 0.5, "road_f1": 1, "edge_f1": 1}


def test_a_border_lies_on_the_upper_left_side():
    """Parks that begin in columns 20, 23 and 24 have their borders in columns 19, 22 and 23."""
    true, near, far = ground(), ground(), ground()
    true[:, :, 20:], near[:, :, 23:], far[:, :, 24:] = (colour("park"),) * 3
    assert values(near, true)["edge_f1"] == 1
    assert values(far, true)["edge_f1"] == 0


# Intervals and bad input


def test_scores_have_intervals_and_paired_differences():
    true = random_maps(1, count=12)
    bad, good = true.copy(), true.copy()
    bad[:, :24], good[:, :6] = colour("ground"), colour("ground")
    first, second = measure(good, true, PALETTE), measure(bad, true, PALETTE)
    for name, tally in second.tallies.items():
        score = bootstrap(tally)
        assert score.n == 12 and 0 < score.low < score.value < score.high < 1
        assert paired_difference(first.tallies[name], tally).low > 0


def test_images_of_different_shapes_are_refused():
    with pytest.raises(DataError, match=r"\(3, 48, 48, 3\) can't be compared with true maps of shape \(2, 48, 48, 3\)"):
        measure(ground(3), ground(2), PALETTE)


def test_one_image_is_refused():
    with pytest.raises(DataError, match="measure 2 or more"):
        measure(ground(1), ground(1), PALETTE)
