"""What the tests of folders of pairs share: making one, and indexing it."""

import numpy as np
from PIL import Image

from pipelines.data.pairs import index_folder

SIDE = 32


def picture(seed, size=(2 * SIDE, SIDE), mode="RGB"):
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def side_by_side(folder, splits=(("train", 4), ("val", 2))):
    """Make `splits` of side-by-side PNG pairs, every one different."""
    for number, (split, count) in enumerate(splits):
        for i in range(count):
            save(folder / split / f"{split or 'p'}{i}.png", picture((number, i)))
    return folder


def index(folder, **options):
    return index_folder(folder, **{"min_side": SIDE} | options)


def names(found):
    return [pair.name for pair in found]


def reasons(found):
    return {item.name: item.reason for item in found.rejected}


def refused(folder, name, **options):
    """Index a folder in which `name` should be the one that is refused, and return why."""
    found = reasons(index(folder, min_good=0, **options))
    assert list(found) == [name]
    return found[name]


def two_folders(folder, keys, splits=("train", "test")):
    for split in splits:
        for seed, key in enumerate(keys):
            save(folder / f"{split}A" / f"{key}.png", picture((seed, len(split), 0), (SIDE, SIDE)))
            save(folder / f"{split}B" / f"{key}.webp", picture((seed, len(split), 1), (SIDE, SIDE)), lossless=True)
    return folder
