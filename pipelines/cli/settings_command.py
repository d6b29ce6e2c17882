"""The verb settings, which explains the settings."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.options import AsJson, Config, Settings, complete_names, find_run, load
from pipelines.cli.verbs import Result, Verbs

if TYPE_CHECKING:
    from pipelines.config.descriptions import SettingsDescription

MAX_WIDTH = 100
"""Columns of a text that is easy to read."""

app = Verbs()


@app.command("settings")
def settings_verb(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Sections or settings, such as training; by default all.",
            autocompletion=complete_names,
        ),
    ] = None,
    run: Annotated[str, typer.Option("--run", metavar="ID", help="Show the settings of this run.")] = "",
    config: Config = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> Result:
    """Show the settings: value, default, allowed values, meaning, and what set the value.

    The values are those that `main` would use with the same --config and --set; with --run, those of a run.
    """
    from pipelines.config import descriptions
    from pipelines.config.loading import with_settings
    from pipelines.config.overrides import parse_changes

    if run:
        folder = find_run(config, settings, run)
        changes = parse_changes(settings or [])
        began = folder.config()
        loaded = with_settings(began, changes)
        origins = descriptions.of_run(began, folder.run_id) | descriptions.set_by(changes)
    else:
        loaded = load(config, settings)
        origins = descriptions.origins(config or None, settings or [])
    found = descriptions.describe(loaded, names or [], origins=origins)
    return Result(found, lambda: _print(found), as_json)


def _print(found: "SettingsDescription") -> None:
    import textwrap

    from rich.console import Console
    from rich.text import Text

    from pipelines.config.descriptions import as_yaml

    out = Console(highlight=False)
    for setting in found.settings:
        line = Text.assemble((setting.key, "bold"), f" = {as_yaml(setting.value)}")
        if setting.origin != "default":
            default = "" if setting.value == setting.default else f"; default {as_yaml(setting.default)}"
            line.append(f"  ({setting.origin}{default})", "cyan")
        out.print(line, soft_wrap=True)
        text = f"{setting.meaning} Allowed: {setting.allowed}."
        indented = textwrap.fill(text, min(out.width, MAX_WIDTH), initial_indent="    ", subsequent_indent="    ")
        out.print(Text(indented, "dim"))
