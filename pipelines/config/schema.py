"""The settings of a run, with their defaults."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from model.spec import Direction, Dtype, Frozen, NetworkConfig, Palette
from pipelines.config.training_settings import TrainingConfig, TuneConfig
from pipelines.metrics.catalogue import BASELINES, METRICS, SET_METRICS

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
