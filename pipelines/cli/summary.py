"""What a verb says when it is done: what was made, where, how good it is, and what to type next."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.flow import FlowResult
from pipelines.metrics.catalogue import BASELINES, METRICS, SET_METRICS, SUMMARY_METRICS
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import WIDE_GAP, Comparison, NamedScores, Scores, headline
from pipelines.registry.register import RegisteredVersion
from pipelines.workspace import REPORT_FILE, RunFolder, Workspace

if TYPE_CHECKING:
    from pipelines.registry.promotion import Promotion, Rollback
    from pipelines.training.tune import TuneResult

SHORT_ID = 8
"""Characters of a run's id that tell it from others in a table."""


def flow(folder: RunFolder, result: FlowResult) -> None:
    """Tell what a whole run made."""
    out = _console()
    record, version = result.record, result.version
    out.print("\n[bold]sat2map has drawn its maps[/]\n")
    rows = {
        "Report": _relative(folder.evaluation / REPORT_FILE),
        "Maps of held-out photos": _relative(folder.evaluation / "maps"),
        "Model bundle": _relative(folder.bundle),
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
            "make it the champion": f"sat2map promote {version.version}",
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
    _facts(out, {"Index": _relative(workspace.pairs_file), "Refused": _relative(workspace.rejected_file)})
    _next(out, {"train on them": "sat2map train"})


def training(folder: RunFolder) -> None:
    """Tell what training left."""
    out = _console()
    record = folder.record()
    out.print(f"{record.steps} steps in {record.seconds:.0f} s, {record.images_per_second:.1f} images/s.")
    _facts(out, {"Generator": _relative(folder.generator), "MLflow run": record.run_id})
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
    """Tell what was exported, how exact it is, and what was not shipped."""
    out = _console()
    manifest = exported.manifest
    parity = manifest.parity
    out.print(
        f"ONNX and TensorFlow differ by at most {parity.max_difference:.1e} on {parity.photos} held-out photos "
        f"(allowed: {parity.limit:g}, on the scale [-1, 1]).",
        markup=False,
    )
    if manifest.variants:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("variant", "made for", "SSIM to fp32", "worst pair score", "in float"):
            table.add_column(heading)
        for name, variant in manifest.variants.items():
            paired = {score: share for score, share in variant.losses.items() if score not in SET_METRICS}
            score, share = max(paired.items(), key=lambda item: item[1], default=("", 0.0))
            providers = ", ".join(provider.removesuffix("ExecutionProvider") for provider in variant.providers)
            lost = f"{share:+.2%} {METRICS[score].title}" if score else "not measured"
            table.add_row(name, providers, f"{variant.ssim:.4f}", lost, ", ".join(variant.float_layers) or "nothing")
        out.print(table)
    for name, reason in manifest.left_out.items():
        out.print(f"Left out: {name}, because {reason}.", markup=False, style="yellow")
    _facts(out, {"Bundle": _relative(exported.folder)})
    _next(out, {"score it": "sat2map evaluate", "draw maps": "sat2map score PHOTOS MAPS"})


def scores(folder: RunFolder, measured: Scores) -> None:
    """Tell the scores beside their baselines."""
    out = _console()
    _score_table(out, measured)
    _facts(out, {"Report": _relative(folder.evaluation / REPORT_FILE), "Maps": _relative(folder.evaluation / "maps")})
    _next(out, {"put it into the registry": "sat2map register"})


def version(registered: RegisteredVersion) -> None:
    """Tell where the model is registered."""
    out = _console()
    out.print(f"{registered.name} version {registered.version} is the {registered.alias}.")
    _next(out, {"make it the champion": f"sat2map promote {registered.version}"})


def promotion(done: "Promotion") -> None:
    """Tell what became the champion, and every number that decided."""
    out = _console()
    how = "was forced to be" if done.decision == "forced" else "is"
    out.print(f"{done.name} version {done.version} {how} the champion now.")
    for gate in done.judgement.gates:
        out.print(f"  {'[green]✓[/]' if gate.passed else '[red]✗[/]'} {gate.sentence}.")
    _next(
        out,
        {
            "fetch it": "sat2map pull champion --out champion",
            "answer requests": f"mlflow models serve -m models:/{done.name}@champion --env-manager local",
        }
        | ({} if done.champion is None else {"go back": "sat2map rollback"}),
    )


def rollback(done: "Rollback") -> None:
    """Tell which version is the champion again."""
    out = _console()
    out.print(f"{done.name} version {done.version} is the champion again; version {done.rolled_back} is not any more.")


def pulled(fetched: Bundle) -> None:
    """Tell where a fetched model lies."""
    out = _console()
    _facts(out, {"Bundle": _relative(fetched.folder), "sha256": fetched.manifest.sha256})
    _next(out, {"draw maps": f"sat2map score PHOTOS MAPS --model {shlex.quote(_relative(fetched.folder))}"})


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
        commands = {"once in a terminal": f"source {_relative(activate)}"} | commands
    width = max(map(len, commands))
    for purpose, command in commands.items():
        out.print(f"  {purpose:{width}}  [cyan]{command}[/]")


def comparison(folder: Path, found: Comparison) -> None:
    """Tell what runs score on the same pairs, and what each gains over the first."""
    out = _console()
    title = f"Scores on {found.pairs} held-out pairs, ± half a 95 % interval"
    _table(out, title, {run[:SHORT_ID]: scores for run, scores in found.scores.items()})
    for run, gains in found.gains.items():
        told = [f"{METRICS[name].title} {_gained(name, gains[name])}" for name in SUMMARY_METRICS if name in gains]
        out.print(f"{run[:SHORT_ID]} gains over {found.runs[0][:SHORT_ID]}: {', '.join(told)}", markup=False)
    _facts(out, {"Look at": _relative(folder)})


def _score_table(out: Console, measured: Scores) -> None:
    tables = {"[bold]this model[/]": measured.model}
    tables |= {BASELINES[baseline]: numbers for baseline, numbers in measured.baselines.items()}
    _table(out, f"Scores on {measured.pairs} held-out pairs, ± half a 95 % interval", tables)
    out.print("L1 in levels of 255, PSNR in dB. Fréchet Lite0 has FID's formula and another network: it is not FID.")
    if measured.gap > WIDE_GAP:
        out.print(f"Deployed, L1 is {measured.gap:.0%} higher than as trained: the report says what to do about it.")
    out.print(headline(measured), markup=False)
    for note in measured.notes:
        out.print(f"Note: {note}", style="dim", markup=False)


def _table(out: Console, title: str, tables: Mapping[str, NamedScores]) -> None:
    # No wider than 80 columns: the terminals that show the least still show every digit.
    frame: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(title=title, title_justify="left", title_style="bold", **frame)
    table.add_column("", no_wrap=True)
    names = [name for name in SUMMARY_METRICS if all(name in numbers for numbers in tables.values())]
    for name in names:
        arrow = "↓" if METRICS[name].lower_is_better else "↑"
        table.add_column(f"{METRICS[name].title.removesuffix(' Lite0')} {arrow}", justify="right", no_wrap=True)
    for row, numbers in tables.items():
        table.add_row(row, *(_cell(name, numbers[name]) for name in names))
    out.print(table)


def _cell(name: str, score: Score) -> str:
    digits = 0 if abs(score.value) >= 100 else min(3, METRICS[name].digits)
    return f"{score.value:.{digits}f} ±{(score.high - score.low) / 2:.{digits}f}"


def _gained(name: str, score: Score) -> str:
    digits = METRICS[name].digits
    return f"{score.value:+.{digits}f} [{score.low:+.{digits}f}, {score.high:+.{digits}f}]"


def _relative(path: Path) -> str:
    """The path from here where it lies below, so that it can be typed."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
