"""Options and functions shared by the verbs."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.config.schema import RunConfig
    from pipelines.workspace import RunFolder

Config = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML file of settings, or `sample`, `default` or `maps`.", show_default=False
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. training.batch_size=8; repeatable."),
]
Run = Annotated[str, typer.Option("--run", metavar="ID", help="Run to work on; by default the newest one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def load(config: str | None, settings: list[str] | None) -> "RunConfig":
    """Read the settings of a command line."""
    from pipelines.config.loading import load as read

    return read(config or None, settings or [])


def run_folder(config: "RunConfig", run: str) -> "RunFolder":
    """Return the folder of the requested run, by default of the newest one."""
    from pipelines.workspace import Workspace

    return Workspace(config.workspace).run(run or None)
