"""Promotion gates: better models pass, worse ones are refused with every number, unmeasured scores are errors."""

from itertools import count

import numpy as np
import pytest

from model.bundle import Bundle, Parity
from model.errors import ConfigError, DataError
from model.spec import NetworkConfig
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.evaluation.gates import check_gates
from tests.fixtures.bundles import PALETTE

NETWORK = NetworkConfig(image_size=32, width=2, depth=3)
PATIENT = {"promotion.max_latency_ratio": 1e6}
"""Timings of such small models are noise."""


@pytest.fixture
def draws(make_bundle, scaling_model):
    """Return a function that makes a bundle whose generator multiplies by a factor; -1 draws these maps perfectly."""
    numbers = count()

    def make(factor, name="challenger", **changes):
        folder = f"{next(numbers)}-{name}"
        return Bundle.open(make_bundle(model=scaling_model(factor, NETWORK), name=folder, **changes))

    return make


@pytest.fixture
def checked(negatives, tmp_path, draws):
    """Return a function that checks the gates of a challenger, and of a champion if its factor is given."""

    def check_factors(challenger, champion=None, settings=None, **changes):
        config = with_settings(RunConfig(), PATIENT | (settings or {}))
        other = None if champion is None else draws(champion, "champion")
        return check_gates(draws(challenger, **changes), other, negatives, config, cache=tmp_path / "cache")

    return check_factors


def failed(report):
    return [gate.name for gate in report.failures]


def test_without_a_champion_beating_the_baselines_is_enough(checked, negatives):
    found = checked(-0.9)
    assert found.passed and found.failures == ()
    assert [gate.name for gate in found.gates] == [
        "l1 beside median_colour",
        "l1 beside mean_map",
        "l1 beside source_copied",
        "parity",
    ]
    assert (found.pairs, found.data_fingerprint) == (6, negatives.fingerprint)
    assert found.scores.keys() == {"challenger", "median_colour", "mean_map", "source_copied", "nearest_map"}
    assert found.gates[0].value == found.scores["challenger"]["l1"].value
    assert found.gates[0].limit == found.scores["median_colour"]["l1"].value


def test_a_copy_does_not_beat_itself(checked):
    found = checked(1.0)
    assert not found.passed and "l1 beside source_copied" in failed(found)


def test_a_better_model_passes_and_its_gain_has_an_interval(checked):
    found = checked(-1.0, -0.9)
    assert found.passed
    [gained] = [gate for gate in found.gates if gate.name == "l1 gained"]
    mine, other = (found.scores[name]["l1"] for name in ("challenger", "champion"))
    assert mine.value == 0 and 0 < gained.value < other.value
    assert "L1 gains" in gained.sentence and "over the champion" in gained.sentence
    [psnr] = [gate for gate in found.gates if gate.name == "psnr lost"]
    assert psnr.value < 0 and ", a gain of " in psnr.sentence


def test_a_worse_model_fails_with_every_number(checked):
    found = checked(-0.8, -1.0)
    assert {"l1 gained", "psnr lost"} <= set(failed(found))
    [lost] = [gate for gate in found.failures if gate.name == "psnr lost"]
    assert lost.value > lost.limit == 0.02
    assert ", a loss of " in lost.sentence and "; a loss of up to 2.0% is allowed" in lost.sentence
    [gained] = [gate for gate in found.failures if gate.name == "l1 gained"]
    assert gained.value < 0 == gained.limit


def test_the_same_model_gains_nothing(checked):
    found = checked(-0.9, -0.9)
    assert failed(found) == ["l1 gained"] and found.failures[0].value == 0


def test_a_gain_below_min_gain_is_refused(checked):
    gain = checked(-1.0, -0.98).gates[3]
    assert gain.name == "l1 gained"
    # The limit is above the lower end of the interval.
    found = checked(-1.0, -0.98, {"promotion.min_gain": gain.value * 1.01})
    assert failed(found) == ["l1 gained"]


def test_limits_are_settings(checked):
    settings = {"promotion.primary": "ssim", "promotion.beats": [], "promotion.max_loss": {"psnr": 0.9, "l1": 100}}
    found = checked(-0.8, -1.0, settings)
    names = [gate.name for gate in found.gates]
    assert names[:1] == ["ssim gained"] and "ssim lost" not in names and "l1 lost" in names
    assert "psnr lost" not in failed(found)


def test_a_model_unlike_tensorflow_s_is_refused(checked):
    found = checked(-1.0, parity=Parity(max_difference=0.01, limit=0.1, photos=2))
    assert failed(found) == ["parity"]
    assert found.failures[0].sentence == (
        "The challenger differs from TensorFlow by up to 0.01; at most 0.0001 is allowed"
    )


def test_a_slower_model_is_refused(checked):
    found = checked(-1.0, -0.9, {"promotion.max_latency_ratio": 1e-6, "promotion.max_latency_ms": 1e-6})
    assert failed(found) == ["latency ratio", "latency ms"]
    assert all(gate.value > gate.limit for gate in found.failures)


def test_a_gate_whose_score_was_not_measured_is_an_error(checked):
    with pytest.raises(DataError, match=r"fid can't be measured on these pairs; available: l1, .*promotion\.max_loss"):
        checked(-1.0, settings={"promotion.max_loss": {"fid": 0.1}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"promotion.primary": "beauty"}, "beauty is not a score"),
        ({"promotion.primary": "frechet_lite0"}, "a score of a set"),
        ({"promotion.max_loss": {"beauty": 1}}, "beauty is not a score"),
        ({"promotion.beats": ["luck"]}, "luck is not a baseline"),
    ],
)
def test_gates_on_unknown_scores_are_refused_at_once(settings, message):
    with pytest.raises(ConfigError, match=message):
        with_settings(RunConfig(), settings)


def test_one_limit_leaves_the_others_at_their_defaults():
    settings = with_settings(RunConfig(), {"promotion.max_loss": {"ssim": 0.5}}).promotion
    assert settings.max_loss == {"ssim": 0.5, "psnr": 0.02, "frechet_lite0": 0.05}


def test_gates_against_a_champion_of_another_size_are_not_measured_and_do_not_pass(draws, negatives, tmp_path):
    bundle = draws(-1.0)
    larger = bundle.manifest.model_copy(update={"network": NetworkConfig(image_size=64, width=2, depth=3)})
    found = check_gates(bundle, Bundle(bundle.folder, larger), negatives, RunConfig(), cache=tmp_path)
    assert failed(found) == ["l1 gained", "ssim lost", "psnr lost", "frechet_lite0 lost", "latency ratio"]
    assert [gate.line for gate in found.failures][::4] == [
        "? L1 can't be compared with the champion's.",
        "? The time of a map can't be compared with the champion's.",
    ]
    assert {gate.value for gate in found.failures} == {None} and "champion" not in found.scores
    assert found.not_comparable.endswith(
        "challenger draws photo_to_map at 32 pixels and champion draws photo_to_map at 64 pixels."
    )
    alone = check_gates(bundle, None, negatives, RunConfig(), cache=tmp_path)
    assert found.gates[: len(alone.gates)] == alone.gates and alone.passed and alone.not_comparable == ""
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_a_gate_report_survives_json_without_losing_a_digit(checked):
    found = checked(-1.0, -0.9)
    assert type(found).model_validate_json(found.model_dump_json()) == found
    assert np.isfinite([gate.value for gate in found.gates]).all()


def test_classes_are_those_of_the_challenger(draws, negatives, tmp_path):
    challenger, champion = draws(-1.0, palette=PALETTE), draws(-0.9, "champion")
    config = with_settings(RunConfig(), PATIENT)
    found = check_gates(challenger, champion, negatives, config, cache=tmp_path)
    assert "mean_iou" in found.scores["challenger"] and "mean_iou" in found.scores["champion"]
    other = {"evaluation.palette": {"classes": {"lake": ["#aad2f0"], "land": ["#ebe6dc"]}}}
    with pytest.raises(ConfigError, match="is not the palette that run 1f0c was exported with"):
        check_gates(challenger, champion, negatives, with_settings(config, other), cache=tmp_path)
