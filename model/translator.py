"""A bundle's generator as a function from images to images, run by onnxruntime."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from model import providers
from model.bundle import FP32, Bundle, BundleManifest
from model.errors import BundleError, DataError
from model.pixels import Pixels, Tensor, to_pixels, to_tensor

if TYPE_CHECKING:
    import onnxruntime


PLAIN_PROVIDERS = (providers.CUDA, providers.CPU)
"""Providers that run fp32 if no variant was made for them."""

BATCH = 8
"""Images per run. More are no faster on a CPU, and each takes about 35 MB of memory (fp32, width 64)."""


class Translate(Protocol):
    """A function that draws: uint8 (N, H, W, 3) -> uint8 (N, H, W, 3)."""

    def __call__(self, images: Pixels, /) -> Pixels:
        """Draw one image for each of `images`."""
        ...


class Translator:
    """A bundle's generator, run by the fastest execution provider here from the file made for it."""

    def __init__(self, bundle: Bundle, *, variant: str | None = None, threads: int | None = None) -> None:
        """Load the model.

        Args:
            bundle: An opened bundle; the file is verified before it is loaded.
            variant: The variant to run; by default the one made for this machine's fastest execution provider.
            threads: CPU threads of one `run`; by default one for each CPU that this process may use.

        Raises:
            BundleError: There is no such variant, its file was altered, onnxruntime can't load it, or its inputs and
                outputs differ from the manifest.
        """
        self.bundle = bundle
        self.variant, provider = choose_variant(bundle.manifest, providers.available(), variant)
        self._signature = bundle.manifest.signature
        file = bundle.verified(self.variant)
        self._session = providers.open_session(file, provider, threads=threads)
        kind = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}[self._signature.dtype]
        found = [(tensor.name, tensor.type, tuple(tensor.shape)) for tensor in self._tensors()]
        expected = [(name, kind, self._signature.shape) for name in (self._signature.input, self._signature.output)]
        if found != expected:
            raise BundleError(f"{file} has the tensors {found}; its manifest says {expected}; export it again.")

    @property
    def provider(self) -> str:
        """The execution provider that runs most operators, for instance CPUExecutionProvider."""
        return providers.running(self._session)

    def translate(self, batch: Tensor) -> Tensor:
        """Run the generator on float32 (N, S, S, 3) in [-1, 1]; the result has the same shape and range.

        Raises:
            DataError: The images have another size, or the model takes pixels.
        """
        if self._signature.dtype != "float32":
            raise DataError("This model takes uint8 pixels, not float32 tensors; call the translator itself with them.")
        return np.asarray(self._run(batch), np.float32)

    def __call__(self, images: Pixels, /) -> Pixels:
        """Draw uint8 images (N, S, S, 3), a few at a time so that memory does not grow with N.

        Raises:
            DataError: The images have another size.
        """
        drawn = np.empty_like(images)
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            pixels = self._signature.dtype == "uint8"
            drawn[part] = self._run(images[part]) if pixels else to_pixels(self._run(to_tensor(images[part])))
        return drawn

    def _run(self, batch: Tensor | Pixels) -> Any:  # noqa: ANN401 - onnxruntime has no types
        if batch.ndim != 4 or batch.shape[1:] != self._signature.shape[1:]:
            raise DataError(
                f"A batch of shape {batch.shape} can't be drawn; give images of shape {self._signature.shape}."
            )
        (drawn,) = self._session.run([self._signature.output], {self._signature.input: batch})
        return drawn

    def _tensors(self) -> list["onnxruntime.NodeArg"]:
        return [*self._session.get_inputs(), *self._session.get_outputs()]


def choose_variant(manifest: BundleManifest, here: Sequence[str], variant: str | None = None) -> tuple[str, str]:
    """Return a variant, and the execution provider to run it with.

    Args:
        manifest: The manifest, which lists the providers that each variant was made for.
        here: The providers of this machine, the fastest first.
        variant: The variant to run; by default the first that was made for the fastest of these providers.
    """
    made_for = {name: found.providers for name, found in manifest.variants.items()} | {FP32: PLAIN_PROVIDERS}
    candidates = made_for if variant is None else {variant: made_for.get(variant, ())}
    for provider in here:
        for name, supported in candidates.items():
            if provider in supported:
                return name, provider
    return variant or FP32, providers.CPU
