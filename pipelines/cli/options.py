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


def load_run(verb: str, config: str | None, settings: list[str] | None, run: str) -> "tuple[RunFolder, RunConfig]":
    """Return the folder of a run, by default the newest one, and the run's settings with those of a command line."""
    folder = find_run(config, settings, run)
    from pipelines.config.loading import change, workspace_of

    changed = change(folder.record().config, settings or [], verb=verb, file=config or None)
    return folder, changed.model_copy(update={"workspace": workspace_of(config or None, settings or [])})


def find_run(config: str | None, settings: list[str] | None, run: str) -> "RunFolder":
    """Return the folder of a run, by default the newest one, in the workspace of a command line."""
    from pipelines.config.loading import workspace_of
    from pipelines.workspace import Workspace

    return Workspace(workspace_of(config or None, settings or [])).run(run or None)
