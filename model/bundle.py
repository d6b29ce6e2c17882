"""A bundle: the folder that holds an exported generator and all that is needed to run and to judge it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from model.errors import BundleError
from model.files import sha256
from model.spec import Direction, Frozen, NetworkConfig, TensorSignature, signature

MODEL_FILE = "generator.onnx"
MANIFEST_FILE = "bundle.json"
MAX_MODEL_BYTES = 4 << 30


class Parity(Frozen):
    """How far the ONNX model is from the TensorFlow model, on held-out photos."""

    max_difference: float
    """Largest absolute difference of any output value, on the scale [-1, 1]."""
    limit: float
    photos: int


class BundleManifest(Frozen):
    """What `bundle.json` says."""

    format: int = Field(default=1, ge=1, le=1)
    network: NetworkConfig
    direction: Direction
    signature: TensorSignature
    value_range: tuple[float, float] = (-1.0, 1.0)
    """Of both tensors; RGB levels 0 and 255 are its ends."""
    opset: int
    sha256: str
    """Of the model file."""
    parity: Parity
    run_id: str
    """The MLflow run that trained it."""
    data_fingerprint: str
    code_revision: str

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        expected = signature(self.network, self.direction)
        if self.signature != expected or self.value_range != (-1.0, 1.0):
            raise ValueError(f"signature and value_range must be {expected} and (-1, 1)")
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle whose model file is what its manifest says."""

    folder: Path
    manifest: BundleManifest

    @property
    def model_file(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL_FILE

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the manifest and check the model file against it.

        Raises:
            BundleError: The folder is no bundle, or the model file was altered.
        """
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise BundleError(f"{folder} is no bundle ({MANIFEST_FILE} is missing); `export` makes one.")
        try:
            manifest = BundleManifest.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} can't be read as a bundle of this version; export the model again.") from error
        bundle = cls(folder, manifest)
        if not bundle.model_file.is_file():
            raise BundleError(f"{bundle.model_file} is missing; export the model again.")
        if bundle.model_file.stat().st_size > MAX_MODEL_BYTES:
            raise BundleError(f"{bundle.model_file} is larger than {MAX_MODEL_BYTES} bytes; this is no generator.")
        if sha256(bundle.model_file) != manifest.sha256:
            raise BundleError(
                f"{bundle.model_file} is not the file that was exported (its sha256 differs); fetch or export it again."
            )
        return bundle


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write `bundle.json` into a folder that already holds the model file."""
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
