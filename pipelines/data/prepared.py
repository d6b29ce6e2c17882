"""The prepared pairs of a workspace with their settings, and the pairs and settings that a training uses.

`prepare` writes its settings next to the pairs. `train` and `tune` start from them. Another source on the command line
brings its own configuration, `few-pairs` or `sample`, and what was set for the earlier source stays on top. If the
pairs that result are not those in the workspace, they are prepared first; then some settings that nobody has set may be
chosen for them (`settle`).

| in the workspace | options of `train` or `tune`       | settings                           | pairs               |
|------------------|------------------------------------|------------------------------------|---------------------|
| nothing          | none                               | `sample`                           | sample, prepared    |
| nothing          | --set data.source=X                | `few-pairs`                        | X, prepared         |
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
import logging
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from model.errors import DataError
from model.io.addresses import is_address
from model.io.files import write_text
from model.io.locations import Location
from model.spec import Frozen
from pipelines.config import loading, next_commands
from pipelines.config.overrides import parse_changes
from pipelines.config.schema import RunConfig
from pipelines.config.training_settings import SAMPLE
from pipelines.data import map_colours
from pipelines.data.pairs import PairIndex
from pipelines.workspace import Workspace

PREPARED_FILE = "prepared.json"
"""Name of the file with the settings that the pairs in a workspace were prepared with."""
_log = logging.getLogger(__name__)
ENOUGH = 320
"""Training pairs of which a tenth is enough to choose a checkpoint by."""
BEST = {"training.result": "best", "training.checkpoint_every": 1}
"""Settings that make the best checkpoint the result."""
COLOUR_LOSSES = {"training.colour_weight": 0.0, "training.rare_weight": 1.0}
"""Settings of the losses of colours, with the values that need no palette."""
DETERMINING = ("data.source", "network.image_size", "data.val_fraction", "data.min_good")
"""Settings that determine the pairs of a source."""
DETERMINING_SAMPLE = ("data.source", "network.image_size", "data.sample.train", "data.sample.val", "seed")
"""Settings that determine painted scenes."""


class Preparation(Frozen):
    """The record of a preparation, in the file next to the index of pairs."""

    fingerprint: str
    """Fingerprint of the pairs that were prepared with these settings."""
    config: RunConfig
    chosen: dict[str, Any] = Field(default_factory=dict)
    """Settings that were chosen for these pairs, and not set by anyone."""


class Plan(NamedTuple):
    """The settings and the pairs of a training."""

    config: RunConfig
    pairs: PairIndex | None
    """None if they must be prepared first."""
    reason: str
    """Why they must be prepared."""
    given: dict[str, Any] | None
    """What was set on top of the shipped configuration; None if no other settings are to be chosen for the pairs."""


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


def record(workspace: Workspace, config: RunConfig, pairs: PairIndex, chosen: Mapping[str, Any] | None = None) -> None:
    """Write the settings that the pairs in a workspace were prepared with, and those that were chosen for them."""
    preparation = Preparation(fingerprint=pairs.fingerprint, config=config, chosen=dict(chosen or {}))
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
    given = parse_changes(overrides) if file is None else None
    if not workspace.pairs_file.is_file():
        return Plan(locate(loading.load(file, overrides)), None, "none are prepared yet", given)
    pairs = PairIndex.load(workspace.pairs_file)
    used = _read(workspace, pairs)
    # Pairs of an earlier version: only their source is known.
    start = used.config if used else _configure(pairs.source)
    named = parse_changes(overrides).get("data.source")
    if isinstance(named, str) and _normal(named) == _normal(start.data.source):
        overrides.append(f"data.source={json.dumps(start.data.source)}")
    on_top = loading.set_on_top(start, used.chosen if used else {})
    config = locate(loading.follow(start, file, overrides, on_top=on_top))
    if used is None:
        reason = f"those in {config.workspace} have no record of their settings ({PREPARED_FILE})"
        return Plan(config, None, reason, given)
    if reason := _difference(start, config):
        is_other = file is None and start.data.source != config.data.source
        kept = _kept(on_top, config) if is_other else ""
        return Plan(config, None, reason + kept, on_top | (given or {}) if is_other else None)
    return Plan(loading.with_settings(config, {"data.source": pairs.source}), pairs, "", None)


def settle(config: RunConfig, pairs: PairIndex, given: Mapping[str, Any] | None) -> RunConfig:
    """Choose the settings that depend on the prepared pairs, record them, and say in one line which they are.

    The losses of colours need a palette, which photos and maps with shaded areas don't have. From ENOUGH pairs on, the
    best checkpoint is the result: it is chosen by a third part of the pairs, which fewer pairs can't spare.

    Args:
        config: The settings that the pairs were prepared with.
        pairs: The prepared pairs.
        given: What was set on top of the shipped configuration, which is not changed; None to choose nothing.
    """
    if given is None or config.data.source == SAMPLE:
        return config
    name = loading.default_file({"data.source": config.data.source})
    chosen: dict[str, Any] = {}
    notes = [config.training.length_text()]
    if len(pairs.train) >= ENOUGH and not {"training", *BEST} & given.keys():
        chosen |= BEST
        notes.append("the best checkpoint is the result")
    looks_at_colours = config.training.colour_weight > 0 or config.training.rare_weight > 1
    is_open = looks_at_colours and not {"training", *COLOUR_LOSSES} & given.keys()
    if is_open and (missing := map_colours.missing(pairs.train, config)):
        chosen |= COLOUR_LOSSES
        notes.append(f"no losses of colours, because {missing}")
    config = loading.with_settings(config, chosen)
    record(Workspace(config.workspace), config, pairs, chosen)
    pinned = shlex.join(["--config", name, *next_commands.set_options(chosen)])
    count = f"{len(pairs.train)} pair{'' if len(pairs.train) == 1 else 's'}"
    _log.warning("%s: configuration %s, %s. Pin it with: %s", count, name, "; ".join(notes), pinned)
    return config


def _read(workspace: Workspace, pairs: PairIndex) -> Preparation | None:
    """Return the record of a workspace's pairs; None if it is of an earlier version or of other pairs."""
    try:
        found = Preparation.model_validate_json((workspace.root / PREPARED_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    same = (found.fingerprint, found.config.data.source) == (pairs.fingerprint, pairs.source)
    return found if same else None


def _configure(source: str) -> RunConfig:
    """Return the settings of a source of which only the name is known."""
    return loading.load(None, [f"data.source={json.dumps(source)}"])


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


def _kept(on_top: Mapping[str, Any], config: RunConfig) -> str:
    """Return the settings that were set for another source and stay; empty if there are none."""
    flat = dict(loading.leaves(config.model_dump(mode="json")))
    kept = {key: value for key, value in on_top.items() if flat[key] == value}
    return f"; {' '.join(next_commands.set_options(kept)[1:])} stay{'s' if len(kept) == 1 else ''}" if kept else ""


def _identify(config: RunConfig) -> dict[str, str]:
    return config.flat() | {"data.source": _normal(config.data.source)}


def _normal(source: str) -> str:
    """Return the same text for different spellings of a path or of an address."""
    if source == SAMPLE or source.startswith("kaggle://"):
        return source
    location = Location.parse(source)
    return str(location if location.is_remote else location.path.resolve())
