"""LPIPS: a perceptual distance of two images, learned from people's answers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import helper

from model.errors import DataError
from model.pixels import Pixels, to_tensor
from pipelines.metrics.image_metrics import Values, check_pairs
from pipelines.metrics.pretrained.onnx_layers import Layers, run
from pipelines.metrics.pretrained.torch_weights import read_weights

ALEXNET, HEADS = "alexnet-owt-7be5be79.pth", "alex.pth"
SOURCES = {
    ALEXNET: f"https://download.pytorch.org/models/{ALEXNET}",
    HEADS: "the wheel of PyPI's lpips, under lpips/weights/v0.1",
}
# The name of torchvision's file has the first eight digits of AlexNet's; the heads are those of lpips 0.1.4.
OFFICIAL_SHA256 = {
    ALEXNET: "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    HEADS: "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
}

LEAST_SIDE = 31
"""Least side for which AlexNet's second pool still has pixels."""
CHANNEL_MEANS, CHANNEL_SCALES = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Means and deviations of ImageNet on the scale [-1, 1]."""
TINY = 1e-10
"""Addend that keeps lengths above zero."""


class Lpips:
    """The learned perceptual distance on AlexNet, version 0.1 (Zhang et al. 2018, section 3)."""

    name = "lpips"

    def __init__(self, folder: Path, *, sha256: Mapping[str, str] = OFFICIAL_SHA256) -> None:
        """Read torchvision's AlexNet and the linear heads of PyPI's lpips from a folder, and build the network.

        Raises:
            DataError: A file is missing, has another sha256, or is of another network.
        """
        for file, source in SOURCES.items():
            if not (folder / file).is_file():
                raise DataError(f"There is no {file} in {folder}; get it from {source}.")
        layers = _AlexNetLayers(
            {
                name: value
                for file in SOURCES
                for name, value in read_weights(folder / file, sha256=sha256[file]).items()
                # AlexNet's classifier is unused, and most of the file.
                if not name.startswith("classifier.")
            }
        )
        layers.add_network()
        images: list[int | str] = ["N", "height", "width", 3]
        self._session = layers.open(self.name, {"drawn": images, "true": images}, {"distance": ["N"]})

    def __call__(self, drawn: Pixels, true: Pixels, *, batch: int = 16) -> Values:
        """Return the distance of each pair, 0 for equal images, as `lpips.LPIPS(net="alex")` does for [-1, 1].

        Args:
            drawn: Drawn maps, uint8 (N, H, W, 3) of 31x31 pixels or more.
            true: Their true maps, of the same shape.
            batch: Pairs compared at a time.

        Raises:
            DataError: The two are not uint8 RGB images of the same shape, or are too small.
        """
        check_pairs(drawn, true)
        height, width = drawn.shape[1:3]
        if min(height, width) < LEAST_SIDE:
            raise DataError(
                f"Images of {width}x{height} are too small for AlexNet; give {LEAST_SIDE}x{LEAST_SIDE} pixels or more."
            )
        parts = [slice(start, start + batch) for start in range(0, len(drawn), batch)]
        feeds = ({"drawn": to_tensor(drawn[part]), "true": to_tensor(true[part])} for part in parts)
        (distances,) = run(self._session, feeds, label=f"{self.name} distances", total=len(parts))
        return distances.astype(np.float64)


class _AlexNetLayers(Layers):
    """The convolutions of AlexNet (Krizhevsky 2014) under torchvision's names, and distances of their outputs."""

    def add_network(self) -> None:
        """Add all layers: drawn and true (N, H, W, 3) in [-1, 1] -> distance (N,)."""
        self.constant("channels", np.array([1], np.int64))
        self.constant("pixels", np.array([2, 3], np.int64))
        self.constant("tiny", np.array(TINY, np.float32))
        # Both pass through the network as one batch: first all drawn maps, then all true maps.
        both = self.add("Transpose", [self.add("Concat", ["drawn", "true"], axis=0)], perm=[0, 3, 1, 2])
        centred = self.add("Sub", [both, self.colours("means", CHANNEL_MEANS)])
        x = self.add("Div", [centred, self.colours("scales", CHANNEL_SCALES)])
        distances = []
        for head, (layer, pooled, stride, padding) in enumerate(
            [(0, False, 4, 2), (3, True, 1, 2), (6, True, 1, 1), (8, False, 1, 1), (10, False, 1, 1)]
        ):
            if pooled:
                x = self.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])
            x = self.conv(x, f"features.{layer}", strides=[stride, stride], pads=[padding] * 4)
            x = self.add("Relu", [x])
            distances.append(self.distance(x, f"lin{head}.model.1.weight"))
        self.add("Squeeze", [self.add("Sum", distances), "channels"], "distance")

    def colours(self, name: str, values: tuple[float, ...]) -> str:
        """Store one number for each colour channel."""
        return self.constant(name, np.array(values, np.float32).reshape(1, 3, 1, 1))

    def distance(self, features: str, head: str) -> str:
        """Add the distance of the two halves of a batch, (N, 1): normalised features weighted by a linear head."""
        length = self.add("Add", [self.add("ReduceL2", [features, "channels"], keepdims=1), "tiny"])
        unit = self.add("Div", [features, length])
        halves = [f"{unit}.drawn", f"{unit}.true"]
        self.nodes.append(helper.make_node("Split", [unit], halves, axis=0, num_outputs=2))
        difference = self.add("Sub", halves)
        square = self.add("Mul", [difference, difference])
        weighted = self.add("Conv", [square, self.constant(head, self.weight(head))])
        return self.add("ReduceMean", [weighted, "pixels"], keepdims=0)
