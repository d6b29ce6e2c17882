"""Model cards: descriptions of versions for MLflow's pages, in Markdown, with scores, origin and usage."""

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
"""Maximum characters of a description in MLflow's database; PostgreSQL refuses more."""
PICTURE_FILE = "card.png"
ROWS = 2
"""Rows of the sheet on the page, which can't scale pictures down."""
DECISION = "\n### Promotion\n"


def read_scores(file: Path) -> Scores:
    """Read the scores written by `evaluate`.

    Raises:
        MissingStepError: The file is missing, or incompatible with this version.
    """
    try:
        return Scores.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise MissingStepError(f"{file} is missing; run `evaluate` first.") from error
    except ValidationError as error:
        raise MissingStepError(f"{file} is incompatible with this version of sat2map; run `evaluate` again.") from error


def describe(
    scores: Scores, manifest: BundleManifest, *, config: RunConfig, pairs: PairIndex, name: str, version: int
) -> str:
    """Return the description of a version, at most LIMIT characters of Markdown.

    MLflow's page renders tables and pictures, and drops HTML.
    """
    training, network = config.training, config.network
    source = _code(hide_passwords(pairs.source))
    rows = {
        "Data": f"{source}, {len(pairs.train)} training pairs and {len(pairs.val)} held out, fingerprint "
        f"{_code(pairs.fingerprint[:12])}",
        "Task": f"{manifest.direction.replace('_', ' ')}, {network.image_size} x {network.image_size} pixels",
        "Network": f"{network.depth} levels, {network.width} filters in the first layer, {network.norm} norm",
        "Training": f"{training.epochs} epochs in batches of {training.batch_size}, learning rate "
        f"{training.learning_rate:g}, L1 weight {training.l1_weight:g}, seed {config.seed}, {training.precision}",
        "ONNX": f"opset {manifest.opset}, within {manifest.parity.max_difference:.1g} of TensorFlow in [-1, 1], "
        f"sha256 {_code(manifest.sha256[:12])}",
        "Variants": _variants(manifest),
        "Code": _code(manifest.code_revision),
    }
    facts = "\n".join(f"- **{label}**: {value}" for label, value in rows.items())
    return f"""**{headline(scores)}**

{_table(scores)}

In brackets: 95 % confidence intervals. L1 is in levels of 255, PSNR in dB. Fréchet Lite0 uses FID's formula with
another network; it is not FID. [Full report]({_address(REPORT_FILE, name, version)})

![Photo, generated map, true map]({_address(PICTURE_FILE, name, version)})

{facts}

```
sat2map pull {version} --out model
sat2map score PHOTOS MAPS --model model
mlflow models serve -m "models:/{name}/{version}" --env-manager local
```
"""


def introduce(name: str) -> str:
    """Return the description of a registered model: its purpose, and the meaning of its aliases."""
    return f"""Pix2Pix generators (Isola et al. 2017) for satellite photos and street maps, as ONNX.

- **champion**: the version for services; `sat2map pull champion --out model`, or `models:/{name}@champion`
- **challenger**: the newest version; `sat2map promote challenger` makes it the champion if it passes the gates
- **previous**: the champion before; `sat2map rollback` restores it

The page of each version lists its scores, data and settings, and the result of its promotion.
"""


def picture(sheet: Path, side: int) -> Image.Image:
    """Return the first rows of a sheet of pairs of `side` pixels."""
    with Image.open(sheet) as image:
        return image.crop((0, 0, image.width, min(image.height, TITLE + ROWS * (side + GAP))))


def with_decision(description: str, decision: str, sentences: Iterable[str]) -> str:
    """Return the description with a decision at its end, in place of an earlier one."""
    before = description.partition(DECISION)[0]
    reasons = "\n".join(f"- {sentence}" for sentence in sentences)
    return f"{before}{DECISION}\n**{decision}**\n\n{reasons}\n"[:LIMIT]


def _table(scores: Scores) -> str:
    rows = {"**this model**": scores.model} | {
        BASELINES[baseline]: numbers for baseline, numbers in scores.baselines.items()
    }
    names = [name for name in SUMMARY_METRICS if all(name in numbers for numbers in rows.values())]
    heads = [f"{METRICS[name].title} {'↓' if METRICS[name].lower_is_better else '↑'}" for name in names]
    lines = [_row("", heads), _row("---", ["---:"] * len(names))]
    return "\n".join(lines + [_row(row, _cells(names, numbers)) for row, numbers in rows.items()])


def _row(first: str, cells: list[str]) -> str:
    # The page puts no space between columns.
    padded = cells if first == "---" else [f"&emsp;{cell}" for cell in cells]
    return f"| {' | '.join([first, *padded])} |"


def _cells(names: list[str], numbers: NamedScores) -> list[str]:
    return [_cell(numbers[name], METRICS[name].digits) for name in names]


def _cell(score: Score, digits: int) -> str:
    return f"{score.value:.{digits}f} [{score.low:.{digits}f}, {score.high:.{digits}f}]"


def _variants(manifest: BundleManifest) -> str:
    """List the variants of the model with their similarity to fp32."""
    others = [f"{name} (SSIM {variant.ssim:.4f} to fp32)" for name, variant in manifest.variants.items()]
    return ", ".join(["fp32", *others])


def _address(file: str, name: str, version: int) -> str:
    """Return the address of a file of the version, relative to MLflow's page, so that any server address works."""
    query = urlencode({"path": f"sat2map/{file}", "name": name, "version": version})
    return f"model-versions/get-artifact?{query}"


def _code(text: str) -> str:
    """Return text as inline code, safe for one line and one table cell."""
    plain = " ".join(text.replace("`", "'").replace("|", "/").split())
    return f"`{plain if len(plain) <= 160 else plain[:159] + '…'}`"
