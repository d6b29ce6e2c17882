"""Variants of a bundle's fp32 model: built, compared with fp32 on held-out pairs, shipped only if they draw as well."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import onnx

from model.bundle import Bundle, BundleManifest, Variant, variant_file
from model.graph.calibration import calibrate
from model.graph.openvino import equalise, write_for_openvino
from model.graph.precision import to_half
from model.graph.quantisation import quantise
from model.graph.sensitivity import Quantise, int8_candidates
from model.io.files import sha256
from model.pixels import Pixels, Tensor, to_pixels, to_tensor
from model.providers import CPU, CUDA, OPENVINO
from model.translator import Translate, Translator
from pipelines.config.schema import ExportConfig, VariantName
from pipelines.evaluation.evaluator import Evaluator
from pipelines.metrics.catalogue import METRICS, SET_METRICS
from pipelines.metrics.image_metrics import ssim
from pipelines.metrics.scores import FULL_RANK, NamedScores, loss

PROVIDERS: dict[VariantName, tuple[str, ...]] = {
    "fp16": (CUDA,),
    "int8": (CPU,),
    "int8-openvino": (OPENVINO,),
}
"""Execution providers that run each variant best."""
COMPARED = 16
"""Photos that decide which layers are the first to stay in float."""


class VariantScores(NamedTuple):
    """Comparison of a variant's maps with those of fp32: mean SSIM, and the share of its value that each score loses.

    Fréchet distances are reported, but decide nothing below 2049 photos: on a few photos they change by percents where
    no map changes by a level.
    """

    ssim: float
    losses: dict[str, float]
    photos: int

    def rejection(self, settings: ExportConfig) -> str:
        """Return the reason why the variant must not be shipped; empty if it may."""
        if not self.ssim >= settings.min_ssim:
            return f"SSIM to fp32 is {self.ssim:.4f}; at least {settings.min_ssim:g} is allowed (export.min_ssim)"
        decisive = {
            name: share for name, share in self.losses.items() if self.photos >= FULL_RANK or name not in SET_METRICS
        }
        name, worst = max(decisive.items(), key=lambda item: item[1])
        if worst > settings.max_loss:
            title = METRICS[name].title
            return f"{title} loses {worst:.2%}; at most {settings.max_loss:.2%} is allowed (export.max_loss)"
        return ""


@dataclass(frozen=True)
class VariantEvaluator:
    """Compares variants with fp32 on held-out photos.

    Attributes:
        photos: Held-out photos, (N, side, side, 3).
        evaluator: Scores maps of these photos.
        drawn: Maps that fp32 draws of them.
        scores: Scores of these maps.
    """

    photos: Pixels
    evaluator: Evaluator
    drawn: Pixels
    scores: NamedScores

    @classmethod
    def for_bundle(cls, photos: Pixels, evaluator: Evaluator, fp32: Translate) -> "VariantEvaluator":
        """Draw the photos with fp32, and score its maps."""
        drawn = fp32(photos)
        return cls(photos, evaluator, drawn, evaluator.score(drawn))

    def evaluate(self, translate: Translate) -> VariantScores:
        """Compare a variant's maps with those of fp32.

        Kernel distances and Inception Scores are left out: the first are close to zero, where a share means nothing,
        and the second do not depend on the true maps.
        """
        drawn = translate(self.photos)
        scores = self.evaluator.score(drawn)
        compared = [name for name in self.scores if name not in SET_METRICS or name.startswith(("frechet", "fid"))]
        losses = {name: loss(name, scores[name].value, self.scores[name].value) for name in compared}
        known = {name: share for name, share in losses.items() if not math.isnan(share)}
        return VariantScores(float(ssim(drawn, self.drawn).mean()), known, len(self.photos))


class Candidate(NamedTuple):
    """A model for a variant, and the layers of an int8 one that stayed in float."""

    model: onnx.ModelProto
    float_layers: tuple[str, ...] = ()


def add_variant(
    folder: Path,
    manifest: BundleManifest,
    name: VariantName,
    *,
    candidates: Iterable[Candidate],
    evaluator: VariantEvaluator,
    difference: Callable[[Callable[[Tensor], Tensor]], float],
    settings: ExportConfig,
) -> BundleManifest:
    """Write the first candidate that draws well enough into a bundle's folder.

    Args:
        folder: Folder that holds fp32.
        manifest: Manifest of that bundle.
        name: Name of the variant.
        candidates: Models from the fastest to the most exact.
        evaluator: Compares them with fp32.
        difference: Returns the largest difference between a model's output and TensorFlow's.
        settings: Limits that a candidate must keep.

    Returns:
        The manifest with the variant, or with the reason why it was left out.
    """
    file, rejection = folder / variant_file(name), ""
    for candidate in candidates:
        onnx.save_model(candidate.model, file)
        variant = Variant(
            sha256=sha256(file),
            providers=PROVIDERS[name],
            max_difference=0,
            ssim=0,
            losses={},
            photos=len(evaluator.photos),
            float_layers=candidate.float_layers,
        )
        draft = manifest.model_copy(update={"variants": manifest.variants | {name: variant}})
        translator = Translator(Bundle(folder, draft), variant=name)
        found = evaluator.evaluate(translator)
        measured = {
            "max_difference": difference(translator.translate),
            "ssim": found.ssim,
            "losses": found.losses,
        }
        rejection = found.rejection(settings)
        if not rejection:
            variant = variant.model_copy(update=measured)
            return manifest.model_copy(update={"variants": manifest.variants | {name: variant}})
        if candidate.float_layers:
            rejection += f", with {', '.join(candidate.float_layers)} in float"
    file.unlink()
    return manifest.model_copy(update={"left_out": manifest.left_out | {name: rejection}})


def candidates(
    name: VariantName, exact: onnx.ModelProto, plain: onnx.ModelProto, photos: Pixels
) -> Iterator[Candidate]:
    """Build the models of a variant, from the fastest to the most exact.

    Args:
        name: Name of the variant.
        exact: The lowered model.
        plain: The model as it was converted.
        photos: Training photos (N, side, side, 3) for calibrating int8, and for finding the layers that lose most.
    """
    if name == "fp16":
        yield Candidate(to_half(exact))
        return
    batch = to_tensor(photos)
    quantised = _quantiser(name, exact, plain, batch)
    for found in int8_candidates(exact, quantised, batch[:COMPARED], similarity=_similarity):
        yield Candidate(found.model, found.float_layers)


def _quantiser(name: VariantName, exact: onnx.ModelProto, plain: onnx.ModelProto, photos: Tensor) -> Quantise:
    """Return a function that builds the int8 model with some layers kept in float."""
    if name == "int8-openvino":
        generator = equalise(plain, photos)
        return lambda kept: write_for_openvino(generator, plain, keep_float=kept)
    ranges = calibrate(exact, [photos])
    return lambda kept: quantise(exact, ranges, keep_float=kept)


def _similarity(expected: Tensor, drawn: Tensor) -> float:
    return float(ssim(to_pixels(drawn), to_pixels(expected)).mean())
