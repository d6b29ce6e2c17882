"""Explanations of settings that are refused: the nearest known names, and the values that are allowed."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError

from model.io.addresses import hide_passwords
from pipelines.config.schema import RunConfig

MOST_PROBLEMS = 3
"""Problems that a message names; it counts the others."""
NEAR = 0.8
"""Similarity, from 0 to 1, of names that are suggested."""
SHOWN = 80
"""Characters of a value that are shown."""
_RULES = {
    "missing": "A value is missing",
    "dict_type": "Input should be values by name, such as {{a: 1}}",
    "model_type": "Input should be a section; write {key}.NAME=VALUE",
    "tuple_type": "Input should be a list, such as [a, b]",
}
"""Rules that pydantic words for programmers, by its type of error."""


def explain(error: ValidationError) -> str:
    """Return what is wrong with settings, in one sentence."""
    problems = []
    for detail in error.errors():
        key, found = ".".join(str(part) for part in detail["loc"]), detail["input"]
        if detail["type"] == "extra_forbidden":
            problems.append(unknown(key, found))
            continue
        rule = _RULES[detail["type"]].format(key=key) if detail["type"] in _RULES else _plain(detail["msg"])
        shown = "" if isinstance(found, Mapping) else f" (found {_shorten(hide_passwords(repr(found)))})"
        problems.append(f"{key}: {rule}{shown}.")
    more = len(problems) - MOST_PROBLEMS
    if more > 0:
        problems[MOST_PROBLEMS:] = [f"Problems that are not shown: {more}."]
    return f"Invalid configuration: {' '.join(problems)}"


def unknown(key: str, value: object = None) -> str:
    """Return that a key is not a setting, with the settings whose names are near, or else those of its section.

    Args:
        key: The key; if it is a section, `value` holds its settings.
        value: The value.
    """
    section = _section(key.split(".")[:-1])
    if isinstance(value, Mapping) and value:
        key = f"{key}.{next(iter(value))}"
    if key in RunConfig().flat():
        *sections, name = key.split(".")
        opened, closed = "".join(f"{part}: {{" for part in sections), "}" * len(sections)
        return f"In YAML, {key} is written as a section; write {opened}{name}: {value}{closed}"
    near = near_settings(key)
    if near:
        return f"{_shorten(key)} is not a setting; did you mean {' or '.join(near)}?"
    return f"{_shorten(key)} is not a setting; allowed here: {', '.join(section.model_fields)}."


def near_settings(key: str) -> list[str]:
    """Return the settings and sections of the same name elsewhere, or else those with similar names, at most three."""
    key = key.lower().replace("-", "_")
    section, _, name = key.rpartition(".")
    settings = list(RunConfig().flat())
    known = [*settings, *dict.fromkeys(one.rpartition(".")[0] for one in settings if "." in one)]
    same = [one for one in known if _name(one) == name]
    if not same:
        same = get_close_matches(key, known, n=2, cutoff=1 - (1 - NEAR) / 2 if section else NEAR)
    if not same and not section:
        names = {_name(one) for one in known}
        close = {*get_close_matches(name, names, n=2, cutoff=NEAR), *(one for one in names if _is_short(name, one))}
        same = [one for one in known if _name(one) in close]
    return same[:3]


def _is_short(name: str, of: str) -> bool:
    """Return whether a name is a word of another, or its initials: `batch` or `lr`."""
    words = of.split("_")
    return len(words) > 1 and (name in words or name == "".join(word[:1] for word in words))


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ").replace("Tuple should", "The list should")
    return message.replace(" after validation", "")


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _section(sections: list[str]) -> type[RunConfig]:
    """Return the class of the settings of a section; that of all settings if there is no such section."""
    model: Any = RunConfig
    for section in sections:
        if section not in model.model_fields:
            break
        annotation = model.model_fields[section].annotation
        # `Palette | None` is also a section.
        model = next((kind for kind in get_args(annotation) if hasattr(kind, "model_fields")), annotation)
    found: type[RunConfig] = model if hasattr(model, "model_fields") else RunConfig
    return found


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
