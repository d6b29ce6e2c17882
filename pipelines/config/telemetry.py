"""Reports on their use that libraries would send home; they are off unless the user sets these variables."""

import os

SWITCHES = {
    # Events of MLflow's functions, sent to its developers.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Events of models and hardware, sent to Microsoft, with an id of the device that is kept in ~/.cache/Microsoft.
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Variables that switch reports off. Ray sends none from clusters that it starts for a training."""


def switch_off() -> None:
    """Set the variables that the user has not set; call it before the libraries are imported."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)


def chosen() -> dict[str, str]:
    """Return the variables with this process's values, for processes on other nodes."""
    return {name: os.environ[name] for name in SWITCHES if name in os.environ}
