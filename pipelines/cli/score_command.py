"""The verb that draws: score."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from model.errors import Stopped
from pipelines.cli import score_options as given
from pipelines.cli.options import AsJson, Config, Run, Settings, load, print_result

if TYPE_CHECKING:
    from model.io.locations import Location
    from serving.inference.scene import SceneReading
    from serving.scoring.image_scorer import ScoreSettings
    from serving.scoring.scene_products import SceneManifest
    from serving.scoring.scorer import ScoreReport

PARTLY = 4
"""The exit code when some photos have maps now, and some can't be drawn."""

app = typer.Typer()


@app.command(help=given.HELP)
def score(
    photos: given.Photos = None,
    maps: given.Maps = "",
    out: given.Out = "",
    model: given.Model = "",
    variant: given.Variant = "",
    format: given.Format = "",
    resize: given.Resize = False,
    distributed: given.Distributed = False,
    actors: given.Actors = None,
    cpus_per_actor: given.CpusPerActor = None,
    resolution: given.Resolution = None,
    bands: given.Bands = "",
    stretch: given.Stretch = "",
    vector: given.Vector = "",
    classes: given.Classes = "",
    run: Run = "",
    config: Config = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Draw maps; the help stands with the options."""
    sources, place = given.split(photos or [], maps, out)
    settings_read = load(config, settings)
    of_scenes: dict[str, Any] = {"--resolution": resolution, "--bands": bands, "--stretch": stretch}
    of_polygons = {"--vector": vector, "--classes": classes}
    of_clusters = {"--actors": actors, "--cpus-per-actor": cpus_per_actor}
    chosen: Any = {"model": model, "run": run, "config": settings_read}
    try:
        if given.is_scene(sources, place):
            others: dict[str, Any] = {"--format": format != "tiff" and format, "--resize": resize}
            others |= {"--distributed": distributed} | of_clusters
            given.refuse_given(others, "a scene is drawn window by window on this machine, into a GeoTIFF")
            reading = given.scene_reading(resolution, bands=bands, stretch=stretch)
            found = _draw_scene((sources[0], place), chosen, reading, (vector, classes), variant=variant)
            print_result(as_json, found, lambda: _print_scene(found, place))
            return
        if format != "tiff":
            why = "they are of scenes, TIFFs that become TIFFs (-o map.tif, or --format tiff for a folder)"
            given.refuse_given(of_scenes | of_polygons, why)
        given.refuse_given(of_polygons, "polygons are made of a single scene (score scene.tif -o map.tif)")
        if not distributed:
            given.refuse_given(of_clusters, "they are of --distributed")
        reading = given.scene_reading(resolution, bands=bands, stretch=stretch)
        wanted = given.image_settings(_locate(place), format=format, resize=resize, scene=reading)
        report = _draw(sources, place, chosen, wanted, variant=variant, pool=of_clusters if distributed else None)
    except KeyboardInterrupt:
        raise Stopped("Stopped. The maps that are drawn count: run the same command again to go on.") from None
    print_result(as_json, report, lambda: _print(report))
    if report.failed:
        sys.exit(PARTLY)


def _draw(
    sources: Sequence[str],
    place: str,
    chosen: dict[str, Any],
    settings: "ScoreSettings",
    *,
    variant: str,
    pool: dict[str, int | None] | None,
) -> "ScoreReport":
    """Draw photos here, or with a pool of actors of a cluster."""
    from pipelines.registry.resolve import open_model

    model = open_model(**chosen)
    words: Any = {"settings": settings, "variant": variant or None}
    if pool is None:
        from serving.scoring.scene_products import describer
        from serving.scoring.scorer import score as draw

        return draw(model, sources, _locate(place), **words, describe=describer(model))
    from pipelines.cluster.distributed_scoring import score_distributed

    actors, cpus = pool.values()
    return score_distributed(model, sources, _locate(place), **words, actors=actors, cpus=cpus)


def _draw_scene(
    files: tuple[str, str], chosen: dict[str, Any], reading: "SceneReading", polygons: tuple[str, str], *, variant: str
) -> "SceneManifest":
    from pipelines.registry.resolve import open_model
    from serving.scoring.scene_products import SceneSettings, score_scene

    vector, classes = polygons
    settings = SceneSettings(reading, vector, tuple(filter(None, classes.split(","))) or None)
    source, out = map(Path, files)
    return score_scene(open_model(**chosen), source, out, settings, variant=variant or None)


def _print(report: "ScoreReport") -> None:
    told = [f"{report.drawn} drawn in {report.seconds:.1f} s ({report.images_per_second:.1f} images/s)"]
    if report.kept:
        told.append(f"{report.kept} there already")
    if report.failed:
        told.append(f"{len(report.failed)} that can't be drawn")
    print(f"Maps: {', '.join(told)}.")
    rows = {"Maps": report.out, "Model": f"{report.model}, {report.variant} on {report.provider}"}
    if report.manifest:
        rows["Manifest"] = report.manifest
    _print_rows(rows)


def _print_scene(found: "SceneManifest", place: str) -> None:
    scene, folder = found.scene, Path(place).parent
    told = [f"{scene.width}x{scene.height} pixels"]
    if scene.ground:
        told.append(f"{scene.ground[0]:.3g} m a pixel")
    told.append(f"{scene.tiles} tiles drawn in {scene.milliseconds / 1000:.1f} s")
    if scene.skipped:
        told.append(f"{scene.skipped} empty ones skipped")
    if scene.resumed:
        told.append(f"{scene.resumed} rows were there already")
    print(f"Scene: {', '.join(told)}.")
    rows = {"Map": place}
    if found.vectors:
        counts = ", ".join(f"{kind.polygons} {name}" for name, kind in found.vectors.classes.items())
        rows["Polygons"] = f"{found.vectors.file}: {counts}"
    if found.item:
        rows["STAC"] = str(folder / found.item)
    rows["Manifest"] = str(folder / found.file)
    rows["Model"] = f"{found.origin}, {found.model.variant}"
    if scene.seams is not None:
        rows["Seams"] = f"{scene.seams:.2f} (1: steps across the edges of tiles are like those beside them)"
    _print_rows(rows)


def _print_rows(rows: dict[str, str]) -> None:
    for name, value in rows.items():
        print(f"  {name:8}  {value}")


def _locate(out: str) -> "Location":
    from model.io.locations import Location

    return Location.parse(out)
