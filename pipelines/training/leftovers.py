"""Files that killed processes left in a workspace."""

import shutil

from model.io import locks
from model.io.files import remove_stale_drafts
from pipelines.run_folder import RunFolder
from pipelines.workspace import Workspace

PARTIAL = ".partial"
"""Suffix of a checkpoint that is being written."""


def remove_leftovers(workspace: Workspace) -> None:
    """Remove partial checkpoints, drafts, and the files of Ray Train, except those of runs that are being trained."""
    if workspace.root.is_dir():
        remove_stale_drafts(workspace.root)
    for run in workspace.runs():
        if not locks.is_held(run.pairs_file):
            _clear(run)


def _clear(run: RunFolder) -> None:
    for partial in run.path.glob(f"**/checkpoints/*{PARTIAL}"):
        shutil.rmtree(partial, ignore_errors=True)
    if not run.is_search():
        # A search resumes from what Ray Tune keeps there.
        shutil.rmtree(run.ray, ignore_errors=True)
    remove_stale_drafts(run.path)
