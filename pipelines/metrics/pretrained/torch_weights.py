"""Weights from PyTorch checkpoints, read without PyTorch and without calling anything that a file names."""

import hashlib
import io
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
"""Largest file that is read; the largest one used here is AlexNet's, with 233 MiB."""


class _Storage(NamedTuple):
    """A reference to a block of values."""

    dtype: str
    key: str


class _Tensor(NamedTuple):
    """The arguments of `torch._utils._rebuild_tensor_v2` that describe a tensor; offset and strides in values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


Parts = tuple[Mapping[str, _Tensor], Mapping[str, bytes]]
"""Tensors by name, and the bytes of their storages by key."""


def read_weights(path: Path, *, sha256: str) -> Weights:
    """Return the float32 tensors of a checkpoint as read-only arrays; nothing is parsed unless the sha256 matches.

    Before 1.6, PyTorch wrote five pickles (magic number, protocol, machine, tensors without values, keys of the
    storages), then the storages in the order of the keys: an int64 count, then the values. Since 1.6 it writes an
    uncompressed zip file: `NAME/data.pkl` holds the tensors without values, `NAME/data/KEY` a storage.

    Raises:
        DataError: The file can't be read, is larger than 256 MiB, has another sha256, or is not a checkpoint of float32
            and int64 tensors by name.
    """
    content = _read_file(path)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{path} has sha256 {found}, not {sha256}: it is damaged or a different file; fetch it again.")
    try:
        tensors, storages = _read_zip(content) if content.startswith(b"PK\x03\x04") else _read_legacy(content)
        return {
            name: _values(tensor, storages[tensor.storage.key])
            for name, tensor in tensors.items()
            if tensor.storage.dtype == "<f4"
        }
    # A broken pickle may raise almost anything, as the documentation of pickle says.
    except Exception as error:
        raise DataError(
            f"{path} is not a PyTorch checkpoint of float32 and int64 tensors by name "
            f"({type(error).__name__}: {error}); give the original file of weights."
        ) from error


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}; give the path of a file of weights.") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MiB; give the original file of weights.")
    return content


def _read_zip(content: bytes) -> Parts:
    """Read a checkpoint of PyTorch 1.6 or later."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (root,) = (name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl"))
        tensors = _TensorUnpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()
        keys = {tensor.storage.key for tensor in tensors.values()}
        return tensors, {key: archive.read(f"{root}data/{key}") for key in keys}


def _read_legacy(content: bytes) -> Parts:
    """Read a checkpoint of PyTorch before 1.6."""
    file = io.BytesIO(content)
    _magic, _protocol, _machine, tensors, keys = (_TensorUnpickler(file).load() for _ in range(5))
    sizes = {tensor.storage.key: np.dtype(tensor.storage.dtype).itemsize for tensor in tensors.values()}
    return tensors, {key: file.read(int.from_bytes(file.read(8), "little") * sizes[key]) for key in keys}


def _values(tensor: _Tensor, storage: bytes) -> NDArray[np.float32]:
    """Return a float32 tensor's values; numpy refuses an offset, shape or strides that leave the storage."""
    strides = tuple(4 * stride for stride in tensor.strides)
    return np.ndarray(tensor.shape, np.dtype("<f4"), buffer=storage, offset=4 * tensor.offset, strides=strides)


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows tensors and ordered dictionaries and refuses every other name."""

    def find_class(self, module: str, name: str) -> object:
        """Return the replacement of a global name, that only holds its arguments."""
        allowed: dict[str, str | Callable[..., object]] = {
            "collections.OrderedDict": OrderedDict,
            # A method rather than the class, whose attributes a pickle could set.
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch.FloatStorage": "<f4",
            "torch.LongStorage": "<i8",
        }
        if (found := allowed.get(f"{module}.{name}")) is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return found

    def persistent_load(self, pid: tuple[Any, ...]) -> _Storage:
        """Return the storage that a tensor refers to."""
        _, dtype, key, *_ = pid
        return _Storage(dtype, key)

    def _tensor(self, *arguments: Any) -> _Tensor:  # noqa: ANN401
        return _Tensor(*arguments[:4])
