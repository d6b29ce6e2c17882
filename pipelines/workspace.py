"""What the verbs leave for each other, and where.

```
workspace/
├── sample-.../        painted scenes                                   prepare
├── pairs.json         the checked pairs, and rejected.csv              prepare
├── latest             id of the newest trained run                     train
├── cache/             what networks saw in true maps                   evaluate
└── runs/RUN/          one folder a run, named after its MLflow run
    ├── config.json    its settings; pairs.json: the pairs it used      train
    ├── checkpoints/   the newest and the best one                      train
    ├── run.json       what is known when it has ended                  train
    ├── trials/TRIAL/  the same for each trial of a search              tune
    ├── generator.keras                                                 train
    ├── bundle/        generator.onnx and bundle.json                   export
    └── evaluation/    report.html, scores.json, pairs.csv, maps ...  evaluate
```
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from model.bundle import Bundle
from model.errors import MissingStepError
from model.io.files import write_text
from model.spec import Frozen
from pipelines.config.schema import RunConfig

SCORES_FILE, SHEET_FILE, REPORT_FILE, TABLE_FILE = "scores.json", "sheet.png", "report.html", "pairs.csv"

GENERATOR_FILE = "generator.keras"


class RunRecord(Frozen):
    """What is known of a run when its training has ended."""

    run_id: str
    """The MLflow run."""
    config: RunConfig
    steps: int
    seconds: float
    """From the end of the first step, which traces, to the end of the last one, since the workers last started."""
    images_per_second: float


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def run_id(self) -> str:
        """The MLflow run's id, which names the folder."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Its checkpoints."""
        return self.path / "checkpoints"

    @property
    def generator(self) -> Path:
        """The trained generator, a Keras file."""
        return self.path / GENERATOR_FILE

    @property
    def bundle(self) -> Path:
        """The exported model."""
        return self.path / "bundle"

    @property
    def evaluation(self) -> Path:
        """Report, scores, sheet, and the maps drawn from the held-out photos."""
        return self.path / "evaluation"

    @property
    def ray(self) -> Path:
        """What Ray Train notes for itself while it runs."""
        return self.path / "ray"

    @property
    def cache(self) -> Path:
        """What can be made again, for all runs of the workspace."""
        return Workspace(self.path.parent.parent).cache

    @property
    def trials(self) -> Path:
        """The folders of a search's trials, one a trial."""
        return self.path / "trials"

    @property
    def config_file(self) -> Path:
        """The settings that the run began with."""
        return self.path / "config.json"

    @property
    def pairs_file(self) -> Path:
        """The pairs that the run was trained and is judged on."""
        return self.path / "pairs.json"

    @property
    def record_file(self) -> Path:
        """The file of the record that a finished training leaves."""
        return self.path / "run.json"

    def config(self) -> RunConfig:
        """Read the settings that the run began with.

        Raises:
            MissingStepError: The run never began to train, or it is of another version.
        """
        try:
            return RunConfig.model_validate_json(self.config_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError, UnicodeDecodeError) as error:
            raise MissingStepError(
                f"{self.config_file} is missing, or of another version of sat2map; run `train` again."
            ) from error

    def record(self) -> RunRecord:
        """Read what training left.

        Raises:
            MissingStepError: The run was never trained to its end.
        """
        path = self.record_file
        try:
            return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MissingStepError(f"{self.path} holds no finished training; run `train` first.") from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise MissingStepError(f"{path} is of another version of sat2map; run `train` again.") from error

    def in_workspace(self) -> list[str]:
        """Return the words that a command needs to find the run from here."""
        workspace = self.path.parent.parent
        return [] if workspace == Path("workspace").resolve() else ["--set", f"workspace={workspace}"]

    def write_record(self, record: RunRecord) -> None:
        """Write what training leaves."""
        write_text(self.record_file, record.model_dump_json(indent=2))

    def open_bundle(self) -> Bundle:
        """Open the run's exported model.

        Raises:
            MissingStepError: The run has not been exported.
        """
        if not self.bundle.is_dir():
            raise MissingStepError(f"Run {self.run_id} has no exported model; run `export` first.")
        return Bundle.open(self.bundle)


@dataclass(frozen=True)
class Workspace:
    """The folder that the verbs work in."""

    root: Path

    @property
    def pairs_file(self) -> Path:
        """The checked pairs."""
        return self.root / "pairs.json"

    @property
    def rejected_file(self) -> Path:
        """The refused files and why, as CSV."""
        return self.root / "rejected.csv"

    @property
    def cache(self) -> Path:
        """Files that can be made again: features of true maps, and models pulled from the registry."""
        return self.root.resolve() / "cache"

    @property
    def models(self) -> Path:
        """The folder of models pulled from the registry, each named by the sha256 of its manifest."""
        return self.cache / "models"

    def new_run(self, run_id: str) -> RunFolder:
        """Make the folder of a new run."""
        folder = RunFolder(self.root.resolve() / "runs" / run_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        return folder

    def set_latest(self, run: RunFolder) -> None:
        """Let the verbs that are given no run work on this one."""
        write_text(self.root / "latest", run.run_id)

    def run(self, run_id: str | None = None) -> RunFolder:
        """Find the folder of a run, by default of the newest.

        Raises:
            MissingStepError: There is no such run here.
        """
        latest = self.root / "latest"
        if run_id is None:
            if not latest.is_file():
                raise MissingStepError(f"No trained run in {self.root}; run `train` first (or name another workspace).")
            run_id = latest.read_text(encoding="utf-8").strip()
        runs = self.root.resolve() / "runs"
        known = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
        if run_id not in known:
            raise MissingStepError(f"No run {run_id!r} in {self.root}; there are: {', '.join(known) or 'none'}.")
        return RunFolder(runs / run_id)
