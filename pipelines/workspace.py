"""The workspace: files that the verbs write and read.

```
workspace/
├── sample-.../        painted scenes                                   prepare
├── pairs.json         the checked pairs; rejected.csv, prepared.json   prepare
├── latest             id of the newest trained run                     train
├── cache/             features of true maps, and pulled models         evaluate, score
└── runs/RUN/          a folder per run, named after its MLflow run
    ├── config.json    its settings; pairs.json: the pairs it used      train
    ├── checkpoints/   the newest and the best checkpoint               train
    ├── run.json       steps, seconds and images per second             train
    ├── trials/TRIAL/  the same for each trial of a search; tune.json   tune
    ├── colours.json   the palette that its losses use, if they do      train
    ├── start/         networks that the training began with            train
    ├── generator.keras, discriminator.keras                            train
    ├── bundle/        generator.onnx and bundle.json                   export
    └── evaluation/    report.html, scores.json, pairs.csv, maps ...    evaluate
```
"""

from dataclasses import dataclass
from pathlib import Path

from model.errors import MissingStepError
from model.io.files import check_writable, make_folder, write_text
from pipelines.run_folder import CACHE_FOLDER, RunFolder

SHORT_ID = 4
"""Characters of a run's id that are enough if no other run begins with them."""


@dataclass(frozen=True)
class Workspace:
    """The folder that the verbs work in."""

    root: Path

    @property
    def pairs_file(self) -> Path:
        """The index of the checked pairs."""
        return self.root / "pairs.json"

    @property
    def rejected_file(self) -> Path:
        """The CSV file of rejected files and reasons."""
        return self.root / "rejected.csv"

    @property
    def cache(self) -> Path:
        """The folder of files that can be recreated: features of true maps, and models pulled from the registry."""
        return self.root.resolve() / CACHE_FOLDER

    @property
    def models(self) -> Path:
        """The folder of models pulled from the registry, each named by the sha256 of its manifest."""
        return self.cache / "models"

    def check_writable(self) -> None:
        """Raise a StorageError if the folder of a new run can't be made, before the run exists in MLflow."""
        check_writable(self.root / "runs" / "new")

    def new_run(self, run_id: str) -> RunFolder:
        """Create the folder of a run."""
        folder = RunFolder(self.root.resolve() / "runs" / run_id)
        make_folder(folder.path)
        return folder

    def set_latest(self, run: RunFolder) -> None:
        """Make this run the default of verbs without --run."""
        write_text(self.root / "latest", run.run_id)

    def latest(self) -> str | None:
        """Return the id of the newest trained run, if there is one."""
        file = self.root / "latest"
        return file.read_text(encoding="utf-8", errors="replace").strip()[:80] if file.is_file() else None

    def run(self, run_id: str | None = None) -> RunFolder:
        """Return the folder of a run, by its id or the beginning of it, and by default of the newest one.

        Raises:
            MissingStepError: There is no such run, or several ids begin so.
        """
        if run_id is None and (run_id := self.latest()) is None:
            raise MissingStepError(
                self.unfinished() or f"No trained run in {self.root}; run `train` first, or choose another workspace."
            )
        known = {run.run_id: run for run in self.runs()}
        if run_id in known:
            return known[run_id]
        similar = sorted(name for name in known if len(run_id) >= SHORT_ID and name.startswith(run_id))
        if not similar:
            names = ", ".join(sorted(known)) or "none"
            few = f" A beginning needs {SHORT_ID} characters." if any(name.startswith(run_id) for name in known) else ""
            raise MissingStepError(f"No run {run_id!r} in {self.root}; known runs: {names}.{few}")
        if len(similar) > 1:
            raise MissingStepError(f"{run_id!r} is the beginning of several runs: {', '.join(similar)}.")
        return known[similar[0]]

    def unfinished(self) -> str:
        """Return a sentence on the newest run if its training has not ended, and an empty text otherwise."""
        runs = [run for run in self.runs() if run.config_file.is_file()]
        return max(runs, key=lambda run: run.config_file.stat().st_mtime).unfinished() if runs else ""

    def runs(self) -> list[RunFolder]:
        """Return the folders of all runs."""
        folder = self.root.resolve() / "runs"
        return [RunFolder(path) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
