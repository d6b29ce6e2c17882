"""How drawn maps are judged, and what a challenger must do to become the champion: sections of `config.RunConfig`."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from model.spec import Frozen, Palette
from pipelines.metrics.catalogue import BASELINES, METRICS, OF_SETS

MAX_LOSS = {"ssim": 0.01, "psnr": 0.02, "frechet_lite0": 0.05}


class EvaluationConfig(Frozen):
    """What drawn maps are judged with."""

    inception_weights: str = ""
    """The official network of FID, pt_inception-2015-12-05-6726825d.pth: a path or an https:// address."""
    lpips_weights: str = ""
    """A folder with alexnet-owt-7be5be79.pth and alex.pth, the networks of LPIPS."""
    palette: Palette | None = None
    """Classes of the maps and their colours, {classes: {road: ["#ffffff"], water: ["#aadaff"]}}; none: found in the
    training maps."""


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
        if self.primary in OF_SETS:
            raise ValueError(f"{self.primary} is a score of a whole set, with no paired gain; name a score of pairs")
        return self
