"""Registering a run again: the same files are one version, and files of different states never share one."""

import json

import pytest

from model.bundle import MANIFEST_FILE, read_manifest, write_manifest
from model.errors import MissingStepError
from model.io.files import sha256
from pipelines.data.pairs import PairIndex
from pipelines.registry.register import RegisteredVersion, register
from pipelines.registry.versions import aliases, find, set_alias
from pipelines.run_folder import SCORES_FILE
from tests.fixtures import runs


@pytest.fixture
def run(config):
    """Return a finished run of a model name of its own."""
    return runs.make_run(config)


def evaluate(run, **changes):
    """Write the scores of the run's bundle, as `evaluate` does."""
    manifest, pairs = run.open_bundle().manifest, PairIndex.load(run.pairs_file)
    scores = runs.scores_of(run.run_id, manifest.sha256, pairs, **changes)
    scores = scores.model_copy(update={"bundle_sha256": sha256(run.bundle / MANIFEST_FILE)})
    (run.evaluation / SCORES_FILE).write_text(scores.model_dump_json())


def test_the_same_files_are_registered_once(run, config):
    first = register(run)
    again = register(run)
    assert (first.version, first.new, again.new) == (1, True, False)
    assert again == first.model_copy(update={"new": False}) and again.uri == first.uri
    set_alias(first.name, "challenger", None)
    bare = register(run)
    assert bare == RegisteredVersion(name=first.name, version=1, run_id=run.run_id, alias="", new=False)
    assert bare.uri == f"models:/{first.name}/1" and aliases(first.name) == {}
    other = register(runs.make_run(config))
    assert (other.version, other.new) == (2, True) and aliases(first.name) == {"challenger": 2}


def test_new_scores_make_the_next_version_the_challenger(run):
    name = register(run).name
    evaluate(run, notes=("FID was added.",))
    assert (register(run).version, register(run).version) == (2, 2)
    assert find(name, "challenger").number == 2 and find(name, 1).sha256 == find(name, 2).sha256


def test_a_run_that_was_trained_further_must_be_exported_again(run, config):
    runs.train(run, config, b"better weights", steps=16)
    with pytest.raises(
        MissingStepError, match="was trained further after its model was exported; export it again: sat2map"
    ):
        register(run)
    with pytest.raises(MissingStepError, match="has no model"):
        aliases(config.tracking.model_name)


@pytest.mark.parametrize("change", [{"resolution": 0.5}, {"sha256": "0" * 64}])
def test_a_run_that_was_exported_again_must_be_evaluated_again(run, change):
    manifest = read_manifest(run.bundle)
    write_manifest(run.bundle, manifest.model_copy(update=change))
    with pytest.raises(
        MissingStepError, match=r"holds the scores of an earlier export of run .*; evaluate it again: sat2map"
    ):
        register(run)


def test_scores_of_earlier_versions_are_compared_by_the_model_alone(run):
    scores = json.loads((run.evaluation / SCORES_FILE).read_text())
    del scores["bundle_sha256"]
    (run.evaluation / SCORES_FILE).write_text(json.dumps(scores))
    assert register(run).version == 1
