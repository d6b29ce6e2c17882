"""Resolution of models: a bundle's folder, a registered version in the cache, or the newest run."""

import mlflow
import pytest

from model.bundle import MANIFEST_FILE, MODEL_FILE, RegisteredModel, TrainedRun
from model.errors import BundleError, ConfigError, MissingStepError
from pipelines.registry import pull as pulling
from pipelines.registry import versions as registry
from pipelines.registry.resolve import open_model


@pytest.fixture
def config(registered_run):
    """Return the settings of the registered run."""
    return registered_run.record().config


@pytest.fixture
def fetched(monkeypatch):
    """Return a list to which each pulled version is added."""
    versions, pull = [], pulling.pull

    def count(name, version, folder):
        versions.append(version)
        return pull(name, version, folder)

    monkeypatch.setattr(pulling, "pull", count)
    return versions


def test_the_newest_run_s_bundle_is_the_default(config):
    bundle, origin = open_model("", "", config)
    assert origin == TrainedRun(bundle.manifest.run_id) and bundle.folder.parent.parent.name == "runs"
    assert open_model("", bundle.manifest.run_id, config) == (bundle, origin)
    assert open_model(str(bundle.folder), "", config) == (bundle, origin)


def test_a_registered_version_is_fetched_only_if_the_cache_is_not_intact(config, fetched):
    first = open_model("models:/sat2map@challenger", "", config)
    assert first.origin == RegisteredModel("sat2map", 1)
    assert first.bundle.manifest == open_model("", "", config).bundle.manifest
    assert open_model("models:/sat2map/1", "", config) == first
    assert fetched == [1]
    for name in (MODEL_FILE, MANIFEST_FILE):
        content = (first.bundle.folder / name).read_bytes()
        (first.bundle.folder / name).write_bytes(content + b" ")
        assert open_model("models:/sat2map@challenger", "", config) == first
        assert (first.bundle.folder / name).read_bytes() == content
    assert fetched == [1, 1, 1]


def test_a_pulled_bundle_has_the_registered_version_as_its_origin(config, tmp_path):
    pulling.pull("sat2map", "challenger", tmp_path / "pulled")
    assert open_model(str(tmp_path / "pulled"), "", config).origin == RegisteredModel("sat2map", 1)


def test_a_malicious_tag_is_not_used_as_a_path(config):
    client, right = mlflow.MlflowClient(), registry.find("sat2map", 1).bundle_sha256
    try:
        client.set_model_version_tag("sat2map", "1", registry.BUNDLE_TAG, "../../../elsewhere")
        with pytest.raises(BundleError, match=r"is tagged with '\.\./\.\./\.\./elsewhere', which is not a sha256"):
            open_model("models:/sat2map/1", "", config)
    finally:
        client.set_model_version_tag("sat2map", "1", registry.BUNDLE_TAG, right)


@pytest.mark.parametrize(
    "name", ["models:/sat2map", "models:/sat2map@", "models:/a/b/1", "models:/sat2map/one", "models:x"]
)
def test_malformed_uris_are_refused(config, name):
    with pytest.raises(ConfigError, match="write models:/NAME@ALIAS or models:/NAME/VERSION"):
        open_model(name, "", config)


def test_missing_versions_and_runs_are_errors(config):
    with pytest.raises(MissingStepError, match="has no alias 'champion'"):
        open_model("models:/sat2map@champion", "", config)
    with pytest.raises(MissingStepError, match="No run '77'"):
        open_model("", "77", config)
    with pytest.raises(ConfigError, match="name two models"):
        open_model("models:/sat2map/1", "77", config)
