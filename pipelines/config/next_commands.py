"""Commands that are printed for the user to run next: quoted, with every setting that a verb would not find itself."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.config import job
from pipelines.config.loading import leaves
from pipelines.config.overrides import split_settings
from pipelines.config.schema import RunConfig

USED: dict[str, tuple[str, ...]] = {
    "train": ("",),
    "promote": ("workspace", "tracking.model_name", "promotion.", "evaluation."),
    "rollback": ("tracking.model_name",),
    "pull": ("tracking.model_name",),
    "main": ("workspace", "tracking."),
}
"""Settings that a verb takes from its command line, with sections by their prefix."""


def command(verb: str, *words: str, config: RunConfig, found: RunConfig | None = None) -> str:
    """Return a command line of a verb, with the settings that it needs.

    Args:
        verb: One of USED; `of_run` has those that work on a run.
        words: Arguments and options.
        config: The settings that the verb is to work with.
        found: The settings that it would find itself, by default those of the schema.
    """
    base = dict(leaves((found or RunConfig()).model_dump(mode="json"))) | {"workspace": "workspace"}
    wanted = {key: value for key, value in leaves(config.model_dump(mode="json")) if key.startswith(USED[verb])}
    missing = {key: value for key, value in wanted.items() if base[key] != value}
    return shlex.join([*_sat2map(), verb, *words, *set_options(missing)])


def of_run(verb: str, *words: str, workspace: Path) -> str:
    """Return a command line of a verb that works on a run in a workspace, given by its absolute path."""
    here = Path.cwd()
    shown = workspace.relative_to(here) if workspace.is_relative_to(here) else workspace
    needed = {} if shown == Path("workspace") else {"workspace": str(shown)}
    return shlex.join([*_sat2map(), *verb.split(), *words, *set_options(needed)])


def _sat2map() -> list[str]:
    """Return the words before a verb: in a job, those that send another one to the same cluster."""
    return ["sat2map", "submit", "--address", job.address(), "--"] if job.address() else ["sat2map"]


def set_options(settings: Mapping[str, Any]) -> list[str]:
    """Return the option --set with settings, or nothing if there are none."""
    return ["--set", " ".join(f"{key}={as_text(value)}" for key, value in settings.items())] if settings else []


def as_text(value: Any) -> str:  # noqa: ANN401 - any value of JSON
    """Return a value as it is written after `section.key=`: plain text if that is read as the same text, else JSON."""
    if isinstance(value, str) and value and split_settings(f"a={value}") == [f"a={value}"] and _read(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _read(text: str) -> Any:  # noqa: ANN401
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None
