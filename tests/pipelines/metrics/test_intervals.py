"""Intervals have their nominal coverage and keep pairs together; undefined scores are refused."""

import numpy as np
import pytest
from pydantic import ValidationError

from model.errors import DataError
from pipelines.metrics.intervals import DRAWS, Score, Tally, bootstrap, jackknife, paired_difference, ratio


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_a_mean_and_its_interval():
    values = np.arange(100.0)
    score = bootstrap(Tally.mean(values))
    assert (score.value, score.n) == (49.5, 100)
    error = values.std(ddof=1) / 10
    assert (score.low, score.high) == pytest.approx((49.5 - 1.96 * error, 49.5 + 1.96 * error), abs=0.5)


def test_the_same_images_have_the_same_interval():
    values = np.random.default_rng(1).normal(size=30)
    assert bootstrap(Tally.mean(values)) == bootstrap(Tally.mean(values.copy()))


def test_the_interval_contains_the_truth_19_times_out_of_20(rng):
    scores = [bootstrap(Tally.mean(rng.exponential(size=60))) for _ in range(300)]
    assert np.mean([score.low <= 1 <= score.high for score in scores]) == pytest.approx(0.95, abs=0.04)


def test_a_ratio_is_that_of_the_totals_not_the_mean_of_ratios():
    rows = np.array([[1.0, 1.0], [0.0, 9.0], [5.0, 10.0]])
    tally = Tally(rows, ratio)
    assert tally.value() == pytest.approx(6 / 20)
    assert bootstrap(tally).value == pytest.approx(0.3)
    assert tally.per_image().tolist() == [1, 0, 0.5]


def test_undefined_images_do_not_affect_the_interval():
    rows = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    tally = Tally(rows, ratio)
    assert np.isnan(tally.per_image()[0])
    assert np.isnan(tally.resampled()).any()  # Some samples contain only the first image.
    score = bootstrap(tally)
    assert score.value == pytest.approx(4 / 6) and 0.5 <= score.low <= score.high <= 0.75


def test_undefined_scores_and_single_images_are_refused():
    with pytest.raises(DataError, match="is nan; measure 2 or more images in which it is defined"):
        bootstrap(Tally(np.zeros((3, 2)), ratio))
    with pytest.raises(DataError, match=r"A score of 1 image\(s\)"):
        bootstrap(Tally.mean(np.array([1.0])))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_images_with_nan_or_infinity_are_named(bad):
    with pytest.raises(DataError, match=r"values of images \[1\] are NaN or infinite"):
        Tally.mean(np.array([1.0, bad, 2.0]))


def test_a_paired_difference_has_a_narrow_interval_if_the_pairs_agree(rng):
    hard = rng.normal(0, 10, 50)
    first, second = Tally.mean(hard + 1 + rng.normal(0, 0.1, 50)), Tally.mean(hard)
    found = paired_difference(first, second)
    assert 0.9 < found.low < found.value < found.high < 1.1
    # Each score by itself has an interval of several levels.
    assert bootstrap(first).high - bootstrap(first).low > 4
    opposite = paired_difference(second, first)
    assert (opposite.value, opposite.low) == pytest.approx((-found.value, -found.high))


def test_a_difference_needs_the_same_images():
    with pytest.raises(DataError, match="of 3 and of 4 images have no paired difference"):
        paired_difference(Tally.mean(np.arange(3.0)), Tally.mean(np.arange(4.0)))


def test_many_images_are_resampled_in_blocks():
    tally = Tally.mean(np.arange(30_000.0))
    assert tally.resampled().shape == (DRAWS,)
    assert bootstrap(tally).value == pytest.approx(14_999.5)


def test_the_jackknife_error_of_a_mean_is_that_of_the_textbook(rng):
    values = rng.normal(size=200)
    score = jackknife(lambda rows: float(values[rows].mean()), 200)
    assert score.value == values.mean()
    assert (score.high - score.low) / 2 == pytest.approx(1.96 / np.sqrt(200), rel=0.5)
    assert (score.high + score.low) / 2 == pytest.approx(score.value)


def test_two_images_are_too_few_for_a_jackknife():
    with pytest.raises(DataError, match=r"Found 2 image\(s\)"):
        jackknife(lambda rows: 1.0, 2)


def test_a_score_survives_json():
    score = Score(value=0.5, low=0.25, high=0.75, n=3)
    assert score.model_dump_json() == '{"value":0.5,"low":0.25,"high":0.75,"n":3}'
    assert Score.model_validate_json(score.model_dump_json()) == score


@pytest.mark.parametrize(
    ("value", "low", "high", "n"),
    [(np.nan, 0, 1, 5), (1, np.nan, 1, 5), (1, 0, np.inf, 5), (1, 2, 1, 5), (1, 1, 1, 1)],
)
def test_a_score_without_a_valid_interval_is_refused(value, low, high, n):
    with pytest.raises(ValidationError):
        Score(value=value, low=low, high=high, n=n)
