"""What the registry's page says of a version, in Markdown: how good it is, what it was made from, how to use it."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from pydantic import ValidationError

from model.bundle import BundleManifest
from model.errors import MissingStepError
from model.io.addresses import hide_passwords
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.metrics.catalogue import BASELINES, METRICS, SUMMARY_METRICS
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import NamedScores, Scores, headline
from pipelines.report.sheets import GAP, TITLE
from pipelines.workspace import REPORT_FILE

LIMIT = 5000
"""Characters that MLflow's database keeps of a description; PostgreSQL refuses more."""
PICTURE_FILE = "card.png"
ROWS = 2
"""Of the sheet, that the page shows: it can't make a picture smaller than it is."""
DECISION = "\n### Promotion\n"


def read_scores(file: Path) -> Scores:
    """Read the scores that `evaluate` left.

    Raises:
        MissingStepError: There are none, or they are of another version.
    """
    try:
        return Scores.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise MissingStepError(f"{file} is missing; run `evaluate` first.") from error
    except ValidationError as error:
        raise MissingStepError(f"{file} is of another version of sat2map; run `evaluate` again.") from error


def describe(
    scores: Scores, manifest: BundleManifest, *, config: RunConfig, pairs: PairIndex, name: str, version: int
) -> str:
    """Write the description of a version, at most LIMIT characters of Markdown.

    The page of MLflow shows tables and pictures, and leaves out everything that HTML could do beyond.
    """
    training, network = config.training, config.network
    source = _code(hide_passwords(pairs.source))
    rows = {
        "Data": f"{source}, {len(pairs.train)} pairs to train on and {len(pairs.val)} held out, fingerprint "
        f"{_code(pairs.fingerprint[:12])}",
        "Draws": f"{manifest.direction.replace('_', ' ')}, {network.image_size} x {network.image_size} pixels",
        "Network": f"{network.depth} levels, {network.width} filters in the first, {network.norm} norm",
        "Training": f"{training.epochs} epochs in batches of {training.batch_size}, learning rate "
        f"{training.learning_rate:g}, L1 weight {training.l1_weight:g}, seed {config.seed}, {training.precision}",
        "ONNX": f"opset {manifest.opset}, at most {manifest.parity.max_difference:.1g} from TensorFlow on the scale "
        f"[-1, 1], sha256 {_code(manifest.sha256[:12])}",
        "Variants": _variants(manifest),
        "Code": _code(manifest.code_revision),
    }
    facts = "\n".join(f"- **{what}**: {told}" for what, told in rows.items())
    return f"""**{headline(scores)}**

{_table(scores)}

In brackets: 95 % intervals. L1 in levels of 255, PSNR in dB. Fréchet Lite0 has FID's formula and another network: it
is not FID. [The whole report]({_address(REPORT_FILE, name, version)})

![Photo, drawn map, true map]({_address(PICTURE_FILE, name, version)})

{facts}

```
sat2map pull {version} --out model
sat2map score PHOTOS MAPS --model model
mlflow models serve -m "models:/{name}/{version}" --env-manager local
```
"""


def introduce(name: str) -> str:
    """Write the description of a registered model: what its versions are, and what its aliases mean."""
    return f"""Pix2Pix generators (Isola et al. 2017) between satellite photos and street maps, as ONNX.

- **champion**: what services draw with; `sat2map pull champion --out model`, or `models:/{name}@champion`
- **challenger**: the newest; `sat2map promote challenger` makes it the champion if it is better on the same pairs
- **previous**: the champion before; `sat2map rollback` puts it back

Each version tells its scores, data and settings on its page, and what came of its promotion.
"""


def picture(sheet: Path, side: int) -> Image.Image:
    """Cut the first rows out of a sheet of pairs of `side` pixels."""
    with Image.open(sheet) as whole:
        return whole.crop((0, 0, whole.width, min(whole.height, TITLE + ROWS * (side + GAP))))


def with_decision(description: str, decision: str, sentences: Iterable[str]) -> str:
    """Put what became of a version at the end of its description, in the place of what stood there before."""
    before = description.partition(DECISION)[0]
    told = "\n".join(f"- {sentence}" for sentence in sentences)
    return f"{before}{DECISION}\n**{decision}**\n\n{told}\n"[:LIMIT]


def _table(scores: Scores) -> str:
    rows = {"**this model**": scores.model} | {
        BASELINES[baseline]: numbers for baseline, numbers in scores.baselines.items()
    }
    names = [name for name in SUMMARY_METRICS if all(name in numbers for numbers in rows.values())]
    heads = [f"{METRICS[name].title} {'↓' if METRICS[name].lower_is_better else '↑'}" for name in names]
    lines = [_row("", heads), _row("---", ["---:"] * len(names))]
    return "\n".join(lines + [_row(row, _cells(names, numbers)) for row, numbers in rows.items()])


def _row(first: str, cells: list[str]) -> str:
    # The page leaves no space between columns.
    wide = cells if first == "---" else [f"&emsp;{cell}" for cell in cells]
    return f"| {' | '.join([first, *wide])} |"


def _cells(names: list[str], numbers: NamedScores) -> list[str]:
    return [_cell(numbers[name], METRICS[name].digits) for name in names]


def _cell(score: Score, digits: int) -> str:
    return f"{score.value:.{digits}f} [{score.low:.{digits}f}, {score.high:.{digits}f}]"


def _variants(manifest: BundleManifest) -> str:
    """Name the files beside fp32, and how alike they draw."""
    told = [f"{name} (SSIM {variant.ssim:.4f} to fp32)" for name, variant in manifest.variants.items()]
    return ", ".join(["fp32", *told])


def _address(file: str, name: str, version: int) -> str:
    """Name a file of the version, relative to MLflow's page, so that it holds wherever the server is mounted."""
    query = urlencode({"path": f"sat2map/{file}", "name": name, "version": version})
    return f"model-versions/get-artifact?{query}"


def _code(text: str) -> str:
    """Show text as it is, on one line and in one cell of a table."""
    plain = " ".join(text.replace("`", "'").replace("|", "/").split())
    return f"`{plain if len(plain) <= 160 else plain[:159] + '…'}`"
