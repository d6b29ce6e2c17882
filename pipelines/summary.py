"""What a verb says when it is done: what was made, where, how good it is, and what to type next."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from pipelines.config import RunConfig
from pipelines.evaluate import SHEET_FILE, Scores
from pipelines.flow import FlowResult
from pipelines.metrics import Score
from pipelines.pairs import PairIndex
from pipelines.registry import RegisteredVersion
from pipelines.workspace import RunFolder, Workspace
from serving.scorer import ScoreReport

if TYPE_CHECKING:
    from pipelines.tune import TuneResult

COLUMNS = {
    "ssim": ("SSIM ↑", 3),
    "psnr": ("PSNR ↑", 1),
    "l1": ("L1 ↓", 1),
    "frechet_lite0": ("Fréchet ↓", 1),
    "is_lite0": ("IS ↑", 2),
}
NAMES = {"median_colour": "median colour", "mean_map": "mean map", "source_copied": "input copied"}


def flow(folder: RunFolder, result: FlowResult) -> None:
    """Tell what a whole run made."""
    out = _console()
    record, version = result.record, result.version
    out.print("\n[bold]sat2map has drawn its maps[/]\n")
    rows = {
        "Look at": _near(folder.evaluation / SHEET_FILE),
        "Maps of held-out photos": _near(folder.evaluation / "maps"),
        "Model bundle": _near(folder.bundle),
        "Registered": f"{version.name} version {version.version}, alias {version.alias}",
        "MLflow run": version.run_id,
        "Training": f"{record.steps} steps in {record.seconds:.0f} s, {record.images_per_second:.1f} images/s",
    }
    _facts(out, rows)
    out.print()
    _score_table(out, result.scores)
    _next(
        out,
        {
            "look at the run": "mlflow ui",
            "train on your pairs": "sat2map main --set data.source=FOLDER",
            "draw maps": "sat2map score PHOTOS MAPS",
            "answer requests": f"mlflow models serve -m {version.uri} --env-manager local",
        },
    )


def pairs(config: RunConfig, index: PairIndex) -> None:
    """Tell which pairs can be used, and which can't."""
    out = _console()
    out.print(f"{len(index.train)} pairs to train on, {len(index.val)} held out, {len(index.rejected)} refused.")
    for refused in index.rejected[:20]:
        out.print(f"  refused {refused.name}: {refused.reason}", markup=False)
    workspace = Workspace(config.workspace)
    _facts(out, {"Index": _near(workspace.pairs_file), "Refused": _near(workspace.rejected_file)})
    _next(out, {"train on them": "sat2map train"})


def training(folder: RunFolder) -> None:
    """Tell what training left."""
    out = _console()
    record = folder.record()
    out.print(f"{record.steps} steps in {record.seconds:.0f} s, {record.images_per_second:.1f} images/s.")
    _facts(out, {"Generator": _near(folder.generator), "MLflow run": record.run_id})
    _next(out, {"turn it into ONNX": "sat2map export"})


def search(found: "TuneResult") -> None:
    """Tell how the trials of a search ended, and the settings of the best."""
    out = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    settings = [key.partition(".")[2] for key in found.trials[0].settings]
    for heading in ("trial", found.score, "epochs", *settings):
        table.add_column(heading, justify="left" if heading == "trial" else "right")
    for trial in found.trials:
        values = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.settings.values()]
        table.add_row(trial.name, f"{trial.score:.4g}", str(trial.epochs), *values)
    out.print(table)
    best = " ".join(f"{key}={value}" for key, value in found.trials[0].settings.items())
    _facts(out, {"Best trial": found.trials[0].name, "MLflow run": found.run_id})
    _next(out, {"train with its settings": f'sat2map train --set "{best}"'})


def bundle(exported: Bundle) -> None:
    """Tell what was exported and how exact it is."""
    out = _console()
    parity = exported.manifest.parity
    out.print(
        f"ONNX and TensorFlow differ by at most {parity.max_difference:.1e} on {parity.photos} held-out photos "
        f"(allowed: {parity.limit:g}, on the scale [-1, 1]).",
        markup=False,
    )
    _facts(out, {"Bundle": _near(exported.folder)})
    _next(out, {"score it": "sat2map evaluate"})


def scores(folder: RunFolder, measured: Scores) -> None:
    """Tell the scores beside their baselines."""
    out = _console()
    _score_table(out, measured)
    _facts(out, {"Look at": _near(folder.evaluation / SHEET_FILE), "Maps": _near(folder.evaluation / "maps")})
    _next(out, {"put it into the registry": "sat2map register"})


def version(registered: RegisteredVersion) -> None:
    """Tell where the model is registered."""
    out = _console()
    out.print(f"{registered.name} version {registered.version} is the {registered.alias}.")
    _next(out, {"answer requests": f"mlflow models serve -m {registered.uri} --env-manager local"})


def maps(folder: Path, report: ScoreReport) -> None:
    """Tell which photos have maps now."""
    out = _console()
    out.print(f"{report.drawn} maps of {report.side}x{report.side} pixels, {len(report.refused)} photos refused.")
    for refused in report.refused[:20]:
        out.print(f"  refused {refused.photo}: {refused.problem}", markup=False)
    _facts(out, {"Maps": _near(folder)})


def _console() -> Console:
    # Wide enough that a path is never broken where stdout is a file.
    return Console(highlight=False, soft_wrap=True)


def _facts(out: Console, rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        out.print(f"  [dim]{name:{width}}[/]  {value}")


def _next(out: Console, commands: dict[str, str]) -> None:
    out.print("\n[bold]Next[/]")
    activate = Path(sys.prefix) / "bin" / "activate"
    if activate.is_file() and "VIRTUAL_ENV" not in os.environ:
        commands = {"once in a terminal": f"source {_near(activate)}"} | commands
    width = max(map(len, commands))
    for purpose, command in commands.items():
        out.print(f"  {purpose:{width}}  [cyan]{command}[/]")


def _score_table(out: Console, measured: Scores) -> None:
    title = f"Scores on {measured.pairs} held-out pairs, ± standard error"
    # No wider than 80 columns: the terminals that show the least still show every digit.
    frame: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(title=title, title_justify="left", title_style="bold", **frame)
    table.add_column("", no_wrap=True)
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("[bold]this model[/]", *_cells(measured.model, style="bold"))
    for baseline, numbers in measured.baselines.items():
        table.add_row(NAMES[baseline], *_cells(numbers))
    out.print(table)
    out.print("PSNR in dB, L1 of 255. Fréchet and IS are on EfficientNet-Lite0: not FID, not its IS.")
    lost = [
        f"{COLUMNS[name][0][:-2]} ({NAMES[baseline]})"
        for baseline in measured.baselines
        for name in measured.model
        if not measured.beats(baseline, name)
    ]
    out.print(f"Loses to a trivial baseline in: {', '.join(lost)}." if lost else "Beats every trivial baseline.")


def _cells(numbers: dict[str, Score], style: str = "") -> list[str]:
    cells = []
    for name, (_, digits) in COLUMNS.items():
        score = numbers[name]
        text = f"{score.value:.{digits}f} ±{score.error:.{digits}f}"
        cells.append(f"[{style}]{text}[/]" if style else text)
    return cells


def _near(path: Path) -> str:
    """The path from here where it lies below, so that it can be typed."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
