"""The prepared pairs of a workspace with their settings, and the pairs and settings that a training uses.

`prepare` writes its settings next to the pairs. `train` and `tune` start from them. Another source on the command line
brings its own configuration, `default` or `sample`, and what was set for the earlier source stays on top. If the pairs
that result are not those in the workspace, they are prepared first.

| in the workspace | options of `train` or `tune`       | settings                           | pairs               |
|------------------|------------------------------------|------------------------------------|---------------------|
| nothing          | none                               | `sample`                           | sample, prepared    |
| nothing          | --set data.source=X                | `default`                          | X, prepared         |
| pairs of P       | none                               | those that P was prepared with     | P                   |
| pairs of P       | --set training.epochs=5            | those of P, with this one          | P                   |
| pairs of P       | --set network.image_size=64        | those of P, with this one          | P, prepared again   |
| pairs of P       | --set data.source=X                | those of X, with what was set of P | X, prepared         |
| pairs of P       | --set data.source=P                | those that P was prepared with     | P, again if needed  |
| pairs of P       | --config C that names X            | those of C                         | X, prepared         |
| pairs of P       | --config C that names no source    | those of C, and of P for `data`    | P, again if needed  |

"If needed": if a setting of DETERMINING differs. `prepare` and `main` always prepare the pairs of their own options.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from model.errors import DataError
from model.io.addresses import is_address
from model.io.files import write_text
from model.io.locations import Location
from model.spec import Frozen
from pipelines.config import loading, next_commands
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.workspace import Workspace

PREPARED_FILE = "prepared.json"
"""Name of the file with the settings that the pairs in a workspace were prepared with."""
SAMPLE = "sample"
"""The source of painted scenes."""
DETERMINING = ("data.source", "network.image_size", "data.val_fraction", "data.min_good")
"""Settings that determine the pairs of a source."""
DETERMINING_SAMPLE = ("data.source", "network.image_size", "data.sample.train", "data.sample.val", "seed")
"""Settings that determine painted scenes."""


class Preparation(Frozen):
    """The record of a preparation, in the file next to the index of pairs."""

    fingerprint: str
    """Fingerprint of the pairs that were prepared with these settings."""
    config: RunConfig


class Plan(NamedTuple):
    """The settings and the pairs of a training."""

    config: RunConfig
    pairs: PairIndex | None
    """None if they must be prepared first."""
    reason: str
    """Why they must be prepared."""


def locate(config: RunConfig) -> RunConfig:
    """Return the settings with an absolute path as their source, which means the same in any folder."""
    source = config.data.source
    if source == SAMPLE or is_address(source):
        return config
    return loading.with_settings(config, {"data.source": str(Path(source).expanduser().absolute())})


def check_source(config: RunConfig) -> None:
    """Check that a source on this machine exists, for those that create other files first.

    Raises:
        DataError: It does not.
    """
    source = config.data.source
    if source != SAMPLE and not is_address(source) and not os.path.lexists(Path(source).expanduser()):
        raise DataError(f"There is no folder {source}; check the spelling.")


def record(workspace: Workspace, config: RunConfig, pairs: PairIndex) -> None:
    """Write the settings that the pairs in a workspace were prepared with."""
    preparation = Preparation(fingerprint=pairs.fingerprint, config=config)
    write_text(workspace.root / PREPARED_FILE, preparation.model_dump_json(indent=1) + "\n")


def plan(file: str | None, overrides: Iterable[str]) -> Plan:
    """Choose the settings and the pairs of a training, by the table of this module.

    Args:
        file: A YAML file or the name of a shipped configuration, as for `loading.load`.
        overrides: Settings of the command line, as for `loading.load`.

    Raises:
        ConfigError: A setting is invalid.
        DataError: The index of pairs was altered, or a source is an invalid address.
    """
    overrides = list(overrides)
    workspace = Workspace(loading.workspace_of(file, overrides))
    if not workspace.pairs_file.is_file():
        return Plan(locate(loading.load(file, overrides)), None, "none are prepared yet")
    pairs = PairIndex.load(workspace.pairs_file)
    used = _read(workspace, pairs)
    # Pairs of an earlier version: only their source is known.
    start = used or _configure(pairs.source)
    named = loading.parse_changes(overrides).get("data.source")
    if isinstance(named, str) and _normal(named) == _normal(start.data.source):
        overrides.append(f"data.source={json.dumps(start.data.source)}")
    config = locate(loading.follow(start, file, overrides))
    if used is None:
        return Plan(config, None, f"those in {config.workspace} have no record of their settings ({PREPARED_FILE})")
    if reason := _difference(used, config):
        return Plan(config, None, reason + _kept(used, config, is_file=file is not None))
    return Plan(loading.with_settings(config, {"data.source": pairs.source}), pairs, "")


def _read(workspace: Workspace, pairs: PairIndex) -> RunConfig | None:
    """Return the settings of a workspace's pairs; None if they are of an earlier version or of other pairs."""
    try:
        found = Preparation.model_validate_json((workspace.root / PREPARED_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    same = (found.fingerprint, found.config.data.source) == (pairs.fingerprint, pairs.source)
    return found.config if same else None


def _configure(source: str) -> RunConfig:
    """Return the settings of a source of which only the name is known."""
    shipped = loading.load("sample" if source == SAMPLE else "default")
    return loading.with_settings(shipped, {"data.source": source})


def _difference(used: RunConfig, config: RunConfig) -> str:
    """Return how the settings of prepared pairs differ from those of a training; empty if the pairs fit."""
    before, after = _identify(used), _identify(config)
    for key in DETERMINING_SAMPLE if config.data.source == SAMPLE else DETERMINING:
        if before[key] != after[key]:
            old, new = used.flat()[key], config.flat()[key]
            if key == "data.source":
                return f"those in {config.workspace} are of {old}"
            return f"{key} is {new}, and those in {config.workspace} were prepared with {old}"
    return ""


def _kept(used: RunConfig, config: RunConfig, *, is_file: bool) -> str:
    """Return the settings that were set for another source and stay; empty if there are none."""
    if is_file or used.data.source == config.data.source:
        return ""
    flat = dict(loading.leaves(config.model_dump(mode="json")))
    kept = {key: value for key, value in loading.set_on_top(used).items() if flat[key] == value}
    return f"; {' '.join(next_commands.set_options(kept)[1:])} stay{'s' if len(kept) == 1 else ''}" if kept else ""


def _identify(config: RunConfig) -> dict[str, str]:
    return config.flat() | {"data.source": _normal(config.data.source)}


def _normal(source: str) -> str:
    """Return the same text for different spellings of a path or of an address."""
    if source == SAMPLE or source.startswith("kaggle://"):
        return source
    location = Location.parse(source)
    return str(location if location.is_remote else location.path.resolve())
