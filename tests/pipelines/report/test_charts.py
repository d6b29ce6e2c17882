"""Charts: every value is inside the plot, is counted once, and long curves are averaged."""

import numpy as np
import pytest

from model.errors import DataError
from pipelines.report import charts


def test_a_histogram_of_equal_values_is_one_bar():
    panel = charts.histogram([0.5] * 40, title="SSIM", digits=4)
    assert len(panel.bars) == 1 and panel.bars[0].label.startswith("40 of 40") and panel.mark.label == "median 0.5000"
    bar = panel.bars[0]
    assert bar.x <= panel.mark.position <= bar.x + bar.width + 2


@pytest.mark.parametrize("values", [[1, 2], [3.0, 3.001, 250.0], np.linspace(-1, 1, 1000).tolist(), [1e-6, 2e-6, 3e-6]])
def test_histograms_stay_inside_the_plot(values):
    panel = charts.histogram(values, title="L1", digits=2)
    assert sum(int(bar.label.split()[0]) for bar in panel.bars) == len(values)
    for bar in panel.bars:
        assert charts.LEFT <= bar.x and bar.x + bar.width <= charts.RIGHT and bar.width > 3
        assert charts.TOP <= bar.y and bar.y + bar.height == pytest.approx(charts.BOTTOM)
    assert all(charts.LEFT <= tick.position <= charts.RIGHT for tick in panel.x_ticks)
    assert 2 <= len(panel.y_ticks) <= 6


def test_a_short_curve_keeps_its_points():
    x, y = charts.downsample([1, 2, 3], [5.0, 4.0, 3.0])
    assert (x.tolist(), y.tolist()) == ([1, 2, 3], [5, 4, 3])
    panel = charts.curve([1], [2.0], title="loss")
    assert [line.kind for line in panel.lines] == ["trend", "dots"] and len(panel.lines[0].points) == 1
    ends = charts.curve([1, 10], [0.0, 9.0], title="loss").lines[0].points
    assert ends[0][1] == charts.BOTTOM and ends[1] == (charts.RIGHT, charts.TOP + (charts.BOTTOM - charts.TOP) * 0.1)


def test_a_long_curve_is_averaged():
    steps, values = range(1, 100_001), np.random.default_rng(0).normal(5, 1, 100_000)
    x, y = charts.downsample(steps, values)
    assert len(x) == len(y) == charts.MAX_POINTS
    assert x[0] == pytest.approx(np.mean(steps[:250])) and y[-1] == pytest.approx(values[-250:].mean())
    assert y.mean() == pytest.approx(values.mean()) and y.std() < 0.1


@pytest.mark.parametrize("count", [399, 400, 401, 777, 4001])
def test_bins_hold_every_value_once_and_are_of_equal_size(count):
    x, y = charts.downsample(range(count), [1.0] * count)
    assert len(x) == min(count, charts.MAX_POINTS) and np.array_equal(y, np.ones(len(y)))
    gaps = np.diff(x)
    assert (gaps > 0).all() and gaps.max() - gaps.min() <= 1


def test_a_curve_without_a_finite_value_is_refused():
    with pytest.raises(DataError, match="None of the 3 values of 'loss' is finite"):
        charts.curve([1, 2, 3], [np.nan, np.inf, np.nan], title="loss")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.1, 0.9], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([0.8, 0.9], ["0.8", "0.82", "0.84", "0.86", "0.88", "0.9"]),
        ([-1.0, 1.0], ["-1", "-0.5", "0", "0.5", "1"]),
        ([0.0, 5200.0], ["0", "2,000", "4,000", "6,000"]),
        ([3.0, 3.0], ["3", "4"]),
        ([0.0, 0.0], ["0", "0.2"]),
    ],
)
def test_ticks_are_round_numbers(values, labels):
    panel = charts.curve([1, 2], values, title="loss")
    assert [tick.label for tick in panel.y_ticks] == labels
    positions = [y for line in panel.lines for _, y in line.points] + [tick.position for tick in panel.y_ticks]
    assert min(positions) >= charts.TOP and max(positions) <= charts.BOTTOM
