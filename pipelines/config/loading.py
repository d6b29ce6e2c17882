"""One run's settings: typed, frozen, an unknown key is an error; the defaults stand here and nowhere else."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from model.errors import ConfigError
from model.io.addresses import hide_passwords, is_address, parse, refuse_password
from model.spec import Direction, Frozen, NetworkConfig, Norm
from pipelines.evaluation_config import EvaluationConfig, PromotionConfig
from pipelines.export_config import ExportConfig

CONFIGS = Path(__file__).parent / "presets"
ValidationScore = Literal["val_l1", "val_ssim"]
BEST_IS_LOWEST: dict[ValidationScore, bool] = {"val_l1": True, "val_ssim": False}


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


def load(file: str | Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file and lay `section.key=value` overrides over it.

    Args:
        file: A path, or the name of a shipped configuration (`default`, `sample`, `maps`). None means `sample`
            for painted scenes, which trains a narrow net in minutes, and `default` for any other source.
        overrides: Settings such as `training.batch_size=8`, or several in one text with spaces between them; the
            value is read as YAML, and a key with nothing behind it (`data.source=`) stays as the file has it.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or is out of range.
        DataError: `data.source` is an address that can't be used, a password in it above all.
    """
    settings = _settings(overrides)
    changes = _given(settings)
    if file is None:
        file = "sample" if changes.get("data.source", "sample") == "sample" else "default"
    config = _build(_read_yaml(_find(file)), changes)
    for key in settings.keys() - changes.keys() - config.flat().keys():
        raise ConfigError(f"{key} is no setting; allowed are: {', '.join(config.flat())}.")
    return config


def change(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """Lay `section.key=value` overrides over the settings of a training that is to go on.

    Raises:
        ConfigError, DataError: As `load`; or a setting that decides what is trained, on what, was changed.
    """
    settings = dict(_parse_override(setting) for text in overrides for setting in _split(text))
    changed = _build(
        config.model_dump(mode="json"), {key: value for key, value in settings.items() if value is not None}
    )
    before, after = config.flat(), changed.flat()
    for key in before:
        if before[key] != after[key] and not key.startswith(("training.", "tracking.")):
            raise ConfigError(
                f"{key} was {before[key]} when the training began and can't become {after[key]}; a training that goes "
                "on can change its training.* settings alone. Start a new one for the rest."
            )
    return changed


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with other values for some dotted keys."""
    return _build(config.model_dump(mode="json"), settings)


def _settings(overrides: Iterable[str]) -> dict[str, Any]:
    return dict(_parse_override(setting) for text in overrides for setting in _split(text))


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the keys with nothing behind them."""
    return {key: value for key, value in settings.items() if value is not None}


def _build(tree: dict[str, Any], changes: Mapping[str, Any]) -> RunConfig:
    for key, value in changes.items():
        _put(tree, key, value)
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    _check_together(config)
    return config


def _check_together(config: RunConfig) -> None:
    # Here and not where it is opened: the settings are logged by verbs that open nothing.
    refuse_password(config.data.source)
    refuse_password(config.evaluation.inception_weights)
    if is_address(config.data.source) and not config.data.source.startswith("kaggle://"):
        parse(config.data.source)
    batch, workers = config.training.batch_size, config.training.workers
    if batch % workers:
        raise ConfigError(
            f"Batch size {batch} can't be divided over {workers} workers; "
            f"use a multiple of {workers} (training.batch_size)."
        )
    if config.training.deterministic and (config.training.gpu or config.training.precision != "float32"):
        raise ConfigError(
            f"training.deterministic holds on CPUs in float32, not with gpu={config.training.gpu} and "
            f"precision={config.training.precision}; change these, or set training.deterministic=false."
        )


def _find(file: str | Path) -> Path:
    shipped = CONFIGS / f"{file}.yaml"
    path = shipped if shipped.is_file() else Path(file)
    if not path.is_file():
        names = ", ".join(sorted(known.stem for known in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"No configuration {str(file)!r}; name a YAML file, or one of: {names}.")
    return path


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise ConfigError(f"{path} can't be read as YAML: {hide_passwords(' '.join(str(error).split()))}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds a {type(tree).__name__}; it must hold sections such as `training:`.")
    return tree


def _split(text: str) -> list[str]:
    """Cut a text before each `section.key=`; a value may hold spaces of its own."""
    return [setting for setting in re.split(r"\s+(?=[a-z_]\w*(?:\.\w+)*=)", text.strip()) if setting]


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"{hide_passwords(text)!r} is no setting; write section.key=value, for instance training.batch_size=8."
        )
    try:
        return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45.
        shown = hide_passwords(repr(value))
        raise ConfigError(f"The value of {key.strip()} ({shown}) can't be read; quote it as in YAML.") from error


def _put(tree: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401 - YAML holds anything
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{section} in {key!r} is a value and not a section.")
    tree[name] = value


def _explain(error: ValidationError) -> str:
    problems = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            problems.append(f"{key} is no setting; {_allowed(detail['loc'][:-1])}")
        else:
            found = "" if isinstance(detail["input"], dict) else f" (found {hide_passwords(repr(detail['input']))})"
            problems.append(f"{key}: {detail['msg'].removeprefix('Value error, ')}{found}")
    return "The configuration can't be used: " + "; ".join(problems) + "."


def _allowed(sections: tuple[int | str, ...]) -> str:
    model: Any = RunConfig
    for section in sections:
        annotation = model.model_fields[section].annotation
        # `Palette | None` is a section as well.
        model = next((kind for kind in get_args(annotation) if hasattr(kind, "model_fields")), annotation)
    return "allowed here: " + ", ".join(model.model_fields)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            # As YAML has it, so that what is shown can be set.
            yield f"{prefix}{key}", "null" if value is None else str(value)
