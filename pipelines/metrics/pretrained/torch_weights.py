"""Weights out of PyTorch checkpoints, of both formats and without PyTorch: nothing that a file names is ever called."""

import hashlib
import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

Weights = Mapping[str, NDArray[np.float32]]
"""The float32 tensors of a checkpoint by their names in PyTorch."""

MAX_BYTES = 1 << 28
"""More than any file of weights that this project reads: AlexNet's is the largest, with 233 MiB."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""What PyTorch before 1.6 begins a checkpoint with."""

SIZES = {"<f4": 4, "<i8": 8}
"""Bytes of a value of each type that a tensor may have."""


def read_weights(path: Path, *, sha256: str) -> Weights:
    """Return the float32 tensors of a checkpoint, read-only, if its bytes are the expected ones.

    Before 1.6, PyTorch wrote five pickles (magic number, protocol, machine, tensors without content, keys of the
    storages), then the storages in the order of the keys: an int64 count, then the values. Since then it writes a zip
    file without compression: `NAME/data.pkl` holds the tensors without content, `NAME/data/KEY` a storage. The content
    tells which. A pickle can name any function to call, so only the four names that tensors need are allowed, and none
    of them does more than hold its arguments; and nothing is parsed before the sum of the file is right.

    Raises:
        DataError: The file can't be read, is larger than 256 MiB, has another sha256, names anything else to call, or
            holds anything but whole tensors of float32 and int64.
    """
    content = _read_file(path)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} has sha256 {found}, not {sha256}: it is damaged or another file; fetch it again from its source."
        )
    try:
        tensors, storages = _unzip(content) if content.startswith(b"PK\x03\x04") else _unpack_legacy(content)
        return {
            name: _look_into(storages[tensor.storage.key], tensor)
            for name, tensor in tensors.items()
            if tensor.storage.type == "<f4"
        }
    except DataError as error:
        raise DataError(f"{path} can't be used: {error}") from error
    # A broken pickle may raise almost anything, as the documentation of pickle says.
    except Exception as error:
        raise DataError(
            f"{path} is no whole PyTorch checkpoint ({type(error).__name__}: {error}); fetch it again from its source."
        ) from error


class _Storage(NamedTuple):
    """A block of values that tensors look into; stands for `torch.FloatStorage` and the like."""

    kind: str
    type: str
    key: str
    device: str
    length: int
    view: None = None


class _Tensor(NamedTuple):
    """The arguments of `torch._utils._rebuild_tensor_v2`, kept until the storages have been read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool
    hooks: object


Tensors = dict[str, _Tensor]
Storages = dict[str, memoryview]


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows tensors and ordered dictionaries and refuses everything else."""

    def find_class(self, module: str, name: str) -> object:
        """Return what stands for a global name."""
        allowed: dict[str, str | Callable[..., object]] = {
            "collections.OrderedDict": OrderedDict,
            # A method and not the class itself, of which a pickle could set attributes.
            "torch._utils._rebuild_tensor_v2": self._keep,
            "torch.FloatStorage": "<f4",
            "torch.LongStorage": "<i8",
        }
        if (found := allowed.get(f"{module}.{name}")) is None:
            raise DataError(
                f"The weights call for {module}.{name}, which tensors of float32 and int64 do not need; "
                "do not use this file."
            )
        return found

    def persistent_load(self, pid: tuple[Any, ...]) -> _Storage:
        """Return the storage that a tensor refers to."""
        return _Storage(*pid)

    def _keep(self, *arguments: Any) -> _Tensor:  # noqa: ANN401
        return _Tensor(*arguments)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}; give the path of a file of weights.") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MiB, so it is none of the known files of weights.")
    return content


def _unzip(content: bytes) -> tuple[Tensors, Storages]:
    """Take a checkpoint of PyTorch 1.6 or later apart."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        # So that what is read is never more than the file itself, whatever its directory claims.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise DataError("Its zip file is compressed, which PyTorch never does; do not use this file.")
        if sum(member.file_size for member in members) > len(content):
            raise DataError("The members of its zip file are larger than the file; do not use this file.")
        (root,) = (name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl"))
        if f"{root}byteorder" in archive.namelist() and (order := archive.read(f"{root}byteorder")) != b"little":
            raise DataError(f"Its values are of byte order {order!r}; save the weights on a little-endian machine.")
        tensors = _check(_TensorUnpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load())
        keys = {tensor.storage.key for tensor in tensors.values()}
        return tensors, {key: memoryview(archive.read(f"{root}data/{key}")) for key in keys}


def _unpack_legacy(content: bytes) -> tuple[Tensors, Storages]:
    """Take a checkpoint of PyTorch before 1.6 apart."""
    file = io.BytesIO(content)
    if _TensorUnpickler(file).load() != LEGACY_MAGIC:
        raise DataError("It begins neither as a zip file nor with PyTorch's magic number; give a file of torch.save.")
    _protocol, _machine, tensors, keys = (_TensorUnpickler(file).load() for _ in range(4))
    sizes = {tensor.storage.key: SIZES[tensor.storage.type] for tensor in _check(tensors).values()}
    storages = {}
    for key in keys:
        start = file.tell() + 8
        end = start + int.from_bytes(file.read(8), "little") * sizes[key]
        storages[key] = memoryview(content)[start:end]
        file.seek(end)
    return tensors, storages


def _check(tensors: object) -> Tensors:
    """Refuse what is no dictionary of tensors by name."""
    if not isinstance(tensors, dict):
        raise DataError(f"It holds a {type(tensors).__name__}, not tensors by name; save a `state_dict`.")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor) or not isinstance(tensor.storage, _Storage):
            raise DataError(f"Its entry {name!r} is a {type(tensor).__name__}, not a tensor; save a `state_dict`.")
        if tensor.storage.type not in SIZES or tensor.storage.view is not None:
            raise DataError(
                f"Its tensor {name} is stored as {tensor.storage}; allowed are float32 and int64, no views."
            )
    return tensors


def _look_into(storage: memoryview, tensor: _Tensor) -> NDArray[np.float32]:
    """Look into a float32 storage as a tensor does; numpy refuses a shape, offset or stride that leaves it."""
    if len(storage) != 4 * tensor.storage.length:
        raise DataError(f"{tensor.storage} holds {len(storage)} bytes; the file is cut off: fetch it again.")
    # Strides of zero would make terabytes of one number.
    if math.prod(tensor.shape) > tensor.storage.length:
        raise DataError(f"A tensor of shape {tensor.shape} does not fit into {tensor.storage}; do not use this file.")
    strides = tuple(4 * stride for stride in tensor.strides)
    return np.ndarray(tensor.shape, np.dtype("<f4"), buffer=storage, offset=4 * tensor.offset, strides=strides)
