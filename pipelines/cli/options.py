"""What the verbs of the command line share: their options, and how they read settings and tell results."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pipelines.config.schema import RunConfig
    from pipelines.workspace import RunFolder

Config = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="A YAML file, or `sample`, `default` or `maps`.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. training.batch_size=8; repeatable."),
]
Run = Annotated[str, typer.Option("--run", metavar="ID", help="The run to work on; by default the newest one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def load(config: str | None, settings: list[str] | None) -> "RunConfig":
    """Read the settings of a command."""
    from pipelines.config.loading import load as read

    return read(config or None, settings or [])


def run_folder(config: "RunConfig", run: str) -> "RunFolder":
    """Find the run that a command works on."""
    from pipelines.workspace import Workspace

    return Workspace(config.workspace).run(run or None)


def print_result(as_json: bool, value: "BaseModel", print_summary: Any) -> None:  # noqa: ANN401
    """Print a result for machines, or for people."""
    if as_json:
        print(json.dumps(value.model_dump(mode="json"), indent=2))
    else:
        print_summary()
