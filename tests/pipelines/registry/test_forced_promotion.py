"""Forced promotions: whatever can't be compared is recorded with its reason, and without force it is refused."""

import mlflow
import pytest

from model.errors import BundleError, DataError, PromotionRefused
from pipelines.config.loading import with_settings
from pipelines.registry.promotion import promote
from pipelines.registry.register import register
from pipelines.registry.versions import aliases, find
from tests.fixtures import runs

SURE = {"force": True, "reason": "the new one is the product now"}


@pytest.fixture
def patient(config):
    """Return settings under which the timings of models of one multiplication, which are noise, pass."""
    return with_settings(config, {"promotion.max_latency_ratio": 1000.0})


@pytest.fixture
def champion(patient):
    """Return the version of a champion that draws true maps."""
    version = register(runs.make_run(patient)).version
    return promote(patient, version).version


OTHERS = {
    "another size": ({"network.image_size": 64}, "photo_to_map at 64 pixels"),
    "the other direction": ({"data.direction": "map_to_photo"}, "map_to_photo at 32 pixels"),
}


@pytest.mark.parametrize(("settings", "kind"), OTHERS.values(), ids=OTHERS)
def test_a_champion_of_another_kind_is_replaced_only_by_force(patient, champion, settings, kind):
    name = patient.tracking.model_name
    other = register(runs.make_run(with_settings(patient, settings))).version
    with pytest.raises(PromotionRefused) as refused:
        promote(patient, other)
    assert f"challenger draws {kind} and champion draws photo_to_map at 32 pixels" in str(refused.value)
    assert str(refused.value).endswith('To make it the champion regardless: --force --reason "..."')
    assert "? SSIM can't be compared with the champion's." in refused.value.lines
    assert aliases(name) == {"champion": champion, "challenger": other}
    forced = promote(patient, other, **SURE)
    assert (forced.decision, forced.champion) == ("forced", champion)
    assert aliases(name) == {"champion": other, "previous": champion}
    version = find(name, other)
    assert version.tags["promotion.l1_gained"] == version.tags["promotion.latency_ratio"] == "not comparable"
    assert "(limit" in version.tags["promotion.l1_beside_mean_map"] and kind in version.description
    assert "challenger" in forced.judgement.scores and "champion" not in forced.judgement.scores


def test_a_damaged_champion_is_replaced_only_by_force(patient, champion):
    name = patient.tracking.model_name
    mlflow.MlflowClient().set_model_version_tag(name, str(champion), "model.sha256", "0" * 64)
    other = register(runs.make_run(patient)).version
    with pytest.raises(BundleError, match=f"version {champion} of .* was altered"):
        promote(patient, other)
    forced = promote(patient, other, **SURE)
    assert "was altered" in forced.judgement.not_comparable and forced.judgement.pairs == 3
    assert find(name, other).tags["promotion.ssim_lost"] == "not comparable"


def test_pairs_that_are_gone_do_not_stop_a_forced_promotion(patient, champion, mlflow_folder):
    other = register(runs.make_run(patient)).version
    (mlflow_folder / "pairs").rename(mlflow_folder / "moved")
    try:
        with pytest.raises(DataError, match="can't be read on this machine"):
            promote(patient, other)
        forced = promote(patient, other, **SURE)
    finally:
        (mlflow_folder / "moved").rename(mlflow_folder / "pairs")
    assert "can't be read on this machine" in forced.judgement.not_comparable
    measured = [gate.name for gate in forced.judgement.gates if gate.value is not None]
    assert measured == ["parity"] and forced.judgement.pairs == 0


def test_force_does_not_promote_an_altered_model(patient, champion):
    name = patient.tracking.model_name
    other = register(runs.make_run(patient)).version
    mlflow.MlflowClient().set_model_version_tag(name, str(other), "model.sha256", "0" * 64)
    with pytest.raises(BundleError, match=f"version {other} of .* was altered"):
        promote(patient, other, **SURE)
    assert aliases(name)["champion"] == champion
