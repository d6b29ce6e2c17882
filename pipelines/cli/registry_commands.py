"""The verbs of the model registry: register, promote, rollback, pull."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import AsJson, Config, Run, Settings, load, print_result, run_folder

app = typer.Typer()


@app.command()
def register(config: Config = None, settings: Settings = None, run: Run = "", as_json: AsJson = False) -> None:
    """Make the exported model a version in MLflow's registry, under the alias `challenger`."""
    folder = run_folder(load(config, settings), run)
    from pipelines.cli import summary
    from pipelines.registry.register import register as register_run

    version = register_run(folder)
    print_result(as_json, version, lambda: summary.version(version))


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A number, or an alias such as `challenger`.")] = "challenger",
    force: Annotated[bool, typer.Option("--force", help="Promote whatever the gates say; needs a reason.")] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is recorded.")] = "",
    config: Config = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Make a registered version the champion, if it passes the gates (settings promotion.*); exit code 3 if not.

    Challenger and champion draw the same frozen pairs on this machine. The gates: the primary score must gain over
    the champion, the others may lose a little, the model must beat what needs no learning, be what TensorFlow
    trained, and be about as fast. Decision and numbers are written into the registry, also when nothing moves.
    """
    settings_read = load(config, settings)
    from pipelines.cli import summary
    from pipelines.registry import promotion

    promoted = promotion.promote(settings_read, version, force=force, reason=reason)
    print_result(as_json, promoted, lambda: summary.promotion(promoted))


@app.command()
def rollback(config: Config = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """Make the version that was the champion before the champion again."""
    settings_read = load(config, settings)
    from pipelines.cli import summary
    from pipelines.registry import promotion

    back = promotion.rollback(settings_read)
    print_result(as_json, back, lambda: summary.rollback(back))


@app.command()
def pull(
    version: Annotated[str, typer.Argument(metavar="ALIAS", help="An alias such as `champion`, or a number.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make: a bundle.")],
    config: Config = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a registered model as a bundle: checked against its sha256, and nothing in it is ever unpickled."""
    settings_read = load(config, settings)
    from pipelines.cli import summary
    from pipelines.registry import pull

    bundle = pull.pull(settings_read.tracking.model_name, version, out)
    print_result(as_json, bundle.manifest, lambda: summary.pulled(bundle))
