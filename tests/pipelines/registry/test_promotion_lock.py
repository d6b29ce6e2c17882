"""Moving the aliases under the lock: of concurrent promotions one wins, and abandoned locks expire."""

import os
import subprocess
import sys
import time

import pytest

from model.errors import TrackingError
from pipelines.registry import promotion_lock
from pipelines.registry import versions as registry
from pipelines.registry.promotion import promote
from pipelines.registry.promotion_lock import hold_lock
from pipelines.registry.register import register
from pipelines.registry.versions import aliases, find
from tests.fixtures import runs
from tests.fixtures.promotions import check_l1, locks


def test_a_champion_that_changed_during_the_comparison_stays(config, add):
    name = config.tracking.model_name
    promote(config, add(0.5), check=check_l1)
    add(-0.5)
    faster = add(-1.0)

    def check_slowly(*words, **named):
        promote(config, faster, check=check_l1)
        return check_l1(*words, **named)

    message = "The champion became version 3 while version 2 was compared with version 1; no alias was moved"
    with pytest.raises(TrackingError, match=message):
        promote(config, 2, check=check_slowly)
    assert aliases(name) == {"champion": 3, "previous": 1} and "promotion.decision" not in find(name, 2).tags


def test_an_abandoned_lock_expires_and_is_removed(config, monkeypatch):
    name = config.tracking.model_name
    monkeypatch.setattr(promotion_lock, "STALE", 2)
    abandoned = promotion_lock._create(name)
    start = time.monotonic()
    with hold_lock(name):
        assert 1 < time.monotonic() - start < 30
        assert abandoned.name not in locks(name) and len(locks(name)) == 1
    assert locks(name) == []


def test_a_lock_that_is_held_too_long_is_reported_with_its_holder(config, monkeypatch):
    monkeypatch.setattr(promotion_lock, "PATIENCE", 1)
    name = config.tracking.model_name
    with (
        hold_lock(name),
        pytest.raises(
            TrackingError, match=rf"Another promotion \(.*process {os.getpid()}\) has held the lock .* try again later"
        ),
    ):
        hold_lock(name).__enter__()
    assert locks(name) == []


def test_a_lock_expires_before_others_consider_it_abandoned(config, monkeypatch):
    monkeypatch.setattr(promotion_lock, "STALE", 1)
    with hold_lock(config.tracking.model_name) as lock:
        lock.check()
        time.sleep(0.6)
        with pytest.raises(TrackingError, match="took more than"):
            lock.check()


def test_the_lock_is_released_when_moving_an_alias_fails(config, add, monkeypatch):
    add(-1.0)
    monkeypatch.setattr(registry, "set_alias", lambda *words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        promote(config, 1, check=check_l1)
    assert locks(config.tracking.model_name) == []


@pytest.mark.parametrize("name", ["it's", 'a "good" one', "100%_sure"])
def test_any_name_can_be_locked(mlflow_folder, name):
    with hold_lock(name):
        assert len(locks(name)) == 1
    assert locks(name) == []


RACER = """
import sys
from pathlib import Path
from model.errors import Sat2mapError
from pipelines.config.loading import RunConfig
from pipelines.registry.promotion import promote
from tests.fixtures.promotions import check_passing

config = RunConfig.model_validate_json(Path(sys.argv[1]).read_text())
print("ready", flush=True)

def check(*words, **named):
    print("checking", flush=True)
    assert sys.stdin.readline() == "move\\n"
    return check_passing(*words, **named)

while version := sys.stdin.readline().strip():
    try:
        done = promote(config, version, check=check)
        print("won", done.version, flush=True)
    except Sat2mapError as error:
        print("lost", error, flush=True)
"""


def race(config, mlflow_folder, rounds):
    """Run two processes that compare with the same champion and move aliases at once; yield the output of both."""
    file = mlflow_folder / "race.json"
    file.write_text(config.model_dump_json())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(file)], cwd=mlflow_folder, env=environment, stdin=-1, stdout=-1, text=True
        )
        for _ in range(2)
    ]
    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
        for versions in rounds:
            for racer, version in zip(racers, versions, strict=True):
                print(version, file=racer.stdin, flush=True)
            assert [racer.stdout.readline() for racer in racers] == ["checking\n"] * 2
            for racer in racers:
                print("move", file=racer.stdin, flush=True)
            yield [racer.stdout.readline().strip() for racer in racers]
    finally:
        for racer in racers:
            racer.stdin.close()
            racer.stdout.close()
            racer.wait(60)


def check_races(config, mlflow_folder, rounds):
    """Check that in every round exactly one promotion wins, and that the aliases are the winner's."""
    name = config.tracking.model_name
    versions = [register(runs.make_run(config)).version for _ in range(2 * rounds)]
    champion = None
    for lines in race(config, mlflow_folder, list(zip(versions[::2], versions[1::2], strict=True))):
        (winner,) = [int(line.split()[1]) for line in lines if line.startswith("won ")]
        (refusal,) = [line for line in lines if line.startswith("lost ")]
        against = "no version" if champion is None else f"version {champion}"
        assert f"The champion became version {winner} while version" in refusal
        assert f"compared with {against};" in refusal
        found = aliases(name)
        assert (found["champion"], found.get("previous")) == (winner, champion)
        champion = winner
    assert locks(name) == []


@pytest.mark.slow
def test_of_two_simultaneous_promotions_one_wins_and_the_other_is_refused(config, mlflow_folder):
    check_races(config, mlflow_folder, 25)
