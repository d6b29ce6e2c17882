"""Model cards: descriptions of versions for MLflow's pages, in Markdown, with scores, origin and usage."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlencode

from pydantic import ValidationError

from model.bundle import BundleManifest
from model.errors import MissingStepError
from model.pixels import SCALING
from pipelines.config import next_commands
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.metrics.scores import Scores, headline
from pipelines.report import description
from pipelines.report.description import PICTURE_FILE, code
from pipelines.run_folder import REPORT_FILE

LIMIT = 5000
"""Maximum characters of a description in MLflow's database; PostgreSQL refuses more."""
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
    rows = (
        description.facts(config, pairs)
        | _lineage(manifest)
        | {
            "ONNX": f"opset {manifest.opset}, within {manifest.parity.max_difference:.1g} of TensorFlow in [-1, 1], "
            f"sha256 {code(manifest.sha256[:12])}",
            "Variants": _variants(manifest),
            "Code": code(manifest.code_revision),
        }
    )
    given, uri = manifest.signature.input, shlex.quote(f"models:/{name}/{version}")
    example = shlex.quote(f"models:/{name}/{version}/serving_input_example.json")
    return f"""**{headline(scores)}**

{description.table(scores)}

{description.EXPLANATION} [Full report]({_address(REPORT_FILE, name, version)})

![{description.CAPTION[manifest.direction]}]({_address(PICTURE_FILE, name, version)})

{description.listed(rows)}

Draw images of a folder:

```
sat2map pull {uri} --out model
sat2map score IMAGES OUT --model model
```

Serve the model, and send the example that is stored with it, one {given} of {_range(manifest)}:

```
mlflow models serve -m {uri} --env-manager local --port 5001
mlflow artifacts download -u {example} -d .
curl http://127.0.0.1:5001/invocations -H "Content-Type: application/json" -d @serving_input_example.json
```
"""


def introduce(name: str) -> str:
    """Return the description of a registered model: its purpose, and the meaning of its aliases."""
    champion, challenger = (shlex.quote(f"models:/{name}@{alias}") for alias in ("champion", "challenger"))
    rollback = shlex.join(["sat2map", "rollback", *next_commands.set_options({"tracking.model_name": name})])
    return f"""Pix2Pix generators (Isola et al. 2017) for satellite photos and street maps, as ONNX.

- **champion**: the version for services; `sat2map pull {champion} --out model`
- **challenger**: the newest version; `sat2map promote {challenger}` makes it the champion if it passes the gates
- **previous**: the champion before; `{rollback}` restores it

The page of each version lists its scores, data and settings, and the result of its promotion.
"""


def with_decision(description: str, decision: str, sentences: Iterable[str]) -> str:
    """Return the description with a decision at its end, in place of an earlier one."""
    before = description.partition(DECISION)[0]
    reasons = "\n".join(f"- {sentence}" for sentence in sentences)
    return f"{before}{DECISION}\n**{decision}**\n\n{reasons}\n"[:LIMIT]


def _range(manifest: BundleManifest) -> str:
    """Describe the values of the input tensor."""
    tensors, side = manifest.signature, manifest.network.image_size
    values = "levels of 0 to 255" if tensors.dtype == "uint8" else f"values in [-1, 1] ({SCALING})"
    return f"{side} x {side} RGB {values}"


def _lineage(manifest: BundleManifest) -> dict[str, str]:
    start = manifest.started_from
    if start is None:
        return {}
    networks = "generator and discriminator" if start.discriminator_sha256 else "generator"
    return {"Started from": f"{networks} of {code(start.source)}, run {code(start.run_id)}"}


def _variants(manifest: BundleManifest) -> str:
    """List the variants of the model with their similarity to fp32."""
    others = [f"{name} (SSIM {variant.ssim:.4f} to fp32)" for name, variant in manifest.variants.items()]
    return ", ".join(["fp32", *others])


def _address(file: str, name: str, version: int) -> str:
    """Return the address of a file of the version, relative to MLflow's page, so that any server address works."""
    query = urlencode({"path": f"sat2map/{file}", "name": name, "version": version})
    return f"model-versions/get-artifact?{query}"
