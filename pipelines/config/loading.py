"""Reading and checking the settings of a run: YAML files, `section.key=value` overrides, and changes on resume."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from model.errors import ConfigError
from model.io.addresses import hide_passwords, is_address, parse, refuse_password
from pipelines.config.schema import RunConfig

CONFIGS = Path(__file__).parent / "presets"


def load(file: str | Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file and apply `section.key=value` overrides.

    Args:
        file: A path, or the name of a shipped configuration (`default`, `sample`, `maps`). None means `sample`
            for painted scenes, which trains a small network in minutes, and `default` for any other source.
        overrides: Settings such as `training.batch_size=8`, or several in one text separated by spaces. Values are
            read as YAML; a key without a value (`data.source=`) is not changed.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or is out of range.
        DataError: `data.source` is an invalid address, or contains a password.
    """
    settings = _parse(overrides)
    changes = _with_values(settings)
    if file is None:
        file = "sample" if changes.get("data.source", "sample") == "sample" else "default"
    config = _build(_read_yaml(_find(file)), changes)
    for key in settings.keys() - changes.keys() - config.flat().keys():
        raise ConfigError(f"{key} is not a setting; use one of: {', '.join(config.flat())}.")
    return config


def change(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """Apply `section.key=value` overrides to the settings of a training run that is resumed.

    Raises:
        ConfigError: As for `load`; or a setting of the network, the data or the seed would change.
        DataError: As for `load`.
    """
    changed = _build(config.model_dump(mode="json"), _with_values(_parse(overrides)))
    before, after = config.flat(), changed.flat()
    for key in before:
        if before[key] != after[key] and not key.startswith(("training.", "tracking.")):
            raise ConfigError(
                f"{key} was {before[key]} when the training began and can't become {after[key]}; only training.* and "
                "tracking.* settings can be changed on resume. Start a new training to change others."
            )
    return changed


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a copy of the configuration with other values for some settings, given by dotted keys."""
    return _build(config.model_dump(mode="json"), settings)


def _parse(overrides: Iterable[str]) -> dict[str, Any]:
    return dict(_parse_override(setting) for text in overrides for setting in _split(text))


def _with_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the keys without a value."""
    return {key: value for key, value in settings.items() if value is not None}


def _build(tree: dict[str, Any], changes: Mapping[str, Any]) -> RunConfig:
    for key, value in changes.items():
        _put(tree, key, value)
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    _check_together(config)
    return config


def _check_together(config: RunConfig) -> None:
    # Checked here, because verbs that never open these addresses log them too.
    refuse_password(config.data.source)
    refuse_password(config.evaluation.inception_weights)
    if is_address(config.data.source) and not config.data.source.startswith("kaggle://"):
        parse(config.data.source)
    batch, workers = config.training.batch_size, config.training.workers
    if batch % workers:
        raise ConfigError(
            f"Batch size {batch} can't be divided over {workers} workers; "
            f"use a multiple of {workers} (training.batch_size)."
        )
    if config.training.deterministic and (config.training.gpu or config.training.precision != "float32"):
        raise ConfigError(
            f"training.deterministic needs CPUs and float32, but training.gpu is {config.training.gpu} and "
            f"training.precision is {config.training.precision}; change these, or set training.deterministic=false."
        )


def _find(file: str | Path) -> Path:
    shipped = CONFIGS / f"{file}.yaml"
    path = shipped if shipped.is_file() else Path(file)
    if not path.is_file():
        names = ", ".join(sorted(known.stem for known in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"There is no configuration {str(file)!r}; use a YAML file, or one of: {names}.")
    return path


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise ConfigError(f"{path} is not valid YAML: {hide_passwords(' '.join(str(error).split()))}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} contains a {type(tree).__name__}; it must contain sections such as `training:`.")
    return tree


def _split(text: str) -> list[str]:
    """Split a text before each `section.key=`; values may contain spaces."""
    return [setting for setting in re.split(r"\s+(?=[a-z_]\w*(?:\.\w+)*=)", text.strip()) if setting]


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"{hide_passwords(text)!r} is not a setting; write section.key=value, for instance training.batch_size=8."
        )
    try:
        return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45.
        shown = hide_passwords(repr(value))
        raise ConfigError(f"The value of {key.strip()} ({shown}) is not valid YAML; quote it.") from error


def _put(tree: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401 - any YAML value
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{section} in {key!r} is a value, not a section; write section.key=value.")
    tree[name] = value


def _explain(error: ValidationError) -> str:
    problems = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            problems.append(f"{key} is not a setting; {_allowed(detail['loc'][:-1])}")
        else:
            found = "" if isinstance(detail["input"], dict) else f" (found {hide_passwords(repr(detail['input']))})"
            problems.append(f"{key}: {detail['msg'].removeprefix('Value error, ')}{found}")
    return "Invalid configuration: " + "; ".join(problems) + "."


def _allowed(sections: tuple[int | str, ...]) -> str:
    model: Any = RunConfig
    for section in sections:
        annotation = model.model_fields[section].annotation
        # `Palette | None` is also a section.
        model = next((kind for kind in get_args(annotation) if hasattr(kind, "model_fields")), annotation)
    return "allowed here: " + ", ".join(model.model_fields)
