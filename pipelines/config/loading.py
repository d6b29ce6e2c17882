"""Reading and checking the settings of a run: YAML files, `section.key=value` overrides, and changes after training."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from model.errors import ConfigError
from model.io.addresses import is_address, parse, refuse_password
from pipelines.config import yaml_files
from pipelines.config.explanations import explain, unknown
from pipelines.config.overrides import override, parse_changes, parse_settings, put_all, with_values
from pipelines.config.schema import RunConfig, default_model_name

TRAINED = ("seed", "data.", "network.", "training.")
"""Settings that a training uses, with sections by their prefix."""
CHANGEABLE: dict[str, tuple[str, ...]] = {
    "train --resume": ("training.", "tracking."),
    "tune --resume": (),
    "export": ("export.", "evaluation.palette"),
    "evaluate": ("evaluation.",),
    "compare": ("evaluation.",),
    "register": ("tracking.model_name",),
    "score": (),
}
"""Settings of a trained run that a verb can change."""

BEGINNING = "training.start_"
"""Settings of the beginning of a training, which is past when it is resumed."""
SOURCE_BOUND = ("workspace", "data.source", "data.resolution", "data.sample.", "evaluation.palette", "promotion.pairs")
"""Settings that fit only one source, with sections by their prefix."""
MAX_EXPERIMENT_NAME = 500
"""Longest name of an experiment in MLflow."""
NOT_IN_MODEL_NAMES = "/:@?"
"""Characters that MLflow refuses in the name of a registered model, or that `models:/NAME@ALIAS` can't hold."""


def load(file: str | Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file and apply `section.key=value` overrides.

    Args:
        file: A path, or the name of a shipped configuration. None means `sample` for painted scenes, which trains a
            small network in minutes, and `few-pairs` for any other source.
        overrides: Settings such as `training.batch_size=8`, or several in one text separated by spaces. Values are
            read as YAML; a key without a value (`data.source=`) is not changed.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or is out of range.
        DataError: `data.source` is an invalid address, or contains a password.
    """
    settings = parse_settings(overrides)
    changes = with_values(settings)
    config = _build(yaml_files.read(yaml_files.find(default_file(changes) if file is None else file)), changes)
    _check_known(settings, config)
    return config


def default_file(changes: Mapping[str, Any]) -> str:
    """Return the name of the shipped configuration that suits the data."""
    return "sample" if changes.get("data.source", "sample") == "sample" else "few-pairs"


def follow(
    prepared: RunConfig,
    file: str | Path | None = None,
    overrides: Iterable[str] = (),
    *,
    on_top: Mapping[str, Any] = MappingProxyType({}),
) -> RunConfig:
    """Read settings as `load` does, but start from those of prepared pairs.

    Another source brings its own shipped configuration, and what was set on top of that of the earlier source stays,
    apart from SOURCE_BOUND. A file replaces all settings; if it names no source, only those of `data` stay that it does
    not name. The workspace is never that of the pairs.

    Args:
        prepared: The settings that the pairs were prepared with.
        file: As for `load`.
        overrides: As for `load`.
        on_top: What was set on top for the earlier source (`set_on_top`).

    Raises:
        ConfigError: As for `load`.
        DataError: As for `load`.
    """
    given = override(_in_file(file), parse_changes(overrides))
    tree = prepared.model_dump(mode="json")
    is_other = given.get("data.source", prepared.data.source) != prepared.data.source
    if is_other:
        if file is not None:
            return load(file, overrides)
        start = yaml_files.read(yaml_files.find(default_file(given)))
        given = override(on_top, given)
    else:
        start = tree if file is None else {"data": tree["data"]}
    return _build(start, {"workspace": str(workspace_of(file, overrides)), **given})


def set_on_top(config: RunConfig, chosen: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Return the settings that differ from the shipped configuration of their source, apart from SOURCE_BOUND.

    Those that were `chosen` for the pairs of the source are left out as well.
    """
    given = dict(leaves(config.model_dump(mode="json")))
    shipped = dict(leaves(load(None, [f"data.source={json.dumps(config.data.source)}"]).model_dump(mode="json")))
    shipped |= {"tracking.model_name": default_model_name(config.data.direction), **chosen}
    return {key: value for key, value in given.items() if value != shipped[key] and not key.startswith(SOURCE_BOUND)}


def read_each(file: str | Path | None, overrides: Iterable[str]) -> RunConfig:
    """Read the settings of a YAML file and of overrides, with the defaults of all others; each is checked by itself.

    For verbs that start from other settings: whether these go together with them is known only later.

    Raises:
        ConfigError: The file can't be read, a key is unknown, or a value has the wrong type or is out of range.
        DataError: `data.source` is an invalid address, or contains a password.
    """
    settings = parse_settings(overrides)
    config = _validate({}, override(_in_file(file), with_values(settings)))
    _check_known(settings, config)
    return config


def workspace_of(file: str | Path | None, overrides: Iterable[str]) -> Path:
    """Return the workspace that a YAML file and overrides name; other settings are not checked.

    Raises:
        ConfigError: The file or an override can't be read.
    """
    given = {**_in_file(file), **parse_changes(overrides)}
    return _build({}, {key: value for key, value in given.items() if key == "workspace"}).workspace


def change(began: RunConfig, overrides: Iterable[str], *, verb: str, file: str | Path | None = None) -> RunConfig:
    """Apply a YAML file and `section.key=value` overrides to the settings of a trained run.

    Args:
        began: The settings that the run was trained with.
        overrides: As for `load`; those that the verb can't change are refused.
        verb: One of CHANGEABLE.
        file: As for `load`, but its own settings only. Those of other verbs are not used; those of the training must
            have the same values.

    Raises:
        ConfigError: As for `load`; or a setting can't be changed by this verb.
        DataError: As for `load`.
    """
    settings = parse_settings(overrides)
    given = with_values(settings)
    changed = _build(began.model_dump(mode="json"), override(_in_file(file), given))
    _check_known(settings, changed)
    before, after = dict(leaves(began.model_dump(mode="json"))), dict(leaves(changed.model_dump(mode="json")))
    for key in before:
        can_change = key.startswith(CHANGEABLE[verb]) and not key.startswith(BEGINNING)
        if before[key] == after[key] or key == "workspace" or can_change:
            continue
        if key.startswith(TRAINED):
            was, can_become = (json.dumps(tree[key], ensure_ascii=False) for tree in (before, after))
            reason = f"{key} was {was} when the run was trained and can't become {can_become}"
            raise ConfigError(f"{reason}; {_changes(verb)} Start a new training to change others.")
        if any(f"{name}.".startswith(f"{key}.") for name in given):
            raise ConfigError(f"`{verb}` does not use {key}; {_changes(verb)}")
    return changed


def _in_file(file: str | Path | None) -> dict[str, Any]:
    return {} if file is None else dict(leaves(yaml_files.read(yaml_files.find(file))))


def _check_known(settings: Mapping[str, Any], config: RunConfig) -> None:
    """Check the keys without a value, which are not in the configuration."""
    for key in (key for key, value in settings.items() if value is None and key not in config.flat()):
        raise ConfigError(unknown(key))


def _changes(verb: str) -> str:
    names = [f"{name}*" if name.endswith(".") else name for name in CHANGEABLE[verb]]
    return f"only {' and '.join(names)} can be changed here." if names else "no setting can be changed here."


def leaves(tree: Mapping[str, Any], section: BaseModel | None = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting in nested sections with its dotted key; values that are mappings are not split."""
    defaults = RunConfig() if section is None else section
    for key, value in tree.items():
        inner = getattr(defaults, str(key), None)
        if isinstance(inner, BaseModel) and isinstance(value, Mapping):
            yield from leaves(value, inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a copy of the configuration with other values for some settings, given by dotted keys."""
    return _build(config.model_dump(mode="json"), settings)


def _build(tree: dict[str, Any], changes: Mapping[str, Any]) -> RunConfig:
    config = _validate(tree, changes)
    _check_together(config)
    return config


def _validate(tree: dict[str, Any], changes: Mapping[str, Any]) -> RunConfig:
    put_all(tree, changes)
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error
    # Checked here, because verbs that never open these addresses log them too.
    refuse_password(config.data.source)
    refuse_password(config.evaluation.inception_weights)
    if is_address(config.data.source) and not config.data.source.startswith("kaggle://"):
        parse(config.data.source)
    _check_names(config)
    return config


def _check_together(config: RunConfig) -> None:
    batch, workers = config.training.batch_size, config.training.workers
    if batch % workers:
        raise ConfigError(
            f"Batch size {batch} can't be divided over {workers} workers; "
            f"use a multiple of {workers} (training.batch_size)."
        )
    if config.training.deterministic and (config.training.gpu or config.training.precision not in ("auto", "float32")):
        raise ConfigError(
            f"training.deterministic needs CPUs and float32, but training.gpu is {config.training.gpu} and "
            f"training.precision is {config.training.precision}; change these, or set training.deterministic=false."
        )


def _check_names(config: RunConfig) -> None:
    """Check the names in MLflow by its own rules; not when records are read, which may hold any name."""
    experiment, model = config.tracking.experiment, config.tracking.model_name
    if not experiment.strip() or len(experiment) > MAX_EXPERIMENT_NAME:
        raise ConfigError(
            f"tracking.experiment is {experiment!r}; an experiment in MLflow needs a name of 1 to "
            f"{MAX_EXPERIMENT_NAME} characters."
        )
    forbidden = sorted({*model} & set(NOT_IN_MODEL_NAMES))
    if forbidden:
        raise ConfigError(
            f"tracking.model_name is {model!r}, and the name of a registered model can't contain "
            f"{' '.join(forbidden)}; choose one without {' '.join(NOT_IN_MODEL_NAMES)}."
        )
    if not model.strip() or model == "." or model.startswith(".."):
        raise ConfigError(f"tracking.model_name is {model!r}, which MLflow does not accept; use letters and digits.")
