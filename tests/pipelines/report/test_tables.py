"""Marks of gains, and the format of numbers."""

import pytest

from pipelines.metrics.intervals import Score
from pipelines.report.tables import CLEAR_GAIN, CLEAR_LOSS, UNCLEAR, mark_gain, plain, signed


@pytest.mark.parametrize(
    ("low", "high", "mark"),
    [(0.1, 0.2, CLEAR_GAIN), (-2, -1, CLEAR_LOSS), (-1, 1, UNCLEAR), (0, 1, UNCLEAR), (-1, 0, UNCLEAR)],
)
def test_a_gain_is_clear_if_its_interval_excludes_zero(low, high, mark):
    assert mark_gain(Score(value=0, low=low, high=high, n=2)) == mark


def test_numbers_have_a_wide_minus_and_zero_has_none():
    minus = "\N{MINUS SIGN}"
    assert [signed(number, 2) for number in (1.234, -1.236, -0.001, 0)] == ["+1.23", f"{minus}1.24", "+0.00", "+0.00"]
    assert [plain(number, 1) for number in (2, -0.04, -3)] == ["2.0", "0.0", f"{minus}3.0"]
