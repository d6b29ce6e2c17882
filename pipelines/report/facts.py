"""Facts on the page of an evaluation: training, data, model and settings."""

from model.bundle import BundleManifest
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.run_record import RunRecord
from pipelines.tracking.loss_curve import LossCurve

Facts = tuple[tuple[str, str], ...]
"""Names and values."""
SETTINGS = {
    "network": ("image_size", "width", "depth", "dropout", "norm", "upsampling"),
    "training": (
        *("epochs", "steps", "minutes", "batch_size", "workers", "learning_rate", "decay", "beta_1"),
        *("l1_weight", "colour_weight", "rare_weight", "augment_discriminator", "average"),
        *("jitter", "mirror", "turn", "precision", "result"),
    ),
}
"""Settings on the page, by the sections of the configuration."""


def training(record: RunRecord, curve: LossCurve, *, pairs: int) -> str:
    """Return sentences about a training run and the scores of its checkpoints; `pairs` is the number held out."""
    config = record.config.training
    length = "" if config.length[0] == "steps" else f" in {config.length_text()}"
    amount = f"{record.steps:,} steps{length}, {record.seconds:,.0f} s at {record.images_per_second:.1f} images/s."
    if not curve.scores:
        return amount
    return f"{amount} Each checkpoint was scored on {min(config.validation_pairs, pairs)} held-out pairs."


def data(pairs: PairIndex) -> Facts:
    """Return the facts about the pairs."""
    return (
        ("Source", pairs.source),
        ("Training pairs", f"{len(pairs.train):,}"),
        ("Held-out pairs", f"{len(pairs.val):,}"),
        ("Rejected pairs", f"{len(pairs.rejected):,}"),
        ("Fingerprint", pairs.fingerprint),
    )


def model(manifest: BundleManifest) -> Facts:
    """Return the facts about an exported model."""
    parity, start = manifest.parity, manifest.started_from
    return (
        ("MLflow run", manifest.run_id),
        *((("Started from", f"{start.source}, run {start.run_id}"),) if start else ()),
        ("Model sha256", manifest.sha256),
        ("Code revision", manifest.code_revision),
        (
            "ONNX and TensorFlow",
            f"differ by at most {parity.max_difference:.1e} on the scale [-1, 1] for {parity.photos} held-out inputs "
            f"(limit: {parity.limit:g})",
        ),
    )


def settings(config: RunConfig) -> Facts:
    """Return the settings that determine how a model draws."""
    given = config.flat()
    keys = [f"{section}.{name}" for section, names in SETTINGS.items() for name in names]
    return tuple((key, given[key]) for key in [*keys, "seed"])


def network(manifest: BundleManifest) -> str:
    """Describe the network of a model in one line."""
    spec = manifest.network
    return (
        f"{manifest.direction.replace('_', ' ')}, {spec.image_size} pixels, width {spec.width}, "
        f"depth {spec.depth}, {spec.norm} norm"
    )
