"""Configuration files: those that are shipped, and YAML files of users."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from model.errors import ConfigError
from model.io.addresses import hide_passwords

PRESETS = Path(__file__).parent / "presets"


class _Loader(yaml.SafeLoader):
    """YAML in which no key may occur twice in a section."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a section."""
        seen: set[Any] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name} occurs twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def preset_names() -> list[str]:
    """Return the names of the shipped configurations."""
    return sorted(known.stem for known in PRESETS.glob("*.yaml"))


def find(file: str | Path) -> Path:
    """Return the path of a shipped configuration, by its name, or of a YAML file.

    Raises:
        ConfigError: There is no such file; names that are near are suggested.
    """
    path = PRESETS / f"{file}.yaml" if str(file) in preset_names() else Path(file)
    if path.is_file():
        return path
    if path.is_dir() and str(file):
        raise ConfigError(f"{path} is a folder; use a YAML file, or one of: {', '.join(preset_names())}.")
    beside = sorted(str(other) for pattern in ("*.yaml", "*.yml") for other in path.parent.glob(pattern))
    near = get_close_matches(str(file), [*preset_names(), *beside], n=1)
    hint = f"did you mean {near[0]}? Use" if near else "use"
    raise ConfigError(
        f"There is no configuration {str(file)!r}; {hint} a YAML file, or one of: {', '.join(preset_names())}."
    )


def read(path: Path) -> dict[str, Any]:
    """Read the sections of a YAML file.

    Raises:
        ConfigError: The file can't be read, is not valid YAML, or has no sections.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}); make it readable.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid YAML: it is not text in UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path} is not valid YAML{_explain(error)}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {hide_passwords(' '.join(str(error).split()))}.") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} contains a {type(tree).__name__}; it must contain sections such as `training:`.")
    return tree


def _explain(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = hide_passwords(" ".join((error.problem or "").split())) or "it ends too early"
    return f"{where}: {problem}{'; indent with spaces' if chr(92) + 't' in problem else ''}"
