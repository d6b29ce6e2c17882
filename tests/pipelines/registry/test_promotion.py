"""A better model moves, a worse one does not, a rollback restores; of two at once one wins and the other is told."""

import json
import os
import subprocess
import sys
import time
import uuid

import mlflow
import numpy as np
import pytest
from PIL import Image

from model.errors import BundleError, ConfigError, DataError, MissingStepError, PromotionRefused, TrackingError
from model.translator import Translator
from model.io.locations import Location
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex, fingerprint, index_folder
from pipelines.evaluation.gates import Gate, GateReport
from pipelines.metrics.intervals import Score
from pipelines.registry import promotion_lock
from pipelines.registry import versions as registry
from pipelines.registry.promotion import promote, rollback
from pipelines.registry.promotion_lock import hold_lock
from pipelines.registry.pull import pull
from pipelines.registry.register import register
from pipelines.registry.versions import aliases, find
from tests.fixtures import runs


@pytest.fixture
def config(place):
    """Return settings with a registered model of the test's own."""
    return runs.configure(place, f"maps of {uuid.uuid4().hex[:8]}")


@pytest.fixture
def add(config):
    """Return a function that registers a model; -1 draws the true maps, and what is farther from it is worse."""
    return lambda factor: register(runs.make_run(config, factor=factor)).version


def check_l1(challenger, champion, pairs, config, *, cache):
    """Judge by L1 alone: the challenger must be nearer to the true maps than the champion."""
    photos, maps = load_all(pairs.val, side=challenger.manifest.network.image_size, direction="photo_to_map")
    bundles = {"challenger": challenger} | ({"champion": champion} if champion else {})
    errors = {name: float(np.abs(Translator(bundle)(photos) - 1.0 * maps).mean()) for name, bundle in bundles.items()}
    mine, limit = errors["challenger"], errors.get("champion", 255.0)
    gate = Gate(
        name="l1 gained",
        value=mine,
        limit=limit,
        passed=mine < limit,
        sentence=f"L1 is {mine:.1f} beside the champion's {limit:.1f}",
    )
    scores = {name: {"l1": Score(value=error, low=error, high=error, n=3)} for name, error in errors.items()}
    return GateReport(pairs=len(photos), data_fingerprint=pairs.fingerprint, gates=(gate,), scores=scores)


def served(config, folder, alias="champion"):
    """Return the model that a service gets which reads the alias now: its run."""
    return pull(config.tracking.model_name, alias, folder / "served").manifest.run_id


def test_worse_is_refused_better_moves_and_a_rollback_restores(config, add, tmp_path):
    name = config.tracking.model_name
    first = promote(config, add(-0.5), check=check_l1)
    assert (first.decision, first.version, first.champion) == ("promoted", 1, None)
    assert aliases(name) == {"champion": 1} and served(config, tmp_path) == find(name, 1).run_id
    worse = add(0.5)
    with pytest.raises(PromotionRefused, match=r"Version 2 .* nothing moved\. L1 is .* beside the champion's") as found:
        promote(config, worse, check=check_l1)
    assert str(found.value).endswith(".") and served(config, tmp_path) == find(name, 1).run_id
    assert aliases(name) == {"champion": 1, "challenger": 2}
    add(-1.0)
    better = promote(config, "challenger", check=check_l1)
    assert (better.decision, better.version, better.champion) == ("promoted", 3, 1)
    assert aliases(name) == {"champion": 3, "previous": 1} and served(config, tmp_path) == find(name, 3).run_id
    back = rollback(config)
    assert (back.version, back.rolled_back) == (1, 3)
    assert aliases(name) == {"champion": 1} and served(config, tmp_path) == find(name, 1).run_id
    assert find(name, 3).tags["promotion.rolled_back"] == back.when
    with pytest.raises(MissingStepError, match=r"no previous champion to go back to \(the champion is version 1\)"):
        rollback(config)
    assert aliases(name) == {"champion": 1} and not locks(name)


def locks(name):
    """Return the locks that lie in the registry."""
    return [model.name for model in mlflow.MlflowClient().search_registered_models() if f"{name}." in model.name]


def test_decision_and_numbers_are_written_down(config, add, tmp_path):
    name = config.tracking.model_name
    promote(config, add(-0.5), check=check_l1)
    with pytest.raises(PromotionRefused):
        promote(config, add(0.5), check=check_l1)
    version = find(name, 2)
    assert version.tags["promotion.decision"] == "refused" and version.tags["promotion.against"] == "version 1"
    value = version.tags["promotion.l1_gained"]
    assert "failed" in value and float(value.partition(" ")[0]) > 30
    path = mlflow.MlflowClient().download_artifacts(version.run_id, version.tags["promotion.artifact"], str(tmp_path))
    with open(path, encoding="utf-8") as file:
        kept = json.load(file)
    assert (kept["decision"], kept["version"], kept["champion"]) == ("refused", 2, 1)
    assert kept["judgement"]["gates"][0]["value"] == pytest.approx(float(value.partition(" ")[0]), rel=1e-4)
    assert kept["judgement"]["data_fingerprint"] == version.tags["promotion.pairs"]
    assert "### Promotion\n\n**Refused on 20" in version.description and "✗ L1 is" in version.description
    forced = promote(config, 2, check=check_l1, force=True, reason="the customer wants it")
    assert (forced.decision, forced.reason) == ("forced", "the customer wants it")
    version = find(name, 2)
    assert version.tags["promotion.decision"] == "forced"
    assert (
        version.tags["promotion.reason"] == "the customer wants it" and "failed" in version.tags["promotion.l1_gained"]
    )
    assert "Refused on" not in version.description and "Reason given: the customer wants it" in version.description
    assert aliases(name) == {"champion": 2, "previous": 1}
    folder = mlflow.MlflowClient().list_artifacts(version.run_id, "promotion")
    assert len(folder) == 2


@pytest.mark.parametrize("reason", ["", "  "])
def test_force_needs_a_reason(config, reason):
    with pytest.raises(ConfigError, match="needs a reason"):
        promote(config, 1, check=check_l1, force=True, reason=reason)


def test_what_can_t_be_promoted_is_told_in_a_sentence(config, add):
    name = config.tracking.model_name
    with pytest.raises(MissingStepError, match="holds no model"):
        promote(config, 1, check=check_l1)
    with pytest.raises(MissingStepError, match="holds no model"):
        rollback(config)
    promote(config, add(-1.0), check=check_l1)
    with pytest.raises(MissingStepError, match=r"Version 1 of .* is the champion already"):
        promote(config, "champion", check=check_l1)
    with pytest.raises(MissingStepError, match="has no version '9'"):
        promote(config, 9, check=check_l1)
    source = mlflow.MlflowClient().get_model_version(name, "1").source
    mlflow.MlflowClient().create_model_version(name, source, model_id=source.removeprefix("models:/"))
    with pytest.raises(MissingStepError, match=r"has no tag bundle\.sha256"):
        promote(config, 2, check=check_l1)
    assert aliases(name)["champion"] == 1


def test_an_altered_challenger_is_not_even_judged(config, add):
    name = config.tracking.model_name
    add(-1.0)
    mlflow.MlflowClient().set_model_version_tag(name, "1", "model.sha256", "0" * 64)
    with pytest.raises(BundleError, match="was altered"):
        promote(config, 1, check=None)


def test_pairs_that_lie_elsewhere_are_told(config, add, place):
    add(-1.0)
    folder = place / "pairs"
    folder.rename(place / "moved")
    try:
        with pytest.raises(DataError, match="held-out pairs of version 1 can't be read on this machine: Pair val/0"):
            promote(config, 1, check=check_l1)
    finally:
        (place / "moved").rename(folder)


def test_frozen_pairs_are_those_of_the_settings(config, add, place):
    other = index_folder(Location(other_pairs(place / "others")), min_side=32)
    other.save(place / "frozen.json")
    promoted = promote(
        config.model_copy(
            update={"promotion": config.promotion.model_copy(update={"pairs": str(place / "frozen.json")})}
        ),
        add(-1.0),
        check=check_l1,
    )
    assert promoted.judgement.data_fingerprint == other.fingerprint


def other_pairs(folder):
    """Write pairs that no run has seen."""
    random = np.random.default_rng(99)
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            Image.fromarray(random.integers(0, 256, (32, 64, 3), np.uint8)).save(folder / part / f"{number}.png")
    return folder


def test_a_model_that_was_trained_on_the_frozen_pairs_is_not_judged(config, add, place):
    version = add(-1.0)
    index = runs.make_pairs(place / "pairs")
    swapped = {"train": index.val, "val": index.train}
    frozen = index.model_copy(update=swapped | {"fingerprint": fingerprint(index.val, index.train)})
    frozen.save(place / "swapped.json")
    assert PairIndex.load(place / "swapped.json").val == index.train
    settings = config.model_copy(
        update={"promotion": config.promotion.model_copy(update={"pairs": str(place / "swapped.json")})}
    )
    with pytest.raises(DataError, match="Version 1 was trained on 3 of the 3 pairs"):
        promote(settings, version, check=check_l1)


def test_the_real_gates_decide(config, add):
    name = config.tracking.model_name
    # Models of one multiplication have no latency that could be compared.
    gates = config.promotion.model_copy(update={"max_latency_ratio": 1000.0})
    settings = config.model_copy(update={"promotion": gates})
    assert promote(settings, add(-0.9)).decision == "promoted"
    better = promote(settings, add(-1.0))
    assert better.decision == "promoted" and better.judgement.passed
    assert {"challenger", "champion", "median_colour"} <= set(better.judgement.scores)
    with pytest.raises(PromotionRefused, match="L1 gains -"):
        promote(settings, add(-0.5))
    assert aliases(name) == {"champion": 2, "previous": 1, "challenger": 3}
    assert "failed" in find(name, 3).tags["promotion.l1_gained"]


# The switch


def test_a_champion_that_changed_meanwhile_stays(config, add):
    name = config.tracking.model_name
    promote(config, add(0.5), check=check_l1)
    add(-0.5)
    faster = add(-1.0)

    def judge_slowly(*words, **named):
        promote(config, faster, check=check_l1)
        return check_l1(*words, **named)

    told = (
        "The champion became version 3 while version 2 was judged against version 1; nothing moved. Run promote again"
    )
    with pytest.raises(TrackingError, match=told):
        promote(config, 2, check=judge_slowly)
    assert aliases(name) == {"champion": 3, "previous": 1} and "promotion.decision" not in find(name, 2).tags


def test_a_lock_that_was_left_behind_is_outlived_and_removed(config, monkeypatch):
    name = config.tracking.model_name
    monkeypatch.setattr(promotion_lock, "STALE", 2)
    left = promotion_lock._make(name)
    began = time.monotonic()
    with hold_lock(name):
        assert 1 < time.monotonic() - began < 30
        assert left.name not in locks(name) and len(locks(name)) == 1
    assert locks(name) == []


def test_a_lock_that_is_held_too_long_is_told_with_its_holder(config, monkeypatch):
    monkeypatch.setattr(promotion_lock, "PATIENCE", 1)
    name = config.tracking.model_name
    with (
        hold_lock(name),
        pytest.raises(TrackingError, match=rf"process {os.getpid()} moves aliases .* try again later"),
    ):
        hold_lock(name).__enter__()
    assert locks(name) == []


def test_a_turn_ends_before_others_take_it_for_left_behind(config, monkeypatch):
    monkeypatch.setattr(promotion_lock, "STALE", 1)
    with hold_lock(config.tracking.model_name) as own:
        own.check()
        time.sleep(0.6)
        with pytest.raises(TrackingError, match="took more than"):
            own.check()


def test_the_lock_goes_when_the_switch_fails(config, add, monkeypatch):
    add(-1.0)
    monkeypatch.setattr(registry, "move", lambda *words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        promote(config, 1, check=check_l1)
    assert locks(config.tracking.model_name) == []


@pytest.mark.parametrize("name", ["it's", 'a "good" one', "100%_sure"])
def test_any_name_can_be_locked(place, name):
    with hold_lock(name):
        assert len(locks(name)) == 1
    assert locks(name) == []


RACER = """
import sys
from pathlib import Path
from model.errors import Sat2mapError
from pipelines.config.loading import RunConfig
from pipelines.registry.promotion import promote
from tests.pipelines.registry import test_promotion

config = RunConfig.model_validate_json(Path(sys.argv[1]).read_text())
print("ready", flush=True)

def check(*words, **named):
    print("judging", flush=True)
    assert sys.stdin.readline() == "switch\\n"
    return test_promotion.check_passing(*words, **named)

while version := sys.stdin.readline().strip():
    try:
        done = promote(config, version, judge=check)
        print("won", done.version, flush=True)
    except Sat2mapError as error:
        print("lost", error, flush=True)
"""


def check_passing(challenger, champion, pairs, config, *, cache):
    """Let everybody pass."""
    gate = Gate(name="l1", value=1, limit=0, passed=True, sentence="passes")
    return GateReport(pairs=3, data_fingerprint=pairs.fingerprint, gates=(gate,), scores={})


def race(config, place, rounds):
    """Let two processes judge against the same champion and then switch at the same moment; yield what each said."""
    file = place / "race.json"
    file.write_text(config.model_dump_json())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(file)], cwd=place, env=environment, stdin=-1, stdout=-1, text=True
        )
        for _ in range(2)
    ]
    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
        for versions in rounds:
            for racer, version in zip(racers, versions, strict=True):
                print(version, file=racer.stdin, flush=True)
            assert [racer.stdout.readline() for racer in racers] == ["judging\n"] * 2
            for racer in racers:
                print("switch", file=racer.stdin, flush=True)
            yield [racer.stdout.readline().strip() for racer in racers]
    finally:
        for racer in racers:
            racer.stdin.close()
            racer.stdout.close()
            racer.wait(60)


def check_races(config, place, rounds):
    """Prove that in every round one wins and the other is told, and that the aliases are those of the winner."""
    name = config.tracking.model_name
    run = runs.make_run(config)
    versions = [register(run).version for _ in range(2 * rounds)]
    champion = None
    for said in race(config, place, list(zip(versions[::2], versions[1::2], strict=True))):
        (winner,) = [int(line.split()[1]) for line in said if line.startswith("won ")]
        (told,) = [line for line in said if line.startswith("lost ")]
        against = "no version" if champion is None else f"version {champion}"
        assert f"The champion became version {winner} while version" in told and f"judged against {against};" in told
        found = aliases(name)
        assert (found["champion"], found.get("previous")) == (winner, champion)
        champion = winner
    assert locks(name) == []


@pytest.mark.slow
def test_of_two_at_the_same_moment_one_wins_and_the_other_is_told(config, place):
    check_races(config, place, 25)
