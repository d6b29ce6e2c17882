"""A scene scored whole: its map, the map's polygons, a STAC item, and a manifest that tells how they were made."""

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from model.errors import ConfigError, DataError
from model.files import write_text
from model.spec import Frozen, Palette
from model.translator import Translator
from pipelines.chosen_model import ChosenModel
from serving.scene import SceneReport, draw_scene
from serving.stac import ModelFacts, item_file, write_item
from serving.vectors import VectorReport, check_vector_name, write_vectors

MANIFEST_SUFFIX = ".manifest.json"
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")


class SceneSettings(NamedTuple):
    """What a user may say of a scene; see `serving.scene.draw_scene` and `serving.vectors.write_vectors`."""

    resolution: float | None = None
    """By default what the bundle says."""
    bands: tuple[int, ...] | None = None
    stretch: tuple[float, float] | None = None
    vector: str = ""
    classes: tuple[str, ...] | None = None


class SceneManifest(Frozen):
    """What `map.manifest.json` says beside `map.tif`."""

    file: str
    """Its own name."""
    scene: SceneReport
    origin: str
    """Where the model comes from: models:/NAME/VERSION or runs:/ID."""
    model: ModelFacts
    vectors: VectorReport | None
    item: str | None
    """The STAC item's file."""
    warnings: tuple[str, ...]


def score_scene(
    chosen: ChosenModel, source: Path, out: Path, settings: SceneSettings, *, variant: str | None = None
) -> SceneManifest:
    """Draw a scene's map and what goes with it.

    Raises:
        ConfigError: A setting can't be used.
        DataError: The scene can't be read, or a file can't be written; what is drawn counts in the next run.
    """
    palette = _palette(chosen, settings)
    manifest = chosen.bundle.manifest
    translator = Translator(chosen.bundle, variant=variant)
    sha256 = manifest.hashes()[translator.variant]
    scene = draw_scene(
        translator,
        source,
        out,
        side=manifest.network.image_size,
        model=sha256,
        resolution=settings.resolution or manifest.resolution,
        bands=settings.bands,
        stretch=settings.stretch,
    )
    for warning in scene.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    vectors = None if palette is None else write_vectors(out, Path(settings.vector), palette, classes=settings.classes)
    facts = _facts(chosen, sha256, translator.variant)
    warnings = list(scene.warnings)
    item: str | None = None
    try:
        item = write_item(
            out, item_file(out), model=facts, vector=Path(settings.vector) if vectors is not None else None
        ).name
    except DataError as error:
        warnings.append(f"There is no STAC item: {error}")
        print(f"Warning: {warnings[-1]}", file=sys.stderr)
    file = out.with_name(out.stem + MANIFEST_SUFFIX)
    found = SceneManifest(
        file=file.name,
        origin=chosen.origin,
        scene=scene,
        model=facts,
        vectors=vectors,
        item=item,
        warnings=tuple(warnings),
    )
    write_text(file, found.model_dump_json(indent=2) + "\n")
    return found


def _palette(chosen: ChosenModel, settings: SceneSettings) -> Palette | None:
    """Return the classes that become polygons, before anything is drawn."""
    if not settings.vector:
        return None
    check_vector_name(Path(settings.vector))
    palette = chosen.bundle.manifest.palette
    if palette is None:
        raise ConfigError(
            f"The maps of {chosen.origin} have no classes that could become polygons: no palette was found in the "
            "training maps. Set evaluation.palette and export the run again."
        )
    return palette


def _facts(chosen: ChosenModel, sha256: str, variant: str) -> ModelFacts:
    registered = _REGISTERED.fullmatch(chosen.origin)
    return ModelFacts(
        name=registered["name"] if registered else "sat2map",
        version=registered["version"] if registered else None,
        sha256=sha256,
        variant=variant,
        run_id=chosen.bundle.manifest.run_id,
        software=_software(),
    )


def _software() -> str:
    """Return the version of sat2map, or the revision of a checkout that is run without being installed."""
    try:
        return metadata.version("sat2map")
    except metadata.PackageNotFoundError:
        from pipelines.tracking import git_revision

        return git_revision()
