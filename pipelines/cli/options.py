"""Options and functions shared by the verbs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.config.schema import RunConfig
    from pipelines.run_folder import RunFolder


def complete_names(incomplete: str) -> list[str]:
    """Return the settings and sections that begin with a text."""
    from pipelines.config.schema import RunConfig

    settings = [*RunConfig().flat()]
    names = dict.fromkeys([one.rpartition(".")[0] for one in settings if "." in one] + settings)
    return [name for name in names if name.startswith(incomplete)]


def _complete_settings(incomplete: str) -> list[str]:
    from pipelines.config.schema import RunConfig

    return [f"{name}=" for name in RunConfig().flat() if name.startswith(incomplete)]


def _complete_configs(incomplete: str) -> list[str]:
    from pipelines.config.yaml_files import preset_names

    files = [str(path) for path in Path().glob("*.yaml")]
    return [name for name in [*preset_names(), *files] if name.startswith(incomplete)]


def _complete_runs(incomplete: str) -> list[str]:
    """Return the runs in the default workspace."""
    return sorted(path.name for path in Path("workspace", "runs").glob("*") if path.name.startswith(incomplete))


Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file of settings, or `sample`, `few-pairs`, `default`, `paper` or `maps`.",
        show_default=False,
        autocompletion=_complete_configs,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, e.g. training.batch_size=8; repeatable.",
        autocompletion=_complete_settings,
    ),
]
Run = Annotated[
    str,
    typer.Option(
        "--run", metavar="ID", help="Run to work on; by default the newest one.", autocompletion=_complete_runs
    ),
]
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

    workspace = Workspace(workspace_of(config or None, settings or []))
    found = workspace.run(run or None)
    if not run and (unfinished := workspace.unfinished()):
        what = f"the last finished training of run {found.run_id}" if found.unfinished() else f"run {found.run_id}"
        print(f"Note: this works on {what}. {unfinished}", file=sys.stderr)
    return found
