"""Summaries printed when a verb has finished: results, scores, files and the next commands."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.config import next_commands
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig
from pipelines.data import prepared
from pipelines.data.pairs import PairIndex
from pipelines.metrics.catalogue import BASELINES, METRICS, SET_METRICS, SUMMARY_METRICS
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import WIDE_GAP, Comparison, NamedScores, Scores, headline
from pipelines.run_folder import REPORT_FILE, RunFolder
from pipelines.run_record import RunRecord
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from model.bundle import Bundle
    from pipelines.flow import FlowResult
    from pipelines.registry.promotion import Promotion, Rollback
    from pipelines.registry.register import RegisteredVersion
    from pipelines.training.tune import TuneResult

SHORT_ID = 8
"""Characters of a run's id in a table."""


def flow(folder: RunFolder, result: "FlowResult") -> None:
    """Print the results of the complete flow."""
    from pipelines.tracking import mlflow_pages

    out = _console()
    record, version = result.record, result.version
    out.print("\nThe model is trained, evaluated and registered\n", style="bold")
    rows = {
        "Report": _relative(folder.evaluation / REPORT_FILE),
        "Maps of held-out photos": _relative(folder.evaluation / "maps"),
        "Model bundle": _relative(folder.bundle),
        "Registered": f"{version.name} version {version.version}, alias {version.alias}",
        "MLflow run": version.run_id,
        "Its page": mlflow_pages.address(version.run_id),
        "Training": _speed(record),
    }
    _facts(out, rows)
    out.print()
    _score_table(out, result.scores)
    _next(
        out,
        {
            "see the run": mlflow_pages.of_run(version.run_id),
            "make it the champion": next_commands.command("promote", str(version.version), config=record.config),
            "train on your pairs": next_commands.command("main", "--set", "data.source=FOLDER", config=record.config),
            "draw maps": _on_run("score", folder, "PHOTOS", "MAPS"),
            "serve it": mlflow_pages.serve(version.uri),
        },
    )


def pairs(config: RunConfig, index: PairIndex) -> None:
    """Print the numbers of pairs, and the rejected ones."""
    out = _console()
    out.print(f"{len(index.train)} training pairs, {len(index.val)} held out, {len(index.rejected)} rejected.")
    for rejected in index.rejected[:20]:
        out.print(f"  rejected {rejected.name}: {rejected.reason}")
    workspace = Workspace(config.workspace)
    files = {"Index": _relative(workspace.pairs_file), "Rejected": _relative(workspace.rejected_file)}
    _facts(out, {"Source": config.data.source, "Found": index.layout} | files)
    _next(out, {"train on them": _train(config, index)})


def training(folder: RunFolder) -> None:
    """Print the results of a training run."""
    out = _console()
    record = folder.record()
    out.print(f"{_speed(record)}.")
    _facts(out, {"Generator": _relative(folder.generator), "MLflow run": record.run_id})
    _next(out, {"export it to ONNX": _on_run("export", folder)})


def search(config: RunConfig, found: "TuneResult") -> None:
    """Print the trials of a search, and the settings of the best one."""
    out = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    settings = [key.partition(".")[2] for key in found.trials[0].settings]
    for heading in ("trial", found.score, "epochs", *settings):
        table.add_column(heading, justify="left" if heading == "trial" else "right")
    for trial in found.trials:
        values = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.settings.values()]
        table.add_row(trial.name, f"{trial.score:.4g}", str(trial.epochs), *values)
    out.print(table)
    best = found.trials[0]
    _facts(out, {"Best trial": best.name, "MLflow run": found.run_id})
    _next(out, {"train with its settings": _train(with_settings(config, best.settings), None)})


def bundle(folder: RunFolder, exported: "Bundle") -> None:
    """Print the variants of a bundle, their differences from TensorFlow and fp32, and those left out."""
    out = _console()
    manifest = exported.manifest
    parity = manifest.parity
    out.print(
        f"ONNX and TensorFlow differ by at most {parity.max_difference:.1e} on {parity.photos} held-out photos "
        f"(limit {parity.limit:g}, range [-1, 1])."
    )
    if manifest.variants:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("variant", "providers", "SSIM to fp32", "largest loss", "layers in float"):
            table.add_column(heading)
        for name, variant in manifest.variants.items():
            paired = {score: share for score, share in variant.losses.items() if score not in SET_METRICS}
            score, share = max(paired.items(), key=lambda item: item[1], default=("", 0.0))
            none = "none" if paired else "not measured"
            providers = ", ".join(provider.removesuffix("ExecutionProvider") for provider in variant.providers)
            loss = f"{share:+.2%} {METRICS[score].title}" if share >= 0.00005 else none
            table.add_row(name, providers, f"{variant.ssim:.4f}", loss, ", ".join(variant.float_layers) or "none")
        out.print(table)
    for name, reason in manifest.left_out.items():
        out.print(f"{name} was left out: {reason}.", style="yellow")
    _facts(out, {"Bundle": _relative(exported.folder)})
    draw = _on_run("score", folder, "PHOTOS", "MAPS")
    _next(out, {"evaluate it": _on_run("evaluate", folder), "draw maps": draw})


def scores(folder: RunFolder, measured: Scores) -> None:
    """Print the scores of a model and of the baselines."""
    out = _console()
    _score_table(out, measured)
    _facts(out, {"Report": _relative(folder.evaluation / REPORT_FILE), "Maps": _relative(folder.evaluation / "maps")})
    _next(out, {"register it": _on_run("register", folder)})


def comparison(folder: Path, found: Comparison) -> None:
    """Print the scores of several runs on the same pairs, and what each gains over the first."""
    from pipelines.report.page import conclusion

    out = _console()
    title = f"Scores on {found.pairs} held-out pairs, ± half a 95 % confidence interval"
    _table(out, title, {run[:SHORT_ID]: scores for run, scores in found.scores.items()})
    for run, gains in found.gains.items():
        changes = [f"{METRICS[name].title} {_gain(name, gains[name])}" for name in SUMMARY_METRICS if name in gains]
        out.print(f"Gains of {run[:SHORT_ID]} over {found.runs[0][:SHORT_ID]}: {', '.join(changes)}")
    out.print("A positive gain is better in every score; in brackets, its 95 % confidence interval over the pairs.")
    out.print(conclusion(found))
    _facts(out, {"Page": _relative(folder)})


def version(config: RunConfig, registered: "RegisteredVersion") -> None:
    """Print the name, version and alias of a registered model."""
    out = _console()
    if registered.new:
        out.print(f"Registered {registered.name} version {registered.version} as {registered.alias}.")
    else:
        alias = f", alias {registered.alias}" if registered.alias else ""
        out.print(
            f"Run {registered.run_id} is registered already, with the same files: {registered.name} version "
            f"{registered.version}{alias}. Nothing was changed."
        )
    _next(out, {"make it the champion": next_commands.command("promote", str(registered.version), config=config)})


def promotion(config: RunConfig, done: "Promotion") -> None:
    """Print the new champion, and the results of the gates."""
    from pipelines.tracking import mlflow_pages

    out = _console()
    forced = " (forced)" if done.decision == "forced" else ""
    out.print(f"{done.name} version {done.version} is now the champion{forced}.")
    if done.judgement.not_comparable:
        out.print(done.judgement.not_comparable)
    for gate in done.judgement.gates:
        out.print(f"  {gate.line}", style="green" if gate.passed else "red")
    config = with_settings(config, {"tracking.model_name": done.name})
    commands = {
        "download it": next_commands.command("pull", "champion", "--out", "champion", config=config),
        "serve it": mlflow_pages.serve(f"models:/{done.name}@champion"),
    }
    if done.champion is not None:
        commands["undo the promotion"] = next_commands.command("rollback", config=config)
    _next(out, commands)


def rollback(done: "Rollback") -> None:
    """Print the version that is the champion again."""
    out = _console()
    out.print(f"{done.name} version {done.version} is the champion again, in place of version {done.rolled_back}.")


def pulled(fetched: "Bundle") -> None:
    """Print the folder of a pulled model."""
    out = _console()
    _facts(out, {"Bundle": _relative(fetched.folder), "sha256": fetched.manifest.sha256})
    _next(out, {"draw maps": shlex.join(["sat2map", "score", "PHOTOS", "MAPS", "--model", _relative(fetched.folder)])})


def _speed(record: RunRecord) -> str:
    """Describe the steps of a training, and its time and speed since it was last resumed."""
    steps = f"{record.steps} step{'' if record.steps == 1 else 's'}"
    if not record.images_per_second:
        return steps
    duration = f"{record.seconds:.0f}" if record.seconds >= 10 else f"{record.seconds:.1f}"
    part = f", the last {record.steps - record.resumed_after}" if record.resumed_after else ""
    return f"{steps}{part} in {duration} s, {record.images_per_second:.1f} images/s"


def _console() -> Console:
    # No wrapping, so that paths are never broken where stdout is a file; no markup, which names may look like.
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


def _facts(out: Console, rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        out.print(Text.assemble("  ", (f"{name:{width}}", "dim"), f"  {value}"))


def _next(out: Console, commands: dict[str, str]) -> None:
    out.print("\nNext", style="bold")
    activate = Path(sys.prefix) / "bin" / "activate"
    # `mlflow run` puts it on the PATH of its own processes only, and calls it as a module.
    on_path = shutil.which("sat2map") if Path(sys.argv[0]).name == "sat2map" else None
    if activate.is_file() and (on_path is None or Path(on_path).parent != activate.parent):
        commands = {"activate once": shlex.join(["source", _relative(activate)])} | commands
    width = max(map(len, commands))
    for purpose, command in commands.items():
        out.print(Text.assemble(f"  {purpose:{width}}  ", (command, "cyan")))


def _train(config: RunConfig, index: PairIndex | None) -> str:
    """Return the command that trains on the prepared pairs with these settings, in batches that they can fill."""
    training = config.training
    if index and training.workers <= len(index.train) < training.batch_size:
        largest = len(index.train) // training.workers * training.workers
        config = with_settings(config, {"training.batch_size": largest})
    found = prepared.plan(None, next_commands.set_options({"workspace": str(config.workspace)})[1:]).config
    return next_commands.command("train", config=prepared.locate(config), found=found)


def _on_run(verb: str, folder: RunFolder, *words: str) -> str:
    """Return the command of a verb that works on a run."""
    run = [] if Workspace(folder.path.parent.parent).latest() == folder.run_id else ["--run", folder.run_id]
    return folder.command(verb, *words, *run)


def _score_table(out: Console, measured: Scores) -> None:
    tables = {"this model": measured.model}
    tables |= {BASELINES[baseline]: numbers for baseline, numbers in measured.baselines.items()}
    _table(out, f"Scores on {measured.pairs} held-out pairs, ± half a 95 % confidence interval", tables)
    out.print(
        "L1 is in levels of 255, PSNR in dB. Fréchet Lite0 uses FID's formula with another network; it is not FID."
    )
    if measured.gap > WIDE_GAP:
        out.print(f"L1 is {measured.gap:.0%} higher as deployed than as trained; the report explains what to do.")
    out.print(headline(measured))
    for note in measured.notes:
        out.print(f"Note: {note}", style="dim")


def _table(out: Console, title: str, tables: Mapping[str, NamedScores]) -> None:
    # At most 80 columns, so that narrow terminals show every digit.
    frame: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(title=title, title_justify="left", title_style="bold", **frame)
    table.add_column("", no_wrap=True)
    names = [name for name in SUMMARY_METRICS if all(name in numbers for numbers in tables.values())]
    for name in names:
        arrow = "↓" if METRICS[name].lower_is_better else "↑"
        table.add_column(f"{METRICS[name].title.removesuffix(' Lite0')} {arrow}", justify="right", no_wrap=True)
    for row, numbers in tables.items():
        table.add_row(
            Text(row, style="bold" if row == "this model" else ""), *(_cell(name, numbers[name]) for name in names)
        )
    out.print(table)


def _cell(name: str, score: Score) -> str:
    digits = 0 if abs(score.value) >= 100 else min(3, METRICS[name].digits)
    return f"{score.value:.{digits}f} ±{(score.high - score.low) / 2:.{digits}f}"


def _gain(name: str, score: Score) -> str:
    digits = METRICS[name].digits
    return f"{score.value:+.{digits}f} [{score.low:+.{digits}f}, {score.high:+.{digits}f}]"


def _relative(path: Path) -> str:
    """Return a path below the current folder as a relative one, and others unchanged."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
