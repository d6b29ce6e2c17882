"""What a model scores: every number with its name, its direction, its interval, and the trivial baselines beside it."""

from model.errors import DataError
from model.spec import Direction, Frozen
from pipelines.metrics.catalogue import BASELINES, DECISIVE, METRICS, titles
from pipelines.metrics.intervals import Score

NamedScores = dict[str, Score]
"""Scores by their names in METRICS."""

WIDE_GAP = 0.1
"""From this share on, the L1 that is lost between training and deployment calls for a change."""
FULL_RANK = 2049
"""Images from which on the covariance of 2048 features has full rank (Heusel et al. 2017)."""


class ClassScore(Frozen):
    """How well one class of the palette is drawn."""

    name: str
    colours: tuple[str, ...]
    """As `#rrggbb`."""
    share: float
    """Of the true maps' pixels."""
    iou: Score | None
    """None where neither true nor drawn maps hold the class."""


class Scores(Frozen):
    """What a model scores on the held-out pairs, and what the trivial baselines score on the same pairs."""

    run_id: str
    pairs: int
    data_source: str
    data_fingerprint: str
    direction: Direction
    model_sha256: str
    model: NamedScores
    """As it is deployed: with moving statistics and without dropout."""
    as_trained: NamedScores
    """As in the paper: with the statistics of the image itself and with dropout; paired scores only."""
    baselines: dict[str, NamedScores]
    classes: tuple[ClassScore, ...]
    """Empty where photos are drawn."""
    names: tuple[str, ...]
    """Of the held-out pairs, in order."""
    each: dict[str, tuple[float, ...]]
    """The model's l1, psnr and ssim of each pair, in the order of `names`."""
    notes: tuple[str, ...]
    """What was left out, and what a reader must know."""

    def beats(self, baseline: str, name: str) -> bool:
        """Whether the model's score is better than a baseline's."""
        return better(name, self.model[name].value, self.baselines[baseline][name].value)

    def lost(self) -> tuple[tuple[str, str], ...]:
        """The (baseline, score) pairs in which the model is no better than what needs no learning."""
        return tuple(
            (baseline, name)
            for baseline, scores in self.baselines.items()
            for name in self.model
            if name in scores and not self.beats(baseline, name)
        )

    def decided(self) -> bool:
        """Whether the model beats every baseline in the scores that decide."""
        return not any(name in DECISIVE for _, name in self.lost())

    @property
    def gap(self) -> float:
        """How much more L1 the deployed network has than the network as trained; 0.1 is 10 % more."""
        return self.model["l1"].value / self.as_trained["l1"].value - 1 if self.as_trained["l1"].value else 0.0

    def flat(self) -> dict[str, float]:
        """Every number under the name that it has in MLflow: `scores/ssim`, `median_colour/ssim`, ..."""
        tables = {"scores": self.model, "as_trained": self.as_trained, **self.baselines}
        numbers = {"scores/pairs": float(self.pairs), "scores/deployment_gap": self.gap}
        for table, scores in tables.items():
            for name, number in scores.items():
                numbers |= {
                    f"{table}/{name}": number.value,
                    f"{table}/{name}_low": number.low,
                    f"{table}/{name}_high": number.high,
                }
        for found in self.classes:
            if found.iou is not None:
                numbers[f"scores/iou_{found.name}"] = found.iou.value
        return numbers


class Comparison(Frozen):
    """What several models score on the same held-out pairs."""

    runs: tuple[str, ...]
    """Run ids; the others are compared with the first."""
    pairs: int
    data_source: str
    data_fingerprint: str
    names: tuple[str, ...]
    """Of the held-out pairs, in order."""
    scores: dict[str, NamedScores]
    """Of each run."""
    gains: dict[str, NamedScores]
    """Of each run but the first, what it gains over the first, with a paired 95 % interval; more is better."""
    each: dict[str, tuple[float, ...]]
    """Of each run, L1 of each pair."""
    notes: tuple[str, ...]


def better(name: str, mine: float, other: float) -> bool:
    """Whether one value of a score is better than another."""
    return mine < other if METRICS[name].lower_is_better else mine > other


def loss(name: str, mine: float, other: float) -> float:
    """Return what share of another's value a score loses; negative where it gains."""
    difference = mine - other if METRICS[name].lower_is_better else other - mine
    # Of nothing, any loss is infinite; 1 is above every limit that makes sense.
    return difference / abs(other) if other else float(difference > 0)


def gain(name: str, difference: Score) -> Score:
    """Turn a difference of two scores so that more is better.

    Raises:
        DataError: There is no such score.
    """
    if name not in METRICS:
        raise DataError(f"{name} is no score; there are: {', '.join(METRICS)}.")
    if not METRICS[name].lower_is_better:
        return difference
    return Score(value=0.0 - difference.value, low=0.0 - difference.high, high=0.0 - difference.low, n=difference.n)


def headline(scores: Scores) -> str:
    """Say in one sentence how good a model is, beside what needs no learning."""
    lost = scores.lost()
    rivals = {baseline for baseline, _ in lost}
    core = [name for name in DECISIVE if name in scores.model]
    if not lost:
        return f"Beats every trivial baseline in all {len(scores.model)} scores, on {scores.pairs} held-out pairs."
    if scores.decided():
        kept = f"Beats every trivial baseline in {titles(core)}"
    else:
        kept = "Loses to what needs no learning"
    details = "; ".join(
        f"{titles([name for baseline, name in lost if baseline == rival])} to {BASELINES[rival]}"
        for rival in BASELINES
        if rival in rivals
    )
    joined = f"{kept}, but loses {details}" if kept.startswith("Beats") else f"{kept}: {details}"
    return f"{joined}, on {scores.pairs} held-out pairs."
