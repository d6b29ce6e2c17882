"""The `score` verb, which draws maps."""

from typing import TYPE_CHECKING

from model.errors import Stopped
from pipelines.cli import score_options, score_output, score_request
from pipelines.cli.options import AsJson, Config, Run, Settings, load, load_run
from pipelines.cli.verbs import Result, Verbs

if TYPE_CHECKING:
    from pipelines.config.schema import RunConfig
    from serving.scoring.scene_report import SingleSceneReport
    from serving.scoring.scorer import OnOutcome, ScoreReport

PARTLY = 4
"""Exit code if some photos have maps and others can't be drawn."""

app = Verbs()


@app.command(help=score_options.HELP)
def score(
    photos: score_options.Photos = None,
    maps: score_options.Maps = "",
    out: score_options.Out = "",
    model: score_options.Model = "",
    variant: score_options.Variant = "",
    format: score_options.Format = "",
    style: score_options.Style = "",
    resize: score_options.Resize = False,
    distributed: score_options.Distributed = False,
    actors: score_options.Actors = None,
    cpus_per_actor: score_options.CpusPerActor = None,
    resolution: score_options.Resolution = None,
    bands: score_options.Bands = "",
    stretch: score_options.Stretch = "",
    vector: score_options.Vector = "",
    classes: score_options.Classes = "",
    run: Run = "",
    config: Config = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> Result:
    """Draw maps; the help text is in `score_options`."""
    sources, target = score_request.split(photos or [], maps, out)
    request = score_request.ScoreRequest(
        sources=tuple(sources),
        out=target,
        model=model,
        run=run,
        variant=variant or None,
        format=format,
        style=style,
        resize=resize,
        distributed=distributed,
        actors=actors,
        cpus_per_actor=cpus_per_actor,
        resolution=resolution,
        bands=bands,
        stretch=stretch,
        vector=vector,
        classes=classes,
    )
    # Only the workspace is used; other settings must be those of the run.
    other = bool(config or settings) and not model
    loaded = load_run("score", config, settings, run)[1] if other else load(config, settings)
    try:
        if request.is_scene:
            scene = _draw_scene(request, loaded)
            return Result(scene, lambda: score_output.print_scene(scene), as_json)
        report = _draw_photos(request, loaded)
    except KeyboardInterrupt:
        raise Stopped("Stopped. Finished maps are kept: run the same command again to continue.") from None
    exit_code = PARTLY if report.failed else 0
    return Result(report, lambda: score_output.print_report(report), as_json, exit_code)


def _draw_scene(request: score_request.ScoreRequest, config: "RunConfig") -> "SingleSceneReport":
    """Draw a single scene on this machine, and print the warnings."""
    import os

    from model.io.files import follow
    from model.io.locations import Location
    from model.io.progress import Terminal
    from pipelines.registry.resolve import open_model
    from serving.scoring.scene_products import score_scene
    from serving.scoring.scene_report import SingleSceneReport

    score_request.check_scene_options(request)
    settings = score_request.scene_settings(request)
    model = open_model(request.model, request.run, config)
    source, out = Location.parse(request.sources[0]).absolute().path, request.target.path
    out = follow(out) if os.path.islink(out) else out
    manifest = score_scene(model, source, out, settings, variant=request.variant, progress=Terminal())
    score_output.print_warnings(manifest.warnings)
    return SingleSceneReport.of(manifest, out)


def _draw_photos(request: score_request.ScoreRequest, config: "RunConfig") -> "ScoreReport":
    """Draw photos, and print their errors and warnings."""
    from serving.scoring.scorer import NothingDrawn

    score_request.check_photo_options(request)
    printer, draw = score_output.OutcomePrinter(), _draw_on_cluster if request.distributed else _draw_here
    try:
        report = draw(request, config, printer.print_outcome)
    except NothingDrawn as error:
        printer.finish(error.report.warnings)
        raise
    printer.finish(report.warnings)
    return report


def _draw_here(request: score_request.ScoreRequest, config: "RunConfig", on_outcome: "OnOutcome") -> "ScoreReport":
    """Draw photos on this machine."""
    from model.io.progress import Terminal
    from pipelines.registry.resolve import open_model
    from serving.scoring.scene_products import describer
    from serving.scoring.scorer import score as draw

    settings = score_request.score_settings(request)
    model = open_model(request.model, request.run, config)
    return draw(
        model,
        request.sources,
        request.target,
        settings=settings,
        variant=request.variant,
        describe=describer(model, settings.style),
        progress=Terminal(),
        on_outcome=on_outcome,
    )


def _draw_on_cluster(
    request: score_request.ScoreRequest, config: "RunConfig", on_outcome: "OnOutcome"
) -> "ScoreReport":
    """Draw photos with a pool of actors on a Ray cluster."""
    from model.io.progress import Terminal
    from pipelines.cluster.distributed_scoring import score_distributed
    from pipelines.registry.resolve import open_model

    settings = score_request.score_settings(request)
    return score_distributed(
        open_model(request.model, request.run, config),
        request.sources,
        request.target,
        settings=settings,
        variant=request.variant,
        actors=request.actors,
        cpus=request.cpus_per_actor,
        progress=Terminal(),
        on_outcome=on_outcome,
        on_lost=score_output.print_lost,
    )
