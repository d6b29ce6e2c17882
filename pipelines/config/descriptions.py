"""Descriptions of settings: value, default, allowed values, meaning, and where the value comes from."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from model.errors import ConfigError
from model.spec import Frozen
from pipelines.config import loading, yaml_files
from pipelines.config.explanations import unknown
from pipelines.config.overrides import parse_changes
from pipelines.config.schema import RunConfig

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
"""Words for the limits of numbers, by their names in pydantic."""


class SettingDescription(Frozen):
    """A setting."""

    key: str
    """Name, as `--set` takes it."""
    value: Any
    """Value in JSON."""
    default: Any
    """Value that it has if nothing sets it."""
    allowed: str
    """Allowed values, in words."""
    meaning: str
    origin: str
    """What set the value: `default`, `configuration NAME`, the path of a file, `--set`, or `run ID`."""


class SettingsDescription(Frozen):
    """Settings, in the order of the schema."""

    settings: tuple[SettingDescription, ...]


def describe(
    config: RunConfig, names: Iterable[str] = (), *, origins: Mapping[str, str] | None = None
) -> SettingsDescription:
    """Describe the settings of a configuration.

    Args:
        config: The configuration.
        names: Sections or settings to describe; by default all.
        origins: What set the values, by dotted key; others have the default.

    Raises:
        ConfigError: There is no section or setting of such a name.
    """
    found = [
        SettingDescription(
            key=key,
            value=value,
            default=_as_json(field.get_default(call_default_factory=True)),
            allowed=_allowed(field),
            meaning=" ".join((field.description or "").split()),
            origin=(origins or {}).get(key, "default"),
        )
        for key, field, value in _fields(config, config.model_dump(mode="json"))
    ]
    wanted = [name.strip().removesuffix(".") for name in names]
    for name in wanted:
        if not any(_is_in(one.key, name) for one in found):
            raise ConfigError(unknown(name))
    chosen = [one for one in found if not wanted or any(_is_in(one.key, name) for name in wanted)]
    return SettingsDescription(settings=tuple(chosen))


def origins(file: str | Path | None, overrides: Iterable[str]) -> dict[str, str]:
    """Return what sets each setting that `loading.load` does not take from the defaults."""
    changes = parse_changes(overrides)
    name = file or loading.default_file(changes)
    shipped = str(name) in yaml_files.preset_names()
    in_file = loading.leaves(yaml_files.read(yaml_files.find(name)))
    found = {key: f"configuration {name}" if shipped else str(name) for key, _ in in_file}
    return found | set_by(changes)


def set_by(changes: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that `--set` changes; a value may be a section."""
    return {f"{key}{inner}": "--set" for key, value in changes.items() for inner in _inner(value)}


def of_run(config: RunConfig, run_id: str) -> dict[str, str]:
    """Return the settings in which a run differs from the defaults."""
    run, defaults = (dict(loading.leaves(one.model_dump(mode="json"))) for one in (config, RunConfig()))
    return {key: f"run {run_id}" for key, value in run.items() if value != defaults[key]}


def as_yaml(value: object) -> str:
    """Return a value as `--set` takes it."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _inner(value: object) -> Iterator[str]:
    yield ""
    if isinstance(value, Mapping):
        yield from (f".{key}{deeper}" for key, below in value.items() for deeper in _inner(below))


def _is_in(key: str, name: str) -> bool:
    return f"{key}.".startswith(f"{name}.")


def _fields(section: BaseModel, values: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:  # noqa: ANN401
    for name, field in type(section).model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(getattr(section, name), values[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field, values[name]


def _as_json(value: Any) -> Any:  # noqa: ANN401 - any default
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _allowed(field: FieldInfo) -> str:
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    is_optional = len(kinds) < len(get_args(field.annotation))
    bounds = [
        f"{word} {getattr(rule, name):,}"
        for rule in field.metadata
        for name, word in _BOUNDS.items()
        if hasattr(rule, name)
    ]
    bounds += ["not empty" for rule in field.metadata if getattr(rule, "min_length", 0)]
    words = ", ".join([_kind(kinds[0] if is_optional else field.annotation), *bounds])
    return f"{words}; or null" if is_optional else words


def _kind(annotation: Any) -> str:  # noqa: ANN401 - a type
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        *first, last = (str(value) for value in inner)
        return f"{', '.join(first)} or {last}" if first else last
    if get_origin(annotation) is tuple:
        if inner[-1] is ...:
            return f"a list; each: {_kind(inner[0])}"
        return f"a list of {len(inner)}, [{', '.join(_kind(kind) for kind in inner)}]"
    if get_origin(annotation) is dict:
        return f"values by name, {{name: {_kind(inner[1])}}}"
    return _KINDS.get(annotation, "a section")
