"""Descriptions for MLflow's pages, in Markdown: they render tables and pictures, and drop HTML."""

from urllib.parse import urlencode

from model.io.addresses import hide_passwords
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.metrics.catalogue import BASELINES, METRICS, SUMMARY_METRICS
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import NamedScores, Scores, headline
from pipelines.run_folder import REPORT_FILE, SCORES_FILE, TABLE_FILE

EXPLANATION = """In brackets: 95 % confidence intervals. L1 is in levels of 255, PSNR in dB. Fréchet Lite0 uses FID's \
formula with another network; it is not FID."""
EVALUATION = "evaluation"
"""Folder of an evaluation's files among the artifacts of its run."""
PICTURE_FILE = "card.png"
"""The first pairs of the sheet: MLflow's pages can't scale pictures down."""
PICTURE_ROWS = 2
CAPTION = {
    "photo_to_map": "Photo, generated map, true map",
    "map_to_photo": "Map, generated photo, true photo",
}


def of_run(run_id: str, config: RunConfig, pairs: PairIndex, scores: Scores | None = None) -> str:
    """Return the description of a run: its scores once they are known, its data and its settings."""
    rows = facts(config, pairs)
    if scores is None:
        return f"**Not evaluated yet**\n\n{listed(rows)}\n"
    links = ", ".join(
        f"[{text}]({_address(file, run_id)})"
        for text, file in {
            "full report": REPORT_FILE,
            "all scores with their baselines and intervals": SCORES_FILE,
            "scores of each pair": TABLE_FILE,
        }.items()
    )
    return f"""**{headline(scores)}**

{table(scores)}

{EXPLANATION}

![{CAPTION[scores.direction]}]({_address(PICTURE_FILE, run_id)})

{listed(rows)}
- **Files**: {links}
"""


def facts(config: RunConfig, pairs: PairIndex) -> dict[str, str]:
    """Return the data, the task, the network and the training of a run, by their names."""
    training, network = config.training, config.network
    return {
        "Data": f"{code(hide_passwords(pairs.source))}, {len(pairs.train)} training pairs and {len(pairs.val)} held "
        f"out, fingerprint {code(pairs.fingerprint[:12])}",
        "Task": f"{config.data.direction.replace('_', ' ')}, {network.image_size} x {network.image_size} pixels",
        "Network": f"{network.depth} levels, {network.width} filters in the first layer, {network.norm} norm",
        "Training": f"{training.length_text()} in batches of {training.batch_size}, learning rate "
        f"{training.learning_rate:g}, L1 weight {training.l1_weight:g}, seed {config.seed}, {training.precision}",
    }


def listed(rows: dict[str, str]) -> str:
    """Return facts as a list."""
    return "\n".join(f"- **{label}**: {value}" for label, value in rows.items())


def table(scores: Scores) -> str:
    """Return the scores of a model and of the baselines as a table, with their intervals."""
    rows = {"**this model**": scores.model} | {
        BASELINES[baseline]: numbers for baseline, numbers in scores.baselines.items()
    }
    names = [name for name in SUMMARY_METRICS if all(name in numbers for numbers in rows.values())]
    heads = [f"{METRICS[name].title} {'↓' if METRICS[name].lower_is_better else '↑'}" for name in names]
    lines = [_row("", heads), _row("---", ["---:"] * len(names))]
    return "\n".join(lines + [_row(row, _cells(names, numbers)) for row, numbers in rows.items()])


def code(text: str) -> str:
    """Return text as inline code, safe for one line and one table cell."""
    plain = " ".join(text.replace("`", "'").replace("|", "/").split())
    return f"`{plain if len(plain) <= 160 else plain[:159] + '…'}`"


def _row(first: str, cells: list[str]) -> str:
    # The page puts no space between columns.
    padded = cells if first == "---" else [f"&emsp;{cell}" for cell in cells]
    return f"| {' | '.join([first, *padded])} |"


def _cells(names: list[str], numbers: NamedScores) -> list[str]:
    return [_cell(numbers[name], METRICS[name].digits) for name in names]


def _cell(score: Score, digits: int) -> str:
    # Where a narrow page breaks the line, the interval stays in one piece.
    return f"{score.value:.{digits}f} [{score.low:.{digits}f},&nbsp;{score.high:.{digits}f}]"


def _address(file: str, run_id: str) -> str:
    """Return the address of a file of the evaluation, relative to MLflow's page, so that any server address works."""
    return f"get-artifact?{urlencode({'path': f'{EVALUATION}/{file}', 'run_uuid': run_id})}"
