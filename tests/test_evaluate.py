"""Scores: what is true beats what is spoilt, the baselines are what numpy says, and the names promise nothing false."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from model.bundle import Bundle
from model.errors import DataError
from model.spec import NetworkConfig, signature
from pipelines.dataset import load_all
from pipelines.evaluate import LOWER_IS_BETTER, Scores, baselines, measure, score
from pipelines.lite0 import Lite0
from pipelines.metrics import Score
from pipelines.pairs import index_folder

SIDE = 32
NAMES = {"ssim", "psnr", "l1", "frechet_lite0", "is_lite0"}
BASELINES = {"median_colour", "mean_map", "source_copied"}
TRAIN, VAL = 5, 4


def street_maps(count, side=SIDE, seed=0):
    """Return smooth, colourful images, every one different."""
    rough = np.random.default_rng(seed).normal(0, 1, (count, side, side, 3))
    smooth = gaussian_filter(rough, sigma=3, axes=(1, 2))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return pairs whose photo is the negative of the map."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, drawn in enumerate(street_maps(TRAIN + VAL)):
        split = folder / ("train" if number < TRAIN else "val")
        split.mkdir(exist_ok=True)
        Image.fromarray(np.concatenate([255 - drawn, drawn], axis=1)).save(split / f"{number}.png")
    return index_folder(folder, min_side=SIDE)


@pytest.fixture(scope="module")
def network():
    return Lite0()


def numbers(named):
    return {name: found.value for name, found in named.items()}


# score


def spoil(true):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, true.shape)
    return {
        "true": true,
        "slightly noisy": np.clip(true + 6 * noise, 0, 255).astype(np.uint8),
        "noisy": np.clip(true + 30 * noise, 0, 255).astype(np.uint8),
        "constant": np.broadcast_to(np.median(true, axis=(0, 1, 2)).astype(np.uint8), true.shape),
    }


@pytest.fixture(scope="module")
def spoilt(network):
    """Return the scores of four degrees of damage, the least first."""
    true = street_maps(6, side=64)
    truth = network(true)
    return {kind: score(images, true, truth=truth, network=network) for kind, images in spoil(true).items()}


@pytest.mark.parametrize("name", ["psnr", "l1", "frechet_lite0"])
def test_the_more_is_spoilt_the_worse_the_score(spoilt, name):
    values = [named[name].value for named in spoilt.values()]
    ordered = sorted(values, reverse=name not in LOWER_IS_BETTER)
    assert values == ordered and len(set(values)) == 4


def test_structure_falls_with_the_noise_and_a_constant_has_none(spoilt):
    true, slight, noisy, constant = (named["ssim"].value for named in spoilt.values())
    assert true == pytest.approx(1) and true > slight > noisy
    assert constant < slight


def test_one_colour_has_no_variety(spoilt):
    assert spoilt["constant"]["is_lite0"].value == pytest.approx(1, abs=1e-4)
    assert spoilt["true"]["is_lite0"].value > 1.001


def test_the_truth_has_the_scores_of_the_truth(spoilt):
    true = numbers(spoilt["true"])
    assert true["l1"] == 0 and true["psnr"] == pytest.approx(58.92, abs=0.01)
    assert true["frechet_lite0"] == pytest.approx(0, abs=1e-5)


def test_the_names_do_not_promise_another_network(spoilt):
    for named in spoilt.values():
        assert set(named) == NAMES
        assert not any(word in name for name in named for word in ("fid", "inception", "kid"))


def test_every_score_has_an_error_and_the_number_of_pairs(spoilt):
    for found in spoilt["noisy"].values():
        assert found.n == 6 and found.error >= 0
    assert spoilt["noisy"]["l1"].error > 0 and spoilt["noisy"]["frechet_lite0"].error > 0


def test_the_set_scores_see_what_the_network_sees(spoilt, network):
    true = street_maps(6, side=64)
    noisy = spoil(true)["noisy"]
    again = score(noisy, true, truth=network(noisy), network=network)
    assert again["frechet_lite0"].value == pytest.approx(0, abs=1e-5)
    assert again["is_lite0"] == spoilt["noisy"]["is_lite0"] and again["l1"] == spoilt["noisy"]["l1"]


# baselines


@pytest.mark.parametrize("direction", ["photo_to_map", "map_to_photo"])
def test_baselines_are_what_numpy_says_about_all_training_targets(pairs, direction):
    sources, _ = load_all(pairs.val, side=SIDE, direction=direction)
    _, targets = load_all(pairs.train, side=SIDE, direction=direction)
    found = baselines(pairs.train, sources, side=SIDE, direction=direction)
    assert set(found) == BASELINES
    for images in found.values():
        assert (images.shape, images.dtype) == ((VAL, SIDE, SIDE, 3), np.uint8)
    # Of an even number of levels the lower of the two in the middle, which is a level that really occurs.
    median = np.quantile(targets, 0.5, axis=(0, 1, 2), method="inverted_cdf")
    assert np.array_equal(found["median_colour"], np.broadcast_to(median, sources.shape))
    assert np.abs(found["median_colour"][0, 0, 0] - np.median(targets, axis=(0, 1, 2))).max() <= 0.5
    assert np.array_equal(found["mean_map"], np.broadcast_to(np.rint(targets.mean(axis=0)), sources.shape))
    assert np.array_equal(found["source_copied"], sources)
    assert found["mean_map"][0].std() > 5 and found["median_colour"].std(axis=(0, 1, 2)).max() == 0


@pytest.mark.parametrize("levels", [(0, 0, 0, 255, 255), (0, 0, 255, 255, 255), (7, 9, 9, 7), (0, 255)])
def test_the_median_of_few_levels_is_one_of_them(tmp_path, levels):
    """Flat maps: the level of the majority wins, also at the ends of the histogram; of two halves, the lower level."""
    for number, level in enumerate((*levels, 1)):
        split = tmp_path / ("train" if number < len(levels) else "val")
        split.mkdir(exist_ok=True)
        image = Image.new("RGB", (2 * SIDE, SIDE), (level, level, level))
        image.putpixel((number, 0), (50, 60, 70))
        image.save(split / f"{number}.png")
    index = index_folder(tmp_path, min_side=SIDE)
    sources, _ = load_all(index.val, side=SIDE, direction="photo_to_map")
    found = baselines(index.train, sources, side=SIDE, direction="photo_to_map")
    assert np.unique(found["median_colour"]).tolist() == [sorted(levels)[(len(levels) - 1) // 2]]


def test_the_held_out_targets_are_not_looked_at(pairs):
    sources, _ = load_all(pairs.val, side=SIDE, direction="photo_to_map")
    expected = baselines(pairs.train, sources, side=SIDE, direction="photo_to_map")
    again = baselines(pairs.train, sources[:2], side=SIDE, direction="photo_to_map")
    assert all(np.array_equal(again[name], images[:2]) for name, images in expected.items())


# measure


def test_a_perfect_generator_is_measured_as_perfect(pairs, make_bundle):
    bundle = Bundle.open(make_bundle())
    measured = measure(bundle, pairs)
    sources, targets = load_all(pairs.val, side=SIDE, direction="photo_to_map")
    assert np.array_equal(measured.sources, sources) and np.array_equal(measured.targets, targets)
    assert np.array_equal(measured.drawn, targets)
    found = measured.scores
    assert (found.run_id, found.pairs, found.data_fingerprint) == ("1f0c", VAL, pairs.fingerprint)
    assert found.model_sha256 == bundle.manifest.sha256
    assert numbers(found.model) | {"is_lite0": 0} == pytest.approx(
        {"ssim": 1, "psnr": 58.92, "l1": 0, "frechet_lite0": 0, "is_lite0": 0}, abs=0.01
    )
    assert set(found.baselines) == BASELINES and all(set(named) == NAMES for named in found.baselines.values())
    trivial = baselines(pairs.train, sources, side=SIDE, direction="photo_to_map")
    for name, images in trivial.items():
        assert found.baselines[name]["l1"].value == pytest.approx(np.abs(images.astype(int) - targets).mean())
    assert all(found.beats(name, kind) for name in BASELINES for kind in NAMES - {"is_lite0"})


def test_a_generator_that_copies_is_as_good_as_the_copy_and_does_not_beat_it(pairs, make_bundle, onnx_model):
    network = NetworkConfig(image_size=SIDE, width=2, depth=3)
    bundle = Bundle.open(make_bundle(model=onnx_model(signature(network), "Identity")))
    measured = measure(bundle, pairs)
    assert np.array_equal(measured.drawn, measured.sources)
    assert measured.scores.model == measured.scores.baselines["source_copied"]
    assert not any(measured.scores.beats("source_copied", name) for name in NAMES)
    # The negative of a map is farther from it than one colour is.
    assert not measured.scores.beats("median_colour", "l1")


def test_the_direction_of_the_bundle_decides_what_is_drawn(pairs, make_bundle, onnx_model):
    network = NetworkConfig(image_size=SIDE, width=2, depth=3)
    tensors = signature(network, "map_to_photo")
    bundle = Bundle.open(make_bundle(model=onnx_model(tensors), signature=tensors, direction="map_to_photo"))
    measured = measure(bundle, pairs)
    photos, street_maps_ = load_all(pairs.val, side=SIDE, direction="photo_to_map")
    assert np.array_equal(measured.sources, street_maps_) and np.array_equal(measured.targets, photos)
    assert measured.scores.model["l1"].value == 0


def test_two_pairs_are_too_few_for_an_error(pairs, make_bundle):
    few = pairs.model_copy(update={"val": pairs.val[:2]})
    with pytest.raises(DataError, match="takes 3 or more"):
        measure(Bundle.open(make_bundle()), few)


# Scores


def named(**values):
    return {name: Score(value=value, error=0.5, n=4) for name, value in values.items()}


def scores(**model):
    return Scores(
        run_id="1f0c",
        pairs=4,
        data_fingerprint="9b7e",
        model_sha256="aa",
        model=named(**model),
        baselines={"mean_map": named(ssim=0.5, psnr=20, l1=30, frechet_lite0=40, is_lite0=2)},
    )


WORSE = {"ssim": 0.4, "psnr": 19, "l1": 31, "frechet_lite0": 41, "is_lite0": 1.9}
EQUAL = {"ssim": 0.5, "psnr": 20, "l1": 30, "frechet_lite0": 40, "is_lite0": 2}
BETTER = {"ssim": 0.6, "psnr": 21, "l1": 29, "frechet_lite0": 39, "is_lite0": 2.1}


@pytest.mark.parametrize(("values", "better"), [(WORSE, False), (EQUAL, False), (BETTER, True)])
def test_to_beat_is_to_be_better_in_the_direction_of_the_score(values, better):
    assert {name: scores(**values).beats("mean_map", name) for name in NAMES} == dict.fromkeys(NAMES, better)


def test_flat_names_every_number_with_its_table(spoilt):
    flat = scores(**BETTER).flat()
    assert len(flat) == 1 + 2 * 5 * 2 and flat["scores/pairs"] == 4
    assert (flat["scores/ssim"], flat["scores/ssim_error"]) == (0.6, 0.5)
    assert (flat["mean_map/l1"], flat["mean_map/l1_error"]) == (30, 0.5)
    assert all(isinstance(value, float) for value in flat.values())
    assert not any(word in name for name in flat for word in ("fid", "inception"))


def test_scores_survive_their_file_and_are_never_changed():
    found = scores(**BETTER)
    assert Scores.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValidationError, match="frozen"):
        found.pairs = 5
    with pytest.raises(ValidationError, match="fid"):
        Scores.model_validate(found.model_dump() | {"fid": 3})
