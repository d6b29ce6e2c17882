"""The `sat2map` command: its verbs."""

import os
import warnings

import typer

from pipelines.cli import (
    bench_commands,
    error_output,
    evaluation_commands,
    pipeline_commands,
    registry_commands,
    score_command,
    submit_command,
)
from pipelines.cli.verbs import Group

app = typer.Typer(
    cls=Group,
    add_completion=False,
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
app.add_typer(bench_commands.app, name="bench")


def main() -> None:
    """Run the command line; `error_output` has the exit codes."""
    # Hide TensorFlow's notes on instruction sets and missing GPUs.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Pillow warns of odd metadata in photos that it can read; photos that it can't read raise errors.
    warnings.filterwarnings("ignore", module="PIL")
    with error_output.reported():
        from pipelines.cluster import environment

        environment.load()
        error_output.exit_with(app(prog_name="sat2map", standalone_mode=False))
