"""Bundles: folders that hold an exported generator and everything needed to run and evaluate it.

The generator comes in several files, its variants: `fp32` in generator.onnx, which every bundle has, and others such as
`int8` in generator.int8.onnx, which draw nearly the same maps and are faster on some execution provider.
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

MODEL_FILE = "generator.onnx"
MANIFEST_FILE = "bundle.json"
PULLED_FILE = "pulled.json"
FP32 = "fp32"
VARIANT_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
VALUE_RANGES: dict[str, tuple[float, float]] = {"float32": (-1.0, 1.0), "uint8": (0.0, 255.0)}
MAX_MODEL_BYTES = 4 << 30


def variant_file(name: str) -> str:
    """Return the name of a variant's file."""
    return MODEL_FILE if name == FP32 else f"generator.{name}.onnx"


class Parity(Frozen):
    """Difference between the ONNX model and the TensorFlow model on held-out photos."""

    max_difference: float
    """Largest absolute difference of any output value, on the scale [-1, 1]."""
    limit: float
    photos: int


class Variant(Frozen):
    """Another file of the same generator: the providers it is for, and its quality on held-out photos."""

    sha256: str
    providers: tuple[str, ...] = Field(min_length=1)
    """Execution providers of onnxruntime that run this file best."""
    max_difference: float
    """Largest absolute difference of any output value from TensorFlow's, on the scale [-1, 1]."""
    ssim: float
    """Mean SSIM between its maps and those of fp32."""
    losses: dict[str, float]
    """Share of fp32's value that each score against the true maps loses; negative for a gain."""
    photos: int
    float_layers: tuple[str, ...] = ()
    """Layers of an int8 file that stayed in float."""


class Lineage(Frozen):
    """The model whose networks a training began with."""

    source: str
    """As it was named: a run's id, a bundle's folder, models:/NAME/VERSION, or `sample` for painted scenes."""
    run_id: str
    """MLflow run that trained it."""
    generator_sha256: str
    """sha256 of the generator's Keras file."""
    discriminator_sha256: str = ""
    """sha256 of the discriminator's Keras file; empty if the discriminator began with random weights."""


class BundleManifest(Frozen):
    """Contents of `bundle.json`."""

    format: int = Field(default=1, ge=1, le=1)
    network: NetworkConfig
    direction: Direction
    signature: TensorSignature
    value_range: tuple[float, float] = (-1.0, 1.0)
    """Values of both tensors that RGB levels 0 and 255 become; (0, 255) for uint8 tensors."""
    opset: int
    sha256: str
    """sha256 of the fp32 model file."""
    parity: Parity
    """Parity of fp32."""
    variants: dict[str, Variant] = Field(default_factory=dict)
    """Variants by name, the preferred one of a provider first; fp32 is implied."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Reasons why variants were made but not shipped, by name."""
    resolution: float | None = Field(default=None, gt=0)
    """Ground resolution of the training photos in metres a pixel, if known."""
    palette: Palette | None = None
    """Classes of the maps and their colours; evaluation and polygons use these."""
    palette_missing: str = ""
    """Reason why the training maps gave no palette; empty in bundles of version 0.1.0."""
    run_id: str
    """MLflow run that trained the generator."""
    generator_sha256: str = ""
    """sha256 of the Keras file that was exported; empty in bundles of version 0.2.0 and earlier."""
    discriminator_sha256: str = ""
    """sha256 of the discriminator's Keras file, which a later training can begin with; empty if there was none."""
    started_from: Lineage | None = None
    """The model that the training began with; null if it began with random weights."""
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


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version of a model in the registry, as the origin of a bundle."""

    name: str
    version: int

    def __str__(self) -> str:
        """Return the version's URI in MLflow."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """The MLflow run that trained a model, as the origin of a bundle."""

    run_id: str

    def __str__(self) -> str:
        """Return the run's URI in MLflow."""
        return f"runs:/{self.run_id}"


Origin = RegisteredModel | TrainedRun


class Pulled(Frozen):
    """Origin of a pulled bundle, stored as `pulled.json` in its folder."""

    name: str
    version: int
    run_id: str
    sha256: str

    @property
    def origin(self) -> RegisteredModel:
        """The registered version."""
        return RegisteredModel(self.name, self.version)


@dataclass(frozen=True)
class Bundle:
    """A folder that has every file its manifest names."""

    folder: Path
    manifest: BundleManifest

    @property
    def model_file(self) -> Path:
        """ONNX file of fp32."""
        return self.folder / MODEL_FILE

    def verified(self, variant: str = FP32) -> Path:
        """Return the ONNX file of a variant after checking its sha256.

        Raises:
            BundleError: There is no such variant, or its file was altered.
        """
        hashes = self.manifest.hashes()
        if variant not in hashes:
            raise BundleError(f"{self.folder} has no variant {variant!r}; there are: {', '.join(hashes)}.")
        file = self.folder / variant_file(variant)
        if sha256(file) != hashes[variant]:
            raise BundleError(
                f"{file} is not the file that was exported (its sha256 differs); pull or export it again."
            )
        return file

    def read_origin(self) -> Origin:
        """Return the registered version that the bundle was pulled from, or else the run that trained it.

        Raises:
            BundleError: `pulled.json` can't be read.
        """
        path = self.folder / PULLED_FILE
        try:
            return Pulled.model_validate_json(path.read_text(encoding="utf-8")).origin
        except FileNotFoundError:
            return TrainedRun(self.manifest.run_id)
        except (ValidationError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} can't be read; pull the model again.") from error

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the manifest and check that its files exist; `verified` checks their content.

        Raises:
            BundleError: The folder is not a bundle, or a file is missing.
        """
        manifest = read_manifest(folder)
        for name in manifest.hashes():
            file = folder / variant_file(name)
            if not file.is_file():
                raise BundleError(f"{file} is missing; export the model again.")
            if file.stat().st_size > MAX_MODEL_BYTES:
                raise BundleError(f"{file} is larger than {MAX_MODEL_BYTES} bytes; this is not a generator.")
        return cls(folder, manifest)


def read_manifest(folder: Path) -> BundleManifest:
    """Read `bundle.json`.

    Raises:
        BundleError: It is missing or can't be read.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle ({MANIFEST_FILE} is missing); `export` makes one.")
    try:
        return BundleManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} can't be read as a bundle of this version; export the model again.") from error


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write `bundle.json` into a folder that already holds the model files."""
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


class OpenedModel(NamedTuple):
    """An opened bundle and its origin."""

    bundle: Bundle
    origin: Origin
