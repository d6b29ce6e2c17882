"""The colours of training maps and the weights of their classes."""

import pytest

from model.errors import ConfigError
from model.spec import Palette
from pipelines.config.loading import load
from pipelines.data.map_colours import MapColours, measure, missing, of_run
from pipelines.workspace import Workspace
from tests.fixtures.pair_folders import SIDE, flat_maps, index, side_by_side

COLOURS = [(255, 255, 255), (170, 211, 223), (242, 239, 233), (200, 230, 180)]
PALETTE = Palette(classes={"road": ("#ffffff", "#ffe57c"), "water": ("#aad3df",), "ground": ("#f2efe9",)})


def configured(*settings):
    return load("default", [f"network.image_size={SIDE} network.depth=4", *settings])


def test_rare_classes_weigh_more_up_to_a_limit_and_the_mean_is_one():
    found = MapColours(palette=PALETTE, shares={"road": 0.09, "water": 0.01, "ground": 0.9}).weighted(5)
    white, yellow, water, ground = found.weights
    assert found.colours[0] == (1, 1, 1) and len(found.colours) == 4
    assert white == yellow == pytest.approx(10**0.5 * ground) and water == pytest.approx(5 * ground)
    assert 0.09 * white + 0.01 * water + 0.9 * ground == pytest.approx(1)
    assert MapColours(palette=PALETTE, shares={"road": 0.1, "water": 0, "ground": 0.9}).weighted(1).weights == (1,) * 4


def test_palette_and_shares_are_written_into_the_run_and_only_if_the_losses_need_them(tmp_path):
    pairs, run = index(flat_maps(tmp_path / "pairs", COLOURS)), Workspace(tmp_path).new_run("1f0c")
    assert of_run(configured(), pairs.train, run) is None and not run.colours_file.exists()
    weighted = of_run(configured("training.rare_weight=2"), pairs.train, run)
    found = MapColours.model_validate_json(run.colours_file.read_bytes())
    assert weighted == found.weighted(2) and set(found.shares.values()) == {0.25}
    assert missing(pairs.train, configured()) == ""


def test_maps_without_flat_colours_are_refused_unless_a_palette_is_given(tmp_path):
    pairs = index(side_by_side(tmp_path / "pairs"))
    with pytest.raises(ConfigError, match=r"need the colours of the maps\. .* Or set training\.colour_weight=0"):
        measure(pairs.train, configured())
    assert missing(pairs.train, configured()) == "the maps have no flat colours"
    given = configured('evaluation.palette={classes: {road: ["#ffffff"], ground: ["#000000"]}}')
    assert set(measure(pairs.train, given).shares) == {"road", "ground"}


def test_photos_have_no_palette(tmp_path):
    pairs, run = index(side_by_side(tmp_path / "pairs")), Workspace(tmp_path).new_run("1f0c")
    drawn = configured("data.direction=map_to_photo training.colour_weight=1")
    assert of_run(drawn, pairs.train, run) is None and missing(pairs.train, drawn) == ""
