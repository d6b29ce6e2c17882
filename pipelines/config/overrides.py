"""Settings of a command line, `section.key=value`: their syntax, and how they change others."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from model.errors import ConfigError
from model.io.addresses import hide_passwords
from pipelines.config.schema import RunConfig

_QUOTED_OR_GAP = re.compile(
    r"""(?<=[=\s\[{,:])(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|(?P<gap>\s+)(?=[a-z_]\w*(?:\.\w+)*=)"""
)
"""A quoted part of a value, or the gap before the next setting."""
LENGTHS = ("training.epochs", "training.steps", "training.minutes")
"""Settings of the length of a training: setting one unsets the others."""


def parse_changes(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the values that overrides set, by dotted key, unchecked.

    Raises:
        ConfigError: An override has no `=`, or its value is not YAML.
    """
    return with_values(parse_settings(overrides))


def parse_settings(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the values of overrides by dotted key, unchecked; None for a key without a value.

    Raises:
        ConfigError: An override has no `=`, or its value is not YAML.
    """
    return dict(_parse_override(setting) for text in overrides for setting in split_settings(text))


def with_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the keys without a value."""
    return {key: value for key, value in settings.items() if value is not None}


def override(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of which those `above` count; a length above replaces one of another unit below."""
    has_length = any(above.get(key) is not None for key in LENGTHS)
    return {key: value for key, value in below.items() if not (has_length and key in LENGTHS)} | dict(above)


def put_all(tree: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Set values by dotted keys in nested sections; a length unsets those of other units.

    Raises:
        ConfigError: Two lengths are set, or a section is a value.
    """
    lengths = [key for key in LENGTHS if changes.get(key) is not None]
    if len(lengths) > 1:
        raise ConfigError(f"{' and '.join(lengths)} are both set, and a training has one length; set one of them.")
    unset = dict.fromkeys(LENGTHS[1:]) if lengths else {}
    for key, value in {**unset, **changes}.items():
        _put(tree, key, value)


def split_settings(text: str) -> list[str]:
    """Split a text before each `section.key=`; values may contain spaces, and in quotes anything."""
    gaps = [match.span("gap") for match in _QUOTED_OR_GAP.finditer(text) if match["gap"]]
    starts, ends = [0, *(end for _, end in gaps)], [*(start for start, _ in gaps), len(text)]
    return [setting for start, end in zip(starts, ends, strict=True) if (setting := text[start:end].strip())]


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals and key.strip() in RunConfig().flat():
        raise ConfigError(f"{key.strip()} has no value; write {key.strip()}=VALUE.")
    if not equals or not key.strip():
        raise ConfigError(
            f"{hide_passwords(text)!r} is not a setting; write section.key=value, for instance training.batch_size=8."
        )
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"The value of {key.strip()} contains the character {value[error.position]!r}, which a setting can't hold."
        ) from error
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
