"""Styles of maps: plain, as the network draws them, or crisp, in the exact colours of their classes."""

from typing import Literal

from model.bundle import BundleManifest, Origin
from model.errors import ConfigError
from model.spec import Palette
from serving.inference.finishing import Finish
from serving.vectors.crisp import crisp

Style = Literal["plain", "crisp"]


def find_finish(style: Style, manifest: BundleManifest, origin: Origin) -> Finish | None:
    """Return the function that gives drawn pixels a style; None for plain maps.

    Raises:
        ConfigError: The model's maps have no classes.
    """
    if style == "plain":
        return None
    palette = find_palette(manifest, origin, "to be drawn in crisp colours")
    return lambda drawn, visible: crisp(drawn, palette, visible=visible)


def find_palette(manifest: BundleManifest, origin: Origin, purpose: str) -> Palette:
    """Return the classes of a model's maps.

    Raises:
        ConfigError: It has none; the message says that they are needed for a purpose.
    """
    if manifest.palette is None:
        reason = manifest.palette_missing or "no palette was found in the training maps."
        raise ConfigError(
            f"The maps of {origin} have no classes {purpose}: {reason} Set evaluation.palette and export the run again."
        )
    return manifest.palette
