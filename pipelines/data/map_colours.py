"""The colours of the training maps and the shares of their classes, for losses that see small classes."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from model.errors import ConfigError
from model.io.files import write_text
from model.io.progress import track
from model.palette import BITS, cells, nearest_classes
from model.pixels import Pixels, to_tensor
from model.spec import Frozen, Palette, WeightedColours
from pipelines.config.schema import RunConfig
from pipelines.data.dataset import load
from pipelines.data.pairs import Pair
from pipelines.data.palette_extraction import NoPaletteError, find_palette
from pipelines.run_folder import RunFolder


class MapColours(Frozen):
    """The palette of the training maps, and the share of each class in their pixels."""

    palette: Palette
    shares: dict[str, float]

    def weighted(self, largest: float) -> WeightedColours:
        """Return all colours with the weights of their classes, whose mean over all pixels is 1.

        A class weighs more than the most common one by the root of the ratio of their shares, at most `largest` times.
        """
        common = max(self.shares.values())
        ratios = {
            name: min(largest, (common / share) ** 0.5) if share else largest for name, share in self.shares.items()
        }
        mean = sum(ratios[name] * share for name, share in self.shares.items())
        classes = [(name, colour) for name, colours in self.palette.classes.items() for colour in colours]
        levels = to_tensor(np.array([[*bytes.fromhex(colour[1:])] for _, colour in classes], np.uint8))
        return WeightedColours(
            colours=tuple((float(red), float(green), float(blue)) for red, green, blue in levels),
            weights=tuple(ratios[name] / mean for name, _ in classes),
        )


def missing(pairs: Sequence[Pair], config: RunConfig) -> str:
    """Return the reason why the losses of colours have no palette, in a few words; empty if they have or need none."""
    if config.data.direction != "photo_to_map" or config.evaluation.palette:
        return ""
    try:
        find_palette(_maps(pairs, config))
    except NoPaletteError:
        return "the maps have no flat colours"
    return ""


def of_run(config: RunConfig, pairs: Sequence[Pair], folder: RunFolder) -> WeightedColours | None:
    """Return the weighted colours of the training maps if the losses need them, and write them to the run's folder.

    Raises:
        ConfigError: The maps have no palette.
    """
    training = config.training
    if config.data.direction != "photo_to_map" or (not training.colour_weight and training.rare_weight == 1):
        return None
    found = measure(pairs, config)
    write_text(folder.colours_file, found.model_dump_json(indent=2))
    return found.weighted(training.rare_weight)


def measure(pairs: Sequence[Pair], config: RunConfig) -> MapColours:
    """Find the palette of training maps, unless the settings have one, and count the pixels of its classes.

    Raises:
        ConfigError: The maps have no palette.
    """
    cube = np.zeros(1 << 3 * BITS, np.int64)

    def counted() -> Iterator[Pixels]:
        # The maps may not fit into memory together, so their pixels are counted while the palette is found.
        for street_map in _maps(pairs, config):
            cube[:] += np.bincount(cells(street_map).ravel(), minlength=len(cube))
            yield street_map

    try:
        palette = config.evaluation.palette or find_palette(counted())
    except NoPaletteError as error:
        raise ConfigError(
            f"training.colour_weight and training.rare_weight need the colours of the maps. {error} Or set "
            "training.colour_weight=0 and training.rare_weight=1."
        ) from error
    if config.evaluation.palette:
        deque(counted(), maxlen=0)
    counts = np.bincount(nearest_classes(palette), weights=cube, minlength=len(palette.classes))
    shares = zip(palette.classes, counts / counts.sum(), strict=True)
    return MapColours(palette=palette, shares={name: float(share) for name, share in shares})


def _maps(pairs: Sequence[Pair], config: RunConfig) -> Iterator[Pixels]:
    for pair in track(pairs, "Reading training maps"):
        yield load(pair, side=config.network.image_size, direction="photo_to_map")[1]
