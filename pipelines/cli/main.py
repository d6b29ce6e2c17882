"""The `sat2map` command: its verbs."""

import logging
import os
import warnings
from typing import Annotated

import typer

from pipelines.cli import (
    bench_commands,
    evaluation_commands,
    pipeline_commands,
    registry_commands,
    score_command,
    settings_command,
    submit_command,
)
from pipelines.cli.errors import output
from pipelines.cli.verbs import Group

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""Turn satellite photos into street maps: train, register and run Pix2Pix models.

    `main` runs the complete flow, on painted scenes unless you name other data. The verbs prepare, train, export,
    evaluate and register run one step each, on the results of the step before in the workspace. `promote` makes a
    registered version the champion if it passes the gates, `score` draws maps of your photos, and `submit` runs a verb
    on a Ray cluster.
    """,
)

app.add_typer(pipeline_commands.app)
app.add_typer(evaluation_commands.app)
app.add_typer(registry_commands.app)
app.add_typer(score_command.app)
app.add_typer(submit_command.app)
app.add_typer(settings_command.app)
app.add_typer(bench_commands.app, name="bench")


def _print_version(given: bool) -> None:
    if given:
        from model.provenance import software_version

        print(f"sat2map {software_version()}", flush=True)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    folder: Annotated[
        str, typer.Option("-C", metavar="DIR", hidden=True, help="Work in this folder, as MLproject asks for.")
    ] = "",
) -> None:
    """Accept the options that stand before a verb."""
    if folder:
        _change_folder(folder)


def _change_folder(folder: str) -> None:
    from model.errors import ConfigError
    from model.provenance import PROJECT

    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(f"-C {folder} is not a folder that can be opened ({error.strerror}).") from error
    # `python -m pipelines` finds the code in the folder that it was started in, and so must Ray's workers.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))


def _ignore_warning_options() -> None:
    """Restore Python's filters: with PYTHONWARNINGS=error, MLflow and Ray end at their first deprecation warning."""
    if os.environ.pop("PYTHONWARNINGS", ""):
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)


def main() -> None:
    """Run the command line; `errors.output` has the exit codes."""
    # Hide TensorFlow's notes on instruction sets and missing GPUs.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Matplotlib warns where the home folder can't be written to, as in many containers, and goes on without it.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # MLflow warns that a user has no name, which is usual in containers.
    logging.getLogger("mlflow.tracking.context.registry").setLevel(logging.ERROR)
    _ignore_warning_options()
    # Pillow warns of odd metadata in photos that it can read; photos that it can't read raise errors.
    warnings.filterwarnings("ignore", module="PIL")
    with output.reported():
        from pipelines.cluster import environment, signals
        from pipelines.config import telemetry

        telemetry.switch_off()
        signals.end_on_term()
        environment.load()
        output.exit_with(app(prog_name="sat2map", standalone_mode=False))
