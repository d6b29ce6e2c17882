"""Networks built as ONNX graphs from their weights, layer by layer, and run by onnxruntime."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import BundleError, DataError
from model.graph.builder import Graph, Shapes
from model.io.progress import track
from model.providers import Session, open_session
from pipelines.metrics.pretrained.torch_weights import Weights

Array = NDArray[np.float32]

EPSILON = 1e-3
"""Addend to the variance in the batch normalisation of TensorFlow's Inception and EfficientNet."""


class Layers(Graph):
    """An ONNX graph of layers with the weights of a checkpoint; images in it are (N, channels, height, width)."""

    def __init__(self, weights: Weights) -> None:
        """Start an empty graph."""
        super().__init__()
        self.weights = weights

    def weight(self, name: str) -> Array:
        """Return a tensor of the checkpoint.

        Raises:
            DataError: There is none of that name.
        """
        if name not in self.weights:
            raise DataError(
                f"There is no {name} among {len(self.weights)} weights; give the file of this network, not of another."
            )
        return self.weights[name]

    def conv(self, source: str, layer: str, **attributes: Any) -> str:  # noqa: ANN401
        """Add a convolution with a bias; attributes as in ONNX."""
        return self._conv(source, layer, self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias"), **attributes)

    def conv_norm(self, source: str, layer: str, norm: str, **attributes: Any) -> str:  # noqa: ANN401
        """Add a convolution with its batch normalisation folded in; attributes as in ONNX."""
        gain = self.weight(f"{norm}.weight") / np.sqrt(self.weight(f"{norm}.running_var") + EPSILON)
        shift = self.weight(f"{norm}.bias") - self.weight(f"{norm}.running_mean") * gain
        return self._conv(
            source, layer, self.weight(f"{layer}.weight") * gain[:, None, None, None], shift, **attributes
        )

    def _conv(self, source: str, layer: str, kernel: Array, bias: Array, **attributes: Any) -> str:  # noqa: ANN401
        constants = [self.constant(f"{layer}.kernel", kernel), self.constant(f"{layer}.shift", bias)]
        return self.add("Conv", [source, *constants], layer, **attributes)

    def open(self, name: str, inputs: Shapes, outputs: Shapes) -> Session:
        """Load the graph into onnxruntime, on all cores that this process may use.

        Raises:
            DataError: onnxruntime can't load it, because the shapes of the weights do not fit.
        """
        try:
            return open_session(self.to_model(name, inputs, outputs).SerializeToString())
        except BundleError as error:
            raise DataError(f"The weights are not those of {name}: {error}") from error


def run(session: Session, feeds: Iterable[dict[str, Array]], *, label: str, total: int) -> list[Array]:
    """Run a network on `total` feeds behind a bar named `label`; return each output, concatenated over the feeds.

    Raises:
        DataError: onnxruntime can't run it.
    """
    try:
        parts = [session.run(None, feed) for feed in track(feeds, label, total=total)]
    except Exception as error:
        raise DataError(f"onnxruntime can't compute {label}: {' '.join(str(error).split())}") from error
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
