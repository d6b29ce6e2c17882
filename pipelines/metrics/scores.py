"""Scores of a model with their intervals, and their comparison with trivial baselines and other models."""

from model.errors import DataError
from model.spec import Direction, Frozen
from pipelines.metrics.catalogue import BASELINES, DECISIVE, METRICS, titles
from pipelines.metrics.intervals import Score

NamedScores = dict[str, Score]
"""Scores by their names in METRICS."""

WIDE_GAP = 0.1
"""Relative increase of L1 from training to deployment above which settings should change."""
MAX_NAMED = 3
"""Scores that a headline names; more are counted."""
FULL_RANK = 2049
"""Images needed for a covariance of full rank of 2048 features (Heusel et al. 2017)."""


class ClassScore(Frozen):
    """Score of one class of the palette."""

    name: str
    colours: tuple[str, ...]
    """Colours as `#rrggbb`."""
    share: float
    """Share of the true maps' pixels."""
    iou: Score | None
    """Intersection over union; None if neither true nor drawn maps contain the class."""


class Scores(Frozen):
    """Scores of a model and of the trivial baselines on the same held-out pairs."""

    run_id: str
    pairs: int
    data_source: str
    data_fingerprint: str
    direction: Direction
    model_sha256: str
    bundle_sha256: str = ""
    """sha256 of the manifest of the bundle that was scored; empty in files of version 0.2.0 and earlier."""
    model: NamedScores
    """Scores as deployed: with moving statistics and without dropout."""
    as_trained: NamedScores
    """Scores as in the paper: with the statistics of each image and with dropout; only paired scores."""
    baselines: dict[str, NamedScores]
    classes: tuple[ClassScore, ...]
    """Scores of the classes; empty if the model draws photos."""
    names: tuple[str, ...]
    """Names of the held-out pairs, in order."""
    each: dict[str, tuple[float, ...]]
    """The model's l1, psnr and ssim of each pair, in the order of `names`."""
    notes: tuple[str, ...]
    """Scores that were left out, and cautions for the reader."""

    def beats(self, baseline: str, name: str) -> bool:
        """Return whether the model's score is better than a baseline's."""
        return better(name, self.model[name].value, self.baselines[baseline][name].value)

    def unbeaten(self) -> tuple[tuple[str, str], ...]:
        """Return the (baseline, score) pairs in which the model is no better than the baseline."""
        return tuple(
            (baseline, name)
            for baseline, scores in self.baselines.items()
            for name in self.model
            if name in scores and not self.beats(baseline, name)
        )

    def tied(self) -> tuple[tuple[str, str], ...]:
        """Return the (baseline, score) pairs in which model and baseline have the same value."""
        return tuple(
            (baseline, name)
            for baseline, name in self.unbeaten()
            if self.model[name].value == self.baselines[baseline][name].value
        )

    def lost(self) -> tuple[tuple[str, str], ...]:
        """Return the (baseline, score) pairs in which the model is worse than the baseline."""
        tied = self.tied()
        return tuple(pair for pair in self.unbeaten() if pair not in tied)

    def beats_baselines(self) -> bool:
        """Return whether the model beats every baseline in the decisive scores."""
        return not any(name in DECISIVE for _, name in self.unbeaten())

    @property
    def gap(self) -> float:
        """Relative increase of L1 from the network as trained to the deployed one; 0.1 is 10 % more."""
        return self.model["l1"].value / self.as_trained["l1"].value - 1 if self.as_trained["l1"].value else 0.0

    def metrics(self) -> dict[str, float]:
        """Return the model's scores under their names in MLflow, `scores/ssim` and so on.

        Intervals and baselines are only in the file of the scores: as metrics, they would bury the others.
        """
        numbers = {f"scores/{name}": score.value for name, score in self.model.items()}
        ious = {f"scores/iou_{found.name}": found.iou.value for found in self.classes if found.iou is not None}
        return numbers | ious | {"scores/deployment_gap": self.gap, "scores/pairs": float(self.pairs)}


class Comparison(Frozen):
    """Scores of several models on the same held-out pairs."""

    runs: tuple[str, ...]
    """Run ids; the first is the reference of the others."""
    pairs: int
    data_source: str
    data_fingerprint: str
    names: tuple[str, ...]
    """Names of the held-out pairs, in order."""
    scores: dict[str, NamedScores]
    """Scores by run."""
    gains: dict[str, NamedScores]
    """Gains of each other run over the first, with paired 95 % intervals; more is better."""
    each: dict[str, tuple[float, ...]]
    """L1 of each pair, by run."""
    notes: tuple[str, ...]


def better(name: str, value: float, other: float) -> bool:
    """Return whether `value` of a score is better than `other`."""
    return value < other if METRICS[name].lower_is_better else value > other


def loss(name: str, value: float, other: float) -> float:
    """Return the loss of `value` against `other`, as a share of `other`; negative for a gain."""
    difference = value - other if METRICS[name].lower_is_better else other - value
    # Any loss relative to 0 is infinite; 1 is above every sensible limit.
    return difference / abs(other) if other else float(difference > 0)


def gain(name: str, difference: Score) -> Score:
    """Return a difference of two scores with the sign for which more is better.

    Raises:
        DataError: There is no such score.
    """
    if name not in METRICS:
        raise DataError(f"{name} is not a score; use one of: {', '.join(METRICS)}.")
    if not METRICS[name].lower_is_better:
        return difference
    return Score(value=0.0 - difference.value, low=0.0 - difference.high, high=0.0 - difference.low, n=difference.n)


def headline(scores: Scores) -> str:
    """Return one sentence on how a model compares with the trivial baselines."""
    if not scores.unbeaten():
        return f"Beats every trivial baseline in all {len(scores.model)} scores, on {scores.pairs} held-out pairs."
    total = len(scores.model)
    outcomes = _by_baseline("loses to", scores.lost(), total), _by_baseline("ties with", scores.tied(), total)
    details = ", and ".join(filter(None, outcomes))
    if scores.beats_baselines():
        core = titles([name for name in DECISIVE if name in scores.model])
        return f"Beats every trivial baseline in {core}, but {details}, on {scores.pairs} held-out pairs."
    return f"Does not beat every trivial baseline: {details}, on {scores.pairs} held-out pairs."


def _by_baseline(verb: str, pairs: tuple[tuple[str, str], ...], total: int) -> str:
    """Return the baselines of (baseline, score) pairs with their scores; empty if there are none."""
    named = {rival: [name for baseline, name in pairs if baseline == rival] for rival in BASELINES}
    parts = [f"{BASELINES[rival]} in {_named_or_counted(names, total)}" for rival, names in named.items() if names]
    preposition = verb.rpartition(" ")[2]
    return f"{verb} {f'; {preposition} '.join(parts)}" if parts else ""


def _named_or_counted(names: list[str], total: int) -> str:
    """Name a few scores and count many, which would make a sentence unreadable."""
    if len(names) <= MAX_NAMED:
        return titles(names)
    return f"all {total} scores" if len(names) == total else f"{len(names)} of {total} scores"
