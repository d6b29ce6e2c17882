"""Scores as the tables of a page: models down, scores across, and in words where a number must not be overlooked."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipelines.metrics.catalogue import BASELINES, METRICS, SET_METRICS, join_words, titles
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import Comparison, NamedScores, Scores


class Mark(NamedTuple):
    """A judgement that is seen by its colour (`kind`), its sign and its word."""

    kind: str
    sign: str
    word: str


NOT_BEATEN = Mark("bad", "▲", "not beaten")
CLEAR_GAIN = Mark("good", "▲", "clear gain")
CLEAR_LOSS = Mark("bad", "▼", "clear loss")
UNCLEAR = Mark("unclear", "≈", "no clear difference")

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
OUTCOMES = {
    (True, False): "better than",
    (True, True): "in some scores better and in others worse than",
    (False, False): "not clearly different from",
    (False, True): "worse than",
}
"""What is said of a run with or without clear gains, and with or without clear losses."""
LESS, MORE = ("↓", "less"), ("↑", "more")
GROUPS = {False: "Pair by pair", True: "Whole sets of images, knowing nothing of single pairs"}
"""Tables by whether a score is of a set."""


class Column(NamedTuple):
    """A score as the head of a column."""

    name: str
    title: str
    arrow: str
    better: str
    meaning: str


class Cell(NamedTuple):
    """A score with its interval, as text."""

    value: str
    interval: str
    n: int
    mark: Mark | None = None


class TableRow(NamedTuple):
    """The scores of a model; None where it has none."""

    name: str
    below: str
    meaning: str
    own: bool
    cells: tuple[Cell | None, ...]


class Table(NamedTuple):
    """A table of scores."""

    caption: str
    corner: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]


class Gains(NamedTuple):
    """What runs gain over the first: in tables, as a judgement, and in one sentence."""

    tables: tuple[Table, ...]
    mark: Mark
    sentence: str


class _Line(NamedTuple):
    """A row in the making."""

    name: str
    scores: NamedScores
    below: str = ""
    meaning: str = ""
    own: bool = False
    marks: Mapping[str, Mark] = {}


def columns_of(scores: Iterable[str], *, gains: bool = False) -> tuple[Column, ...]:
    """Return the heads of the columns of some scores, or of gains in them, in the order of METRICS."""
    given = set(scores)
    return tuple(
        Column(name, metric.title, *(LESS if metric.lower_is_better and not gains else MORE), metric.meaning)
        for name, metric in METRICS.items()
        if name in given
    )


def score_tables(scores: Scores) -> tuple[Table, ...]:
    """Return the scores of a model, as deployed and as trained, above those of the baselines.

    A baseline's score is marked where the model is no better.
    """
    lost = scores.lost()
    lines = [
        _Line("this model", scores.model, "as deployed", "with moving statistics and without dropout", own=True),
        _Line(
            "as trained",
            scores.as_trained,
            "as in the paper",
            "with the statistics of the image itself and with dropout",
        ),
        *(
            _Line(
                BASELINES[baseline],
                found,
                meaning="what needs no learning",
                marks={name: NOT_BEATEN for rival, name in lost if rival == baseline},
            )
            for baseline, found in scores.baselines.items()
        ),
    ]
    return _tables(lines, scores.model, corner="model", with_sign=False)


def tables_of_runs(comparison: Comparison, labels: Mapping[str, str]) -> tuple[Table, ...]:
    """Return the scores of all runs of a comparison, by their labels."""
    lines = [_Line(labels[run], comparison.scores[run], meaning=run) for run in comparison.runs]
    return _tables(lines, _names(comparison.scores.values()), corner="run", with_sign=False)


def gain_tables(comparison: Comparison, labels: Mapping[str, str]) -> Gains:
    """Return what each run gains over the first, each gain with its judgement."""
    marks = {run: {name: judged(gain) for name, gain in comparison.gains[run].items()} for run in comparison.runs[1:]}
    lines = [
        _Line(labels[run], comparison.gains[run], f"over {labels[comparison.runs[0]]}", run, marks=marks[run])
        for run in comparison.runs[1:]
    ]
    tables = _tables(lines, _names(comparison.gains.values()), corner="run", with_sign=True)
    first = labels[comparison.runs[0]]
    sentence = _outcome(labels, marks, first)
    return Gains(tables, _overall(marks), f"{sentence}, on {comparison.pairs} held-out pairs.")


def judged(gain: Score) -> Mark:
    """Call a gain clear if its interval leaves out zero."""
    return CLEAR_GAIN if gain.low > 0 else CLEAR_LOSS if gain.high < 0 else UNCLEAR


def _outcome(labels: Mapping[str, str], marks: Mapping[str, Mapping[str, Mark]], first: str) -> str:
    if len(marks) == 1:
        run, found = next(iter(marks.items()))
        return _outcome_of_two(labels[run], first, found)
    said = []
    for outcome, words in OUTCOMES.items():
        runs = [
            labels[run]
            for run, found in marks.items()
            if (CLEAR_GAIN in found.values(), CLEAR_LOSS in found.values()) == outcome
        ]
        if runs:
            said.append(f"{words} {first}: {join_words(runs)}")
    sentence = "; ".join(said)
    return sentence[0].upper() + sentence[1:]


def _outcome_of_two(run: str, first: str, marks: Mapping[str, Mark]) -> str:
    better, worse = (titles([name for name in marks if marks[name] == mark]) for mark in (CLEAR_GAIN, CLEAR_LOSS))
    if better and worse:
        return f"{run} is clearly better than {first} in {better}, and clearly worse in {worse}"
    if better:
        return f"{run} is better than {first}: a clear gain in {better}, and no clear loss"
    if worse:
        return f"{run} is worse than {first}: a clear loss in {worse}, and no clear gain"
    return f"{run} and {first} differ clearly in none of {len(marks)} scores"


def _overall(marks: Mapping[str, Mapping[str, Mark]]) -> Mark:
    seen = {mark for found in marks.values() for mark in found.values()}
    if {CLEAR_GAIN, CLEAR_LOSS} <= seen:
        return Mark("mixed", "!", "Gains and losses")
    if CLEAR_GAIN in seen:
        return Mark("good", "✓", "A clear gain over the first")
    if CLEAR_LOSS in seen:
        return Mark("bad", "✗", "The first is clearly better")
    return Mark("unclear", "≈", "No clear difference")


def _tables(lines: list[_Line], names: Iterable[str], *, corner: str, with_sign: bool) -> tuple[Table, ...]:
    """Lay lines out as a table a group of scores; a line with none of the group's scores is left out."""
    found = []
    for of_sets, caption in GROUPS.items():
        columns = tuple(
            column for column in columns_of(names, gains=with_sign) if (column.name in SET_METRICS) == of_sets
        )
        rows = tuple(
            TableRow(
                line.name,
                line.below,
                line.meaning,
                line.own,
                tuple(_cell(column.name, line.scores, line.marks, with_sign=with_sign) for column in columns),
            )
            for line in lines
            if any(column.name in line.scores for column in columns)
        )
        if columns:
            found.append(Table(caption, corner, columns, rows))
    return tuple(found)


def _cell(name: str, scores: NamedScores, marks: Mapping[str, Mark], *, with_sign: bool) -> Cell | None:
    if name not in scores:
        return None
    score, digits = scores[name], METRICS[name].digits
    numbers = (score.value, score.low, score.high)
    value, low, high = (signed(number, digits) if with_sign else plain(number, digits) for number in numbers)
    # Between signed numbers a dash would be read as one more sign.
    return Cell(
        value, f"{low} to {high}" if with_sign or score.low < 0 else f"{low}{DASH}{high}", score.n, marks.get(name)
    )


def plain(number: float, digits: int) -> str:
    """Write a number with a minus as wide as a plus, and none before a zero."""
    return f"{number:z.{digits}f}".replace("-", MINUS)


def signed(number: float, digits: int) -> str:
    """Write a number with its sign."""
    return f"{number:+z.{digits}f}".replace("-", MINUS)


def _names(tables: Iterable[NamedScores]) -> set[str]:
    return {name for scores in tables for name in scores}
