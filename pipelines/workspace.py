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
    ├── generator.keras                                                 train
    ├── bundle/        generator.onnx and bundle.json                   export
    └── evaluation/    report.html, scores.json, pairs.csv, maps ...    evaluate
```
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from model.bundle import Bundle
from model.errors import MissingStepError, TrainingError
from model.io import locks
from model.io.files import check_writable, make_folder, sha256, write_text
from pipelines.config import next_commands
from pipelines.config.schema import RunConfig
from pipelines.run_record import RunRecord, read

SCORES_FILE, SHEET_FILE, REPORT_FILE, TABLE_FILE = "scores.json", "sheet.png", "report.html", "pairs.csv"

GENERATOR_FILE, SEARCH_FILE = "generator.keras", "tune.json"
SHORT_ID = 4
"""Characters of a run's id that are enough if no other run begins with them."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def run_id(self) -> str:
        """Id of the MLflow run, which is the folder's name."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def generator(self) -> Path:
        """The Keras file of the trained generator."""
        return self.path / GENERATOR_FILE

    @property
    def bundle(self) -> Path:
        """The folder of the exported model."""
        return self.path / "bundle"

    @property
    def evaluation(self) -> Path:
        """The folder of the report, scores, sheet, and maps of the held-out photos."""
        return self.path / "evaluation"

    @property
    def ray(self) -> Path:
        """The folder that Ray Train uses while it runs."""
        return self.path / "ray"

    @property
    def cache(self) -> Path:
        """The cache of the workspace, shared by all runs."""
        return Workspace(self.path.parent.parent).cache

    @property
    def trials(self) -> Path:
        """The folder of a search's trials, with a folder per trial."""
        return self.path / "trials"

    @property
    def config_file(self) -> Path:
        """The file of the settings that the run started with."""
        return self.path / "config.json"

    @property
    def pairs_file(self) -> Path:
        """The index of the pairs that the run is trained and evaluated on."""
        return self.path / "pairs.json"

    @property
    def record_file(self) -> Path:
        """The file of the record that a finished training leaves."""
        return self.path / "run.json"

    @property
    def search_file(self) -> Path:
        """The file of the trials that a finished search leaves."""
        return self.path / SEARCH_FILE

    def config(self) -> RunConfig:
        """Read the settings that the run started with.

        Raises:
            MissingStepError: The training never started, or the file is incompatible with this version.
        """
        try:
            return read(RunConfig, self.config_file)
        except FileNotFoundError as error:
            raise MissingStepError(f"{self.config_file} is missing; run `train` again.") from error

    def record(self) -> RunRecord:
        """Read the record of the training.

        Raises:
            MissingStepError: The training has not ended, or the file is incompatible with this version.
        """
        try:
            return read(RunRecord, self.record_file)
        except FileNotFoundError as error:
            raise MissingStepError(
                self.unfinished() or f"{self.path} contains no finished training; run `train` first."
            ) from error

    def training(self) -> contextlib.AbstractContextManager[None]:
        """Mark the run as being trained, for a block or until this process is killed.

        Raises:
            TrainingError: Another process trains it.
        """
        message = f"Run {self.run_id} is being trained by another process; wait for its end, or stop it first."
        return locks.held(self.pairs_file, busy=TrainingError(message))

    def unfinished(self) -> str:
        """Return a sentence on a training or search that has not ended, and an empty text for any other run."""
        if not self.config_file.is_file() or self._has_ended():
            return ""
        if locks.is_held(self.pairs_file):
            return f"Run {self.run_id} is still being trained; wait for its end."
        return self.stopped()

    def _has_ended(self) -> bool:
        """Return whether the search, or the epochs that the training was last started with, are done."""
        if self.is_search():
            return self.search_file.is_file()
        # A damaged record is an error of those who need it.
        with contextlib.suppress(MissingStepError):
            return self.record_file.is_file() and self.record().config.training.epochs >= self.config().training.epochs
        return True

    def stopped(self) -> str:
        """Return a sentence on how to continue the training or search, which has stopped."""
        if self.is_search():
            if not (self.ray / "tuner.pkl").is_file():
                return f"The search {self.run_id} stopped before its first trial; run `tune` again."
            return f"The search {self.run_id} stopped; continue it with: {self.command('tune --resume', self.run_id)}"
        if not (steps := [int(path.name[5:]) for path in self.checkpoints.glob("step-????????")]):
            return f"Run {self.run_id} stopped before its first checkpoint; run `train` again."
        resume = self.command("train --resume", self.run_id)
        return f"Run {self.run_id} stopped at step {max(steps)}; continue it with: {resume}"

    def is_search(self) -> bool:
        """Return whether the run is a search."""
        return self.trials.is_dir() or (self.ray / "tuner.pkl").is_file()

    def generator_sha256(self) -> str:
        """Return the sha256 of the trained generator's file.

        Raises:
            MissingStepError: There is no such file, or the last finished training did not write it.
        """
        if not self.generator.is_file():
            raise MissingStepError(f"{self.generator} is missing; run `train` first.")
        found, recorded = sha256(self.generator), self.record().generator_sha256
        if recorded and found != recorded:
            raise MissingStepError(
                f"{self.generator} is not the generator of run {self.run_id}'s last finished training; finish it with: "
                f"{self.command('train', '--resume', self.run_id)}"
            )
        return found

    def command(self, verb: str, *words: str) -> str:
        """Return the command line of a verb that finds the run's workspace from the current folder."""
        return next_commands.of_run(verb, *words, workspace=self.path.parent.parent)

    def write_record(self, record: RunRecord) -> None:
        """Write the record of the training."""
        write_text(self.record_file, record.model_dump_json(indent=2))

    def open_bundle(self) -> Bundle:
        """Open the run's exported model.

        Raises:
            MissingStepError: The run has not been exported, or was trained further since.
        """
        if not self.bundle.is_dir():
            raise MissingStepError(
                f"Run {self.run_id} has no exported model; first run: {self.command('export', '--run', self.run_id)}"
            )
        bundle = Bundle.open(self.bundle)
        exported = bundle.manifest.generator_sha256
        # Scoring does not need the Keras file, which may have been removed to save space.
        if exported and self.generator.is_file() and self.generator_sha256() != exported:
            raise MissingStepError(
                f"Run {self.run_id} was trained further after its model was exported; export it again: "
                f"{self.command('export', '--run', self.run_id)}"
            )
        return bundle


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
        return self.root.resolve() / "cache"

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
