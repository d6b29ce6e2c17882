"""References to versions: numbers, aliases and URIs are read alike wherever a version is named."""

import pytest

from model.errors import ConfigError, MissingStepError
from pipelines.registry.promotion import promote, rollback
from pipelines.registry.pull import pull
from pipelines.registry.references import Reference, parse
from pipelines.registry.register import register
from pipelines.registry.resolve import open_model
from pipelines.registry.versions import aliases
from tests.fixtures import runs
from tests.fixtures.promotions import check_passing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", Reference("sat2map", "3")),
        (3, Reference("sat2map", "3")),
        ("champion", Reference("sat2map", "champion")),
        ("models:/other@champion", Reference("other", "champion")),
        ("models:/a model/12", Reference("a model", "12")),
    ],
)
def test_a_version_is_a_number_an_alias_or_a_uri(text, expected):
    assert parse(text, name="sat2map") == expected


@pytest.mark.parametrize("text", ["models:/other", "models:/other/champion", "models:/a/b/1", "models:/other@"])
def test_a_malformed_uri_is_refused(text):
    with pytest.raises(ConfigError, match="is not a model; write models:/NAME@ALIAS or models:/NAME/VERSION"):
        parse(text, name="sat2map")


def test_pull_and_promote_take_uris_of_any_model(config, tmp_path):
    run = runs.make_run(config)
    name = register(run).name
    for number, uri in enumerate([f"models:/{name}/1", f"models:/{name}@challenger"]):
        assert pull("another", uri, tmp_path / f"{number}").manifest.run_id == run.run_id
    others = runs.configure(config.workspace.parent, "another")
    assert promote(others, f"models:/{name}@challenger", check=check_passing).name == name
    assert aliases(name) == {"champion": 1}


def test_reading_never_creates_a_database(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = runs.configure(tmp_path)
    for read in (
        lambda: pull("sat2map", "champion", tmp_path / "model"),
        lambda: promote(config, 1),
        lambda: rollback(config),
        lambda: open_model("models:/sat2map/1", "", config),
    ):
        with pytest.raises(MissingStepError, match=r"There is no MLflow database .*mlflow\.db, and so no run"):
            read()
        assert list(tmp_path.iterdir()) == []
