"""Promotion gates: named limits that a challenger must keep, measured against the champion on the same frozen pairs."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from model.bundle import FP32, Bundle
from model.errors import DataError
from model.io.progress import stage
from model.pixels import Pixels
from model.spec import Frozen
from model.translator import Translator
from pipelines.config.schema import PromotionConfig, RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.evaluation.comparison import difference_in_kind
from pipelines.evaluation.evaluate import draw, load_held_out
from pipelines.evaluation.evaluator import Evaluated
from pipelines.metrics.catalogue import BASELINES, METRICS
from pipelines.metrics.intervals import paired_difference
from pipelines.metrics.scores import NamedScores, better, gain, loss

TIMED = 20
"""Maps that each model draws while it is timed, alternating with the other."""
WARM_UP = 2
"""Maps drawn before these, which are not timed."""


class Gate(Frozen):
    """A limit, the measured value, and whether it passed."""

    name: str
    value: float | None
    """The measured value; None if it can't be measured, which does not pass."""
    limit: float | None
    """The limit; None if it would be a value that can't be measured."""
    passed: bool
    sentence: str

    @property
    def line(self) -> str:
        """The sentence after a sign: ✓ passed, ✗ failed, or ? not comparable."""
        return f"{'✓' if self.passed else '?' if self.value is None else '✗'} {self.sentence}."


class GateReport(Frozen):
    """Measurements of a challenger, gate by gate."""

    pairs: int
    """Held-out pairs of the comparison; 0 if none could be used."""
    data_fingerprint: str
    gates: tuple[Gate, ...]
    scores: dict[str, NamedScores]
    """Scores of `challenger`, of `champion` if they can be compared, and of the baselines."""
    not_comparable: str = ""
    """Reason why some gates could not be measured; empty if all were."""

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Gate, ...]:
        """The gates that were not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)


def check_gates(
    challenger: Bundle, champion: Bundle | None, pairs: PairIndex, config: RunConfig, *, cache: Path
) -> GateReport:
    """Measure challenger and champion on the held-out part of `pairs`, and check the limits of `config.promotion`.

    Without a champion, the gates that compare with one are left out. If the models draw images of different sizes or
    directions, these gates are not measured and do not pass. Classes are those of the challenger's palette.

    Raises:
        DataError: A pair can't be read.
        ConfigError: The settings have another palette than the challenger.
    """
    settings = config.promotion
    models = {"challenger": challenger} | ({} if champion is None else {"champion": champion})
    if difference := difference_in_kind(models):
        return without_champion(check_gates(challenger, None, pairs, config, cache=cache), settings, difference)
    held_out = load_held_out(pairs, challenger.manifest, config.evaluation, cache=cache)
    translators = {name: Translator(bundle, variant=FP32) for name, bundle in models.items()}
    drawn = {name: draw(translate, held_out.sources) for name, translate in translators.items()}
    with stage("Scoring"):
        evaluated = {name: held_out.evaluator.evaluate(images) for name, images in (drawn | held_out.baselines).items()}
    scores = {name: found.scores for name, found in evaluated.items()}
    _check_scored(settings, scores["challenger"])
    gates = [*_baseline_gates(settings, scores)]
    if champion is not None:
        gates += [_gain_gate(settings, evaluated), *_loss_gates(settings, scores)]
    gates += [_parity_gate(settings, challenger), *_latency_gates(settings, translators, held_out.sources)]
    return GateReport(
        pairs=len(held_out.targets), data_fingerprint=pairs.fingerprint, gates=tuple(gates), scores=scores
    )


def without_pairs(challenger: Bundle, settings: PromotionConfig, reason: str) -> GateReport:
    """Return the report on a challenger whose maps can't be scored, for a reason; only its parity is known."""
    name = settings.primary
    gates = [_not_measured(f"{name} beside {other}", METRICS[name].title, BASELINES[other]) for other in settings.beats]
    gates.append(_parity_gate(settings, challenger))
    return GateReport(pairs=0, data_fingerprint="", gates=tuple(gates), scores={}, not_comparable=reason)


def without_champion(report: GateReport, settings: PromotionConfig, reason: str) -> GateReport:
    """Add the gates that compare with a champion, not measured for a reason, to a report without them."""
    losses = [name for name in settings.max_loss if name != settings.primary]
    gates = (
        _not_measured(f"{settings.primary} gained", METRICS[settings.primary].title),
        *(_not_measured(f"{name} lost", METRICS[name].title) for name in losses),
        _not_measured("latency ratio", "The time of a map"),
    )
    return report.model_copy(update={"gates": report.gates + gates, "not_comparable": reason})


def _not_measured(name: str, title: str, other: str = "the champion's") -> Gate:
    return Gate(name=name, value=None, limit=None, passed=False, sentence=f"{title} can't be compared with {other}")


def _check_scored(settings: PromotionConfig, scores: NamedScores) -> None:
    """Check that every gate's score was measured, so that none passes silently."""
    missing = sorted({settings.primary, *settings.max_loss} - set(scores))
    if missing:
        raise DataError(
            f"{', '.join(missing)} can't be measured on these pairs; available: {', '.join(scores)}. Change "
            "promotion.primary or promotion.max_loss."
        )


def _baseline_gates(settings: PromotionConfig, scores: dict[str, NamedScores]) -> Iterator[Gate]:
    name = settings.primary
    mine = scores["challenger"][name].value
    for baseline in settings.beats:
        other = scores[baseline][name].value
        yield Gate(
            name=f"{name} beside {baseline}",
            value=mine,
            limit=other,
            passed=better(name, mine, other),
            sentence=f"{METRICS[name].title} is {mine:.4g}, that of {BASELINES[baseline]} {other:.4g}",
        )


def _gain_gate(settings: PromotionConfig, evaluated: dict[str, Evaluated]) -> Gate:
    name = settings.primary
    mine, other = (evaluated[model].tallies[name] for model in ("challenger", "champion"))
    found = gain(name, paired_difference(mine, other))
    return Gate(
        name=f"{name} gained",
        value=found.low,
        limit=settings.min_gain,
        passed=found.low > settings.min_gain,
        sentence=f"{METRICS[name].title} gains {found.value:.4g} [{found.low:.4g}, {found.high:.4g}] over the "
        f"champion; the lower end must be above {settings.min_gain:g}",
    )


def _loss_gates(settings: PromotionConfig, scores: dict[str, NamedScores]) -> Iterator[Gate]:
    for name, limit in settings.max_loss.items():
        if name == settings.primary:
            continue
        mine, other = scores["challenger"][name].value, scores["champion"][name].value
        lost = loss(name, mine, other)
        yield Gate(
            name=f"{name} lost",
            value=lost,
            limit=limit,
            passed=lost <= limit,
            sentence=f"{METRICS[name].title} is {mine:.4g} and the champion's {other:.4g}, "
            f"{'a loss' if lost > 0 else 'a gain'} of {abs(lost):.1%}; a loss of up to {limit:.1%} is allowed",
        )


def _parity_gate(settings: PromotionConfig, challenger: Bundle) -> Gate:
    parity = challenger.manifest.parity.max_difference
    return _at_most("parity", parity, settings.max_parity, "differs from TensorFlow by up to {:.2g}")


def _latency_gates(settings: PromotionConfig, translators: dict[str, Translator], sources: Pixels) -> Iterator[Gate]:
    seconds = _seconds(translators, sources)
    if "champion" in seconds:
        ratio = seconds["challenger"] / seconds["champion"]
        yield _at_most("latency ratio", ratio, settings.max_latency_ratio, "takes {:.2f} times as long as the champion")
    if settings.max_latency_ms:
        yield _at_most("latency ms", 1000 * seconds["challenger"], settings.max_latency_ms, "takes {:.1f} ms a map")


def _seconds(translators: dict[str, Translator], sources: Pixels) -> dict[str, float]:
    """Return the median time of a map of each model, measured in alternation."""
    times: dict[str, list[float]] = {name: [] for name in translators}
    for number in range(WARM_UP + TIMED):
        photo = sources[number % len(sources)][None]
        for name, translate in translators.items():
            began = time.perf_counter()
            translate(photo)
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds[WARM_UP:]) for name, seconds in times.items()}


def _at_most(name: str, value: float, limit: float, predicate: str) -> Gate:
    return Gate(
        name=name,
        value=value,
        limit=limit,
        passed=value <= limit,
        sentence=f"The challenger {predicate.format(value)}; at most {limit:g} is allowed",
    )
