"""Tables of scores: a row for each model, a column for each score, and marks with words where they matter."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipelines.metrics.catalogue import BASELINES, METRICS, SET_METRICS, join_words, titles
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import Comparison, NamedScores, Scores


class Mark(NamedTuple):
    """A mark that shows an outcome by colour (`kind`), sign and word."""

    kind: str
    sign: str
    word: str


NOT_BEATEN = Mark("bad", "▲", "not beaten")
CLEAR_GAIN = Mark("good", "▲", "clear gain")
CLEAR_LOSS = Mark("bad", "▼", "clear loss")
UNCLEAR = Mark("unclear", "≈", "not clear")

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
OUTCOMES = {
    (True, False): "better than",
    (True, True): "in some scores better and in others worse than",
    (False, False): "not clearly different from",
    (False, True): "worse than",
}
"""Words for a run, by whether it has clear gains and whether it has clear losses."""
LOWER, HIGHER = ("↓", "lower"), ("↑", "higher")
GROUPS = {
    False: "Each drawn image compared with the true one",
    True: "All drawn images compared with all true ones, as sets",
}
"""Captions of the tables, by whether their scores are of sets."""


class Column(NamedTuple):
    """Heading of a column of scores."""

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
    """Scores of a model; None where a score was not measured."""

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
    """Gains of runs over the first: tables, an overall mark, and one sentence."""

    tables: tuple[Table, ...]
    mark: Mark
    sentence: str


class _Scored(NamedTuple):
    """A model and its scores, before they are split into tables."""

    name: str
    scores: NamedScores
    below: str = ""
    meaning: str = ""
    own: bool = False
    marks: Mapping[str, Mark] = {}


def columns_of(scores: Iterable[str], *, gains: bool = False) -> tuple[Column, ...]:
    """Return the column headings of scores, or of gains in them, in the order of METRICS."""
    given = set(scores)
    return tuple(
        Column(
            name, _breakable(metric.title), *(LOWER if metric.lower_is_better and not gains else HIGHER), metric.meaning
        )
        for name, metric in METRICS.items()
        if name in given
    )


def _breakable(title: str) -> str:
    """Keep the last two words of a title in one line."""
    return "\N{NO-BREAK SPACE}".join(title.rsplit(" ", 1))


def score_tables(scores: Scores) -> tuple[Table, ...]:
    """Return tables of the scores of a model, deployed and as trained, and of the baselines.

    A baseline's score is marked if the model's is no better.
    """
    unbeaten = scores.unbeaten()
    models = [
        _Scored("this model", scores.model, "deployed", "without dropout; batch norms use moving statistics", own=True),
        _Scored(
            "as trained",
            scores.as_trained,
            "as in the paper",
            "with dropout; batch norms use the statistics of the image itself",
        ),
        *(
            _Scored(
                BASELINES[baseline],
                found,
                meaning="a baseline that needs no learning",
                marks={name: NOT_BEATEN for rival, name in unbeaten if rival == baseline},
            )
            for baseline, found in scores.baselines.items()
        ),
    ]
    return _tables(models, scores.model, corner="model", with_sign=False)


def tables_of_runs(comparison: Comparison, labels: Mapping[str, str]) -> tuple[Table, ...]:
    """Return tables of the scores of all runs of a comparison, by their labels."""
    models = [_Scored(labels[run], comparison.scores[run], meaning=run) for run in comparison.runs]
    return _tables(models, _names(comparison.scores.values()), corner="run", with_sign=False)


def gain_tables(comparison: Comparison, labels: Mapping[str, str]) -> Gains:
    """Return tables of what each run gains over the first, every gain with its mark."""
    marks = {
        run: {name: mark_gain(gain) for name, gain in comparison.gains[run].items()} for run in comparison.runs[1:]
    }
    models = [
        _Scored(labels[run], comparison.gains[run], f"over {labels[comparison.runs[0]]}", run, marks=marks[run])
        for run in comparison.runs[1:]
    ]
    tables = _tables(models, _names(comparison.gains.values()), corner="run", with_sign=True)
    first = labels[comparison.runs[0]]
    sentence = _outcome(labels, marks, first)
    return Gains(tables, _overall(marks), f"{sentence}, on {comparison.pairs} held-out pairs.")


def mark_gain(gain: Score) -> Mark:
    """Return the mark of a gain, which is clear if its interval excludes zero."""
    return CLEAR_GAIN if gain.low > 0 else CLEAR_LOSS if gain.high < 0 else UNCLEAR


def _outcome(labels: Mapping[str, str], marks: Mapping[str, Mapping[str, Mark]], first: str) -> str:
    if len(marks) == 1:
        run, found = next(iter(marks.items()))
        return _outcome_of_two(labels[run], first, found)
    parts = []
    for outcome, words in OUTCOMES.items():
        runs = [
            labels[run]
            for run, found in marks.items()
            if (CLEAR_GAIN in found.values(), CLEAR_LOSS in found.values()) == outcome
        ]
        if runs:
            parts.append(f"{words} {first}: {join_words(runs)}")
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:]


def _outcome_of_two(run: str, first: str, marks: Mapping[str, Mark]) -> str:
    better, worse = (titles([name for name in marks if marks[name] == mark]) for mark in (CLEAR_GAIN, CLEAR_LOSS))
    if better and worse:
        return f"{run} is clearly better than {first} in {better}, and clearly worse in {worse}"
    if better:
        return f"{run} is better than {first}: a clear gain in {better}, and no clear loss"
    if worse:
        return f"{run} is worse than {first}: a clear loss in {worse}, and no clear gain"
    return f"{run} and {first} do not differ clearly in any of {len(marks)} scores"


def _overall(marks: Mapping[str, Mapping[str, Mark]]) -> Mark:
    found = {mark for of_run in marks.values() for mark in of_run.values()}
    if {CLEAR_GAIN, CLEAR_LOSS} <= found:
        return Mark("mixed", "!", "Gains and losses")
    if CLEAR_GAIN in found:
        return Mark("good", "✓", "A clear gain over the first")
    if CLEAR_LOSS in found:
        return Mark("bad", "✗", "The first is clearly better")
    return Mark("unclear", "≈", "No clear difference")


def _tables(models: list[_Scored], names: Iterable[str], *, corner: str, with_sign: bool) -> tuple[Table, ...]:
    """Return a table for each group of scores; rows with none of a group's scores are left out."""
    tables = []
    for of_sets, caption in GROUPS.items():
        columns = tuple(
            column for column in columns_of(names, gains=with_sign) if (column.name in SET_METRICS) == of_sets
        )
        rows = tuple(
            TableRow(
                model.name,
                model.below,
                model.meaning,
                model.own,
                tuple(_cell(column.name, model.scores, model.marks, with_sign=with_sign) for column in columns),
            )
            for model in models
            if any(column.name in model.scores for column in columns)
        )
        if columns:
            tables.append(Table(caption, corner, columns, rows))
    return tuple(tables)


def _cell(name: str, scores: NamedScores, marks: Mapping[str, Mark], *, with_sign: bool) -> Cell | None:
    if name not in scores:
        return None
    score, digits = scores[name], METRICS[name].digits
    numbers = (score.value, score.low, score.high)
    value, low, high = (signed(number, digits) if with_sign else plain(number, digits) for number in numbers)
    # Between signed numbers a dash would look like another sign.
    return Cell(
        value, f"{low} to {high}" if with_sign or score.low < 0 else f"{low}{DASH}{high}", score.n, marks.get(name)
    )


def plain(number: float, digits: int) -> str:
    """Format a number with a minus as wide as a plus, and without one before zero."""
    return f"{number:z.{digits}f}".replace("-", MINUS)


def signed(number: float, digits: int) -> str:
    """Format a number with its sign."""
    return f"{number:+z.{digits}f}".replace("-", MINUS)


def _names(tables: Iterable[NamedScores]) -> set[str]:
    return {name for scores in tables for name in scores}
