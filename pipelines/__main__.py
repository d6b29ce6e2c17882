"""The command line: parse, call one verb, print what was made and what to run next."""

import os
import sys
import warnings
from typing import Annotated, Any

import typer

from model.errors import ConfigError, PromotionRefused, Sat2mapError, Stopped
from pipelines.cli import bench_commands, evaluation_commands, registry_commands, score_command
from pipelines.cli.options import AsJson, Config, Run, Settings, load, run_folder, tell
from pipelines.cluster.signals import STOPPED

REFUSED = 3
"""The exit code of a promotion that did not pass its gates."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""Turn satellite photos into street maps: from a folder of pairs to a registered model that draws.

    `main` does it all, with painted scenes if you name no data. The other verbs do one step each, on what the step
    before left in the workspace: prepare, train, export, evaluate, register. `promote` makes a registered model the
    champion if it is better, `score` draws maps for your photos, `submit` runs any of them on a Ray cluster.
    """,
)

STAY_HERE = {"submit", "bench"}


@app.command("main")
def main_verb(config: Config = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """Do it all: prepare, train, export, evaluate, register."""
    settings_read = load(config, settings)
    from pipelines import flow
    from pipelines.cli import summary

    folder, result = flow.run(settings_read)
    tell(as_json, result, lambda: summary.flow(folder, result))


@app.command()
def prepare(config: Config = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """Get the pairs and check every file of them."""
    settings_read = load(config, settings)
    from pipelines.cli import summary
    from pipelines.data.prepare import prepare as prepare_pairs

    index = prepare_pairs(settings_read)
    tell(as_json, index, lambda: summary.pairs(settings_read, index))


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
    from pipelines.training.train import fit
    from pipelines.training.train import resume as resume_run
    from pipelines.workspace import Workspace

    workspace = Workspace(settings_read.workspace)
    if resume:
        folder = resume_run(workspace.run(resume), settings or [])
    else:
        folder = fit(settings_read, workspace.pairs())
    tell(as_json, folder.record(), lambda: summary.training(folder))


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
    from pipelines.training.tune import resume as resume_search
    from pipelines.training.tune import search
    from pipelines.workspace import Workspace

    workspace = Workspace(settings_read.workspace)
    found = resume_search(workspace.run(resume)) if resume else search(settings_read, workspace.pairs())
    tell(as_json, found, lambda: summary.search(found))


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
    tell(as_json, bundle.manifest, lambda: summary.bundle(bundle))


app.add_typer(evaluation_commands.app)
app.add_typer(registry_commands.app)
app.add_typer(score_command.app)
app.add_typer(bench_commands.app, name="bench")


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="URL",
            help="The cluster's dashboard, http://HEAD:8265.",
            envvar="RAY_API_SERVER_ADDRESS",
            show_envvar=False,
        ),
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[-- VERB OPTIONS]", help="Any verb as it is typed here; `main`.")
    ] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Print the job's id and leave, without waiting for its end.")
    ] = False,
) -> None:
    """Run a verb on a Ray cluster: ship the code, follow the log, return the job's exit code.

    sat2map submit --address http://HEAD:8265 -- train --set workspace=/SHARED/work --set training.workers=2

    Workspace and pairs must lie on storage that every node sees under the same path, and MLFLOW_TRACKING_URI must name
    an MLflow server that the cluster reaches. The nodes have the packages of requirements.lock. This machine's
    variables for MLflow and for storage (MLFLOW_*, AWS_*, GOOGLE_*, AZURE_*, DATABRICKS_*, KAGGLE_*) go along, out of
    sight of Ray's dashboard and logs.
    """
    verb, *options = words if words and not words[0].startswith("-") else ["main", *(words or [])]
    arguments = _arguments(verb, options)
    config = load(arguments.get("config"), arguments.get("settings"))
    from pipelines.cluster import jobs

    jobs.check(config, arguments)
    job = jobs.submit(address, [verb, *options], config_file=arguments.get("config") or "")
    if no_follow:
        print(job.id)
        print(job.how_to, file=sys.stderr)
        return
    jobs.report(job)
    try:
        code = jobs.follow(job)
    except KeyboardInterrupt:
        print(f"\nJob {job.id} goes on without you;\n{job.how_to}", file=sys.stderr)
        code = STOPPED
    sys.exit(code)


def main() -> None:
    """Run the command line; a user's mistake exits with 2 and its message alone."""
    from pipelines.cluster import environment

    environment.take()
    # TensorFlow's notes on instruction sets and missing GPUs help nobody here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # What Pillow finds odd about a photo's metadata can be read all the same; what can't be read is an error.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        app(prog_name="sat2map")
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(STOPPED)
    except PromotionRefused as refused:
        print(refused, file=sys.stderr)
        sys.exit(REFUSED)
    except Sat2mapError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def _arguments(verb: str, options: list[str]) -> dict[str, Any]:
    """Read the options of a verb that is to run elsewhere; typer tells what is wrong with them."""
    from typer.main import get_group

    verbs = get_group(app).commands
    if verb not in verbs or verb in STAY_HERE:
        known = ", ".join(name for name in verbs if name not in STAY_HERE)
        raise ConfigError(f"There is no verb {verb!r} to submit; there are: {known}.")
    return verbs[verb].make_context(f"sat2map {verb}", list(options)).params


if __name__ == "__main__":
    main()
