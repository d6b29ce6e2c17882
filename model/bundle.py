"""A bundle: the folder that holds an exported generator and all that is needed to run and to judge it.

The generator lies there in several files, its variants: `fp32` in generator.onnx, which is in every bundle, and others,
such as `int8` in generator.int8.onnx, which draw nearly the same and are faster on some execution provider.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from model.errors import BundleError
from model.io.files import sha256
from model.spec import Direction, Frozen, NetworkConfig, Palette, TensorSignature, signature

OPSET = 18

MODEL_FILE = "generator.onnx"
MANIFEST_FILE = "bundle.json"
FP32 = "fp32"
VARIANT_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
VALUE_RANGES: dict[str, tuple[float, float]] = {"float32": (-1.0, 1.0), "uint8": (0.0, 255.0)}
MAX_MODEL_BYTES = 4 << 30


def variant_file(name: str) -> str:
    """Return the name of a variant's file."""
    return MODEL_FILE if name == FP32 else f"generator.{name}.onnx"


class Parity(Frozen):
    """How far the ONNX model is from the TensorFlow model, on held-out photos."""

    max_difference: float
    """Largest absolute difference of any output value, on the scale [-1, 1]."""
    limit: float
    photos: int


class Variant(Frozen):
    """Another file of the same generator: what it is for, and what was measured of it on held-out photos."""

    sha256: str
    providers: tuple[str, ...] = Field(min_length=1)
    """Execution providers of onnxruntime that it is the best file for."""
    max_difference: float
    """From TensorFlow: the largest absolute difference of any output value, on the scale [-1, 1]."""
    ssim: float
    """Mean SSIM of its maps beside those of fp32."""
    losses: dict[str, float]
    """What share of fp32's value each score loses against the true maps; negative where it gains."""
    photos: int
    float_layers: tuple[str, ...] = ()
    """Of an int8 file: layers that were left in float."""


class BundleManifest(Frozen):
    """What `bundle.json` says."""

    format: int = Field(default=1, ge=1, le=1)
    network: NetworkConfig
    direction: Direction
    signature: TensorSignature
    value_range: tuple[float, float] = (-1.0, 1.0)
    """Of both tensors; RGB levels 0 and 255 are its ends: (0, 255) where the tensors are uint8."""
    opset: int
    sha256: str
    """Of the model file, fp32."""
    parity: Parity
    """Of fp32."""
    variants: dict[str, Variant] = Field(default_factory=dict)
    """By name, the preferred one of a provider first; fp32 is there without being named."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Variants that were made and not shipped, by name, and why."""
    resolution: float | None = Field(default=None, gt=0)
    """Metres on the ground that a pixel of the training photos shows, where it is known."""
    palette: Palette | None = None
    """What the colours of the maps stand for, where they have classes."""
    run_id: str
    """The MLflow run that trained it."""
    data_fingerprint: str
    code_revision: str

    @field_validator("variants")
    @classmethod
    def _names_are_plain(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        for name in variants:
            if name == FP32 or not VARIANT_NAME.fullmatch(name):
                raise ValueError(f"{name!r} can't name a variant")
        return variants

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        expected = signature(self.network, self.direction, self.signature.dtype)
        ends = VALUE_RANGES[expected.dtype]
        if self.signature != expected or self.value_range != ends:
            raise ValueError(f"signature and value_range must be {expected} and {ends}")
        return self

    def hashes(self) -> dict[str, str]:
        """Return the sha256 of every variant's file, fp32 first."""
        return {FP32: self.sha256} | {name: variant.sha256 for name, variant in self.variants.items()}


@dataclass(frozen=True)
class Bundle:
    """A bundle that has every file that its manifest names."""

    folder: Path
    manifest: BundleManifest

    @property
    def model_file(self) -> Path:
        """The ONNX file of fp32."""
        return self.folder / MODEL_FILE

    def verified(self, variant: str = FP32) -> Path:
        """Return the ONNX file of a variant, after a look at its content.

        Raises:
            BundleError: There is no such variant, or its file was altered.
        """
        hashes = self.manifest.hashes()
        if variant not in hashes:
            raise BundleError(f"{self.folder} has no variant {variant!r}; there are: {', '.join(hashes)}.")
        file = self.folder / variant_file(variant)
        if sha256(file) != hashes[variant]:
            raise BundleError(
                f"{file} is not the file that was exported (its sha256 differs); fetch or export it again."
            )
        return file

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the manifest; the content of a model file is checked when it is taken, by `verified`.

        Raises:
            BundleError: The folder is no bundle, or a file is missing.
        """
        manifest = read_manifest(folder)
        for name in manifest.hashes():
            file = folder / variant_file(name)
            if not file.is_file():
                raise BundleError(f"{file} is missing; export the model again.")
            if file.stat().st_size > MAX_MODEL_BYTES:
                raise BundleError(f"{file} is larger than {MAX_MODEL_BYTES} bytes; this is no generator.")
        return cls(folder, manifest)


def read_manifest(folder: Path) -> BundleManifest:
    """Read `bundle.json`.

    Raises:
        BundleError: There is none, or it can't be read.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise BundleError(f"{folder} is no bundle ({MANIFEST_FILE} is missing); `export` makes one.")
    try:
        return BundleManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} can't be read as a bundle of this version; export the model again.") from error


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write `bundle.json` into a folder that already holds the model files."""
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


class OpenedModel(NamedTuple):
    """An opened bundle, and where it comes from: models:/NAME/VERSION or runs:/ID."""

    bundle: Bundle
    origin: str
