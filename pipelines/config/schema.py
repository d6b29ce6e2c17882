"""The settings of a run, with their defaults."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from model.spec import Augmentation, Direction, Dtype, Frozen, NetworkConfig, Norm, Palette
from pipelines.metrics.catalogue import BASELINES, METRICS, SET_METRICS

ValidationScore = Literal["val_l1", "val_ssim"]
BEST_IS_LOWEST: dict[ValidationScore, bool] = {"val_l1": True, "val_ssim": False}
VariantName = Literal["fp16", "int8", "int8-openvino"]
MAX_LOSS = {"ssim": 0.01, "psnr": 0.02, "frechet_lite0": 0.05}


class SampleConfig(Frozen):
    """Numbers of painted sample scenes."""

    train: int = Field(default=240, ge=1, le=100_000)
    """Training scenes."""
    val: int = Field(default=48, ge=1, le=100_000)
    """Held-out scenes."""


class DataConfig(Frozen):
    """The source of the pairs, and how they are read."""

    source: str = Field(default="sample", min_length=1)
    """`sample`, a folder of pairs, kaggle://OWNER/NAME[/versions/N][#FOLDER], or the address of a folder of pairs.

    Addresses are s3://BUCKET/FOLDER, gs://, hdfs:// and abfs://, as pyarrow opens them, with options such as
    `?region=eu-west-1` or `?endpoint_override=HOST:PORT&scheme=http`. They must not hold credentials, which are found
    in the usual files and variables of the cloud's tools, on every machine that trains.
    """
    direction: Direction = "photo_to_map"
    """Whether maps are drawn from photos, or photos from maps."""
    resolution: float | None = Field(default=None, gt=0)
    """Ground resolution of the photos in metres per pixel; georeferenced scenes are resampled to it."""
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the pairs to hold out if the folder has no held-out part."""
    min_good: float = Field(default=0.9, ge=0, le=1)
    """Least share of usable files; with fewer, the run stops."""
    sample: SampleConfig = SampleConfig()


class TrainingConfig(Frozen):
    """The training; the defaults are those of Isola et al. 2017, section 6.2, except for the batch size."""

    epochs: int = Field(default=40, ge=1)
    """Passes over the training pairs."""
    batch_size: int = Field(default=4, ge=1)
    """Pairs per step, over all workers together; a multiple of `workers`."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Learning rate of both Adam optimizers."""
    decay: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls to zero; 0 keeps it constant."""
    beta_1: float = Field(default=0.5, ge=0, lt=1)
    """Decay rate of the first moment of both Adam optimizers."""
    l1_weight: float = Field(default=100, ge=0)
    """Weight of the L1 term relative to the adversarial term."""
    jitter: float = Field(default=286 / 256, ge=1, le=2)
    """Factor by which images are enlarged before a random crop (256 -> 286 -> 256); 1 for no crop."""
    mirror: bool = True
    """Mirror half of the pairs, chosen at random, left to right."""
    turn: bool = False
    """Rotate each pair by 0 to 3 quarter turns, to augment small sets: aerial images have no upright direction."""
    augment_discriminator: tuple[Augmentation, ...] = ()
    """Random changes of the pairs that the discriminator sees, real and drawn alike, which keep it from learning few
    pairs by heart (Zhao et al. 2020): colour, translation, cutout."""
    average: float = Field(default=0, ge=0, lt=1)
    """Share of the running average of the generator's weights that a step keeps, such as 0.998; then the averaged
    generator draws, and is the result (Yazici et al. 2019, section 3.1). 0 for the weights of the last step."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """Number format of the layers; weights stay float32. `auto` is bfloat16 where all nodes compute it in hardware, and
    float32 elsewhere and in deterministic runs. float16 (with loss scaling) is for GPUs without bfloat16."""
    workers: int = Field(default=1, ge=1)
    """Number of Ray Train workers."""
    gpu: bool = False
    """Give each worker one GPU."""
    cpus_per_worker: int = Field(default=0, ge=0)
    """CPUs of each worker; 0 divides those of the cluster."""
    max_failures: int = Field(default=3, ge=0)
    """Number of times that lost workers are restarted before the training fails."""
    deterministic: bool = False
    """Make the weights depend on the seed only, bit for bit (on CPUs, in float32, with the same workers and cores)."""
    checkpoint_every: int = Field(default=5, ge=1)
    """Epochs between checkpoints; the last epoch always has one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Number of newest checkpoints to keep, in addition to the best one."""
    best_by: ValidationScore = "val_l1"
    """Held-out score that determines the best checkpoint."""
    validation_pairs: int = Field(default=32, ge=1, le=4096)
    """Number of held-out pairs that each checkpoint is scored on."""
    result: Literal["last", "best"] = "last"
    """Checkpoint whose generator is the result of the training."""
    sheet_every: int = Field(default=5, ge=1)
    """Epochs between sheets that show held-out photos, drawn maps and true maps."""
    sheet_pairs: int = Field(default=6, ge=1, le=32)
    """Number of held-out pairs on a sheet."""


class TuneConfig(Frozen):
    """The search of `tune` with ASHA (Li et al. 2020): many short trials and a few of all `training.epochs`."""

    trials: int = Field(default=8, ge=2, le=1000)
    """Number of trials."""
    learning_rate: tuple[float, float] = (1e-4, 1e-3)
    """Lowest and highest `training.learning_rate`, sampled uniformly on a logarithmic scale."""
    l1_weight: tuple[float, float] = (30, 3000)
    """Lowest and highest `training.l1_weight`, sampled uniformly on a logarithmic scale."""
    norm: tuple[Norm, ...] = Field(default=("batch", "instance"), min_length=1)
    """Candidates for `network.norm`."""
    width: tuple[int, ...] = Field(default=(16, 32, 64), min_length=1)
    """Candidates for `network.width`."""
    cpus_per_trial: int = Field(default=1, ge=1)
    """CPUs of each trial."""
    grace_epochs: int = Field(default=2, ge=1)
    """Epochs before a trial can be stopped."""
    reduction: int = Field(default=3, ge=2)
    """ASHA's reduction factor: with 3, the best third of the trials continues to three times the epochs."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in ("learning_rate", "l1_weight"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    f"{name} ranges from {low:g} to {high:g}; the lowest must be above 0 and not above the highest"
                )
        return self


class ExportConfig(Frozen):
    """The variants of a bundle, and the scores that they must reach compared with fp32."""

    dtype: Dtype = "float32"
    """Type of input and output: float32 in [-1, 1], or uint8 RGB with the normalisation inside the graph."""
    variants: tuple[VariantName, ...] = ("fp16", "int8", "int8-openvino")
    """Variants to make in addition to fp32: fp16 for GPUs, int8 for CPUs, int8-openvino for the OpenVINO plug-in."""
    calibration_photos: int = Field(default=64, ge=1, le=4096)
    """Number of training photos for the ranges of int8's activations."""
    judged_photos: int = Field(default=64, ge=2, le=4096)
    """Number of held-out photos that variants are scored on."""
    min_ssim: float = Field(default=0.98, ge=0, le=1)
    """Least mean SSIM of a variant's maps compared with those of fp32."""
    max_loss: float = Field(default=0.01, ge=0)
    """Largest relative loss of a score against the true maps, compared with fp32."""
    licence: str = Field(default="not stated", min_length=1, max_length=200)
    """Licence of the model, such as `CC-BY-4.0`; it is written into the ONNX files."""


class EvaluationConfig(Frozen):
    """Networks and palette of the evaluation."""

    inception_weights: str = ""
    """Path or https:// address of the official FID network, pt_inception-2015-12-05-6726825d.pth."""
    lpips_weights: str = ""
    """Folder of the LPIPS networks, alexnet-owt-7be5be79.pth and alex.pth."""
    palette: Palette | None = None
    """Classes of the maps and their colours, {classes: {road: ["#ffffff"], water: ["#aadaff"]}}; by default found in
    all training maps. `export` stores them in the bundle, and evaluation accepts no others."""


class PromotionConfig(Frozen):
    """The gates that a challenger must pass to become the champion."""

    pairs: str = ""
    """Index (pairs.json) of fixed pairs to score both models on; by default the challenger's held-out pairs."""
    primary: str = "l1"
    """Paired score in which the challenger must be better than the champion."""
    min_gain: float = Field(default=0, ge=0)
    """Least gain in the primary score, in its unit: the paired 95 % interval must lie above it."""
    max_loss: dict[str, float] = MAX_LOSS
    """Largest relative loss of other scores compared with the champion, by name; 0.05 is 5 %. Names that are not given
    keep their defaults."""
    beats: tuple[str, ...] = ("median_colour", "mean_map", "source_copied")
    """Baselines that the challenger must beat in the primary score."""
    max_parity: float = Field(default=1e-4, gt=0)
    """Largest difference between ONNX model and TensorFlow, on the scale [-1, 1]."""
    max_latency_ratio: float = Field(default=1.25, gt=0)
    """Largest ratio of the challenger's time per map to the champion's, measured alternately on this machine."""
    max_latency_ms: float = Field(default=0, ge=0)
    """Longest time per map on this machine in milliseconds; 0 for no limit."""

    @field_validator("max_loss", mode="before")
    @classmethod
    def _merge_with_default(cls, given: Any) -> Any:  # noqa: ANN401 - any YAML value
        return MAX_LOSS | given if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in (self.primary, *self.max_loss):
            if name not in METRICS:
                raise ValueError(f"{name} is not a score; use one of: {', '.join(METRICS)}")
        for name in self.beats:
            if name not in BASELINES:
                raise ValueError(f"{name} is not a baseline; use one of: {', '.join(BASELINES)}")
        if self.primary in SET_METRICS:
            raise ValueError(f"{self.primary} is a score of a set, without a paired gain; use a score of pairs")
        return self


class TrackingConfig(Frozen):
    """Names in MLflow. The server is set by MLFLOW_TRACKING_URI, by default a local SQLite file."""

    experiment: str = Field(default="sat2map", min_length=1)
    """Name of the experiment."""
    model_name: str = Field(default="sat2map", min_length=1)
    """Name of the registered model; by default `sat2map`, and `sat2map-map-to-photo` for photos drawn from maps."""
    patience: float = Field(default=600, ge=0)
    """Seconds to wait for an unavailable server at the end of a training run, or of a trial's epoch."""


def default_model_name(direction: Direction) -> str:
    """Return the name of the registered model of a direction: versions of one model can replace each other."""
    name = str(TrackingConfig.model_fields["model_name"].default)
    return name if direction == "photo_to_map" else f"{name}-{direction.replace('_', '-')}"


class RunConfig(Frozen):
    """All settings of a run."""

    workspace: Path = Path("workspace")
    """Folder for pairs, checkpoints, bundles and maps."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of all random numbers."""
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    tune: TuneConfig = TuneConfig()
    export: ExportConfig = ExportConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    promotion: PromotionConfig = PromotionConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="before")
    @classmethod
    def _name_the_model(cls, given: Any) -> Any:  # noqa: ANN401 - any YAML value
        """Set the default of `tracking.model_name`, which depends on the direction."""
        if not isinstance(given, dict):
            return given
        data, tracking = given.get("data", {}), given.get("tracking", {})
        if isinstance(data, DataConfig):
            data = data.model_dump()
        if isinstance(tracking, TrackingConfig):
            tracking = tracking.model_dump(exclude_unset=True)
        if not isinstance(data, dict) or not isinstance(tracking, dict) or data.get("direction") != "map_to_photo":
            return given
        return given | {"tracking": {"model_name": default_model_name("map_to_photo"), **tracking}}

    def flat(self) -> dict[str, str]:
        """Every setting as `section.key` -> text, in order."""
        return dict(_flatten(self.model_dump(mode="json")))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            # In YAML's spelling, so that a printed value can be used as a setting.
            yield f"{prefix}{key}", json.dumps(value) if value is None or isinstance(value, bool) else str(value)
