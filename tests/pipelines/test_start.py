"""Trainings that begin with the networks of another one, and models that they can't begin with."""

import hashlib
import json
import shutil

import keras
import mlflow
import numpy as np
import pytest

from pipelines.config.loading import load
from pipelines.run_record import RunRecord
from pipelines.workspace import Workspace

NOT_LEARNING = "training.epochs=1 training.learning_rate=1e-12"
"""So that the weights stay those that the training began with."""


def weights(file):
    """Return the weights of a Keras file, without the statistics that every training changes."""
    network = keras.saving.load_model(file, compile=False)
    return [np.asarray(weight) for weight in network.trainable_weights]


def train(prepared, settings):
    """Train; return the record and the folder of the run."""
    done = prepared.sat2map("train", "--json", "--set", settings)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    return record, Workspace(prepared.folder / "workspace").run(record["run_id"])


@pytest.fixture
def finished(prepared):
    """Return the folder of a run that looks finished."""
    run = Workspace(prepared.folder / "workspace").new_run("1f0c")
    run.pairs_file.write_bytes((prepared.folder / "workspace/pairs.json").read_bytes())
    config = load("default", ["data.source=pairs training.epochs=4", prepared.settings])
    run.config_file.write_text(config.model_dump_json())
    run.generator.write_bytes(b"of this run")
    digest = hashlib.sha256(b"of this run").hexdigest()
    run.write_record(
        RunRecord(run_id="1f0c", config=config, steps=8, seconds=2, images_per_second=16, generator_sha256=digest)
    )
    return run


def assert_same(one, other):
    for begun, found in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(found, begun, atol=1e-7)


def test_a_training_begins_with_the_networks_of_a_run_or_of_a_bundle(prepared):
    record, first = train(prepared, "training.epochs=1 seed=3")
    started, second = train(prepared, f"{NOT_LEARNING} training.start_from={first.run_id[:8]} training.average=0.9")
    assert_same(first.generator, second.generator)
    assert_same(first.discriminator, second.discriminator)
    lineage = started["started_from"]
    assert (lineage["source"], lineage["run_id"]) == (first.run_id[:8], first.run_id)
    assert lineage["generator_sha256"] == record["generator_sha256"]
    assert lineage["discriminator_sha256"] == record["discriminator_sha256"]
    tags = mlflow.get_run(second.run_id).data.tags
    assert tags["started_from.run_id"] == first.run_id
    done = prepared.sat2map("export", "--run", second.run_id, "--set", "export.variants=[]", "--json")
    assert json.loads(done.stdout)["started_from"] == lineage
    # A bundle that lies elsewhere, with the generator's Keras file only.
    moved = prepared.folder / "moved"
    shutil.copytree(second.bundle, moved)
    shutil.copy(second.generator, moved)
    started, third = train(prepared, f"{NOT_LEARNING} training.start_from=moved")
    assert_same(second.generator, third.generator)
    assert started["started_from"]["discriminator_sha256"] == ""
    assert not np.allclose(weights(second.discriminator)[0], weights(third.discriminator)[0])
    (moved / "generator.keras").write_bytes(first.generator.read_bytes())
    done = prepared.sat2map("train", "--set", "training.start_from=moved")
    assert done.returncode == 2 and "Neither moved nor the folder above has the generator.keras" in done.stderr


def test_painted_scenes_are_a_school_that_is_attended_once(prepared):
    settings = (
        "training.learning_rate=1e-12 training.steps=4 training.start_from=sample training.start_share=0.5 "
        "data.sample.train=4 data.sample.val=3"
    )
    record, run = train(prepared, settings)
    (school,) = Workspace(prepared.folder / "workspace/school").runs()
    assert record["started_from"]["run_id"] == school.run_id and record["steps"] == 2
    assert school.record().steps == 2
    assert_same(school.generator, run.generator)
    assert not school.discriminator.exists() and record["started_from"]["discriminator_sha256"] == ""
    # As if it had been stopped: it is resumed.
    school.record_file.unlink()
    again, _ = train(prepared, settings)
    assert again["started_from"]["run_id"] == school.run_id and school.record_file.is_file()
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == 3


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        (
            "network.width=8",
            "has network.width=4, and the training network.width=8; weights only fit the same network.",
        ),
        ("network.norm=instance", "Set network.norm=batch, or start from another model."),
        ("network.upsampling=nearest", "Set network.upsampling=transposed, or start from another model."),
        ("data.direction=map_to_photo", "draws photo to map, and data.direction is map_to_photo"),
        ("training.start_from=2a3b", "No run '2a3b' in workspace; known runs: 1f0c"),
        ("training.start_from=pairs", "pairs is not a bundle (bundle.json is missing)"),
        ("training.start_from=models:/", "'models:/' is not a model; write models:/NAME@ALIAS"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_the_training(prepared, run_prepared, finished, setting, error):
    done = run_prepared("train", "--set", f"training.start_from={finished.run_id}", "--set", setting)
    assert done.returncode == 2 and error in done.stderr
    assert [run.run_id for run in Workspace(prepared.folder / "workspace").runs()] == [finished.run_id]


def test_the_beginning_cannot_change_when_a_training_is_resumed(run_prepared, finished):
    done = run_prepared("train", "--resume", finished.run_id, "--set", "training.start_from=sample training.epochs=9")
    assert done.returncode == 2
    assert 'training.start_from was "none" when the run was trained and can\'t become "sample"' in done.stderr
