"""A scene scored whole: its map, the map's polygons, a STAC item, and a manifest that tells how they were made."""

import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from model.bundle import OpenedModel, RegisteredModel
from model.errors import ConfigError, DataError
from model.io.locations import Location
from model.spec import Frozen, Palette
from model.translator import Translator
from serving.inference.scene import SceneReading, SceneReport, draw_scene
from serving.scoring.scene_scorer import Describe
from serving.scoring.stac import ModelFacts, item_file, write_item
from serving.vectors.vector_layer import VectorReport, check_vector_name, write_vectors

MANIFEST_SUFFIX = ".manifest.json"


class SceneSettings(NamedTuple):
    """What a user may say of a scene; see `scene.draw_scene` and `vector_layer.write_vectors`."""

    reading: SceneReading
    """The resolution is by default what the bundle says."""
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
    chosen: OpenedModel, source: Path, out: Path, settings: SceneSettings, *, variant: str | None = None
) -> SceneManifest:
    """Draw a scene's map and what goes with it.

    Raises:
        ConfigError: A setting can't be used.
        DataError: The scene can't be read, or a file can't be written; what is drawn counts in the next run.
    """
    palette = _palette(chosen, settings)
    manifest = chosen.bundle.manifest
    translator = Translator(chosen.bundle, variant=variant)
    scene = draw_scene(
        translator,
        source,
        out,
        side=manifest.network.image_size,
        model=manifest.hashes()[translator.variant],
        **settings.reading.filled(manifest.resolution).model_dump(),
    )
    vectors = None if palette is None else write_vectors(out, Path(settings.vector), palette, classes=settings.classes)
    found = _describe(chosen, out, scene, translator.variant, vectors=vectors, vector=settings.vector)
    for warning in found.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    return found


def describer(chosen: OpenedModel) -> Describe:
    """Return what writes a STAC item and a manifest beside each map of a scene."""
    return lambda out, scene, variant: _describe(chosen, out, scene, variant).warnings


def _describe(
    chosen: OpenedModel,
    out: Path,
    scene: SceneReport,
    variant: str,
    *,
    vectors: VectorReport | None = None,
    vector: str = "",
) -> SceneManifest:
    facts = _facts(chosen, scene.model, variant)
    warnings = list(scene.warnings)
    item: str | None = None
    try:
        item = write_item(out, item_file(out), model=facts, vector=Path(vector) if vector else None).name
    except DataError as error:
        warnings.append(f"There is no STAC item: {error}")
    file = out.with_name(out.stem + MANIFEST_SUFFIX)
    found = SceneManifest(
        file=file.name,
        origin=str(chosen.origin),
        scene=scene,
        model=facts,
        vectors=vectors,
        item=item,
        warnings=tuple(warnings),
    )
    Location(file).write_bytes(f"{found.model_dump_json(indent=2)}\n".encode())
    return found


def _palette(chosen: OpenedModel, settings: SceneSettings) -> Palette | None:
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


def _facts(chosen: OpenedModel, sha256: str, variant: str) -> ModelFacts:
    registered = chosen.origin if isinstance(chosen.origin, RegisteredModel) else None
    return ModelFacts(
        name=registered.name if registered else "sat2map",
        version=str(registered.version) if registered else None,
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
        from model.provenance import git_revision

        return git_revision()
