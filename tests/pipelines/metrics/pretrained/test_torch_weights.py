"""Checkpoints of both formats are read without PyTorch; other files and other names are refused."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from model.errors import DataError
from pipelines.metrics.pretrained import torch_weights
from pipelines.metrics.pretrained.lite0 import FILE, PACKAGE, SHA256, installed_file
from pipelines.metrics.pretrained.torch_weights import read_weights
from tests.fixtures.torch_checkpoints import (
    EMPTY,
    LEGACY_MAGIC,
    group,
    named,
    number,
    pickled,
    save,
    sha256,
    tensor,
    text,
    torch_python,
    write_legacy,
    write_zip,
)

WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy], ids=["zip", "legacy"])
FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
WEIGHTS = {
    "conv.weight": np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32),
    "bn.num_batches_tracked": np.array(7),
    "fc.bias": np.arange(6, dtype=np.float32),
    "scale": np.float32(0.25).reshape(()),
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pth"


@FORMATS
def test_float_tensors_are_returned_and_counters_are_not(file, legacy):
    found = read_weights(file, sha256=save(file, WEIGHTS, legacy=legacy))
    assert list(found) == ["conv.weight", "fc.bias", "scale"]
    for name, value in found.items():
        np.testing.assert_array_equal(value, WEIGHTS[name])
        assert value.dtype == np.float32 and value.shape == WEIGHTS[name].shape and not value.flags.writeable


@FORMATS
def test_tensors_may_share_a_storage(file, legacy):
    values = np.arange(12, dtype=np.float32)
    entries = {
        "transposed": tensor("0", values, shape=(3, 4), strides=(1, 3), legacy=legacy),
        "tail": tensor("0", values, offset=9, shape=(3,), strides=(1,), legacy=legacy),
    }
    found = read_weights(file, sha256=(write_legacy if legacy else write_zip)(file, pickled(entries), {"0": values}))
    np.testing.assert_array_equal(found["transposed"], values.reshape(4, 3).T)
    np.testing.assert_array_equal(found["tail"], [9, 10, 11])


def test_a_file_written_by_torch_before_1_6_is_read_completely():
    found = read_weights(installed_file(PACKAGE, FILE), sha256=SHA256)
    assert found["_conv_stem.weight"].shape == (32, 3, 3, 3) and found["_fc.bias"].shape == (1000,)
    learned = [value.size for name, value in found.items() if "running" not in name]
    assert sum(learned) == 4_652_008


SAVED_BY_TORCH = """
import sys, torch
weights = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "count": torch.tensor(3)}
weights["transposed"] = weights["conv.weight"].permute(3, 2, 1, 0)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
torch.nn.init.constant_(network[0].weight, 0.5)
torch.save({**weights, **network.state_dict()}, sys.argv[1], _use_new_zipfile_serialization=sys.argv[2] == "zip")
torch.save(network.state_dict(), sys.argv[1] + ".state", _use_new_zipfile_serialization=sys.argv[2] == "zip")
"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_files_written_by_the_current_torch_are_read(file, tmp_path_factory, layout):
    command = [torch_python(tmp_path_factory), "-c", SAVED_BY_TORCH, str(file), layout]
    subprocess.run(command, check=True, timeout=120)
    found = read_weights(file, sha256=sha256(file))
    expected = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(found["conv.weight"], expected)
    np.testing.assert_array_equal(found["transposed"], expected.transpose(3, 2, 1, 0))
    state = file.with_name("weights.pth.state")
    found = read_weights(state, sha256=sha256(state))
    assert sorted(found) == ["0.bias", "0.weight", "1.bias", "1.running_mean", "1.running_var", "1.weight"]
    np.testing.assert_array_equal(found["0.weight"], np.full((8, 3, 3, 3), 0.5))


def test_reading_does_not_import_torch(file):
    program = (
        "import sys\nfrom pathlib import Path\nfrom pipelines.metrics.pretrained.torch_weights import read_weights\n"
        f"found = read_weights(Path({str(file)!r}), sha256={save(file, WEIGHTS)!r})\n"
        "assert len(found) == 3 and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# Refusals


class Call:
    """An object that pickle restores with a call."""

    def __init__(self, function, *arguments):
        self.recipe = function, arguments

    def __reduce__(self):
        """Return the call."""
        return self.recipe


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("position", [0, 1, 2, 3, 4, "zip"])
def test_a_pickle_that_calls_a_function_is_refused_before_it_does(tmp_path, file, protocol, position):
    trace = tmp_path / "called"
    call = pickle.dumps(Call(os.system, f"touch {trace}"), protocol)
    if position == "zip":
        write_zip(file, call, {})
    else:
        parts = [pickle.dumps(value, 2) for value in (LEGACY_MAGIC, 1001, {}, {}, [])]
        parts[position] = call
        file.write_bytes(b"".join(parts))
    with pytest.raises(DataError, match=r"weights\.pth is not a PyTorch checkpoint .*it names posix\.system"):
        read_weights(file, sha256=sha256(file))
    assert not trace.exists()


@WRITERS
@pytest.mark.parametrize("function", [eval, getattr, __import__, np.load, dict.fromkeys])
def test_harmless_looking_names_are_refused_too(file, write, function):
    with pytest.raises(DataError, match="it names"):
        read_weights(file, sha256=write(file, pickle.dumps(Call(function, "1")), {}))


def test_a_pickle_can_not_change_the_reader(file):
    # The opcode b sets attributes of the object below it on the stack, here of the function that builds tensors.
    state = group(b"N", b"}" + text("_fields") + number(1) + b"s" + text("__doc__") + number(1) + b"s")
    changed = b"\x80\x02" + named("torch._utils._rebuild_tensor_v2") + state + b"b."
    with pytest.raises(DataError):
        read_weights(file, sha256=write_zip(file, changed, {}))
    found = read_weights(file, sha256=save(file, WEIGHTS))
    np.testing.assert_array_equal(found["fc.bias"], WEIGHTS["fc.bias"])


@pytest.mark.parametrize(
    "described",
    [
        pickle.dumps([1, 2]),
        pickled({"epoch": number(3)}),
        pickled({"state_dict": EMPTY}),
        pickled({"weight": tensor("no-such-key", np.zeros(1, np.float32))}),
        pickled({"weight": tensor("0", np.zeros(1, np.float32), offset=1)}),
        pickled({"weight": tensor("0", np.zeros(1, np.float32), storage="torch.HalfStorage")}),
        b"no pickle",
    ],
    ids=["list", "number", "nested", "no storage", "outside", "float16", "text"],
)
@WRITERS
def test_other_content_is_refused(file, write, described):
    with pytest.raises(DataError, match="is not a PyTorch checkpoint of float32 and int64 tensors by name"):
        read_weights(file, sha256=write(file, described, {"0": np.zeros(1, np.float32)}))


@FORMATS
def test_a_truncated_file_is_refused_wherever_it_ends(file, legacy):
    save(file, WEIGHTS, legacy=legacy)
    content = file.read_bytes()
    for end in [*range(0, len(content) - 1, 17), len(content) - 1]:
        file.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"weights\.pth is not a PyTorch checkpoint"):
            read_weights(file, sha256=sha256(file))


@WRITERS
def test_an_altered_file_is_refused_before_it_is_unpickled(file, write):
    expected = save(file, WEIGHTS)
    found = write(file, pickle.dumps(Call(os.system, "false")), {})
    with pytest.raises(DataError, match=rf"weights\.pth has sha256 {found}, not {expected}"):
        read_weights(file, sha256=expected)


def test_reading_stops_at_the_largest_size(file, monkeypatch):
    expected = save(file, WEIGHTS)
    monkeypatch.setattr(torch_weights, "MAX_BYTES", 1 << 10)
    with pytest.raises(DataError, match=r"weights\.pth is larger than 0 MiB"):
        read_weights(file, sha256=expected)


def test_a_missing_file_and_a_folder_are_refused(file, tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_weights(file, sha256=SHA256)
    with pytest.raises(DataError, match="directory"):
        read_weights(tmp_path, sha256=SHA256)
