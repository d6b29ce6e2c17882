"""Turn a trained generator into a bundle, and prove that the ONNX models are the TensorFlow model."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from model.bundle import (
    FP32,
    MODEL_FILE,
    OPSET,
    VALUE_RANGES,
    Bundle,
    BundleManifest,
    Parity,
    variant_file,
    write_manifest,
)
from model.errors import ExportError, MissingStepError
from model.graph.lowering import lower
from model.graph.precision import take_pixels
from model.io.files import new_folder, sha256
from model.io.progress import quiet_stderr, stage
from model.pixels import Pixels, Tensor, to_tensor
from model.provenance import git_revision
from model.spec import Palette, signature
from model.translator import Translator
from pipelines.config.schema import EvaluationConfig, ExportConfig, RunConfig
from pipelines.data.dataset import load_all
from pipelines.data.pairs import Pair, PairIndex
from pipelines.data.palette_extraction import NoPaletteError, find_palette
from pipelines.evaluation.evaluator import build_evaluator
from pipelines.export.variants import VariantEvaluator, add_variant, attempts_at
from pipelines.workspace import RunFolder

PARITY_LIMIT = 1e-4
"""Largest difference of any output value on the scale [-1, 1]; a level of 255 is 0.0078."""
PARITY_PHOTOS = 8
PALETTE_MAPS = 256
"""Training maps, spread over all of them, in which the palette is looked for."""


class Answers(NamedTuple):
    """Held-out photos (N, S, S, 3), and what TensorFlow draws of each, (1, S, S, 3) in [-1, 1]."""

    photos: Pixels
    drawn: Sequence[Tensor]

    def difference(self, exported: Callable[[Tensor], Tensor]) -> float:
        """Return the largest difference of any output value of an exported model, on the scale [-1, 1]."""
        pairs = zip(self.photos, self.drawn, strict=True)
        # NumPy's maximum, for NaN.
        return float(np.max([np.abs(exported(to_tensor(photo[None])) - drawn).max() for photo, drawn in pairs]))


def to_bundle(run: RunFolder, settings: ExportConfig) -> Bundle:
    """Export a run's generator: fp32, and of the other variants those that draw as well.

    Raises:
        MissingStepError: The run has no trained generator.
        DataError: A pair can't be read.
        ExportError: The answers of fp32 differ from TensorFlow's by more than PARITY_LIMIT.
    """
    config, pairs = run.record().config, PairIndex.load(run.pairs_file)
    if not run.generator.is_file():
        raise MissingStepError(f"{run.generator} is missing; run `train` first.")
    photos = _load(pairs.val[:PARITY_PHOTOS], config)[0]
    with stage("Converting to ONNX"):
        plain, drawn = _convert(run.generator, config, photos)
        exact = lower(plain)
    answers = Answers(photos, drawn)
    with new_folder(run.bundle) as folder:
        onnx.save_model(exact, folder / MODEL_FILE)
        manifest = _describe(folder, config, pairs, run_id=run.run_id)
        fp32 = Translator(Bundle(folder, manifest), variant=FP32)
        manifest = manifest.model_copy(update={"parity": _parity(answers, fp32)})
        if settings.variants:
            calibration = _load(_spread(pairs.train, settings.calibration_photos), config)[0]
            evaluator = _variant_evaluator(run, manifest, fp32, settings)
            for name in settings.variants:
                with stage(f"Making {name}"):
                    manifest = add_variant(
                        folder,
                        manifest,
                        name,
                        attempts=attempts_at(name, exact, plain, calibration),
                        evaluator=evaluator,
                        difference=answers.difference,
                        settings=settings,
                    )
        if settings.dtype == "uint8":
            manifest = _take_pixels(folder, manifest)
        write_manifest(folder, manifest)
    return Bundle.open(run.bundle)


def _convert(generator_file: Path, config: RunConfig, photos: Pixels) -> tuple[onnx.ModelProto, list[Tensor]]:
    """Convert a generator, and let TensorFlow draw photos with it."""
    with quiet_stderr():
        # TensorFlow is imported now, when training's workers have gone, and writes notes that help nobody.
        from model.networks import keras_file
        from pipelines.export import conversion

        keras_file.use_cpu()
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    generator = keras_file.load_generator(generator_file)
    draw = keras_file.drawer(generator)
    plain = conversion.to_onnx(generator, signature(config.network, config.data.direction))
    return plain, [draw(to_tensor(photo[None])) for photo in photos]


def _describe(folder: Path, config: RunConfig, pairs: PairIndex, *, run_id: str) -> BundleManifest:
    """Describe the bundle whose fp32 lies in a folder; its parity is not known yet."""
    network = config.network
    return BundleManifest(
        network=network,
        direction=config.data.direction,
        signature=signature(network, config.data.direction),
        opset=OPSET,
        sha256=sha256(folder / MODEL_FILE),
        parity=Parity(max_difference=0, limit=PARITY_LIMIT, photos=0),
        resolution=_resolution(config, pairs),
        palette=_palette(config, pairs),
        run_id=run_id,
        data_fingerprint=pairs.fingerprint,
        code_revision=git_revision(),
    )


def _resolution(config: RunConfig, pairs: PairIndex) -> float | None:
    """Return how many metres a pixel of the network's input shows: photos are brought to its side."""
    if config.data.resolution is None:
        return None
    side = float(np.median([min(pair.size) for pair in pairs.train]))
    return config.data.resolution * side / config.network.image_size


def _palette(config: RunConfig, pairs: PairIndex) -> Palette | None:
    """Return the classes of the maps, if maps are drawn and they have flat colours."""
    if config.data.direction == "map_to_photo":
        return None
    if config.evaluation.palette is not None:
        return config.evaluation.palette
    try:
        return find_palette(_load((pair,), config)[1][0] for pair in _spread(pairs.train, PALETTE_MAPS))
    except NoPaletteError:
        return None


def _parity(answers: Answers, fp32: Translator) -> Parity:
    """Measure how far fp32 is from TensorFlow.

    Raises:
        ExportError: By more than PARITY_LIMIT, or an answer is no number.
    """
    difference = answers.difference(fp32.translate)
    # `not <=` and not `>`, for NaN.
    if not difference <= PARITY_LIMIT:
        raise ExportError(
            f"The ONNX model's answers differ from TensorFlow's by up to {difference:.2g} on {len(answers.photos)} "
            f"held-out photos; at most {PARITY_LIMIT:g} is allowed. No bundle was written."
        )
    return Parity(max_difference=difference, limit=PARITY_LIMIT, photos=len(answers.photos))


def _variant_evaluator(
    run: RunFolder, manifest: BundleManifest, fp32: Translator, settings: ExportConfig
) -> VariantEvaluator:
    config, pairs = run.record().config, PairIndex.load(run.pairs_file)
    judged = pairs.val[: settings.judged_photos]
    photos, maps = _load(judged, config)
    data = f"{pairs.fingerprint[:16]}-{manifest.direction}-{manifest.network.image_size}"
    return VariantEvaluator.for_bundle(
        photos, build_evaluator(maps, manifest.palette, EvaluationConfig(), cache=run.cache, data=data), fp32
    )


def _take_pixels(folder: Path, manifest: BundleManifest) -> BundleManifest:
    """Put the normalisation into every file's graph: uint8 in, uint8 out."""
    for name in manifest.hashes():
        file = folder / variant_file(name)
        onnx.save_model(take_pixels(onnx.load_model(file)), file)
    hashes = {name: sha256(folder / variant_file(name)) for name in manifest.hashes()}
    return manifest.model_copy(
        update={
            "signature": signature(manifest.network, manifest.direction, "uint8"),
            "value_range": VALUE_RANGES["uint8"],
            "sha256": hashes[FP32],
            "variants": {
                name: variant.model_copy(update={"sha256": hashes[name]}) for name, variant in manifest.variants.items()
            },
        }
    )


def _load(pairs: Sequence[Pair], config: RunConfig) -> tuple[Pixels, Pixels]:
    return load_all(pairs, side=config.network.image_size, direction=config.data.direction)


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Take so many pairs, evenly spread over all."""
    places = np.linspace(0, len(pairs) - 1, min(count, len(pairs)))
    return [pairs[round(place)] for place in places]
