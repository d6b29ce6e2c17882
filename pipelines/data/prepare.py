"""Preparation of the pairs: painted, downloaded or found, and every one checked."""

import logging
from pathlib import Path

from model.errors import DataError
from model.io.addresses import is_address
from model.io.files import write_text
from model.io.locations import Location
from pipelines.config.schema import RunConfig
from pipelines.config.training_settings import SAMPLE
from pipelines.data import kaggle, prepared
from pipelines.data.indexing import index_folder
from pipelines.data.pairs import PairIndex, rejected_report
from pipelines.data.sample.painter import STYLE, paint_folder
from pipelines.data.splits import MIN_VAL
from pipelines.workspace import Workspace

_log = logging.getLogger(__name__)


def prepare(config: RunConfig) -> PairIndex:
    """Paint, download or find the pairs, and write their index and the list of rejected ones to the workspace.

    The settings are written as well, for `train` and `tune`. Pairs that can't be used or hardly be learned from, and
    images in no pair, are logged as warnings.

    Raises:
        DataError: There are no pairs, too few of them are good or held out, or their location does not answer.
    """
    config = prepared.locate(config)
    workspace = Workspace(config.workspace)
    index = index_folder(
        _folder(config, workspace),
        source=config.data.source,
        min_side=config.network.image_size,
        val_fraction=config.data.val_fraction,
        min_good=config.data.min_good,
    )
    if len(index.val) < MIN_VAL:
        advice = "Add some, or remove them all: then a share of the other pairs is held out (data.val_fraction)"
        if config.data.source == SAMPLE:
            advice = "Increase data.sample.val"
        raise DataError(
            f"{config.data.source} has {len(index.val)} held-out pairs; confidence intervals need at least {MIN_VAL}. "
            f"{advice}."
        )
    index.save(workspace.pairs_file)
    write_text(workspace.rejected_file, rejected_report(index))
    prepared.record(workspace, config, index)
    if index.rejected:
        total = len(index.train) + len(index.val) + len(index.rejected)
        _log.warning("%d of %d pairs can't be used; see %s.", len(index.rejected), total, workspace.rejected_file)
    for item in index.unused:
        _log.warning("Not used: %s %s.", item.name, item.reason)
    if len(index.train) < config.training.batch_size:
        found = "1 training pair doesn't" if len(index.train) == 1 else f"{len(index.train)} training pairs don't"
        _log.warning("Warning: %s fill a batch of %d; lower training.batch_size.", found, config.training.batch_size)
    for warning in index.warnings:
        _log.warning("Warning: %s", warning)
    return index


def _folder(config: RunConfig, workspace: Workspace) -> Location:
    source = config.data.source
    if source == SAMPLE:
        return Location(_sample(config, workspace))
    if source.startswith("kaggle://"):
        return Location(kaggle.fetch(source))
    return Location.parse(source if is_address(source) else Path(source))


def _sample(config: RunConfig, workspace: Workspace) -> Path:
    """Paint the sample unless it exists already: its name contains everything that determines it."""
    sample, side = config.data.sample, config.network.image_size
    folder = workspace.root / f"sample-v{STYLE}-{side}px-{sample.train}+{sample.val}-seed{config.seed}"
    if not folder.is_dir():
        paint_folder(folder, train=sample.train, val=sample.val, size=side, seed=config.seed)
    return folder
