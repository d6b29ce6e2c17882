"""Evaluator: perfect maps have perfect scores, more damage scores worse, and features of true maps are cached."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from model.errors import DataError
from model.spec import Palette
from pipelines.config.schema import EvaluationConfig
from pipelines.evaluation.evaluator import CORE, build_evaluator, extract_features, score_pairs
from pipelines.metrics.catalogue import METRICS, SET_METRICS
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


def damage_maps(true):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, true.shape)
    return {
        "true": true,
        "slightly noisy": np.clip(true + 6 * noise, 0, 255).astype(np.uint8),
        "noisy": np.clip(true + 40 * noise, 0, 255).astype(np.uint8),
        "constant": np.broadcast_to(np.median(true, axis=(0, 1, 2)).astype(np.uint8), true.shape),
    }


@pytest.fixture(scope="module")
def scores_by_damage(evaluator, targets):
    """Return the scores of maps with four degrees of damage, the least first."""
    return {kind: evaluator.score(images) for kind, images in damage_maps(targets).items()}


@pytest.mark.parametrize("name", ["psnr", "l1", "ssim", "within_5", "mean_iou"])
def test_more_damage_scores_worse(scores_by_damage, name):
    true, slight, noisy, _ = (named[name].value for named in scores_by_damage.values())
    assert better(name, slight, noisy) and (true == slight or better(name, true, slight))


@pytest.mark.parametrize("name", sorted(LITE0))
def test_set_scores_notice_every_kind_of_damage(scores_by_damage, name):
    true, *damaged = (named[name].value for named in scores_by_damage.values())
    assert all(better(name, true, value) for value in damaged)


def test_every_score_has_an_interval_and_the_number_of_pairs(scores_by_damage):
    for named in scores_by_damage.values():
        assert named.keys() == PAIRED | CLASSES | LITE0 <= METRICS.keys()
    for found in scores_by_damage["noisy"].values():
        assert found.n == 6 and found.low <= found.value <= found.high
    assert all(
        scores_by_damage["noisy"][name].low < scores_by_damage["noisy"][name].high for name in ("l1", "frechet_lite0")
    )


def test_true_maps_have_perfect_scores(scores_by_damage):
    true = {name: found.value for name, found in scores_by_damage["true"].items()}
    assert true["l1"] == 0 and true["psnr"] == pytest.approx(58.92, abs=0.01)
    assert true["ssim"] == true["within_5"] == true["mean_iou"] == true["road_f1"] == true["edge_f1"] == 1
    assert true["frechet_lite0"] == pytest.approx(0, abs=1e-5) and true["kernel_lite0"] < 0


def test_scores_of_lite0_are_not_called_fid(scores_by_damage):
    for named in scores_by_damage.values():
        assert not {"fid", "kid", "inception_score"} & named.keys()
        assert all("lite0" in name for name in SET_METRICS & named.keys())


def test_tallies_give_the_paired_scores(evaluator, scores_by_damage, targets):
    tallies = evaluator.evaluate(damage_maps(targets)["noisy"]).tallies
    assert {name: bootstrap(tally) for name, tally in tallies.items()} == {
        name: found for name, found in scores_by_damage["noisy"].items() if name not in SET_METRICS
    }


def test_classes_are_those_of_the_palette(evaluator, targets):
    classes = evaluator.evaluate(targets).classes
    assert [found.name for found in classes] == list(PALETTE.classes)
    assert sum(found.share for found in classes) == pytest.approx(1)


def test_large_images_have_ms_ssim_and_photos_have_no_classes(tmp_path):
    photos = np.random.default_rng(2).integers(0, 256, (3, 176, 176, 3), np.uint8)
    found = build_evaluator(photos, None, EvaluationConfig(), cache=tmp_path, data="b")
    assert found.score(photos).keys() == PAIRED | {"ms_ssim"} | LITE0
    assert found.evaluate(photos).classes == ()
    [few, biased] = found.notes()
    assert "need 500 images (50 in each of 10 splits), and there are 3" in few and "(here 3)" in biased


def test_notes_name_scores_that_are_left_out(evaluator):
    [scales, few, biased] = evaluator.notes()
    assert "at least 176x176 pixels" in scales and "Inception Scores are left out" in few
    assert "compare them only with those of equally many images" in biased


def test_five_hundred_images_have_an_inception_score(tmp_path):
    """The network is a fake that returns repeated features."""
    few = street_maps(5, 64)
    many = np.tile(few, (100, 1, 1, 1))
    evaluator = build_evaluator(few, None, EvaluationConfig(), cache=tmp_path, data="c")
    [lite0] = evaluator.networks
    features = evaluator.truths["lite0"]
    repeated = Features(np.tile(features.pool, (100, 1)), np.tile(features.probabilities, (100, 1)))

    class RepeatingNetwork:
        name, sha256 = lite0.name, lite0.sha256

        def __call__(self, images):
            return repeated

    large = type(evaluator)(many, None, (RepeatingNetwork(),), {"lite0": repeated})
    found = large.score(many)
    assert found["is_lite0"].n == 500 and 1 < found["is_lite0"].value < 5
    assert not any("Inception" in note for note in large.notes())


def test_only_the_official_network_has_scores_called_fid_and_kid(targets, evaluator):
    [lite0] = evaluator.networks

    class Official:
        name, sha256 = "inception", "67"

        def __call__(self, images):
            return lite0(images)

    both = type(evaluator)(
        targets, None, (Official(), lite0), evaluator.truths | {"inception": evaluator.truths["lite0"]}
    )
    noisy = damage_maps(targets)["noisy"]
    found = both.score(noisy)
    assert found.keys() == PAIRED | LITE0 | {"fid", "kid"}
    assert (found["fid"], found["kid"]) == (found["frechet_lite0"], found["kernel_lite0"])


def test_lpips_is_scored_if_its_network_is_given(targets, evaluator):
    perceptual = type(evaluator)(
        targets, None, (), {}, perceptual=lambda drawn, true: (drawn != true).mean(axis=(1, 2, 3))
    )
    found = perceptual.score(255 - targets)
    assert found["lpips"].value == 1 and perceptual.evaluate(targets).tallies["lpips"].value() == 0


# The cache of features


def cached(folder):
    return sorted(folder.glob("lite0-*.npz"))


def test_cached_features_are_used_again(targets, tmp_path):
    first = build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data="fingerprint")
    [file] = cached(tmp_path)
    other = first.truths["lite0"].pool + 1
    np.savez(file, pool=other, probabilities=first.truths["lite0"].probabilities)
    again = build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data="fingerprint")
    assert np.array_equal(again.truths["lite0"].pool, other)


def test_other_data_has_its_own_cache_file(targets, tmp_path):
    for data in ("one", "other"):
        build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data=data)
    assert len(cached(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"nonsense"])
def test_damaged_cache_file_is_written_again(targets, tmp_path, damage):
    first = build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data="a").truths["lite0"]
    [file] = cached(tmp_path)
    file.write_bytes(damage)
    again = build_evaluator(targets, PALETTE, EvaluationConfig(), cache=tmp_path, data="a").truths["lite0"]
    assert np.array_equal(again.pool, first.pool) and cached(tmp_path) == [file]


# Parts


def test_threads_give_the_same_scores_as_one_call(targets):
    drawn = np.clip(gaussian_filter(targets.astype(float), (0, 1, 1, 0)), 0, 255).astype(np.uint8)
    for function in CORE.values():
        assert np.array_equal(score_pairs(function, drawn, targets), function(drawn, targets))


def test_unequal_numbers_of_images_are_refused(targets):
    with pytest.raises(DataError, match="can't be compared"):
        score_pairs(CORE["l1"], targets[:3], targets)


def test_features_of_a_broadcast_image_are_extracted_once(targets):
    calls = []

    def network(images):
        calls.append(len(images))
        return Features(np.ones((len(images), 3), np.float32), np.ones((len(images), 2), np.float32))

    found = extract_features(network, np.broadcast_to(targets[0], targets.shape))
    assert calls == [1] and found.pool.shape == (6, 3) and found.probabilities.shape == (6, 2)
    extract_features(network, targets)
    assert calls == [1, 6]
