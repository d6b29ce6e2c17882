"""The verbs evaluate and compare."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import AsJson, Config, Run, Settings, find_run, load_run
from pipelines.cli.verbs import Result, Verbs

app = Verbs()

InceptionWeights = Annotated[
    str,
    typer.Option(
        "--inception-weights",
        metavar="PATH|URL",
        help="The official network pt_inception-2015-12-05-6726825d.pth; adds FID, KID and Inception Score.",
    ),
]
LpipsWeights = Annotated[
    str,
    typer.Option(
        "--lpips-weights",
        metavar="DIR",
        help="Folder with alexnet-owt-7be5be79.pth and alex.pth; adds LPIPS.",
    ),
]


@app.command()
def evaluate(
    config: Config = None,
    settings: Settings = None,
    run: Run = "",
    inception_weights: InceptionWeights = "",
    lpips_weights: LpipsWeights = "",
    as_json: AsJson = False,
) -> Result:
    """Score the exported model and trivial baselines on the held-out pairs, and write a report."""
    settings = [*(settings or []), *_weights(inception_weights, lpips_weights)]
    folder, run_config = load_run("evaluate", config, settings, run)
    from pipelines.cli import summary
    from pipelines.evaluation.evaluate import evaluate as evaluate_run

    scores = evaluate_run(folder, run_config.evaluation)
    return Result(scores, lambda: summary.scores(folder, scores), as_json)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Ids of runs; the first is the reference.")],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for the page; by default WORKSPACE/comparison.")
    ] = "",
    config: Config = None,
    settings: Settings = None,
    inception_weights: InceptionWeights = "",
    lpips_weights: LpipsWeights = "",
    as_json: AsJson = False,
) -> Result:
    """Compare models on the held-out pairs of the first one, and write a page with paired differences."""
    settings = [*(settings or []), *_weights(inception_weights, lpips_weights)]
    # `mlflow run -P runs="A B"` passes a single argument.
    folders = [find_run(config, settings, run) for words in runs for run in words.split()]
    _, run_config = load_run("compare", config, settings, folders[0].run_id)
    from pipelines.cli import summary
    from pipelines.evaluation import comparison

    folder = Path(out) if out else run_config.workspace / "comparison"
    found = comparison.compare(folders, run_config.evaluation, folder)
    return Result(found, lambda: summary.comparison(folder / comparison.PAGE_FILE, found), as_json)


def _weights(inception: str, lpips: str) -> list[str]:
    given = {"inception_weights": inception, "lpips_weights": lpips}
    return [f"evaluation.{key}={json.dumps(value)}" for key, value in given.items() if value]
