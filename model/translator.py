"""The one seam to onnxruntime: images in, images out."""

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
"""What runs fp32, where no variant was made for it."""

BATCH = 8
"""Images drawn at once. More are no faster on a CPU, and memory grows by some 35 MB for each (fp32, width 64)."""


class Translate(Protocol):
    """Anything that draws: uint8 (N, H, W, 3) -> uint8 (N, H, W, 3)."""

    def __call__(self, images: Pixels, /) -> Pixels:
        """Draw one image for each of `images`."""
        ...


class Translator:
    """Runs a bundle's generator with the execution provider, and the file made for it, that is fastest here."""

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
        self.variant, provider = choose(bundle.manifest, providers.available(), variant)
        self._signature = bundle.manifest.signature
        file = bundle.verified(self.variant)
        self._session = providers.open_session(file, provider, threads=threads)
        kind = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}[self._signature.dtype]
        found = [(tensor.name, tensor.type, tuple(tensor.shape)) for tensor in self._tensors()]
        expected = [(name, kind, self._signature.shape) for name in (self._signature.input, self._signature.output)]
        if found != expected:
            raise BundleError(f"{file} has the tensors {found}; its manifest says {expected}.")

    @property
    def provider(self) -> str:
        """The execution provider that really runs, for instance CPUExecutionProvider."""
        return providers.running(self._session)

    def translate(self, batch: Tensor) -> Tensor:
        """Run the generator on float32 (N, S, S, 3) in [-1, 1]; the answer has the same shape and range.

        Raises:
            DataError: The images are of another size, or the model takes pixels.
        """
        if self._signature.dtype != "float32":
            raise DataError("This model takes uint8 pixels; call the translator with them.")
        return np.asarray(self._run(batch), np.float32)

    def __call__(self, images: Pixels, /) -> Pixels:
        """Draw uint8 images (N, S, S, 3), a few at a time so that memory does not grow with N."""
        drawn = np.empty_like(images)
        for start in range(0, len(images), BATCH):
            some = slice(start, start + BATCH)
            pixels = self._signature.dtype == "uint8"
            drawn[some] = self._run(images[some]) if pixels else to_pixels(self._run(to_tensor(images[some])))
        return drawn

    def _run(self, batch: Tensor | Pixels) -> Any:  # noqa: ANN401 - onnxruntime has no types
        if batch.ndim != 4 or batch.shape[1:] != self._signature.shape[1:]:
            raise DataError(f"A batch of shape {batch.shape} can't be drawn; it must be {self._signature.shape}.")
        (drawn,) = self._session.run([self._signature.output], {self._signature.input: batch})
        return drawn

    def _tensors(self) -> list["onnxruntime.NodeArg"]:
        return [*self._session.get_inputs(), *self._session.get_outputs()]


def choose(manifest: BundleManifest, here: Sequence[str], variant: str | None = None) -> tuple[str, str]:
    """Return a variant, and the execution provider that is to run it.

    Args:
        manifest: Names the providers that each variant was made for.
        here: The providers of this machine, the fastest first.
        variant: The one to run; by default the one that was made for the fastest provider that any was made for.
    """
    made_for = {name: found.providers for name, found in manifest.variants.items()} | {FP32: PLAIN_PROVIDERS}
    wanted = made_for if variant is None else {variant: made_for.get(variant, ())}
    for provider in here:
        for name, providers_of_it in wanted.items():
            if provider in providers_of_it:
                return name, provider
    return variant or FP32, providers.CPU
