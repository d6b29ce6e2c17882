"""Promotion and rollback of registered versions.

The comparison with the champion takes minutes and runs without the lock. The aliases are moved under the lock, within
a second, after a check that the champion is still the same.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from model.bundle import Bundle
from model.errors import BundleError, ConfigError, DataError, MissingStepError, PromotionRefused, TrackingError
from model.io.files import scratch_folder
from model.spec import Frozen
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex, read
from pipelines.evaluation import gates
from pipelines.evaluation.comparison import check_unseen
from pipelines.evaluation.gates import Gate, GateReport
from pipelines.registry import model_card, references
from pipelines.registry import versions as registry
from pipelines.registry.promotion_lock import hold_lock
from pipelines.registry.pull import fetch_bundle, fetch_pairs
from pipelines.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Version
from pipelines.tracking import mlflow_server
from pipelines.workspace import Workspace

GateCheck = Callable[..., GateReport]
"""Same signature as `gates.check_gates`."""


class Promotion(Frozen):
    """Decision on a version, with all measurements."""

    name: str
    version: int
    champion: int | None
    """Version of the champion that it was compared with; None if there was none."""
    decision: Literal["promoted", "forced", "refused"]
    reason: str
    """Reason given for a forced promotion."""
    when: str
    """Time of the decision, UTC in ISO 8601."""
    judgement: GateReport


class Rollback(Frozen):
    """Result of a rollback."""

    name: str
    version: int
    """Version that is the champion again."""
    rolled_back: int
    """Version that was the champion until the rollback."""
    when: str
    """Time of the rollback, UTC in ISO 8601."""


def promote(
    config: RunConfig,
    version: int | str,
    *,
    force: bool = False,
    reason: str = "",
    check: GateCheck = gates.check_gates,
) -> Promotion:
    """Compare a version with the champion on the same pairs, and make it the champion if it passes every gate.

    The old champion becomes `previous`. The decision and its numbers are recorded in the version's tags and
    description and as an artifact of its run, whether it is promoted or refused.

    Args:
        config: Settings; `tracking.model_name` and `promotion` (gates and frozen pairs) are used.
        version: A number, an alias, or a URI such as models:/NAME/VERSION, whose name is then the model's.
        force: Promote even if a gate fails or can't be measured; those that can be are measured all the same.
        reason: Reason for a forced promotion, which is recorded.
        check: Function that compares the challenger with the champion.

    Raises:
        PromotionRefused: A gate failed, or the champion draws images of another size or direction; no alias was moved.
        ConfigError: `force` is given without a reason.
        MissingStepError: There is no such version, or it is the champion already.
        BundleError: The content of the registry can't be trusted.
        DataError: The pairs can't be read on this machine, or a model was trained on them.
        TrackingError: MLflow does not answer, or another promotion moved the champion first.
    """
    if force and not reason.strip():
        raise ConfigError('A forced promotion needs a reason, which is recorded; add --reason "...".')
    name, which = references.parse(version, name=config.tracking.model_name)
    mlflow_server.connect_to_existing()
    challenger = registry.find(name, which)
    champion = _champion(name)
    if champion is not None and champion.number == challenger.number:
        raise MissingStepError(
            f"Version {champion.number} of {name} is the champion already; register another version first."
        )
    judgement = _check_gates(config, challenger, champion, check, force=force)
    promotion = Promotion(
        name=name,
        version=challenger.number,
        champion=None if champion is None else champion.number,
        decision="promoted" if judgement.passed else "forced" if force else "refused",
        reason=reason.strip() if force else "",
        when=_now(),
        judgement=judgement,
    )
    if promotion.decision == "refused":
        _record(challenger, promotion)
        raise PromotionRefused(_refusal(promotion), promotion, tuple(gate.line for gate in judgement.gates))
    _switch(promotion)
    _record(challenger, promotion)
    return promotion


def rollback(config: RunConfig) -> Rollback:
    """Make `previous` the champion again; the current champion loses its alias and is tagged as rolled back.

    Raises:
        MissingStepError: There is no previous champion.
        TrackingError: MLflow does not answer, or another promotion holds the lock.
    """
    mlflow_server.connect_to_existing()
    name = config.tracking.model_name
    with hold_lock(name) as lock:
        found = registry.aliases(name)
        champion, previous = found.get(CHAMPION), found.get(PREVIOUS)
        if champion is None or previous in (None, champion):
            raise MissingStepError(
                f"{name} has no previous champion to go back to ({_champion_text(champion)}); promote a version "
                "instead."
            )
        lock.check()
        registry.set_alias(name, CHAMPION, previous)
        registry.set_alias(name, PREVIOUS, None)
    done = Rollback(name=name, version=previous, rolled_back=champion, when=_now())
    registry.set_tags(registry.find(name, champion), {"promotion.rolled_back": done.when})
    return done


def _champion(name: str) -> Version | None:
    number = registry.aliases(name).get(CHAMPION)
    return None if number is None else registry.find(name, number)


def _refusal(promotion: Promotion) -> str:
    start = f"Version {promotion.version} of {promotion.name} was not promoted; no alias was moved."
    reason = f"{promotion.judgement.not_comparable} " if promotion.judgement.not_comparable else ""
    return f'{start} {reason}To make it the champion regardless: --force --reason "..."'


def _check_gates(
    config: RunConfig, challenger: Version, champion: Version | None, check: GateCheck, *, force: bool
) -> GateReport:
    """Fetch and verify both models, and compare them on pairs that neither was trained on.

    If the promotion is forced, gates that can't be measured are part of the report instead of an error. The challenger
    itself must be intact.
    """
    settings, cache = config.promotion, Workspace(config.workspace).cache
    with scratch_folder() as scratch:
        bundle = _fetch(challenger, scratch)
        try:
            pairs = _pairs(config, challenger)
            other, reason = _fetch_champion(champion, pairs, scratch, force=force)
            report = check(bundle, other, pairs, config, cache=cache)
        except DataError as error:
            if not force:
                raise
            report, other, reason = gates.without_pairs(bundle, settings, str(error)), None, str(error)
    return gates.without_champion(report, settings, reason) if champion is not None and other is None else report


def _pairs(config: RunConfig, challenger: Version) -> PairIndex:
    """Return the pairs of the comparison, which the challenger was not trained on."""
    trained, chosen = fetch_pairs(challenger), config.promotion.pairs
    pairs = PairIndex.load(Path(chosen)) if chosen else trained
    check_unseen(trained, pairs, f"Version {challenger.number}")
    if not chosen:
        _check_readable(pairs, challenger)
    return pairs


def _fetch_champion(
    champion: Version | None, pairs: PairIndex, scratch: Path, *, force: bool
) -> tuple[Bundle | None, str]:
    """Fetch a champion that was not trained on the pairs; return None and the reason if it can't be compared."""
    if champion is None:
        return None, ""
    try:
        check_unseen(fetch_pairs(champion), pairs, f"Version {champion.number}")
        return _fetch(champion, scratch), ""
    except (BundleError, DataError, MissingStepError) as error:
        if not force:
            raise
        return None, str(error)


def _fetch(version: Version, scratch: Path) -> Bundle:
    folder = Path(scratch, str(version.number))
    folder.mkdir()
    return fetch_bundle(version, folder)


def _check_readable(pairs: PairIndex, challenger: Version) -> None:
    try:
        read(pairs.val[0])
    except DataError as error:
        raise DataError(
            f"The held-out pairs of version {challenger.number} can't be read on this machine: {error} Promote on a "
            "machine that has them, or use other pairs: --set promotion.pairs=FILE."
        ) from error


def _switch(promotion: Promotion) -> None:
    """Move the aliases, if the champion is still the one of the comparison."""
    name, number = promotion.name, promotion.version
    with hold_lock(name) as lock:
        found = registry.aliases(name)
        if found.get(CHAMPION) != promotion.champion:
            raise TrackingError(
                f"The champion became {_version_text(found.get(CHAMPION))} while version {number} was compared with "
                f"{_version_text(promotion.champion)}; no alias was moved. Run `promote` again."
            )
        # `previous` first: if the process dies in between, `rollback` refuses rather than restoring a wrong version.
        if promotion.champion is not None:
            registry.set_alias(name, PREVIOUS, promotion.champion)
        lock.check()
        registry.set_alias(name, CHAMPION, number)
        if found.get(CHALLENGER) == number:
            registry.set_alias(name, CHALLENGER, None)


def _record(version: Version, promotion: Promotion) -> None:
    tags = {
        "promotion.decision": promotion.decision,
        "promotion.against": _version_text(promotion.champion),
        "promotion.when": promotion.when,
        "promotion.pairs": promotion.judgement.data_fingerprint,
        "promotion.reason": promotion.reason,
    }
    for gate in promotion.judgement.gates:
        tags[f"promotion.{gate.name.replace(' ', '_')}"] = _tag(gate)
    path = registry.log_decision(version, promotion.model_dump_json(indent=2) + "\n")
    registry.set_tags(version, tags | {"promotion.artifact": path})
    heading = (
        f"{promotion.decision.capitalize()} on {promotion.when}, compared with {_version_text(promotion.champion)}"
    )
    lines = [
        *([f"Reason given: {promotion.reason}"] if promotion.reason else []),
        *([promotion.judgement.not_comparable] if promotion.judgement.not_comparable else []),
        *(gate.line for gate in promotion.judgement.gates),
    ]
    registry.set_description(
        version.name, version.number, model_card.with_decision(version.description, heading, lines)
    )


def _tag(gate: Gate) -> str:
    if gate.value is None or gate.limit is None:
        return "not comparable"
    return f"{gate.value:.6g} (limit {gate.limit:g}, {'passed' if gate.passed else 'failed'})"


def _version_text(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"


def _champion_text(number: int | None) -> str:
    return "there is no champion" if number is None else f"the champion is version {number}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
