"""How fast maps are drawn on this machine, beside other ways of running the same network: `sat2map bench inference`.

Everything runs in processes of its own, in turn: what the machine does at one moment meets all alike.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import numpy as np
import onnx
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from model import providers
from model.bundle import FP32, Bundle, variant_file
from model.errors import TrainingError
from model.hardware import processor, usable_cores
from model.io.files import write_text
from model.io.progress import quiet_stderr, stage
from model.spec import signature
from model.translator import BATCH, Translator
from pipelines.benchmarks.harness import check_parts, in_turn, reference_speed, run
from pipelines.benchmarks.results import PLAIN, REFERENCE, Contender, EndToEnd, InferenceBench, inference_table
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.data.prepare import prepare
from pipelines.data.sample.painter import paint
from pipelines.export.export import to_bundle
from pipelines.workspace import GENERATOR_FILE, RunRecord, Workspace

PARTS = ("session", "score", "scene", "start")
CALIBRATION = 16
"""Painted photos that int8 takes its ranges from."""
SCENE_SIDE = 16
"""Of the scene, in sides of the network."""
KERAS = "TensorFlow fp32"
PLAIN_FILE = "plain.onnx"


def inference(
    config: RunConfig,
    *,
    parts: Sequence[str] | None,
    batches: Sequence[int],
    against: Sequence[str],
    rounds: int,
    seconds: float,
    photos: int,
) -> InferenceBench:
    """Measure the parts that are asked for, and write `bench/inference.json` and `.md` into the workspace.

    Args:
        config: The network, which is not trained: how long it takes does not depend on its weights.
        parts: `session`: a model drawing alone. `score`: JPEGs. `scene`: a GeoTIFF. `start`: to the first map.
        batches: Batch sizes of the bare session.
        against: Commands to be as fast as; each prints one JSON object with `images_per_second` as its last line.
            `{batch}` in it is the batch size, `{model}` the plain ONNX file.
        rounds: How often each is measured, in turn.
        seconds: How long each is measured each time.
        photos: In the folder that is scored.

    Raises:
        ConfigError: There is no such part; or a reference command failed or printed something else.
        ExportError: The model can't be exported.
    """
    parts = check_parts(parts, PARTS)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sat2map-bench-") as name:
        folder = Path(name)
        with stage("Exporting an untrained network"):
            bundle = _export(config, folder)
        if "session" in parts:
            lines: dict[str, Contender] = {}
            for batch in batches:
                with stage(f"Timing sessions at batch {batch}"):
                    _add_speeds(lines, _contenders(bundle, folder, against, batch, seconds), batch, rounds)
            found["lines"] = tuple(lines.values())
        if "score" in parts:
            with stage(f"Scoring {photos} photos"):
                found["folder"] = _score_folder(bundle, folder, rounds, seconds, photos)
        if "scene" in parts:
            with stage("Scoring a scene"):
                found["scene"] = _score_scene(bundle, folder, rounds, seconds)
        if "start" in parts:
            with stage("Timing the first map"):
                found["start_seconds"] = in_turn([lambda: _first_map(bundle, folder)], rounds)[0]
    result = InferenceBench(
        machine=f"{processor()}, {usable_cores()} cores",
        versions={package: version(package) for package in ("tensorflow", "tf2onnx")} | providers.versions(),
        width=config.network.width,
        side=config.network.image_size,
        rounds=rounds,
        seconds=seconds,
        **found,
    )
    out = config.workspace / "bench"
    write_text(out / "inference.json", result.model_dump_json(indent=2))
    write_text(out / "inference.md", inference_table(result))
    return result


def _export(config: RunConfig, folder: Path) -> Bundle:
    """Export a network with random weights as a run's, beside the plain file that tf2onnx makes of it."""
    settings = {
        "workspace": str(folder),
        "data.source": "sample",
        "data.sample.train": CALIBRATION,
        "data.sample.val": CALIBRATION,
        "export.calibration_photos": CALIBRATION,
        # What random weights draw is judged by nobody.
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
        generator = keras_file.load_generator(untrained.generator)
    onnx.save_model(conversion.to_onnx(generator, signature(config.network)), folder / PLAIN_FILE)
    return to_bundle(untrained, config.export)


def _contenders(
    bundle: Bundle, folder: Path, against: Sequence[str], batch: int, seconds: float
) -> dict[str, tuple[str, Callable[[], float]]]:
    """Return by name who runs it and what measures it; the references first: whether they can run is known at once."""
    found: dict[str, tuple[str, Callable[[], float]]] = {}
    for command in against:
        words = command.replace("{batch}", str(batch)).replace("{model}", str(folder / PLAIN_FILE))
        found[command] = (REFERENCE, partial(reference_speed, words))
    cpu, keras = providers.CPU, bundle.folder.parent / GENERATOR_FILE
    found[PLAIN] = (cpu, partial(_speed, folder / PLAIN_FILE, cpu, batch, seconds, folder))
    found[KERAS] = (
        "TensorFlow",
        partial(_speed, keras, "TensorFlow", batch, seconds, folder),
    )
    here = providers.available()
    made = {FP32: (cpu,)} | {name: variant.providers for name, variant in bundle.manifest.variants.items()}
    for name, made_for in made.items():
        for provider in here:
            if provider in made_for:
                file = bundle.folder / variant_file(name)
                found[f"sat2map {name}"] = (provider, partial(_speed, file, provider, batch, seconds, folder))
    return found


def _add_speeds(
    lines: dict[str, Contender], contenders: dict[str, tuple[str, Callable[[], float]]], batch: int, rounds: int
) -> None:
    speeds = in_turn([measure for _, measure in contenders.values()], rounds)
    for (name, (provider, _)), speed in zip(contenders.items(), speeds, strict=True):
        before = lines[name].images_per_second if name in lines else {}
        lines[name] = Contender(name=name, provider=provider, images_per_second=before | {batch: speed})


def _speed(file: Path, provider: str, batch: int, seconds: float, folder: Path) -> float:
    words = [str(file), provider, str(batch), str(seconds)]
    printed = run([sys.executable, "-m", "pipelines.benchmarks.bare_drawing", *words], folder)
    return float(json.loads(printed.splitlines()[-1])["images_per_second"])


def _score_folder(bundle: Bundle, folder: Path, rounds: int, seconds: float, photos: int) -> EndToEnd:
    _paint_jpegs(folder / "photos", photos, bundle.manifest.network.image_size)

    def scoring() -> tuple[int, float]:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            found = _score(bundle, folder, str(folder / "photos"), out)
        return photos, found["images_per_second"]

    return _beside_session(bundle, folder, scoring, rounds, seconds, batch=1)


def _score_scene(bundle: Bundle, folder: Path, rounds: int, seconds: float) -> EndToEnd:
    scene = folder / "scene.tif"
    _write_scene(scene, bundle.manifest.network.image_size)

    def scoring() -> tuple[int, float]:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            found = _score(bundle, folder, str(scene), f"{out}/map.tif")["scene"]
        return found["tiles"], 1000 * found["tiles"] / found["milliseconds"]

    return _beside_session(bundle, folder, scoring, rounds, seconds, batch=BATCH)


def _score(bundle: Bundle, folder: Path, source: str, out: str) -> dict[str, Any]:
    words = ["score", source, out, "--model", str(bundle.folder), "--json"]
    found: dict[str, Any] = json.loads(run([sys.executable, "-m", "pipelines", *words], folder))
    return found


def _beside_session(
    bundle: Bundle, folder: Path, scoring: Callable[[], tuple[int, float]], rounds: int, seconds: float, *, batch: int
) -> EndToEnd:
    """Score, which tells how many images and how many a second, in turn with the file that it chooses drawing alone."""
    chosen = Translator(bundle)
    counts = set()

    def scored() -> float:
        images, speed = scoring()
        counts.add(images)
        return speed

    file = bundle.folder / variant_file(chosen.variant)
    bare, speed = in_turn([partial(_speed, file, chosen.provider, batch, seconds, folder), scored], rounds)
    [images] = counts
    made_by = {"variant": chosen.variant, "provider": chosen.provider}
    return EndToEnd(images=images, batch=batch, bare_per_second=bare, scored_per_second=speed, **made_by)


def _paint_jpegs(folder: Path, count: int, side: int) -> None:
    folder.mkdir()
    for number in range(count):
        # So many different ones: what is written again costs the same to read.
        Image.fromarray(paint(number % CALIBRATION, size=side).photo).save(folder / f"{number:05d}.jpg", quality=90)


def _write_scene(file: Path, side: int) -> None:
    """Lay painted photos side by side as a GeoTIFF, tiled and deflated as surveys are."""
    painted = [paint(seed, size=side).photo for seed in range(CALIBRATION)]
    rows = [
        np.hstack([painted[(down + across) % CALIBRATION] for across in range(SCENE_SIDE)])
        for down in range(SCENE_SIDE)
    ]
    pixels = np.vstack(rows)
    height, width, count = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint8", "tiled": True}
    look = {"compress": "DEFLATE", "predictor": 2, "photometric": "RGB", "interleave": "pixel"}
    place = {"crs": "EPSG:32633", "transform": from_origin(400_000, 5_800_000, 0.8, 0.8)}
    with rasterio.open(file, "w", **profile, **look, **place) as scene:
        scene.write(np.moveaxis(pixels, -1, 0))


def _first_map(bundle: Bundle, folder: Path) -> float:
    """Return the seconds from the command to the first map, of a fresh process."""
    photo = folder / "one.jpg"
    Image.fromarray(paint(0, size=bundle.manifest.network.image_size).photo).save(photo)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        drawn = Path(name, "maps", "one.png")
        command = [sys.executable, "-m", "pipelines", "score", str(photo), str(drawn.parent), "--model"]
        began = time.perf_counter()
        with Popen([*command, str(bundle.folder)], cwd=folder, stdout=DEVNULL, stderr=DEVNULL) as process:
            while not drawn.exists():
                if process.poll():
                    raise TrainingError(f"Scoring one photo failed with exit code {process.returncode}.")
                time.sleep(0.002)
            return time.perf_counter() - began
