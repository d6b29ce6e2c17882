"""The settings of the training and of the search for them, with their defaults."""

from typing import Literal, Self

from pydantic import Field, model_validator

from model.spec import Augmentation, Frozen, Norm

ValidationScore = Literal["val_l1", "val_ssim"]
BEST_IS_LOWEST: dict[ValidationScore, bool] = {"val_l1": True, "val_ssim": False}
NO_START = "none"
"""The start with random weights."""
SAMPLE = "sample"
"""The source of painted scenes, and the start on them."""
LengthUnit = Literal["epochs", "steps", "minutes"]
MAX_TIMED_DECAY = 0.9
"""Largest `training.decay` of a training by minutes."""


class TrainingConfig(Frozen):
    """The training; the defaults are those of Isola et al. 2017, section 6.2, except for the batch size."""

    epochs: int = Field(default=40, ge=1)
    """Passes over the training pairs."""
    steps: int | None = Field(default=None, ge=1)
    """Steps of the training, instead of `epochs`."""
    minutes: float | None = Field(default=None, gt=0)
    """Minutes that the training takes, instead of `epochs`: after the part with a constant learning rate, as many steps
    follow (`decay`) as fit at its speed."""
    batch_size: int = Field(default=4, ge=1)
    """Pairs per step, over all workers together; a multiple of `workers`."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Learning rate of the generator."""
    discriminator_learning_rate: float = Field(default=0, ge=0)
    """Learning rate of the discriminator (Heusel et al. 2017, section 2); 0 for the same as `learning_rate`."""
    decay: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls to zero; 0 keeps it constant."""
    beta_1: float = Field(default=0.5, ge=0, lt=1)
    """Decay rate of the first moment of both Adam optimizers."""
    adversarial_weight: float = Field(default=1, ge=0)
    """Weight of the adversarial term in the generator's loss; 0 trains without the discriminator, which is faster."""
    l1_weight: float = Field(default=100, ge=0)
    """Weight of the L1 term."""
    colour_weight: float = Field(default=0, ge=0)
    """Weight of the cross-entropy of each drawn pixel with the palette's colour of the true one; 2 weighs about as much
    as an `l1_weight` of 100. The palette is found in the training maps; photos have none."""
    rare_weight: float = Field(default=1, ge=1, le=100)
    """Largest weight of pixels of a rare class of the palette, relative to the most common class, in the L1 term and in
    that of colours: the root of the ratio of their shares (Mikolov et al. 2013, section 2.3), up to this limit; 1 for
    equal weights."""
    start_from: str = Field(default=NO_START, min_length=1)
    """Model whose networks the training begins with: a run's id, a bundle's folder with the Keras files of its run,
    models:/NAME@ALIAS or models:/NAME/VERSION, or `sample` to train on painted scenes first; `none` for random ones."""
    start_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the training's length that `start_from: sample` spends on painted scenes."""
    jitter: float = Field(default=286 / 256, ge=1, le=2)
    """Factor by which images are enlarged before a random crop (256 -> 286 -> 256); 1 for no crop."""
    mirror: bool = True
    """Mirror half of the pairs, chosen at random, left to right."""
    turn: bool = False
    """Rotate each pair by 0 to 3 quarter turns, to augment small sets: aerial images have no upright direction."""
    discriminator_batch: Literal["separate", "joint"] = "separate"
    """Batches in which the discriminator sees true and drawn maps. Batch norm takes away what a batch has in common: in
    `separate` ones, as in the paper's code, contrast and sharpness of the maps; in a `joint` one it keeps them."""
    standardise: bool = False
    """Standardise the discriminator's input by the channels' means and deviations over the training pairs (LeCun et al.
    1998, section 4.3): beside a photo, the pale colours of a map are faint."""
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

    @property
    def length(self) -> tuple[LengthUnit, float]:
        """The setting that determines the length of the training, and its value."""
        if self.minutes is not None:
            return "minutes", self.minutes
        return ("epochs", self.epochs) if self.steps is None else ("steps", self.steps)

    def length_text(self) -> str:
        """Return the length in words: 40 epochs, 8,000 steps or 30 minutes."""
        return length_text(*self.length)

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not (self.adversarial_weight or self.l1_weight or self.colour_weight):
            raise ValueError("adversarial_weight, l1_weight and colour_weight are 0; the generator needs one of them")
        return self

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.minutes is not None and self.steps is not None:
            raise ValueError(
                f"steps is {self.steps} and minutes is {self.minutes:g}; a training has one length, so set one of them "
                "to null"
            )
        if self.minutes is not None and self.decay > MAX_TIMED_DECAY:
            raise ValueError(
                f"decay is {self.decay:g}, and with minutes at most {MAX_TIMED_DECAY:g}, because the speed is measured "
                "before"
            )
        return self


def length_text(unit: LengthUnit, length: float) -> str:
    """Return a length in words: 40 epochs, 8,000 steps or 30 minutes."""
    number = f"{length:g}" if unit == "minutes" else f"{length:,}"
    return f"{number} {unit.removesuffix('s') if length == 1 else unit}"


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
