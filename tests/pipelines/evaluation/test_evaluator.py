"""The judge: the truth has the scores of the truth, damage is ordered, and what a network saw once is remembered."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from model.errors import DataError
from model.spec import Palette
from pipelines.config.schema import EvaluationConfig
from pipelines.evaluation.evaluator import CORE, build_evaluator, each, see
from pipelines.metrics.catalogue import METRICS, OF_SETS
from pipelines.metrics.intervals import bootstrap
from pipelines.metrics.scores import better
from pipelines.metrics.set_metrics import Features

PALETTE = Palette(classes={"road": ("#ffffff",), "water": ("#aad2f0",), "park": ("#bee1b4",), "ground": ("#ebe6dc",)})
PAIRED = {"l1", "psnr", "ssim", "within_5", "within_10"}
CLASSES = {"mean_iou", "road_f1", "edge_f1"}
LITE0 = {"frechet_lite0", "kernel_lite0"}


def street_maps(count, side, seed=0):
    """Return maps of flat patches in the palette's colours, every one different."""
    rng = np.random.default_rng(seed)
    colours = np.array([[255, 255, 255], [170, 210, 240], [190, 225, 180], [235, 230, 220]], np.uint8)
    return colours[rng.integers(0, 4, (count, side // 8, side // 8))].repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def targets():
    return street_maps(6, 64)


@pytest.fixture(scope="module")
def evaluator(targets, tmp_path_factory):
    return build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path_factory.mktemp("cache"), data="a")


def spoil(true):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, true.shape)
    return {
        "true": true,
        "slightly noisy": np.clip(true + 6 * noise, 0, 255).astype(np.uint8),
        "noisy": np.clip(true + 40 * noise, 0, 255).astype(np.uint8),
        "constant": np.broadcast_to(np.median(true, axis=(0, 1, 2)).astype(np.uint8), true.shape),
    }


@pytest.fixture(scope="module")
def spoilt(evaluator, targets):
    """Return the scores of four degrees of damage, the least first."""
    return {kind: evaluator.score(images) for kind, images in spoil(targets).items()}


@pytest.mark.parametrize("name", ["psnr", "l1", "ssim", "within_5", "mean_iou"])
def test_the_more_is_spoilt_the_worse_the_score(spoilt, name):
    true, slight, noisy, _ = (named[name].value for named in spoilt.values())
    assert better(name, slight, noisy) and (true == slight or better(name, true, slight))


@pytest.mark.parametrize("name", sorted(LITE0))
def test_every_damage_is_seen_by_the_network(spoilt, name):
    true, *damaged = (named[name].value for named in spoilt.values())
    assert all(better(name, true, value) for value in damaged)


def test_every_score_has_its_name_its_interval_and_the_number_of_pairs(spoilt):
    for named in spoilt.values():
        assert named.keys() == PAIRED | CLASSES | LITE0 <= METRICS.keys()
    for found in spoilt["noisy"].values():
        assert found.n == 6 and found.low <= found.value <= found.high
    assert all(spoilt["noisy"][name].low < spoilt["noisy"][name].high for name in ("l1", "frechet_lite0"))


def test_the_truth_has_the_scores_of_the_truth(spoilt):
    true = {name: found.value for name, found in spoilt["true"].items()}
    assert true["l1"] == 0 and true["psnr"] == pytest.approx(58.92, abs=0.01)
    assert true["ssim"] == true["within_5"] == true["mean_iou"] == true["road_f1"] == true["edge_f1"] == 1
    assert true["frechet_lite0"] == pytest.approx(0, abs=1e-5) and true["kernel_lite0"] < 0


def test_the_names_do_not_promise_another_network(spoilt):
    for named in spoilt.values():
        assert not {"fid", "kid", "inception_score"} & named.keys()
        assert all("lite0" in name for name in OF_SETS & named.keys())


def test_tallies_and_scores_are_of_the_same_numbers(evaluator, spoilt, targets):
    tallies = evaluator.evaluate(spoil(targets)["noisy"]).tallies
    assert {name: bootstrap(tally) for name, tally in tallies.items()} == {
        name: found for name, found in spoilt["noisy"].items() if name not in OF_SETS
    }


def test_the_classes_are_those_of_the_palette(evaluator, targets):
    classes = evaluator.evaluate(targets).classes
    assert [found.name for found in classes] == list(PALETTE.classes)
    assert sum(found.share for found in classes) == pytest.approx(1)


def test_large_images_have_scales_and_photos_have_no_classes(tmp_path):
    photos = np.random.default_rng(2).integers(0, 256, (3, 176, 176, 3), np.uint8)
    found = build_evaluator(photos, None, EvaluationConfig(), cache=tmp_path, data="b")
    assert found.score(photos).keys() == PAIRED | {"ms_ssim"} | LITE0
    assert found.evaluate(photos).classes == ()
    [few, biased] = found.notes()
    assert "3 images in 10 splits" in few and "of 3 images: below 2049" in biased


def test_what_is_left_out_is_said(evaluator):
    [scales, few, biased] = evaluator.notes()
    assert "176x176 pixels or more" in scales and "Inception Scores are left out" in few
    assert "compare them only with those of equally many images" in biased


def test_five_hundred_images_have_an_inception_score(tmp_path):
    """The network has seen these images before, as far as it knows."""
    few = street_maps(5, 64)
    many = np.tile(few, (100, 1, 1, 1))
    evaluator = build_evaluator(few, None, EvaluationConfig(), cache=tmp_path, data="c")
    [lite0] = evaluator.networks
    seen = evaluator.truths["lite0"]
    repeated = Features(np.tile(seen.pool, (100, 1)), np.tile(seen.probabilities, (100, 1)))

    class Remembers:
        name, sha256 = lite0.name, lite0.sha256

        def __call__(self, images):
            return repeated

    large = type(evaluator)(many, None, (Remembers(),), {"lite0": repeated})
    found = large.score(many)
    assert found["is_lite0"].n == 500 and 1 < found["is_lite0"].value < 5
    assert not any("Inception" in note for note in large.notes())


def test_only_the_official_network_has_the_official_names(targets, evaluator):
    [lite0] = evaluator.networks

    class Official:
        name, sha256 = "inception", "67"

        def __call__(self, images):
            return lite0(images)

    both = type(evaluator)(
        targets, None, (Official(), lite0), evaluator.truths | {"inception": evaluator.truths["lite0"]}
    )
    noisy = spoil(targets)["noisy"]
    found = both.score(noisy)
    assert found.keys() == PAIRED | LITE0 | {"fid", "kid"}
    assert (found["fid"], found["kid"]) == (found["frechet_lite0"], found["kernel_lite0"])


def test_a_perceptual_distance_is_scored_where_its_network_is_given(targets, evaluator):
    seeing = type(evaluator)(targets, None, (), {}, perceptual=lambda drawn, true: (drawn != true).mean(axis=(1, 2, 3)))
    found = seeing.score(255 - targets)
    assert found["lpips"].value == 1 and seeing.evaluate(targets).tallies["lpips"].value() == 0


# What networks saw in true maps


def cached(folder):
    return sorted(folder.glob("lite0-*.npz"))


def test_a_network_looks_at_the_true_maps_once(targets, tmp_path):
    first = build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data="fingerprint")
    [file] = cached(tmp_path)
    other = first.truths["lite0"].pool + 1
    np.savez(file, pool=other, probabilities=first.truths["lite0"].probabilities)
    again = build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data="fingerprint")
    assert np.array_equal(again.truths["lite0"].pool, other)


def test_other_data_is_looked_at_anew(targets, tmp_path):
    for data in ("one", "other"):
        build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data=data)
    assert len(cached(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"nonsense"])
def test_what_a_crash_cut_short_is_made_again(targets, tmp_path, damage):
    whole = build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data="a").truths["lite0"]
    [file] = cached(tmp_path)
    file.write_bytes(damage)
    again = build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data="a").truths["lite0"]
    assert np.array_equal(again.pool, whole.pool) and cached(tmp_path) == [file]


# Parts


def test_pairs_on_many_threads_score_as_on_one(targets):
    drawn = np.clip(gaussian_filter(targets.astype(float), (0, 1, 1, 0)), 0, 255).astype(np.uint8)
    for function in CORE.values():
        assert np.array_equal(each(function, drawn, targets), function(drawn, targets))


def test_images_that_do_not_pair_are_refused(targets):
    with pytest.raises(DataError, match="can't be compared"):
        each(CORE["l1"], targets[:3], targets)


def test_one_image_many_times_is_seen_once(targets):
    looked = []

    def network(images):
        looked.append(len(images))
        return Features(np.ones((len(images), 3), np.float32), np.ones((len(images), 2), np.float32))

    seen = see(network, np.broadcast_to(targets[0], targets.shape))
    assert looked == [1] and seen.pool.shape == (6, 3) and seen.probabilities.shape == (6, 2)
    see(network, targets)
    assert looked == [1, 6]
