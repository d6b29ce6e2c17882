"""Errors that a user can meet; each message says what was found, what is allowed and what to do.

```
Sat2mapError
├── ConfigError       a setting is unknown, of the wrong type or out of range
├── DataError         a folder, an image or a pair can't be used
│   └── StorageError  a disk or server fails, is full or denies access
├── MissingStepError  a command was called before the one it depends on
├── CheckpointError   no checkpoint could be read
├── ClusterError      a Ray cluster did not answer or refused a job
├── TrainingError     the training workers failed
├── Stopped           the user stopped the work; it can be resumed
├── ExportError       the ONNX model differs from the TensorFlow model
├── BundleError       a bundle is missing, incomplete or altered, or its model can't be loaded
├── TrackingError     MLflow did not answer or refused a request
└── PromotionRefused  a challenger did not pass a gate
```
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel


class Sat2mapError(Exception):
    """Root of the family: the command line prints only its message and exits with 2."""


class ConfigError(Sat2mapError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(Sat2mapError):
    """A folder, an image or a pair can't be used."""


class StorageError(DataError):
    """A disk or server fails, is full or denies access, which is not the fault of a single file."""


class MissingStepError(Sat2mapError):
    """A command was called before the one it depends on."""


class CheckpointError(Sat2mapError):
    """No checkpoint could be read."""


class ClusterError(Sat2mapError):
    """A Ray cluster did not answer or refused a job."""


class TrainingError(Sat2mapError):
    """The training workers failed."""


class Stopped(Sat2mapError):
    """The user stopped the work; it can be resumed."""


class ExportError(Sat2mapError):
    """The ONNX model differs from the TensorFlow model."""


class BundleError(Sat2mapError):
    """A bundle is missing, incomplete or altered, or its model can't be loaded."""


class TrackingError(Sat2mapError):
    """MLflow did not answer or refused a request."""


class PromotionRefused(Sat2mapError):
    """A challenger did not pass a gate, and no alias moved; the command line exits with 3.

    Attributes:
        promotion: The decision with all measurements.
        lines: A line for each gate.
    """

    def __init__(self, message: str, promotion: "BaseModel", lines: tuple[str, ...]) -> None:
        """Store the message, the decision and its lines."""
        super().__init__(message)
        self.promotion = promotion
        self.lines = lines
