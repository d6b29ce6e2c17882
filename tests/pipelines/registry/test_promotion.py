"""Promotion: better models are promoted, worse ones refused, decisions recorded, and rollbacks restore."""

import json
import re

import mlflow
import numpy as np
import pytest
from PIL import Image

from model.errors import BundleError, ConfigError, DataError, MissingStepError, PromotionRefused
from model.io.locations import Location
from pipelines.data.indexing import index_folder
from pipelines.data.pairs import PairIndex, fingerprint
from pipelines.registry.promotion import promote, rollback
from pipelines.registry.pull import pull
from pipelines.registry.versions import aliases, find
from tests.fixtures import runs
from tests.fixtures.promotions import check_l1, locks


def served(config, folder, alias="champion"):
    """Return the run of the model that a service pulls by an alias."""
    return pull(config.tracking.model_name, alias, folder / "served").manifest.run_id


def test_better_models_are_promoted_worse_refused_and_a_rollback_restores(config, add, tmp_path):
    name = config.tracking.model_name
    first = promote(config, add(-0.5), check=check_l1)
    assert (first.decision, first.version, first.champion) == ("promoted", 1, None)
    assert aliases(name) == {"champion": 1} and served(config, tmp_path) == find(name, 1).run_id
    worse = add(0.5)
    with pytest.raises(PromotionRefused, match=r"Version 2 .* was not promoted; no alias was moved\. To") as found:
        promote(config, worse, check=check_l1)
    assert re.fullmatch(r"✗ L1 is [\d.]+, the champion's [\d.]+\.", *found.value.lines)
    assert found.value.promotion.decision == "refused" and served(config, tmp_path) == find(name, 1).run_id
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


def test_decision_and_numbers_are_recorded(config, add, tmp_path):
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


def test_versions_that_can_not_be_promoted_are_explained(config, add):
    name = config.tracking.model_name
    with pytest.raises(MissingStepError, match="has no model"):
        promote(config, 1, check=check_l1)
    with pytest.raises(MissingStepError, match="has no model"):
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


def test_an_altered_challenger_is_refused_before_the_gates(config, add):
    name = config.tracking.model_name
    add(-1.0)
    mlflow.MlflowClient().set_model_version_tag(name, "1", "model.sha256", "0" * 64)
    with pytest.raises(BundleError, match="was altered"):
        promote(config, 1, check=None)


def test_pairs_on_another_machine_are_explained(config, add, mlflow_folder):
    add(-1.0)
    folder = mlflow_folder / "pairs"
    folder.rename(mlflow_folder / "moved")
    try:
        with pytest.raises(DataError, match="held-out pairs of version 1 can't be read on this machine: Pair val/0"):
            promote(config, 1, check=check_l1)
    finally:
        (mlflow_folder / "moved").rename(folder)


def test_frozen_pairs_come_from_the_settings(config, add, mlflow_folder):
    other = index_folder(Location(other_pairs(mlflow_folder / "others")), min_side=32)
    other.save(mlflow_folder / "frozen.json")
    promoted = promote(
        config.model_copy(
            update={"promotion": config.promotion.model_copy(update={"pairs": str(mlflow_folder / "frozen.json")})}
        ),
        add(-1.0),
        check=check_l1,
    )
    assert promoted.judgement.data_fingerprint == other.fingerprint


def other_pairs(folder):
    """Write pairs that no run was trained on."""
    random = np.random.default_rng(99)
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            Image.fromarray(random.integers(0, 256, (32, 64, 3), np.uint8)).save(folder / part / f"{number}.png")
    return folder


def test_a_model_trained_on_the_frozen_pairs_is_refused(config, add, mlflow_folder):
    version = add(-1.0)
    index = runs.make_pairs(mlflow_folder / "pairs")
    swapped = {"train": index.val, "val": index.train}
    frozen = index.model_copy(update=swapped | {"fingerprint": fingerprint(index.val, index.train)})
    frozen.save(mlflow_folder / "swapped.json")
    assert PairIndex.load(mlflow_folder / "swapped.json").val == index.train
    settings = config.model_copy(
        update={"promotion": config.promotion.model_copy(update={"pairs": str(mlflow_folder / "swapped.json")})}
    )
    with pytest.raises(DataError, match="Version 1 was trained on 3 of the 3 pairs"):
        promote(settings, version, check=check_l1)


def test_the_real_gates_decide(config, add):
    name = config.tracking.model_name
    # The latency of models of one multiplication can't be compared.
    gates = config.promotion.model_copy(update={"max_latency_ratio": 1000.0})
    settings = config.model_copy(update={"promotion": gates})
    assert promote(settings, add(-0.9)).decision == "promoted"
    better = promote(settings, add(-1.0))
    assert better.decision == "promoted" and better.judgement.passed
    assert {"challenger", "champion", "median_colour"} <= set(better.judgement.scores)
    with pytest.raises(PromotionRefused) as refused:
        promote(settings, add(-0.5))
    assert [line for line in refused.value.lines if line.startswith("✗ L1 gains -")]
    assert aliases(name) == {"champion": 2, "previous": 1, "challenger": 3}
    assert "failed" in find(name, 3).tags["promotion.l1_gained"]
