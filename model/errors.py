"""Every error a user can meet; the message says what was found, what is allowed and what to do.

```
Sat2mapError
├── ConfigError      a setting is unknown, of the wrong type or out of range
├── DataError        a folder, an image or a pair can't be used
├── MissingStepError a verb was called before the verb it stands on
├── CheckpointError  no checkpoint could be read
├── ClusterError     a Ray cluster did not answer, or it refused a job
├── TrainingError    the training workers failed
├── Stopped          the user stopped a training; it can go on
├── ExportError      the ONNX model is not the TensorFlow model
├── BundleError      a bundle is missing, incomplete or altered
├── TrackingError    MLflow did not answer or refused
└── PromotionRefused a challenger did not pass a gate
```
"""


class Sat2mapError(Exception):
    """The root of the family: the command line prints its message alone and exits with 2."""


class ConfigError(Sat2mapError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(Sat2mapError):
    """A folder, an image or a pair can't be used."""


class MissingStepError(Sat2mapError):
    """A verb was called before the verb it stands on."""


class CheckpointError(Sat2mapError):
    """No checkpoint could be read."""


class ClusterError(Sat2mapError):
    """A Ray cluster did not answer, or it refused a job."""


class TrainingError(Sat2mapError):
    """The training workers failed."""


class Stopped(Sat2mapError):
    """The user stopped a training; it can go on from its last checkpoint."""


class ExportError(Sat2mapError):
    """The ONNX model is not the TensorFlow model."""


class BundleError(Sat2mapError):
    """A bundle is missing, incomplete or altered."""


class TrackingError(Sat2mapError):
    """MLflow did not answer or refused."""


class PromotionRefused(Sat2mapError):
    """A challenger did not pass a gate, and nothing moved; the command line exits with 3."""


class StorageError(DataError):
    """A place does not answer: no fault of the one file that was asked for."""
