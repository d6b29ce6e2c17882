"""The one seam to onnxruntime: images in, images out."""

import ctypes
from typing import Any, Protocol

import numpy as np
import onnxruntime

from model.bundle import FP32, Bundle, BundleManifest
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

    def __init__(self, bundle: Bundle, *, variant: str | None = None, threads: int | None = None) -> None:
        """Load the model.

        Args:
            bundle: An opened bundle; the file that is loaded is verified first.
            variant: Which of its files; by default the one made for this machine's fastest execution provider.
            threads: CPU threads of one `run`; by default one for each CPU that this process may use.

        Raises:
            BundleError: There is no such variant, its file was altered, onnxruntime can't load it, or it has other
                tensors than the manifest says.
        """
        self.bundle = bundle
        self.variant = variant or choose(bundle.manifest, _providers())
        self._signature = bundle.manifest.signature
        file = bundle.verified(self.variant)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=_providers())
        except Exception as error:
            raise BundleError(f"onnxruntime can't load {file}: {' '.join(str(error).split())}") from error
        kind = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}[self._signature.dtype]
        found = [(tensor.name, tensor.type, tuple(tensor.shape)) for tensor in self._tensors()]
        expected = [(name, kind, self._signature.shape) for name in (self._signature.input, self._signature.output)]
        if found != expected:
            raise BundleError(f"{file} has the tensors {found}; its manifest says {expected}.")

    @property
    def provider(self) -> str:
        """The execution provider that really runs, for instance CPUExecutionProvider."""
        return str(self._session.get_providers()[0])

    def translate(self, batch: Tensor) -> Tensor:
        """Run the generator on float32 (N, S, S, 3) in [-1, 1]; the answer has the same shape and range.

        Raises:
            DataError: The images are of another size, or the model takes pixels.
        """
        if self._signature.dtype != "float32":
            raise DataError("This model takes uint8 pixels; call the translator with them.")
        return np.asarray(self._run(batch), np.float32)

    def __call__(self, images: Pixels, /) -> Pixels:
        """Draw uint8 images (N, S, S, 3), one at a time so that memory does not grow with N."""
        drawn = np.empty_like(images)
        for number, image in enumerate(images):
            pixels = self._signature.dtype == "uint8"
            drawn[number] = (self._run(image[None]) if pixels else to_pixels(self._run(to_tensor(image[None]))))[0]
        return drawn

    def _run(self, batch: Tensor | Pixels) -> Any:  # noqa: ANN401 - onnxruntime has no types
        if batch.ndim != 4 or batch.shape[1:] != self._signature.shape[1:]:
            raise DataError(f"A batch of shape {batch.shape} can't be drawn; it must be {self._signature.shape}.")
        (drawn,) = self._session.run([self._signature.output], {self._signature.input: batch})
        return drawn

    def _tensors(self) -> list[onnxruntime.NodeArg]:
        return [*self._session.get_inputs(), *self._session.get_outputs()]


def choose(manifest: BundleManifest, providers: list[str]) -> str:
    """Return the variant that was made for the first of these providers that any was made for; else fp32."""
    for provider in providers:
        for name, variant in manifest.variants.items():
            if provider in variant.providers:
                return name
    return FP32


def _providers() -> list[str]:
    """Ask for CUDA only where a driver is: onnxruntime lists what it was built with, not what can be loaded."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ["CPUExecutionProvider"]
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
