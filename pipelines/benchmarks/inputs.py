"""Inputs of the inference benchmark: an untrained model, a folder of JPEGs, and a scene."""

from pathlib import Path

import numpy as np
import onnx
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from model.bundle import Bundle
from model.io.progress import quiet_stderr
from model.spec import signature
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.data.prepare import prepare
from pipelines.data.sample.painter import paint
from pipelines.export.export import to_bundle
from pipelines.run_record import RunRecord
from pipelines.workspace import Workspace

CALIBRATION = 16
"""Number of different painted photos, also for the ranges of int8's activations."""
SCENE_SIDE = 16
"""Side of the scene in sides of the network."""
PLAIN_FILE = "plain.onnx"


def export_untrained(config: RunConfig, folder: Path) -> Bundle:
    """Export a network with random weights, and write the plain file that tf2onnx makes of it."""
    settings = {
        "workspace": str(folder),
        "data.source": "sample",
        "data.sample.train": CALIBRATION,
        "data.sample.val": CALIBRATION,
        "export.calibration_photos": CALIBRATION,
        # The scores of random weights mean nothing.
        "export.min_ssim": 0,
        "export.max_loss": 1e9,
    }
    config = with_settings(config, settings)
    untrained = Workspace(folder).new_run("untrained")
    prepare(config).save(untrained.pairs_file)
    untrained.write_record(RunRecord(run_id=untrained.run_id, config=config, steps=0, seconds=0, images_per_second=0))
    with quiet_stderr():
        from model.networks import keras_file
        from pipelines.export import conversion

        keras_file.use_cpu()
        keras_file.save_untrained(config.network, untrained.generator)
        generator = keras_file.fold_upsampling(keras_file.load_generator(untrained.generator), config.network)
    onnx.save_model(conversion.to_onnx(generator, signature(config.network)), folder / PLAIN_FILE)
    return to_bundle(untrained, config.export)


def paint_jpegs(folder: Path, count: int, side: int) -> None:
    """Write painted photos into a new folder, as JPEGs."""
    folder.mkdir()
    for number in range(count):
        # A few different photos suffice: a copy takes as long to read.
        Image.fromarray(paint(number % CALIBRATION, size=side).photo).save(folder / f"{number:05d}.jpg", quality=90)


def write_scene(file: Path, side: int) -> None:
    """Write painted photos side by side into a GeoTIFF, tiled and deflated like real imagery."""
    painted = [paint(seed, size=side).photo for seed in range(CALIBRATION)]
    rows = [
        np.hstack([painted[(down + across) % CALIBRATION] for across in range(SCENE_SIDE)])
        for down in range(SCENE_SIDE)
    ]
    pixels = np.vstack(rows)
    height, width, count = pixels.shape
    with rasterio.open(
        file,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype="uint8",
        tiled=True,
        compress="DEFLATE",
        predictor=2,
        photometric="RGB",
        interleave="pixel",
        crs="EPSG:32633",
        transform=from_origin(400_000, 5_800_000, 0.8, 0.8),
    ) as scene:
        scene.write(np.moveaxis(pixels, -1, 0))
