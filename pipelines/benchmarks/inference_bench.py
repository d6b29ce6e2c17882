"""Benchmark of drawing on this machine, compared with other ways of running the network: `sat2map bench inference`.

Every measurement runs in its own process, in interleaved rounds, so that other load affects all contenders alike.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, Popen

from PIL import Image
from pydantic import BaseModel

from model import providers
from model.bundle import FP32, Bundle, variant_file
from model.errors import TrainingError
from model.hardware import processor, usable_cores
from model.io.files import check_writable, scratch_folder, write_text
from model.io.progress import stage
from model.translator import BATCH, Translator
from pipelines.benchmarks.harness import check_parts, interleaved_medians, reference_speed, run
from pipelines.benchmarks.inputs import PLAIN_FILE, export_untrained, paint_jpegs, write_scene
from pipelines.benchmarks.results import PLAIN, REFERENCE, DrawingSpeed, EndToEnd, InferenceBench, inference_table
from pipelines.config.schema import RunConfig
from pipelines.data.sample.painter import paint
from pipelines.run_folder import GENERATOR_FILE

PARTS = ("session", "score", "scene", "start")
KERAS, TENSORFLOW = "TensorFlow fp32", "TensorFlow"


@dataclass(frozen=True)
class _Rounds:
    """The rounds of all measurements, the seconds of each, and a scratch folder."""

    rounds: int
    seconds: float
    folder: Path


@dataclass(frozen=True)
class _Contender:
    """One way of running the generator."""

    name: str
    provider: str
    measure: Callable[[], float]
    """Measures images/s."""


class _SceneTiming(BaseModel):
    tiles: int
    milliseconds: float


class _ScoreOutput(BaseModel):
    """The parts of `score --json` that are used here."""

    images_per_second: float = 0.0
    scene: _SceneTiming | None = None


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
    """Measure the requested parts, and write `bench/inference.json` and `.md` into the workspace.

    Args:
        config: The network. It is not trained, since its speed does not depend on the weights.
        parts: `session`: a bare model. `score`: a folder of JPEGs. `scene`: a GeoTIFF. `start`: the time to the first
            map. None for all.
        batches: Batch sizes of `session`.
        against: Reference commands; each prints one JSON object with `images_per_second` as its last line.
            `{batch}` stands for the batch size, `{model}` for the plain ONNX file.
        rounds: Number of rounds.
        seconds: Duration of each measurement in a round.
        photos: Number of photos in the folder of `score`.

    Raises:
        ConfigError: A part does not exist; or a reference command failed or printed something else.
        ExportError: The model can't be exported.
    """
    parts = check_parts(parts, PARTS)
    check_writable(config.workspace / "bench" / "inference.json")
    speeds: list[DrawingSpeed] = []
    folder = scene = start_seconds = None
    with scratch_folder() as name:
        timed = _Rounds(rounds, seconds, Path(name))
        with stage("Exporting an untrained network"):
            bundle = export_untrained(config, timed.folder)
        if "session" in parts:
            with stage(f"Timing sessions at batch {', '.join(map(str, batches))}"):
                speeds = _session_speeds(bundle, against, batches, timed)
        if "score" in parts:
            with stage(f"Scoring {photos} photos"):
                folder = _score_folder(bundle, photos, timed)
        if "scene" in parts:
            with stage("Scoring a scene"):
                scene = _score_scene(bundle, timed)
        if "start" in parts:
            with stage("Timing the first map"):
                [start_seconds] = interleaved_medians([partial(_first_map, bundle, timed.folder)], rounds)
    result = InferenceBench(
        machine=f"{processor()}, {usable_cores()} cores",
        versions={package: version(package) for package in ("tensorflow", "tf2onnx")} | providers.versions(),
        width=config.network.width,
        side=config.network.image_size,
        rounds=rounds,
        seconds=seconds,
        lines=tuple(speeds),
        folder=folder,
        scene=scene,
        start_seconds=start_seconds,
    )
    return _written(result, config.workspace / "bench")


def _written(result: InferenceBench, folder: Path) -> InferenceBench:
    write_text(folder / "inference.json", result.model_dump_json(indent=2))
    write_text(folder / "inference.md", inference_table(result))
    return result


def _session_speeds(
    bundle: Bundle, against: Sequence[str], batches: Sequence[int], timed: _Rounds
) -> list[DrawingSpeed]:
    """Measure every contender at every batch size."""
    speeds: dict[str, dict[int, float]] = {}
    for batch in batches:
        contenders = list(_contenders(bundle, against, batch, timed))
        medians = interleaved_medians([contender.measure for contender in contenders], timed.rounds)
        for contender, speed in zip(contenders, medians, strict=True):
            speeds.setdefault(contender.name, {})[batch] = speed
    return [
        DrawingSpeed(name=contender.name, provider=contender.provider, images_per_second=speeds[contender.name])
        for contender in _contenders(bundle, against, 1, timed)
    ]


def _contenders(bundle: Bundle, against: Sequence[str], batch: int, timed: _Rounds) -> Iterator[_Contender]:
    """Yield all contenders; references come first, so that a command that can't run fails at once."""
    plain_file = timed.folder / PLAIN_FILE
    for command in against:
        words = command.replace("{batch}", str(batch)).replace("{model}", str(plain_file))
        yield _Contender(command, REFERENCE, partial(reference_speed, words))
    yield _Contender(PLAIN, providers.CPU, partial(_speed, plain_file, providers.CPU, batch, timed))
    keras = bundle.folder.parent / GENERATOR_FILE
    yield _Contender(KERAS, TENSORFLOW, partial(_speed, keras, TENSORFLOW, batch, timed))
    available = providers.available()
    variants: dict[str, tuple[str, ...]] = {FP32: (providers.CPU,)}
    variants |= {name: variant.providers for name, variant in bundle.manifest.variants.items()}
    for name, supported in variants.items():
        file = bundle.folder / variant_file(name)
        for provider in available:
            if provider in supported:
                yield _Contender(f"sat2map {name}", provider, partial(_speed, file, provider, batch, timed))


def _speed(file: Path, provider: str, batch: int, timed: _Rounds) -> float:
    words = [str(file), provider, str(batch), str(timed.seconds)]
    printed = run([sys.executable, "-m", "pipelines.benchmarks.bare_drawing", *words], timed.folder)
    return float(json.loads(printed.splitlines()[-1])["images_per_second"])


def _score_folder(bundle: Bundle, photos: int, timed: _Rounds) -> EndToEnd:
    folder = timed.folder / "photos"
    paint_jpegs(folder, photos, bundle.manifest.network.image_size)

    def scored() -> tuple[int, float]:
        with tempfile.TemporaryDirectory(dir=timed.folder) as out:
            return photos, _score(bundle, folder, out, timed).images_per_second

    return _compare_with_session(bundle, scored, timed, batch=1)


def _score_scene(bundle: Bundle, timed: _Rounds) -> EndToEnd:
    file = timed.folder / "scene.tif"
    write_scene(file, bundle.manifest.network.image_size)

    def scored() -> tuple[int, float]:
        with tempfile.TemporaryDirectory(dir=timed.folder) as out:
            scene = _score(bundle, file, f"{out}/map.tif", timed).scene
        assert scene is not None
        return scene.tiles, 1000 * scene.tiles / scene.milliseconds

    return _compare_with_session(bundle, scored, timed, batch=BATCH)


def _score(bundle: Bundle, source: Path, out: str, timed: _Rounds) -> _ScoreOutput:
    words = ["score", str(source), out, "--model", str(bundle.folder), "--json"]
    return _ScoreOutput.model_validate_json(run([sys.executable, "-m", "pipelines", *words], timed.folder))


def _compare_with_session(
    bundle: Bundle, scored: Callable[[], tuple[int, float]], timed: _Rounds, *, batch: int
) -> EndToEnd:
    """Measure `score` and the bare session that it uses; `scored` returns the number of images and images/s."""
    chosen = Translator(bundle)
    counts = set()

    def score_speed() -> float:
        images, speed = scored()
        counts.add(images)
        return speed

    file = bundle.folder / variant_file(chosen.variant)
    session_speed = partial(_speed, file, chosen.provider, batch, timed)
    bare, speed = interleaved_medians([session_speed, score_speed], timed.rounds)
    [images] = counts
    return EndToEnd(
        images=images,
        batch=batch,
        variant=chosen.variant,
        provider=chosen.provider,
        bare_per_second=bare,
        scored_per_second=speed,
    )


def _first_map(bundle: Bundle, folder: Path) -> float:
    """Return the seconds from the command to the first map, in a new process."""
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
