"""The means and deviations of the training pairs' channels."""

import json

import numpy as np
import pytest

from model.pixels import to_tensor
from pipelines.config.loading import load
from pipelines.data.dataset import load_all
from pipelines.data.standardisation import LEAST, measure, of_run
from pipelines.workspace import Workspace
from tests.fixtures.pair_folders import SIDE, flat_maps, index, side_by_side


def configured(*settings):
    return load("default", [f"network.image_size={SIDE} network.depth=4", *settings])


@pytest.mark.parametrize("direction", ["photo_to_map", "map_to_photo"])
def test_pairs_are_measured_over_all_pixels_source_first(tmp_path, direction):
    pairs = index(side_by_side(tmp_path / "pairs"))
    found = measure(pairs.train, configured(f"data.direction={direction}"))
    halves = load_all(pairs.train, side=SIDE, direction=direction)
    levels = to_tensor(np.concatenate(halves, axis=-1)).reshape(-1, 6)
    np.testing.assert_allclose(found.means, levels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.deviations, levels.std(axis=0), atol=1e-6)


def test_a_channel_of_one_level_has_a_deviation_of_one_level(tmp_path):
    pairs = index(flat_maps(tmp_path / "pairs", [(255, 255, 255)] * 4))
    assert measure(pairs.train, configured()).deviations[3:] == (LEAST,) * 3


def test_they_are_written_into_the_run_only_if_the_settings_need_them(tmp_path):
    pairs, run = index(side_by_side(tmp_path / "pairs")), Workspace(tmp_path).new_run("1f0c")
    assert of_run(configured(), pairs.train, run) is None and not run.channels_file.exists()
    found = of_run(configured("training.standardise=true"), pairs.train, run)
    assert json.loads(run.channels_file.read_text()) == {key: list(value) for key, value in found._asdict().items()}
