"""The verbs main, prepare, train, tune and export."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.options import AsJson, Config, Run, Settings, find_run, load, load_run
from pipelines.cli.verbs import Result, Verbs

if TYPE_CHECKING:
    from pipelines.config.schema import RunConfig
    from pipelines.data.pairs import PairIndex

app = Verbs()


@app.command("main")
def main_verb(config: Config = None, settings: Settings = None, as_json: AsJson = False) -> Result:
    """Run the complete flow: prepare, train, export, evaluate, register."""
    run_config = load(config, settings)
    from pipelines import flow
    from pipelines.cli import summary
    from pipelines.config.overrides import parse_changes

    folder, result = flow.run(run_config, None if config else parse_changes(settings or []))
    return Result(result, lambda: summary.flow(folder, result), as_json)


@app.command()
def prepare(config: Config = None, settings: Settings = None, as_json: AsJson = False) -> Result:
    """Paint, download or find the pairs, and check every file."""
    run_config = load(config, settings)
    from pipelines.cli import summary
    from pipelines.config.overrides import parse_changes
    from pipelines.data.prepare import prepare as prepare_pairs
    from pipelines.data.prepared import locate, settle

    index = prepare_pairs(run_config)
    run_config = settle(locate(run_config), index, None if config else parse_changes(settings or []))
    return Result(index, lambda: summary.pairs(run_config, index), as_json)


@app.command()
def train(
    config: Config = None,
    settings: Settings = None,
    resume: Annotated[
        str,
        typer.Option(
            "--resume",
            metavar="ID",
            help="Resume this run from its newest checkpoint, with its original settings; --set can change those of "
            "training, e.g. training.epochs.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> Result:
    """Train on the prepared pairs with Ray Train, tracked by MLflow.

    The settings are those that the pairs were prepared with, apart from those that you set. If you name another
    source, or change what determines the pairs, they are prepared first.
    """
    if resume:
        begun = find_run(config, settings, resume)
        from pipelines.training.train import resume as resume_run

        folder = resume_run(begun, settings or [], file=config or None)
    else:
        run_config, pairs = _load_with_pairs(config, settings)
        from pipelines import start as starting
        from pipelines.training.train import fit
        from pipelines.workspace import Workspace

        if unfinished := Workspace(run_config.workspace).unfinished():
            print(f"Note: this begins a new run. {unfinished}", file=sys.stderr)
        print(f"Training on {len(pairs.train)} pairs of {run_config.data.source}.", file=sys.stderr)
        folder = fit(run_config, pairs, starting.find(run_config, pairs))
    from pipelines.cli import summary

    return Result(folder.record(), lambda: summary.training(folder), as_json)


@app.command()
def tune(
    config: Config = None,
    settings: Settings = None,
    resume: Annotated[str, typer.Option("--resume", metavar="ID", help="Resume this search.")] = "",
    as_json: AsJson = False,
) -> Result:
    """Search learning rate, L1 weight, norm and width with Ray Tune (settings: tune).

    Pairs and settings are found as by `train`.
    """
    if resume:
        folder = find_run(config, settings, resume)
        from pipelines.config.loading import change
        from pipelines.training.tune import resume as resume_search

        run_config = change(folder.config(), settings or [], verb="tune --resume", file=config or None)
        found = resume_search(folder)
    else:
        run_config, pairs = _load_with_pairs(config, settings)
        from pipelines.training.tune import search

        found = search(run_config, pairs)
    from pipelines.cli import summary

    return Result(found, lambda: summary.search(run_config, found), as_json)


@app.command()
def export(config: Config = None, settings: Settings = None, run: Run = "", as_json: AsJson = False) -> Result:
    """Export the trained generator as an ONNX bundle, and check it against TensorFlow.

    In addition to fp32, the bundle contains faster variants (export.variants) for certain hardware, if their quality
    is close to that of fp32 (export.min_ssim, export.max_loss).
    """
    folder, run_config = load_run("export", config, settings, run)
    from pipelines.cli import summary
    from pipelines.export.export import to_bundle

    bundle = to_bundle(folder, run_config.export, palette=run_config.evaluation.palette)
    return Result(bundle.manifest, lambda: summary.bundle(folder, bundle), as_json)


def _load_with_pairs(config: str | None, settings: list[str] | None) -> "tuple[RunConfig, PairIndex]":
    """Return the settings and the pairs of a training, prepared first if those in the workspace are others."""
    from pipelines.config.loading import read_each

    # Wrong settings are refused before anything heavy is imported.
    read_each(config or None, settings or [])
    from pipelines.data import prepared
    from pipelines.data.prepare import prepare as prepare_pairs

    plan = prepared.plan(config or None, settings or [])
    if plan.pairs is not None:
        return plan.config, plan.pairs
    print(f"Preparing pairs of {plan.config.data.source} first: {plan.reason}.", file=sys.stderr)
    pairs = prepare_pairs(plan.config)
    return prepared.settle(plan.config, pairs, plan.given), pairs
