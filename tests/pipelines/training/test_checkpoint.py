"""Checkpoints are restored bit for bit, and anything broken or foreign is refused."""

import json

import numpy as np
import pytest
import tensorflow as tf

from model.errors import CheckpointError
from model.networks.train_step import Objective, build_state, train_step, update_average
from model.spec import NetworkConfig
from pipelines.config.schema import RunConfig
from pipelines.tracking.loss_curve import CURVE, LossCurve, StepLosses
from pipelines.training.checkpoints.checkpoint import ARRAYS, arrays, restore, save, verify
from pipelines.training.checkpoints.checkpoint_manifest import MANIFEST, Position

NETWORK = NetworkConfig(image_size=32, width=2, depth=2)
POSITION = Position(epoch=3, step=70, seen=4)
CURVE_SO_FAR = LossCurve([StepLosses(step, 1e9 + step, {"l1": 1 / step, "gan": 0.5}) for step in range(1, 71)])
PARTS = {"generator", "discriminator", "generator_optimizer", "discriminator_optimizer"}


def build(seed, network=NETWORK, **options):
    return build_state(network, learning_rate=1e-3, beta_1=0.5, seed=seed, **options)


def step(state, seed=0):
    images = tf.constant(np.random.default_rng(seed).uniform(-1, 1, (2, 2, 32, 32, 3)), tf.float32)
    train_step(state, images[0], images[1], objective=Objective(100.0), global_batch=2)


def values(state):
    return {name: variable.numpy() for name, variable in state.variables().items()}


@pytest.fixture(scope="module")
def trained():
    """Return a state of two steps, so that moving statistics and both optimizers' slots are filled."""
    state = build(seed=1)
    for number in range(2):
        step(state, number)
    return state


def write(folder, state, position=POSITION, network=NETWORK, scores=()):
    folder.mkdir(exist_ok=True)
    save(
        folder,
        arrays(state),
        CURVE_SO_FAR,
        position=position,
        config=RunConfig(network=network),
        code_revision="838b6f8",
        scores=dict(scores),
    )


@pytest.fixture
def folder(tmp_path, trained):
    write(tmp_path, trained)
    return tmp_path


def refused(folder, network=NETWORK):
    """Restore a checkpoint that should be refused, check that nothing was changed, and return the message."""
    state = build(seed=2, network=network)
    before = values(state)
    with pytest.raises(CheckpointError) as stopped:
        restore(folder, state, config=RunConfig(network=network))
    assert all(np.array_equal(before[name], value) for name, value in values(state).items())
    return str(stopped.value)


def test_all_four_parts_are_restored_bit_for_bit(folder, trained):
    state = build(seed=2)
    expected, before = values(trained), values(state)
    assert {name.partition("/")[0] for name in expected} == PARTS
    for part in PARTS:
        assert any(expected[name].tobytes() != before[name].tobytes() for name in expected if name.startswith(part))
    assert restore(folder, state, config=RunConfig(network=NETWORK))[0] == POSITION
    found = values(state)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].tobytes() == value.tobytes(), name


def test_average_is_restored_begins_with_the_generator_or_is_dropped(tmp_path, folder, trained):
    averaged = build(seed=3, average=True)
    step(averaged)
    update_average(averaged, keep=0.5, step=10)
    write(tmp_path / "averaged", averaged)
    state = build(seed=2, average=True)
    restore(tmp_path / "averaged", state, config=RunConfig(network=NETWORK))
    assert all(np.array_equal(value, values(state)[name]) for name, value in values(averaged).items())
    restore(folder, state, config=RunConfig(network=NETWORK))
    for average, weight in zip(state.averaged.variables, trained.generator.variables, strict=True):
        assert np.array_equal(average, weight)
    state = build(seed=2)
    restore(tmp_path / "averaged", state, config=RunConfig(network=NETWORK))
    assert all(np.array_equal(value, values(averaged)[name]) for name, value in values(state).items())


def test_optimizers_are_restored_with_slots_and_iterations(folder, trained):
    state = build(seed=2)
    restore(folder, state, config=RunConfig(network=NETWORK))
    for restored in (state.generator_optimizer, state.discriminator_optimizer):
        assert int(restored.iterations) == 2
        slots = [variable for variable in restored.variables if variable.name.endswith(("momentum", "velocity"))]
        assert len(slots) > 10 and all(np.any(slot.numpy()) for slot in slots)


def test_restored_training_continues_as_if_it_had_not_stopped(tmp_path):
    network = NetworkConfig(image_size=32, width=2, depth=2)
    straight, resumed = build(seed=4, network=network), build(seed=5, network=network)
    step(straight, 0)
    write(tmp_path, straight, network=network)
    restore(tmp_path, resumed, config=RunConfig(network=network))
    step(straight, 1)
    step(resumed, 1)
    for name, value in values(straight).items():
        np.testing.assert_allclose(values(resumed)[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_curve_is_restored_step_by_step(folder):
    _, curve = restore(folder, build(seed=2), config=RunConfig(network=NETWORK))
    assert [step.step for step in curve.steps] == list(range(1, 71))
    for step, expected in zip(curve.steps, CURVE_SO_FAR.steps, strict=True):
        assert step.when == expected.when and step.losses == pytest.approx(expected.losses)


def test_curve_without_steps(tmp_path):
    LossCurve().save(tmp_path / CURVE)
    assert LossCurve.load(tmp_path / CURVE).steps == []


def test_manifest_describes_the_checkpoint(folder, trained):
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, CURVE, ARRAYS]
    write(folder, trained, scores={"val_l1": 3.5})
    manifest = verify(folder)
    assert manifest.config == RunConfig(network=NETWORK) and manifest.position == POSITION
    assert manifest.code_revision == "838b6f8" and manifest.scores == {"val_l1": 3.5}


def test_arrays_are_read_without_pickle(folder):
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "fiu" for name in arrays.files)


@pytest.mark.parametrize("name", [ARRAYS, CURVE])
@pytest.mark.parametrize("position", [0, 0.5, 1])
def test_flipped_byte_is_found(folder, name, position):
    content = bytearray((folder / name).read_bytes())
    content[int(position * (len(content) - 1))] ^= 1
    (folder / name).write_bytes(content)
    assert refused(folder) == f"the sha256 of {name} does not match"


@pytest.mark.parametrize("length", [0, 1000, -1])
def test_truncated_file_is_found(folder, length):
    (folder / ARRAYS).write_bytes((folder / ARRAYS).read_bytes()[:length])
    assert refused(folder) == "the sha256 of state.npz does not match"


@pytest.mark.parametrize("name", [ARRAYS, CURVE])
def test_missing_file_is_found(folder, name):
    (folder / name).unlink()
    assert refused(folder) == f"{name} is missing"


def test_checkpoint_without_manifest_is_incomplete(folder):
    (folder / MANIFEST).unlink()
    assert refused(folder) == "it is incomplete (checkpoint.json is missing)"


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff\xfe", b'{"position": {"epoch": -1, "step": 0}}'])
def test_broken_manifest_is_refused(folder, text):
    (folder / MANIFEST).write_bytes(text)
    assert refused(folder) == "checkpoint.json can't be read"


def test_manifest_without_one_of_the_files_is_refused(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["sha256"][CURVE]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert "another version" in refused(folder)


def test_manifest_with_an_unknown_key_is_refused(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format": 2}))
    assert "can't be read" in refused(folder)


@pytest.mark.parametrize("change", [{"width": 3}, {"depth": 3}, {"dropout": 0.1}, {"image_size": 64}])
def test_other_network_is_refused_with_both_settings(folder, change):
    other = NETWORK.model_copy(update=change)
    (key, value), *_ = change.items()
    message = refused(folder, network=other)
    assert repr(NETWORK) in message and f"{key}={value}" in message
    assert "use the settings that it was trained with" in message


@pytest.mark.parametrize("wrong", [{"epoch": -1, "step": 0}, {"epoch": 0, "step": -1}, {"epoch": 0}])
def test_position_is_validated(wrong):
    with pytest.raises(ValueError, match="validation error"):
        Position(**wrong)
