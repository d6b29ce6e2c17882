"""The folder of one run, and the names of its files; `pipelines.workspace` lists them."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from model.bundle import Bundle, Lineage
from model.errors import MissingStepError, TrainingError
from model.io import locks
from model.io.files import sha256, write_text
from pipelines.config import next_commands
from pipelines.config.schema import RunConfig
from pipelines.run_record import RunRecord, read

SCORES_FILE, SHEET_FILE, REPORT_FILE, TABLE_FILE = "scores.json", "sheet.png", "report.html", "pairs.csv"

GENERATOR_FILE, DISCRIMINATOR_FILE, SEARCH_FILE = "generator.keras", "discriminator.keras", "tune.json"
LINEAGE_FILE = "lineage.json"
"""File in the folder of the networks that a training began with."""
CACHE_FOLDER = "cache"
"""Folder of a workspace for files that can be recreated."""


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
    def discriminator(self) -> Path:
        """The Keras file of the trained discriminator."""
        return self.path / DISCRIMINATOR_FILE

    @property
    def start(self) -> Path:
        """The folder of the networks that the training began with, if it did not begin with random weights."""
        return self.path / "start"

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
        return self.path.parent.parent / CACHE_FOLDER

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
    def colours_file(self) -> Path:
        """The file of the palette that the losses used, with the shares of its classes in the training maps."""
        return self.path / "colours.json"

    @property
    def channels_file(self) -> Path:
        """The file of the means and deviations that the discriminator's input was standardised by."""
        return self.path / "channels.json"

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

    def started_from(self) -> Lineage | None:
        """Return the model that the training began with; None if it began with random weights."""
        file = self.start / LINEAGE_FILE
        return read(Lineage, file) if file.is_file() else None

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
        """Return whether the search, or a training of the length that it was last started with, is done."""
        if self.is_search():
            return self.search_file.is_file()
        # A damaged record is an error of those who need it.
        with contextlib.suppress(MissingStepError):
            return self.record_file.is_file() and self.record().config.training.length == self.config().training.length
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
