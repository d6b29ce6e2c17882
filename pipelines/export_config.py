"""What an exported model comes in: a section of `config.RunConfig`."""

from typing import Literal

from pydantic import Field

from model.spec import Dtype, Frozen

VariantName = Literal["fp16", "int8", "int8-openvino"]


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
