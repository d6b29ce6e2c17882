"""The settings of a run, with their defaults."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from model.spec import Direction, Dtype, Frozen, NetworkConfig, Norm, Palette
from pipelines.metrics.catalogue import BASELINES, METRICS, SET_METRICS

ValidationScore = Literal["val_l1", "val_ssim"]
BEST_IS_LOWEST: dict[ValidationScore, bool] = {"val_l1": True, "val_ssim": False}
VariantName = Literal["fp16", "int8", "int8-openvino"]
MAX_LOSS = {"ssim": 0.01, "psnr": 0.02, "frechet_lite0": 0.05}


class SampleConfig(Frozen):
    """The scenes that the project paints itself."""

    train: int = Field(default=240, ge=1, le=100_000)
    """Training scenes."""
    val: int = Field(default=48, ge=1, le=100_000)
    """Held-out scenes."""


class DataConfig(Frozen):
    """Where the pairs come from."""

    source: str = Field(default="sample", min_length=1)
    """`sample`, a folder of pairs, kaggle://OWNER/NAME[/versions/N][#FOLDER], or the address of a folder of pairs.

    Addresses are s3://BUCKET/FOLDER, gs://, hdfs:// and abfs://, as pyarrow opens them, with options such as
    `?region=eu-west-1` or `?endpoint_override=HOST:PORT&scheme=http` and never with credentials: those are taken from
    where the cloud's own tools look, on every machine that trains.
    """
    direction: Direction = "photo_to_map"
    """What is drawn from what."""
    resolution: float | None = Field(default=None, gt=0)
    """Metres on the ground that a pixel of the photos shows; georeferenced scenes are brought to it."""
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the pairs held out when the folder has no held-out part of its own."""
    min_good: float = Field(default=0.9, ge=0, le=1)
    """The run goes on if at least this share of the files is good."""
    sample: SampleConfig = SampleConfig()


class TrainingConfig(Frozen):
    """How the networks are trained; the defaults are those of Isola et al. 2017, section 6.2, but for the batch."""

    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=4, ge=1)
    """Pairs in a step over all workers together; a multiple of `workers`."""
    learning_rate: float = Field(default=2e-4, gt=0)
    decay: float = Field(default=0.5, ge=0, le=1)
    """The last share of the steps, over which the learning rate falls to zero; 0 keeps it constant."""
    beta_1: float = Field(default=0.5, ge=0, lt=1)
    """First moment's decay of both Adam optimizers."""
    l1_weight: float = Field(default=100, ge=0)
    """What a level of mean absolute error weighs against the adversarial term."""
    jitter: float = Field(default=286 / 256, ge=1, le=2)
    """Images are enlarged by this factor before a random crop (286 -> 256); 1 leaves the crop out."""
    mirror: bool = True
    """Mirror half of the pairs left to right."""
    turn: bool = False
    """Turn each pair by 0 to 3 quarter turns: what lies on the ground has no upright, and few pairs become many."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """What the layers calculate in; weights stay float32. float16 (with loss scaling) is for GPUs without bfloat16."""
    workers: int = Field(default=1, ge=1)
    """Ray Train workers."""
    gpu: bool = False
    """Give each worker one GPU."""
    cpus_per_worker: int = Field(default=0, ge=0)
    """CPUs of each worker; 0 shares out what the cluster has."""
    max_failures: int = Field(default=3, ge=0)
    """How often lost workers are started again before the training gives up."""
    deterministic: bool = False
    """The same seed gives the same weights, bit for bit (on CPUs, in float32, with the same workers and cores)."""
    checkpoint_every: int = Field(default=5, ge=1)
    """Epochs between two checkpoints; the last epoch always leaves one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """The newest checkpoints that are kept; the best one is kept beside them."""
    best_by: ValidationScore = "val_l1"
    """The held-out score that decides which checkpoint is the best."""
    validation_pairs: int = Field(default=32, ge=1, le=4096)
    """Held-out pairs that each checkpoint is scored on."""
    result: Literal["last", "best"] = "last"
    """Which checkpoint's generator the training ends with."""
    sheet_every: int = Field(default=5, ge=1)
    """Epochs between two sheets of held-out photos, drawn maps and true maps."""
    sheet_pairs: int = Field(default=6, ge=1, le=32)
    """Held-out pairs on a sheet."""


class TuneConfig(Frozen):
    """What `tune` searches, with ASHA (Li et al. 2020): many short trials, few long ones; `training.epochs` at most."""

    trials: int = Field(default=8, ge=2, le=1000)
    learning_rate: tuple[float, float] = (1e-4, 1e-3)
    """Lowest and highest, drawn evenly on a logarithmic scale."""
    l1_weight: tuple[float, float] = (30, 3000)
    """Lowest and highest, drawn evenly on a logarithmic scale."""
    norm: tuple[Norm, ...] = Field(default=("batch", "instance"), min_length=1)
    width: tuple[int, ...] = Field(default=(16, 32, 64), min_length=1)
    cpus_per_trial: int = Field(default=1, ge=1)
    grace_epochs: int = Field(default=2, ge=1)
    """Epochs that every trial is given."""
    reduction: int = Field(default=3, ge=2)
    """One of so many trials goes on at each halt, to so many times the epochs."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("learning_rate", "l1_weight"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    f"{name} goes from {low:g} to {high:g}; write a lowest above 0 and a highest not below it"
                )
        return self


class ExportConfig(Frozen):
    """The files of a bundle beside fp32, and how good they must be to be shipped."""

    dtype: Dtype = "float32"
    """Of the model's input and output: float32 in [-1, 1], or uint8 RGB with the normalisation inside the graph."""
    variants: tuple[VariantName, ...] = ("fp16", "int8", "int8-openvino")
    """What is made beside fp32: fp16 for GPUs, int8 for processors, int8-openvino for the OpenVINO plug-in."""
    calibration_photos: int = Field(default=64, ge=1, le=4096)
    """Training photos that int8 takes the ranges of its activations from."""
    judged_photos: int = Field(default=64, ge=2, le=4096)
    """Held-out photos that variants are judged on."""
    min_ssim: float = Field(default=0.98, ge=0, le=1)
    """Least mean SSIM of a variant's maps beside those of fp32."""
    max_loss: float = Field(default=0.01, ge=0)
    """Share of fp32's value that a score against the true maps may lose."""


class EvaluationConfig(Frozen):
    """What drawn maps are judged with."""

    inception_weights: str = ""
    """The official network of FID, pt_inception-2015-12-05-6726825d.pth: a path or an https:// address."""
    lpips_weights: str = ""
    """A folder with alexnet-owt-7be5be79.pth and alex.pth, the networks of LPIPS."""
    palette: Palette | None = None
    """Classes of the maps and their colours, {classes: {road: ["#ffffff"], water: ["#aadaff"]}}; by default found in
    all training maps. `export` keeps them in the bundle, and evaluation refuses any others."""


class PromotionConfig(Frozen):
    """What a challenger must do to become the champion; each limit is a gate, and each number is recorded."""

    pairs: str = ""
    """The index of the frozen pairs that both are judged on (a pairs.json); empty: the challenger's held-out pairs."""
    primary: str = "l1"
    """The paired score that must gain over the champion."""
    min_gain: float = Field(default=0, ge=0)
    """The lower end of the primary score's gain, a paired 95 % interval in its own unit, must be above this."""
    max_loss: dict[str, float] = MAX_LOSS
    """How much of the champion's value a score may lose, by its name; 0.05 is 5 %. What is given is laid over the
    default."""
    beats: tuple[str, ...] = ("median_colour", "mean_map", "source_copied")
    """Trivial baselines that the challenger must beat in the primary score."""
    max_parity: float = Field(default=1e-4, gt=0)
    """Largest difference of the ONNX model from TensorFlow, on the scale [-1, 1]."""
    max_latency_ratio: float = Field(default=1.25, gt=0)
    """How many times as long as the champion a map may take, both measured in turn on this machine."""
    max_latency_ms: float = Field(default=0, ge=0)
    """How many milliseconds a map may take on this machine; 0 sets no limit."""

    @field_validator("max_loss", mode="before")
    @classmethod
    def _over_the_default(cls, given: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
        return MAX_LOSS | given if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name in (self.primary, *self.max_loss):
            if name not in METRICS:
                raise ValueError(f"{name} is no score; there are: {', '.join(METRICS)}")
        for name in self.beats:
            if name not in BASELINES:
                raise ValueError(f"{name} is no baseline; there are: {', '.join(BASELINES)}")
        if self.primary in SET_METRICS:
            raise ValueError(f"{self.primary} is a score of a whole set, with no paired gain; name a score of pairs")
        return self


class TrackingConfig(Frozen):
    """Names in MLflow; the server is MLFLOW_TRACKING_URI, or a local SQLite file."""

    experiment: str = Field(default="sat2map", min_length=1)
    model_name: str = Field(default="sat2map", min_length=1)
    """The registered model."""
    patience: float = Field(default=600, ge=0)
    """Seconds that the end of a training, or a trial's epoch, waits for a server that is away."""


class RunConfig(Frozen):
    """Everything that a run is made from."""

    workspace: Path = Path("workspace")
    """Folder that the verbs work in: pairs, checkpoints, bundles and maps."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    tune: TuneConfig = TuneConfig()
    export: ExportConfig = ExportConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    promotion: PromotionConfig = PromotionConfig()
    tracking: TrackingConfig = TrackingConfig()

    def flat(self) -> dict[str, str]:
        """Every setting as `section.key` -> text, in order."""
        return dict(_flatten(self.model_dump(mode="json")))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            # As YAML has it, so that what is shown can be set.
            yield f"{prefix}{key}", "null" if value is None else str(value)
