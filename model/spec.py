"""Specification of a generator, without TensorFlow: network settings, tensors, and the colours of its maps."""

import re
from itertools import combinations
from typing import Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

OPSET = 18
"""The ONNX operator set of every model that is written."""

Direction = Literal["photo_to_map", "map_to_photo"]
Dtype = Literal["float32", "uint8"]
Norm = Literal["batch", "sync_batch", "instance"]
Upsampling = Literal["transposed", "nearest"]
Augmentation = Literal["colour", "translation", "cutout"]
AUGMENTATION_DRAWS = 6
"""Random numbers that the augmentation of one pair takes."""
LossName = Literal[
    "discriminator_accuracy",
    "discriminator_loss",
    "discriminator_real_loss",
    "discriminator_drawn_loss",
    "generator_adversarial_loss",
    "generator_colour_loss",
    "generator_l1_loss",
    "generator_loss",
]
LOSSES: tuple[LossName, ...] = get_args(LossName)
"""The losses of a training step, in the order in which they are stacked and logged; each training has the last two."""

_COLOUR = re.compile("#[0-9a-f]{6}")
_CLASS_NAME = re.compile("[a-z]+(_[a-z0-9]+)*")
MAX_CLASSES = 20
"""Classes of a palette at most."""


class Frozen(BaseModel):
    """An immutable value object, validated when it is built; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class NetworkConfig(Frozen):
    """Architecture of both networks (Isola et al. 2017, section 6.1)."""

    image_size: int = Field(default=256, ge=32, le=2048)
    """Height and width in pixels; a multiple of 2 ** depth."""
    width: int = Field(default=64, ge=1, le=512)
    """Filters of the first level; each deeper level doubles them, up to 8 * width."""
    depth: int = Field(default=7, ge=2, le=11)
    """Levels of the U-Net's encoder and of its decoder."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of activations dropped in the three deepest decoder levels during training."""
    norm: Norm = "batch"
    """Normalisation over each worker's share of the batch (`batch`), over the whole batch (`sync_batch`), or over each
    image by itself (`instance`, which is the same in training and deployment)."""

    upsampling: Upsampling = "transposed"
    """How decoder levels double the image: by a transposed convolution of kernel 4, or by repeating each pixel and a
    convolution of kernel 3 (`nearest`), which leaves no checkerboard (Odena et al. 2016)."""

    @model_validator(mode="after")
    def _halves_evenly(self) -> Self:
        step = 2**self.depth
        if self.image_size % step:
            raise ValueError(
                f"image_size {self.image_size} can't be halved {self.depth} times (depth); use a multiple of {step} or "
                "a smaller depth"
            )
        if self.norm == "instance" and self.image_size == step:
            raise ValueError(
                f"norm instance can't normalise a single pixel, which is image_size {self.image_size} halved "
                f"{self.depth} times (depth); use a smaller depth or another norm"
            )
        return self

    def level_widths(self) -> list[int]:
        """Return the filters of each encoder level, outermost first."""
        return [min(self.width * 2**level, self.width * 8) for level in range(self.depth)]


class TensorSignature(Frozen):
    """Tensors of the exported model: NHWC, RGB, any batch size; float32 in [-1, 1], or uint8 levels."""

    input: str
    output: str
    dtype: Dtype = "float32"
    height: int
    width: int
    channels: int = 3
    batch: str = "batch"
    """Name of the dynamic batch dimension."""

    @property
    def shape(self) -> tuple[str, int, int, int]:
        """Shape of both tensors, (batch, height, width, channels)."""
        return (self.batch, self.height, self.width, self.channels)


def signature(
    network: NetworkConfig, direction: Direction = "photo_to_map", dtype: Dtype = "float32"
) -> TensorSignature:
    """Return the tensors of a generator, named after their content: `photo` -> `map`, or the reverse."""
    source, target = ("photo", "map") if direction == "photo_to_map" else ("map", "photo")
    side = network.image_size
    return TensorSignature(input=source, output=target, dtype=dtype, height=side, width=side)


class Palette(Frozen):
    """Classes of a map's colours."""

    classes: dict[str, tuple[str, ...]]
    """One or more colours of each class, as `#rrggbb`; classes are numbered in this order."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"a palette of {len(self.classes)} class(es) can't be used; name 2 to {MAX_CLASSES}")
        for name, colours in self.classes.items():
            if not _CLASS_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a valid name of a class; use a lower-case word such as road or other_2"
                )
            if not colours:
                raise ValueError(f"the class {name} has no colour; list one or more, as #rrggbb")
            for colour in colours:
                if not _COLOUR.fullmatch(colour):
                    raise ValueError(f"{colour!r} of the class {name} is not a colour; write #rrggbb in lower case")
        for (name, colours), (other, others) in combinations(self.classes.items(), 2):
            if both := set(colours) & set(others):
                raise ValueError(f"{min(both)} is in the classes {name} and {other}; list a colour in one class only")
        return self


class Standardisation(NamedTuple):
    """Mean and standard deviation of each channel of pairs, three of the source and three of the target, in [-1, 1]."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]


class WeightedColours(NamedTuple):
    """Colours that maps are drawn in, and their weights in the losses of pixels."""

    colours: tuple[tuple[float, float, float], ...]
    """In [-1, 1]."""
    weights: tuple[float, ...]
    """Of the true pixels nearest to each colour; their mean over the training maps is 1."""
