"""The command line: the verbs, and the exit code of each kind of error."""

import os
import sys
import warnings

import typer

from model.errors import PromotionRefused, Sat2mapError, Stopped
from pipelines.cli import (
    bench_commands,
    evaluation_commands,
    pipeline_commands,
    registry_commands,
    score_command,
    submit_command,
)
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

app.add_typer(pipeline_commands.app)
app.add_typer(evaluation_commands.app)
app.add_typer(registry_commands.app)
app.add_typer(score_command.app)
app.add_typer(submit_command.app)
app.add_typer(bench_commands.app, name="bench")


def main() -> None:
    """Run the command line; a user's mistake exits with 2 and its message alone."""
    from pipelines.cluster import environment

    environment.load()
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
