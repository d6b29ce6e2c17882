"""Charts for a page, as SVG shapes in plain numbers.

The shapes are few, so a template draws them itself: their colours then follow the reader's light or dark mode, and
their text is the page's own, which a picture made elsewhere could not do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

WIDTH, HEIGHT = 340, 202
"""Of a panel, in its own units: about CSS pixels, so that its text is as large as the page's."""
LEFT, RIGHT, TOP, BOTTOM = 44, 318, 14, 160
"""Edges of the plot in a panel."""
MAX_POINTS = 400
"""Points that a curve is thinned to."""
TREND_POINTS = 40
"""Points of the calm line through a restless curve."""
MAX_BINS = 24
Values = NDArray[np.float64]


class Tick(NamedTuple):
    """A labelled place on an axis, in units of the panel."""

    place: float
    label: str


class Bar(NamedTuple):
    """A bar that stands on the x axis, in units of the panel, and what it says."""

    x: float
    y: float
    width: float
    height: float
    label: str


class Line(NamedTuple):
    """A curve as the `points` of an SVG polyline; `kind` is `raw`, `trend` or `dots`."""

    kind: str
    points: tuple[tuple[float, float], ...]

    @property
    def text(self) -> str:
        """The points as SVG takes them."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


@dataclass(frozen=True)
class Panel:
    """One small chart; `summary` says in words what it shows, for those who can't see it."""

    title: str
    summary: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    mark: Tick | None = None
    """A place on the x axis that is marked with its label."""
    note: str = ""


def thin(steps: Sequence[float], values: Sequence[float], *, points: int = MAX_POINTS) -> tuple[Values, Values]:
    """Return at most `points` means of neighbours of a curve; values that are not finite are left out.

    Args:
        steps: (N,), rising.
        values: (N,).
        points: Bins of equally many neighbours.
    """
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= points:
        return x, y
    starts = np.linspace(0, len(x), points, endpoint=False).astype(np.int64)
    counts = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts


def curve(x: Sequence[int], y: Sequence[float], *, title: str) -> Panel:
    """Draw a value over the training steps: the means of up to 400 bins, and a calm line through them.

    Raises:
        DataError: No value is finite.
    """
    steps, values = thin(x, y)
    if not len(values):
        raise DataError(f"The curve {title!r} holds no finite value of {len(y)}; the training diverged from the start.")
    # Losses are easier to compare where the axis begins at zero, unless that would flatten them.
    low, high = float(values.min()), float(values.max())
    low = 0.0 if 0 <= low < high / 2 else low
    last = max(x)
    x_ticks, y_ticks = [tick for tick in _ticks(0, last) if tick <= last], _ticks(low, high)
    bottom, top = y_ticks[0], y_ticks[-1]

    def points(xs: Values, ys: Values) -> tuple[tuple[float, float], ...]:
        return tuple(zip(_scale_x(xs, 0, last), _scale_y(ys, bottom, top), strict=True))

    if len(values) > TREND_POINTS:
        trend = points(*thin(x, y, points=TREND_POINTS))
        lines = (Line("raw", points(steps, values)), Line("trend", trend))
    else:
        lines = (Line("trend", points(steps, values)), Line("dots", points(steps, values)))
    lost = len(y) - int(np.isfinite(np.asarray(y, np.float64)).sum())
    return Panel(
        title=title,
        summary=f"{title}: {values[0]:.4g} at first, {values[-1]:.4g} at the end of {last:,} steps",
        x_label="step",
        x_ticks=_on(x_ticks, _scale_x(np.array(x_ticks), 0, last)),
        y_ticks=_on(y_ticks, _scale_y(np.array(y_ticks), bottom, top)),
        lines=lines,
        note=f"{lost} of {len(y)} values are not finite and are left out." if lost else "",
    )


def histogram(values: Sequence[float], *, title: str, digits: int) -> Panel:
    """Draw how often which value of a score is met over the pairs, with the median marked."""
    numbers = np.asarray(values, np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        margin = abs(low) / 20 or 0.5
        low, high = low - margin, high + margin
    counts, edges = np.histogram(
        numbers, bins=int(np.clip(np.sqrt(len(numbers)) * 1.5, 5, MAX_BINS)), range=(low, high)
    )
    x_ticks = [tick for tick in _ticks(low, high, most=5) if low <= tick <= high]
    y_ticks = [tick for tick in _ticks(0, float(counts.max()), most=4) if tick == int(tick)]
    top = max(_ticks(0, float(counts.max()), most=4))
    left, upper = _scale_x(edges, low, high), _scale_y(counts, 0, top)
    bars = tuple(
        Bar(
            round(left[i] + 0.75, 1),
            upper[i],
            round(left[i + 1] - left[i] - 1.5, 1),
            round(BOTTOM - upper[i], 1),
            f"{count} of {len(numbers)} pairs: {edges[i]:.{digits}f} to {edges[i + 1]:.{digits}f}",
        )
        for i, count in enumerate(counts.tolist())
        if count
    )
    median = float(np.median(numbers))
    label = f"median {median:.{digits}f}"
    return Panel(
        title=title,
        summary=f"{title} of {len(numbers)} pairs: {min(numbers):.{digits}f} to {max(numbers):.{digits}f}, {label}",
        x_label=f"{title} of a pair (N = {len(numbers)})",
        x_ticks=_on(x_ticks, _scale_x(np.array(x_ticks), low, high)),
        y_ticks=_on(y_ticks, _scale_y(np.array(y_ticks), 0, top)),
        bars=bars,
        mark=Tick(_scale_x(np.array([median]), low, high)[0], label),
    )


def _ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Return 2 to `most` + 1 round numbers (1, 2 or 5 times a power of ten) around and between two numbers."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** np.floor(np.log10(span / most))
    step = power * next(factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(number * step) for number in np.arange(first, max(last, first + 1) + 1)]


def _on(ticks: Sequence[float], places: Sequence[float]) -> tuple[Tick, ...]:
    return tuple(
        Tick(place, f"{tick:,.0f}" if abs(tick) >= 1000 else f"{round(tick, 10):g}")
        for tick, place in zip(ticks, places, strict=True)
    )


def _scale_x(values: Values, low: float, high: float) -> list[float]:
    places: list[float] = np.round(LEFT + (values - low) / (high - low) * (RIGHT - LEFT), 1).tolist()
    return places


def _scale_y(values: Values, low: float, high: float) -> list[float]:
    places: list[float] = np.round(BOTTOM - (values - low) / (high - low) * (BOTTOM - TOP), 1).tolist()
    return places
