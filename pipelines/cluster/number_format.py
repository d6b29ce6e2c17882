"""The number format of a training: bfloat16 where every node computes it in hardware, else float32."""

import logging
from collections.abc import Callable

from model.hardware import gpus_have_bfloat16, has_bfloat16
from pipelines.cluster import resources
from pipelines.config.loading import with_settings
from pipelines.config.schema import RunConfig

_log = logging.getLogger(__name__)


def choose(config: RunConfig) -> RunConfig:
    """Return the settings with the precision that `auto` stands for on the cluster; call it in `resources.joined`.

    A requested bfloat16 that some node would have to emulate is logged as a warning.
    """
    kind, check = ("GPU", gpus_have_bfloat16) if config.training.gpu else ("CPU", has_bfloat16)
    return _choose(config, lambda: all(resources.ask_nodes(check, kind=kind)))


def choose_here(config: RunConfig) -> RunConfig:
    """Return the settings with the precision that `auto` stands for on this machine, as `choose` does."""
    return _choose(config, gpus_have_bfloat16 if config.training.gpu else has_bfloat16)


def _choose(config: RunConfig, supports_bfloat16: Callable[[], bool]) -> RunConfig:
    training = config.training
    if training.precision == "auto":
        fast = not training.deterministic and supports_bfloat16()
        return with_settings(config, {"training.precision": "mixed_bfloat16" if fast else "float32"})
    if training.precision == "mixed_bfloat16" and not supports_bfloat16():
        _log.warning(
            "Warning: not every %s that trains has bfloat16 instructions, and emulated, it was 5 to 9 times slower "
            "than float32 where it was measured; set training.precision=auto.",
            "GPU" if training.gpu else "processor",
        )
    return config
