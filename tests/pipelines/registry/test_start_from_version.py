"""A training starts from a registered version: its Keras files are fetched, checked and kept."""

import pytest

from model.errors import BundleError, MissingStepError
from pipelines import start
from pipelines.config.loading import with_settings
from pipelines.data.pairs import PairIndex
from pipelines.registry.versions import find


@pytest.fixture
def started(registered_run):
    """Return a function that finds the networks of a version for a training like that of the registered run."""
    config, pairs = registered_run.record().config, PairIndex.load(registered_run.pairs_file)
    return lambda source: start.find(with_settings(config, {"training.start_from": source}), pairs)


def test_both_networks_are_those_of_the_run_and_the_version_is_named(registered_run, started):
    networks = started("models:/sat2map@challenger")
    assert networks.generator.read_bytes() == registered_run.generator.read_bytes()
    assert networks.discriminator.read_bytes() == registered_run.discriminator.read_bytes()
    assert (networks.lineage.source, networks.lineage.run_id) == ("models:/sat2map/1", registered_run.run_id)
    assert networks.lineage.generator_sha256 == registered_run.record().generator_sha256
    assert started("models:/sat2map/1") == networks


@pytest.mark.parametrize("name", ["generator.keras", "discriminator.keras", "bundle.json"])
def test_an_altered_file_is_refused(files, started, name):
    (files / "sat2map" / name).write_bytes(b"something else")
    with pytest.raises(BundleError, match=f"{name} of version 1 of sat2map was altered"):
        started("models:/sat2map/1")


def test_an_unknown_version_is_refused(started):
    with pytest.raises(MissingStepError, match="no version '7'"):
        started("models:/sat2map/7")


def test_the_card_says_what_the_training_started_from(registered_run):
    assert "- **Started from**: generator of `sample`, run `5a03`" in find("sat2map", 1).description
