"""The verbs register, promote, rollback and pull."""

from pathlib import Path
from typing import Annotated

import typer

from model.errors import ConfigError
from pipelines.cli.options import AsJson, Config, Run, Settings, load, load_run
from pipelines.cli.verbs import Result, Verbs

app = Verbs()


@app.command()
def register(config: Config = None, settings: Settings = None, run: Run = "", as_json: AsJson = False) -> Result:
    """Register the exported model in MLflow, under the alias `challenger`."""
    folder, run_config = load_run("register", config, settings, run)
    from pipelines.cli import summary
    from pipelines.registry.register import register as register_run

    version = register_run(folder, name=run_config.tracking.model_name)
    return Result(version, lambda: summary.version(run_config, version), as_json)


@app.command()
def promote(
    version: Annotated[
        str,
        typer.Argument(metavar="VERSION", help="Version number, alias such as `challenger`, or models:/NAME@ALIAS."),
    ] = "challenger",
    force: Annotated[bool, typer.Option("--force", help="Promote even if a gate fails; needs --reason.")] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Reason for --force, which is recorded.")
    ] = "",
    forced: Annotated[str, typer.Option("--forced", hidden=True, help="true or false, as MLproject passes it.")] = "",
    config: Config = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> Result:
    """Make a registered version the champion if it passes the gates (settings: promotion).

    Challenger and champion are evaluated on the same pairs on this machine. To pass, the challenger must improve the
    primary score, lose only little in the others, beat the trivial baselines, match the TensorFlow model, and be about
    as fast as the champion. The decision and its numbers are recorded in the registry. Exit code 3: a gate failed, and
    no alias was moved.
    """
    if forced.lower() not in ("", "true", "false"):
        raise ConfigError(f"force={forced} is neither true nor false; write force=true to promote in any case.")
    run_config = load(config, settings)
    from pipelines.cli import summary
    from pipelines.registry import promotion

    promoted = promotion.promote(run_config, version, force=force or forced.lower() == "true", reason=reason)
    return Result(promoted, lambda: summary.promotion(run_config, promoted), as_json)


@app.command()
def rollback(config: Config = None, settings: Settings = None, as_json: AsJson = False) -> Result:
    """Make the previous champion the champion again."""
    run_config = load(config, settings)
    from pipelines.cli import summary
    from pipelines.registry import promotion

    back = promotion.rollback(run_config)
    return Result(back, lambda: summary.rollback(back), as_json)


@app.command()
def pull(
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Version number, alias such as `champion`, or models:/NAME@ALIAS.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the bundle.")],
    config: Config = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> Result:
    """Download a registered model as a bundle, checked by its sha256; nothing is unpickled."""
    run_config = load(config, settings)
    from pipelines.cli import summary
    from pipelines.registry import pull

    bundle = pull.pull(run_config.tracking.model_name, version, out)
    return Result(bundle.manifest, lambda: summary.pulled(bundle), as_json)
