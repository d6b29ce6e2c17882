"""Export of a trained generator to a bundle of ONNX files, each checked against TensorFlow."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from model.bundle import (
    FP32,
    MODEL_FILE,
    VALUE_RANGES,
    Bundle,
    BundleManifest,
    Parity,
    variant_file,
    write_manifest,
)
from model.errors import ExportError
from model.graph.lowering import lower
from model.graph.precision import take_pixels
from model.graph.range_check import check_range
from model.io.files import check_writable, new_folder, sha256
from model.io.progress import quiet_stderr, stage, track
from model.pixels import Pixels, Tensor, to_tensor
from model.provenance import git_revision
from model.spec import OPSET, Palette, signature
from model.translator import Translator
from pipelines.config.schema import EvaluationConfig, ExportConfig, RunConfig
from pipelines.data.dataset import load, load_all
from pipelines.data.pairs import Pair, PairIndex
from pipelines.data.palette_extraction import NoPaletteError, find_palette
from pipelines.evaluation.evaluator import build_evaluator
from pipelines.export import metadata
from pipelines.export.variants import VariantEvaluator, add_variant, candidates
from pipelines.run_folder import RunFolder
from pipelines.run_record import RunRecord

PARITY_LIMIT = 1e-4
"""Largest allowed difference of any output value on the scale [-1, 1]; one level of 255 is 0.0078."""
PARITY_PHOTOS = 8
"""Held-out photos on which parity is measured."""


class Reference(NamedTuple):
    """Held-out photos (N, S, S, 3), and TensorFlow's output for each, (1, S, S, 3) in [-1, 1]."""

    photos: Pixels
    drawn: Sequence[Tensor]

    def difference(self, exported: Callable[[Tensor], Tensor]) -> float:
        """Return the largest difference of any output value of an exported model, on the scale [-1, 1]."""
        pairs = zip(self.photos, self.drawn, strict=True)
        # NumPy's maximum propagates NaN.
        return float(np.max([np.abs(exported(to_tensor(photo[None])) - drawn).max() for photo, drawn in pairs]))


def to_bundle(run: RunFolder, settings: ExportConfig, *, palette: Palette | None = None) -> Bundle:
    """Export a run's generator: fp32, and those of the other variants that draw nearly as well.

    Args:
        run: Folder of a trained run.
        settings: Variants to make, and their limits.
        palette: Classes of the maps; by default those of the run's own settings, or those found in all training maps.

    Raises:
        MissingStepError: The run has no trained generator, or its training was not finished.
        DataError: A pair can't be read.
        ExportError: The output of fp32 differs from TensorFlow's by more than PARITY_LIMIT.
    """
    config, pairs = run.record().config, PairIndex.load(run.pairs_file)
    generator = run.generator_sha256()
    check_writable(run.bundle)
    photos = _load(pairs.val[:PARITY_PHOTOS], config)[0]
    with stage("Converting to ONNX"):
        plain, drawn = _convert(run.generator, config, photos)
        exact = lower(plain)
    reference = Reference(photos, drawn)
    with new_folder(run.bundle) as folder:
        onnx.save_model(exact, folder / MODEL_FILE)
        manifest = _describe(folder, run.record(), pairs, generator=generator, palette=palette)
        fp32 = Translator(Bundle(folder, manifest), variant=FP32)
        manifest = manifest.model_copy(update={"parity": _parity(reference, fp32)})
        if settings.variants:
            calibration = _load(_spread(pairs.train, settings.calibration_photos), config)[0]
            evaluator = _variant_evaluator(run, manifest, fp32, settings)
            for name in settings.variants:
                with stage(f"Making {name}"):
                    manifest = add_variant(
                        folder,
                        manifest,
                        name,
                        candidates=candidates(name, exact, plain, calibration),
                        evaluator=evaluator,
                        difference=reference.difference,
                        settings=settings,
                    )
        write_manifest(folder, _finish(folder, manifest, settings))
    return Bundle.open(run.bundle)


def _convert(generator_file: Path, config: RunConfig, photos: Pixels) -> tuple[onnx.ModelProto, list[Tensor]]:
    """Convert a generator to ONNX, and run it on photos in TensorFlow."""
    with quiet_stderr():
        # TensorFlow logs irrelevant notes to stderr while it is imported.
        from model.networks import keras_file
        from pipelines.export import conversion

        keras_file.use_cpu()
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    generator = keras_file.load_generator(generator_file)
    draw = keras_file.drawer(generator)
    folded = keras_file.fold_upsampling(generator, config.network)
    plain = conversion.to_onnx(folded, signature(config.network, config.data.direction))
    return plain, [draw(to_tensor(photo[None])) for photo in photos]


def _describe(
    folder: Path, record: RunRecord, pairs: PairIndex, *, generator: str, palette: Palette | None
) -> BundleManifest:
    """Return the manifest of a folder that holds fp32; its parity is still to be measured."""
    config, network = record.config, record.config.network
    palette, missing = _choose_palette(palette, config, pairs)
    return BundleManifest(
        network=network,
        direction=config.data.direction,
        signature=signature(network, config.data.direction),
        opset=OPSET,
        sha256=sha256(folder / MODEL_FILE),
        parity=Parity(max_difference=0, limit=PARITY_LIMIT, photos=0),
        resolution=_resolution(config, pairs),
        palette=palette,
        palette_missing=missing,
        run_id=record.run_id,
        generator_sha256=generator,
        discriminator_sha256=record.discriminator_sha256,
        started_from=record.started_from,
        data_fingerprint=pairs.fingerprint,
        code_revision=git_revision(),
    )


def _resolution(config: RunConfig, pairs: PairIndex) -> float | None:
    """Return the ground resolution of the network's input in metres a pixel: photos are resized to its side."""
    if config.data.resolution is None:
        return None
    side = float(np.median([min(pair.size) for pair in pairs.train]))
    return config.data.resolution * side / config.network.image_size


def _choose_palette(palette: Palette | None, config: RunConfig, pairs: PairIndex) -> tuple[Palette | None, str]:
    """Return the classes of the maps, or the reason why none were found; photos have neither."""
    if config.data.direction == "map_to_photo":
        return None, ""
    palette = palette or config.evaluation.palette
    if palette is not None:
        return palette, ""
    side = config.network.image_size
    maps = (load(pair, side=side, direction="photo_to_map")[1] for pair in track(pairs.train, "Reading training maps"))
    try:
        return find_palette(maps), ""
    except NoPaletteError as error:
        return None, str(error)


def _parity(reference: Reference, fp32: Translator) -> Parity:
    """Measure the difference between fp32 and TensorFlow.

    Raises:
        ExportError: It is more than PARITY_LIMIT, or NaN.
    """
    difference = reference.difference(fp32.translate)
    # Not `>`, which is false for NaN.
    if not difference <= PARITY_LIMIT:
        raise ExportError(
            f"The ONNX model's output differs from TensorFlow's by up to {difference:.2g} on {len(reference.photos)} "
            f"held-out photos; at most {PARITY_LIMIT:g} is allowed. No bundle was written."
        )
    return Parity(max_difference=difference, limit=PARITY_LIMIT, photos=len(reference.photos))


def _variant_evaluator(
    run: RunFolder, manifest: BundleManifest, fp32: Translator, settings: ExportConfig
) -> VariantEvaluator:
    config, pairs = run.record().config, PairIndex.load(run.pairs_file)
    photos, maps = _load(pairs.val[: settings.judged_photos], config)
    data = f"{pairs.fingerprint[:16]}-{manifest.direction}-{manifest.network.image_size}"
    return VariantEvaluator.for_bundle(
        photos, build_evaluator(maps, manifest.palette, EvaluationConfig(), cache=run.cache, data=data), fp32
    )


def _finish(folder: Path, manifest: BundleManifest, settings: ExportConfig) -> BundleManifest:
    """Put into the files what changes none of their maps: scaling of pixels or a check of the range, and metadata.

    With `export.dtype=uint8`, every graph takes and returns uint8 pixels. Otherwise fp32, which is also run by other
    programs such as MLflow's server, refuses values that are not scaled.
    """
    manifest = manifest.model_copy(
        update={
            "signature": signature(manifest.network, manifest.direction, settings.dtype),
            "value_range": VALUE_RANGES[settings.dtype],
        }
    )
    entries = metadata.describe(manifest, settings.licence)
    for name in manifest.hashes():
        file = folder / variant_file(name)
        model = onnx.load_model(file)
        if settings.dtype == "uint8":
            model = take_pixels(model)
        elif name == FP32:
            model = check_range(model)
        onnx.save_model(metadata.put_into(model, entries), file)
    hashes = {name: sha256(folder / variant_file(name)) for name in manifest.hashes()}
    return manifest.model_copy(
        update={
            "sha256": hashes[FP32],
            "variants": {
                name: variant.model_copy(update={"sha256": hashes[name]}) for name, variant in manifest.variants.items()
            },
        }
    )


def _load(pairs: Sequence[Pair], config: RunConfig) -> tuple[Pixels, Pixels]:
    return load_all(pairs, side=config.network.image_size, direction=config.data.direction)


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Return up to `count` pairs, evenly spread over all."""
    positions = np.linspace(0, len(pairs) - 1, min(count, len(pairs)))
    return [pairs[round(position)] for position in positions]
