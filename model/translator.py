"""The one seam to onnxruntime: images in, images out."""

import ctypes
from typing import Protocol

import numpy as np
import onnxruntime

from model.bundle import Bundle
from model.cores import usable_cores
from model.errors import BundleError, DataError
from model.pixels import Pixels, Tensor, to_pixels, to_tensor


class Translate(Protocol):
    """Anything that draws: uint8 (N, H, W, 3) -> uint8 (N, H, W, 3)."""

    def __call__(self, images: Pixels, /) -> Pixels:
        """Draw one image for each of `images`."""
        ...


class Translator:
    """Runs a bundle's generator, on a GPU where onnxruntime has one and on the CPU otherwise."""

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        """Load the model.

        Args:
            bundle: An opened, so verified, bundle.
            threads: CPU threads of one `run`; by default one for each CPU that this process may use.

        Raises:
            BundleError: onnxruntime can't load the model, or it has other tensors than the manifest says.
        """
        self.bundle = bundle
        self._signature = bundle.manifest.signature
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        try:
            self._session = onnxruntime.InferenceSession(bundle.model_file, options, providers=_providers())
        except Exception as error:
            raise BundleError(f"onnxruntime can't load {bundle.model_file}: {' '.join(str(error).split())}") from error
        found = [(tensor.name, tuple(tensor.shape)) for tensor in self._tensors()]
        expected = [(name, self._signature.shape) for name in (self._signature.input, self._signature.output)]
        if found != expected:
            raise BundleError(f"{bundle.model_file} has the tensors {found}; its manifest says {expected}.")

    @property
    def provider(self) -> str:
        """The execution provider that really runs, for instance CPUExecutionProvider."""
        return str(self._session.get_providers()[0])

    def translate(self, batch: Tensor) -> Tensor:
        """Run the generator on float32 (N, S, S, 3) in [-1, 1]; the answer has the same shape and range.

        Raises:
            DataError: The images are of another size.
        """
        if batch.ndim != 4 or batch.shape[1:] != self._signature.shape[1:]:
            raise DataError(f"A batch of shape {batch.shape} can't be drawn; it must be {self._signature.shape}.")
        (drawn,) = self._session.run([self._signature.output], {self._signature.input: batch})
        return np.asarray(drawn, np.float32)

    def __call__(self, images: Pixels, /) -> Pixels:
        """Draw uint8 images (N, S, S, 3), one at a time so that memory does not grow with N."""
        drawn = np.empty_like(images)
        for number, image in enumerate(images):
            drawn[number] = to_pixels(self.translate(to_tensor(image[None])))[0]
        return drawn

    def _tensors(self) -> list[onnxruntime.NodeArg]:
        return [*self._session.get_inputs(), *self._session.get_outputs()]


def _providers() -> list[str]:
    """Ask for CUDA only where a driver is: onnxruntime lists what it was built with, not what can be loaded."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ["CPUExecutionProvider"]
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
