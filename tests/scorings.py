"""Photos of noise, and what a scoring has made of them."""

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.errors import DataError
from serving.scoring.image_scorer import ScoreSettings
from serving.scoring.manifest import CSV_FILE, PARQUET_FILE, read_rows
from serving.scoring.scorer import score

PROJECT = Path(__file__).resolve().parent.parent
SIDE = 32
"""Of the network that `make_bundle` writes."""


def noise(seed, size=(SIDE, SIDE)):
    """Return a photo; its size is (width, height)."""
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def draw_noise(folder, names, side=SIDE):
    """Make a folder of photos, the first of seed 0, the second of seed 1."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        noise(seed, (side, side)).save(folder / name)
    return folder


def draw(bundle, photos, out, **options):
    """Score; what is no setting is an argument of `score`."""
    settings = {name: options.pop(name) for name in ("format", "resize", "overlap") if name in options}
    return score(bundle, [str(photos)], str(out), settings=ScoreSettings(**settings), **options)


def content(folder):
    """Return every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drawn_names(out):
    """Return the names of all files below a folder, without the manifests, which have to be there."""
    names = set(content(out))
    assert {CSV_FILE, PARQUET_FILE} <= names
    return names - {CSV_FILE, PARQUET_FILE}


def rows(out):
    """Return the manifest's rows by the names of their photos."""
    return {Path(row["source"]).name: row for row in csv.DictReader(io.StringIO((out / CSV_FILE).read_text("utf-8")))}


def without_times(out):
    """Return the manifest's rows without what no two runs share."""
    return {name: {**row, "milliseconds": None} for name, row in rows(out).items()}


def maps_in(folder):
    """Return every file below a folder with its bytes, without manifests and the hidden drafts of what was killed."""
    hidden = ("manifest.", ".")
    return {name: data for name, data in content(folder).items() if not name.rpartition("/")[2].startswith(hidden)}


def timeless(folder):
    """Return the rows of the manifest without what no two runs share."""
    return [replace(row, milliseconds=None) for row in read_rows(str(folder))]


def assert_same(folder, expected):
    """See that two scorings made the same."""
    assert maps_in(folder) == maps_in(expected)
    assert timeless(folder) == timeless(expected)


def pixels(path):
    """Return a map, uint8 (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def negative(image):
    """Return what the model of `make_bundle` makes of a photo."""
    return 255 - np.asarray(image.convert("RGB"))


def errors(report):
    """Return why photos have no map, by their names."""
    return {Path(failure.source).name: failure.error for failure in report.failed}


def refused(bundle, photos, out):
    """Score what should be refused as a whole, see that nothing changed, and return the message."""
    before = content(out.parent), out.exists()
    with pytest.raises(DataError) as stopped:
        draw(bundle, photos, out)
    assert (content(out.parent), out.exists()) == before
    return str(stopped.value)


def command(bundle, photos, out):
    """Return a command that scores, prints the report, and ends with 1 and a sentence on an error of ours."""
    program = "import sys; from pathlib import Path; from model.bundle import Bundle\n"
    program += "from serving.scoring.scorer import score\n"
    program += "from model.errors import Sat2mapError\n"
    program += "try: print(score(Bundle.open(Path(sys.argv[1])), [sys.argv[2]], sys.argv[3]).model_dump_json())\n"
    program += "except Sat2mapError as error: sys.exit(str(error))"
    return [sys.executable, "-c", program, str(bundle.folder), str(photos), str(out)]
