"""The verbs of a run: main, prepare, train, tune, export."""

from typing import Annotated

import typer

from pipelines.cli.options import AsJson, Config, Run, Settings, load, print_result, run_folder

app = typer.Typer()


@app.command("main")
def main_verb(config: Config = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """Do it all: prepare, train, export, evaluate, register."""
    settings_read = load(config, settings)
    from pipelines import flow
    from pipelines.cli import summary

    folder, result = flow.run(settings_read)
    print_result(as_json, result, lambda: summary.flow(folder, result))


@app.command()
def prepare(config: Config = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """Get the pairs and check every file of them."""
    settings_read = load(config, settings)
    from pipelines.cli import summary
    from pipelines.data.prepare import prepare as prepare_pairs

    index = prepare_pairs(settings_read)
    print_result(as_json, index, lambda: summary.pairs(settings_read, index))


@app.command()
def train(
    config: Config = None,
    settings: Settings = None,
    resume: Annotated[
        str,
        typer.Option(
            "--resume",
            metavar="ID",
            help="Go on with this run from its newest checkpoint, with the settings it began with; "
            "--set may change those of training, such as training.epochs.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Train on the prepared pairs, with Ray Train, tracked by MLflow."""
    settings_read = load(config, settings)
    from pipelines.cli import summary
    from pipelines.data.pairs import PairIndex
    from pipelines.training.train import fit
    from pipelines.training.train import resume as resume_run
    from pipelines.workspace import Workspace

    workspace = Workspace(settings_read.workspace)
    if resume:
        folder = resume_run(workspace.run(resume), settings or [])
    else:
        folder = fit(settings_read, PairIndex.load(workspace.pairs_file))
    print_result(as_json, folder.record(), lambda: summary.training(folder))


@app.command()
def tune(
    config: Config = None,
    settings: Settings = None,
    resume: Annotated[str, typer.Option("--resume", metavar="ID", help="Go on with this search.")] = "",
    as_json: AsJson = False,
) -> None:
    """Search learning rate, L1 weight, norm and width (settings tune.*) with Ray Tune."""
    settings_read = load(config, settings)
    from pipelines.cli import summary
    from pipelines.data.pairs import PairIndex
    from pipelines.training.tune import resume as resume_search
    from pipelines.training.tune import search
    from pipelines.workspace import Workspace

    workspace = Workspace(settings_read.workspace)
    found = (
        resume_search(workspace.run(resume)) if resume else search(settings_read, PairIndex.load(workspace.pairs_file))
    )
    print_result(as_json, found, lambda: summary.search(found))


@app.command()
def export(config: Config = None, settings: Settings = None, run: Run = "", as_json: AsJson = False) -> None:
    """Turn the trained generator into an ONNX bundle, and prove that both draw the same.

    Beside fp32, the bundle gets the variants of export.variants that draw nearly as well (export.min_ssim,
    export.max_loss), each for the machines that it is fastest on.
    """
    settings_read = load(config, settings)
    folder = run_folder(settings_read, run)
    from pipelines.cli import summary
    from pipelines.export.export import to_bundle

    bundle = to_bundle(folder, settings_read.export)
    print_result(as_json, bundle.manifest, lambda: summary.bundle(bundle))
