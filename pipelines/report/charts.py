"""Charts of a page, as coordinates of SVG shapes.

The shapes are few, so a template draws them: their colours follow the reader's light or dark mode, and their text has
the font of the page, which a ready-made picture could not do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

WIDTH, HEIGHT = 340, 202
"""Size of a panel in its own units, about CSS pixels, so that its text is as large as the page's."""
LEFT, RIGHT, TOP, BOTTOM = 44, 318, 14, 160
"""Edges of the plot inside a panel."""
MAX_POINTS = 400
"""Points of a curve at most; longer ones are averaged."""
TREND_POINTS = 40
"""Points of the smooth line through a noisy curve."""
MAX_BINS = 24
"""Bars of a histogram at most."""
Values = NDArray[np.float64]


class Tick(NamedTuple):
    """A labelled position on an axis, in units of the panel."""

    position: float
    label: str


class Bar(NamedTuple):
    """A labelled bar on the x axis, in units of the panel."""

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
        """The points in SVG's notation."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


@dataclass(frozen=True)
class Panel:
    """A small chart; `summary` describes it for screen readers."""

    title: str
    summary: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    mark: Tick | None = None
    """A marked position on the x axis."""
    note: str = ""


def downsample(steps: Sequence[float], values: Sequence[float], *, points: int = MAX_POINTS) -> tuple[Values, Values]:
    """Average neighbouring points of a curve so that at most `points` are left; values that are not finite are dropped.

    Args:
        steps: Increasing steps, (N,).
        values: Values at these steps, (N,).
        points: Number of bins, which hold equally many points.
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
    """Plot a value over the training steps: the means of up to MAX_POINTS bins, and a smooth line through them.

    Raises:
        DataError: No value is finite.
    """
    steps, values = downsample(x, y)
    if not len(values):
        raise DataError(f"None of the {len(y)} values of {title!r} is finite; the training diverged from the start.")
    # Losses are easier to compare if the axis begins at zero, unless that would flatten them.
    low, high = float(values.min()), float(values.max())
    low = 0.0 if 0 <= low < high / 2 else low
    last = max(x)
    x_ticks, y_ticks = [tick for tick in _ticks(0, last) if tick <= last], _ticks(low, high)
    bottom, top = y_ticks[0], y_ticks[-1]

    def points(xs: Values, ys: Values) -> tuple[tuple[float, float], ...]:
        return tuple(zip(_scale_x(xs, 0, last), _scale_y(ys, bottom, top), strict=True))

    if len(values) > TREND_POINTS:
        trend = points(*downsample(x, y, points=TREND_POINTS))
        lines = (Line("raw", points(steps, values)), Line("trend", trend))
    else:
        lines = (Line("trend", points(steps, values)), Line("dots", points(steps, values)))
    dropped = len(y) - int(np.isfinite(np.asarray(y, np.float64)).sum())
    return Panel(
        title=title,
        summary=f"{title}: {values[0]:.4g} at the start, {values[-1]:.4g} after {last:,} steps",
        x_label="step",
        x_ticks=_labelled(x_ticks, _scale_x(np.array(x_ticks), 0, last)),
        y_ticks=_labelled(y_ticks, _scale_y(np.array(y_ticks), bottom, top)),
        lines=lines,
        note=f"{dropped} of {len(y)} values are not finite and are left out." if dropped else "",
    )


def histogram(values: Sequence[float], *, title: str, digits: int) -> Panel:
    """Plot the distribution of a score over the pairs, with the median marked."""
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
        x_label=f"{title} (N = {len(numbers)})",
        x_ticks=_labelled(x_ticks, _scale_x(np.array(x_ticks), low, high)),
        y_ticks=_labelled(y_ticks, _scale_y(np.array(y_ticks), 0, top)),
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


def _labelled(ticks: Sequence[float], positions: Sequence[float]) -> tuple[Tick, ...]:
    return tuple(
        Tick(position, f"{tick:,.0f}" if abs(tick) >= 1000 else f"{round(tick, 10):g}")
        for tick, position in zip(ticks, positions, strict=True)
    )


def _scale_x(values: Values, low: float, high: float) -> list[float]:
    positions: list[float] = np.round(LEFT + (values - low) / (high - low) * (RIGHT - LEFT), 1).tolist()
    return positions


def _scale_y(values: Values, low: float, high: float) -> list[float]:
    positions: list[float] = np.round(BOTTOM - (values - low) / (high - low) * (BOTTOM - TOP), 1).tolist()
    return positions
