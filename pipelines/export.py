"""Turn a trained generator into a bundle, and prove that the ONNX model is the TensorFlow model."""

import logging
from collections.abc import Callable

import numpy as np
import onnx

from model.bundle import MODEL_FILE, Bundle, BundleManifest, Parity, write_manifest
from model.errors import ExportError, MissingStepError
from model.files import new_folder, sha256
from model.pixels import Pixels, Tensor, to_tensor
from model.progress import quiet_stderr
from model.spec import signature
from model.translator import Translator
from pipelines.dataset import load_all
from pipelines.tracking import git_revision
from pipelines.workspace import RunFolder

PARITY_LIMIT = 1e-4
"""Largest difference of any output value on the scale [-1, 1]; a level of 255 is 0.0078."""
PARITY_PHOTOS = 8


def to_bundle(run: RunFolder) -> Bundle:
    """Export a run's generator.

    Raises:
        MissingStepError: The run has no trained generator.
        ExportError: The two models' answers differ by more than PARITY_LIMIT.
    """
    record, pairs = run.record(), run.pairs()
    if not run.generator.is_file():
        raise MissingStepError(f"{run.generator} is missing; run `train` first.")
    network, direction = record.config.network, record.config.data.direction
    tensors = signature(network, direction)
    photos, _ = load_all(pairs.val[:PARITY_PHOTOS], side=network.image_size, direction=direction)
    with quiet_stderr():
        # TensorFlow is imported now, when training's workers have gone, and writes notes that help nobody.
        from pipelines import conversion

        conversion.use_cpu()
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    generator = conversion.load_generator(run.generator)
    with new_folder(run.bundle) as folder:
        onnx.save_model(conversion.to_onnx(generator, tensors), folder / MODEL_FILE)
        manifest = BundleManifest(
            network=network,
            direction=direction,
            signature=tensors,
            opset=conversion.OPSET,
            sha256=sha256(folder / MODEL_FILE),
            parity=Parity(max_difference=0, limit=PARITY_LIMIT, photos=len(photos)),
            run_id=record.run_id,
            data_fingerprint=pairs.fingerprint,
            code_revision=git_revision(),
        )
        translator = Translator(Bundle(folder, manifest))
        parity = compare(conversion.drawer(generator), translator.translate, photos)
        write_manifest(folder, manifest.model_copy(update={"parity": parity}))
    return Bundle.open(run.bundle)


def compare(reference: Callable[[Tensor], Tensor], exported: Callable[[Tensor], Tensor], photos: Pixels) -> Parity:
    """Measure how far two models' answers lie apart on photos (N, S, S, 3).

    Raises:
        ExportError: By more than PARITY_LIMIT, or an answer is no number.
    """
    batches = [to_tensor(photo[None]) for photo in photos]
    difference = max(float(np.abs(reference(batch) - exported(batch)).max()) for batch in batches)
    # `not <=` and not `>`, for NaN.
    if not difference <= PARITY_LIMIT:
        raise ExportError(
            f"The ONNX model's answers differ from TensorFlow's by up to {difference:.2g} on {len(photos)} "
            f"held-out photos; at most {PARITY_LIMIT:g} is allowed. No bundle was written."
        )
    return Parity(max_difference=difference, limit=PARITY_LIMIT, photos=len(photos))
