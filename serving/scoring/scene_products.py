"""Scoring of a single scene with all its products: map, polygons, STAC item, and a manifest of how they were made."""

from pathlib import Path
from typing import NamedTuple

from model.bundle import OpenedModel, RegisteredModel
from model.errors import DataError
from model.io.files import remove_stale_drafts
from model.io.images import short_name
from model.io.locations import Location
from model.io.progress import SILENT, Progress
from model.provenance import software_version
from model.spec import Frozen, Palette
from model.translator import Translator
from serving.geo.grid import Grid, find_gap
from serving.geo.sidecars import locate_by_sidecars
from serving.inference.scene import SceneReading, SceneReport, draw_scene
from serving.scoring.map_files import check_map_files, item_file, manifest_file
from serving.scoring.scene_scorer import Describe
from serving.scoring.stac import ModelFacts, write_item
from serving.scoring.styles import Style, find_finish, find_palette
from serving.vectors.vector_file import vector_driver
from serving.vectors.vector_layer import VectorReport, check_vectors, write_vectors


class SceneSettings(NamedTuple):
    """Settings of a scene's products; see `scene.draw_scene` and `vector_layer.write_vectors`."""

    reading: SceneReading
    """How the scene is read; the resolution is by default the bundle's."""
    vector: Path | None = None
    """The file of the polygons, if they are requested."""
    classes: tuple[str, ...] | None = None
    """The classes that become polygons, by default all but ground."""
    style: Style = "plain"


class SceneManifest(Frozen):
    """Contents of `map.manifest.json`, next to `map.tif`."""

    file: str
    """Name of the manifest's file."""
    scene: SceneReport
    origin: str
    """The model's origin: models:/NAME/VERSION or runs:/ID."""
    model: ModelFacts
    vectors: VectorReport | None
    style: Style = "plain"
    item: str | None
    """Name of the STAC item's file."""
    warnings: tuple[str, ...]


def score_scene(
    model: OpenedModel,
    source: Path,
    out: Path,
    settings: SceneSettings,
    *,
    variant: str | None = None,
    progress: Progress = SILENT,
) -> SceneManifest:
    """Draw a scene's map, and write the requested products next to it.

    Everything that can be refused is refused before the first tile is drawn. A map that is drawn has its manifest and
    its item, even if the polygons fail afterwards.

    Raises:
        ConfigError: A setting can't be used.
        DataError: The scene can't be read, or a file can't be written; strips that are drawn are kept.
    """
    palette = _find_palette(model, settings.vector) if settings.vector else None

    def check(grid: Grid) -> None:
        check_map_files(out)
        if settings.vector and palette:
            _check_location(grid, source)
            check_vectors(grid, short_name(source), settings.vector, palette, settings.classes)

    manifest = model.bundle.manifest
    finish = find_finish(settings.style, manifest, model.origin)
    translator = Translator(model.bundle, variant=variant)
    reading = settings.reading.filled(manifest.resolution)
    scene = draw_scene(
        translator,
        source,
        out,
        side=manifest.network.image_size,
        model=manifest.hashes()[translator.variant],
        resolution=reading.resolution,
        bands=reading.bands,
        stretch=reading.stretch,
        finish=finish,
        check=check,
        progress=progress,
    )
    remove_stale_drafts(out.parent)
    described = _describe(model, out, scene, translator.variant, style=settings.style)
    if not (settings.vector and palette):
        return described
    vectors = write_vectors(out, settings.vector, palette, classes=settings.classes, progress=progress)
    return _describe(
        model, out, scene, translator.variant, style=settings.style, vectors=vectors, vector=settings.vector
    )


def _check_location(grid: Grid, source: Path) -> None:
    """Check that a scene has the location that polygons need; name files next to it that hold one.

    Raises:
        DataError: It has none.
    """
    name = short_name(source)
    if gap := find_gap(grid, name):
        sidecars = locate_by_sidecars(source, grid)
        advice = f". {sidecars}" if sidecars else f"; {gap.advice}."
        raise DataError(f"{gap.found}, so its location is unknown{advice}")


def describer(model: OpenedModel, style: Style = "plain") -> Describe:
    """Return a function that writes a STAC item and a manifest next to the map of a scene."""
    return lambda out, scene, variant: _describe(model, out, scene, variant, style=style).warnings


def _describe(
    model: OpenedModel,
    out: Path,
    scene: SceneReport,
    variant: str,
    *,
    style: Style,
    vectors: VectorReport | None = None,
    vector: Path | None = None,
) -> SceneManifest:
    facts = _model_facts(model, scene.model, variant)
    warnings = list(scene.warnings)
    item: str | None = None
    try:
        warnings += write_item(out, item_file(out), model=facts, vector=vector)
        item = item_file(out).name
    except DataError as error:
        # That of an earlier map describes another one.
        item_file(out).unlink(missing_ok=True)
        warnings.append(f"There is no STAC item. {error}")
    file = manifest_file(out)
    # Should the next one fail, there is none of an earlier map.
    file.unlink(missing_ok=True)
    manifest = SceneManifest(
        file=file.name,
        origin=str(model.origin),
        scene=scene,
        model=facts,
        vectors=vectors,
        style=style,
        item=item,
        warnings=tuple(warnings),
    )
    Location(file).write_bytes(f"{manifest.model_dump_json(indent=2)}\n".encode())
    return manifest


def _find_palette(model: OpenedModel, vector: Path) -> Palette:
    """Return the classes that become polygons in the file `vector`.

    Raises:
        ConfigError: The file's name or the model does not allow polygons.
    """
    vector_driver(vector)
    return find_palette(model.bundle.manifest, model.origin, "that could become polygons")


def _model_facts(model: OpenedModel, sha256: str, variant: str) -> ModelFacts:
    registered = model.origin if isinstance(model.origin, RegisteredModel) else None
    return ModelFacts(
        name=registered.name if registered else "sat2map",
        version=str(registered.version) if registered else None,
        sha256=sha256,
        variant=variant,
        run_id=model.bundle.manifest.run_id,
        software=software_version(),
    )
