"""Evaluation of a model: its maps, deployed and as trained, the baselines, and the palette of the bundle."""

import keras
import numpy as np
import pytest

from model.bundle import Bundle
from model.errors import ConfigError, DataError
from model.networks.pix2pix import build_generator
from model.pixels import to_pixels, to_tensor
from model.spec import NetworkConfig, Palette, signature
from pipelines.config.loading import load, with_settings
from pipelines.config.schema import EvaluationConfig, RunConfig
from pipelines.evaluation.evaluate import draw_as_trained, load_held_out, measure
from pipelines.metrics.catalogue import BASELINES, METRICS
from pipelines.metrics.scores import headline
from tests.fixtures.bundles import PALETTE

NETWORK = NetworkConfig(image_size=32, width=2, depth=3)
OTHER_PALETTE = Palette(classes={"lake": ("#aad2f0",), "land": ("#ebe6dc", "#ffffff", "#bee1b4")})


@pytest.fixture
def measured(negatives, tmp_path, make_bundle, scaling_model):
    """Return a function that measures a generator which multiplies; -1 draws these maps perfectly."""

    def measure_factor(factor, as_trained=None, palette=PALETTE):
        bundle = Bundle.open(make_bundle(model=scaling_model(factor, NETWORK), palette=palette))
        held_out = load_held_out(negatives, bundle.manifest, EvaluationConfig(), cache=tmp_path / "cache")
        drawn = held_out.targets if as_trained is None else as_trained(held_out.targets)
        return measure(bundle, held_out, negatives, as_trained=drawn)

    return measure_factor


def test_perfect_generator_has_perfect_scores(measured, negatives):
    found = measured(-1.0)
    assert np.array_equal(found.drawn, found.targets) and np.array_equal(found.sources, 255 - found.targets)
    scores = found.scores
    assert (scores.run_id, scores.pairs, scores.data_fingerprint) == ("1f0c", 6, negatives.fingerprint)
    assert scores.names == tuple(pair.name for pair in negatives.val)
    assert scores.model["l1"].value == 0 and scores.model["ssim"].value == scores.model["mean_iou"].value == 1
    assert scores.model.keys() <= METRICS.keys() and scores.baselines.keys() == BASELINES.keys()
    assert all(named.keys() == scores.model.keys() for named in scores.baselines.values())
    assert scores.lost() == () and headline(scores).startswith("Beats every trivial baseline in all")
    assert scores.each["l1"] == (0,) * 6 and scores.each.keys() == {"l1", "psnr", "ssim"}


def test_baselines_are_scored_like_the_model(measured):
    found = measured(1.0)
    assert np.array_equal(found.drawn, found.sources)
    assert found.scores.model == found.scores.baselines["source_copied"]
    assert {name for baseline, name in found.scores.tied() if baseline == "source_copied"} == set(found.scores.model)
    baselines = np.abs(found.sources.astype(int) - found.targets).mean()
    assert found.scores.model["l1"].value == pytest.approx(baselines)


# The palette


def test_classes_are_those_of_the_bundle_whatever_the_training_maps_hold(measured):
    found = measured(-1.0, palette=OTHER_PALETTE)
    assert [(kind.name, kind.iou.value) for kind in found.scores.classes] == [("lake", 1), ("land", 1)]


@pytest.fixture
def held_out_with(negatives, make_bundle, tmp_path):
    """Return a function that loads the held-out pairs for a bundle and a palette of the settings."""

    def load_with(given=None, **manifest):
        bundle = Bundle.open(make_bundle(**manifest))
        return load_held_out(negatives, bundle.manifest, EvaluationConfig(palette=given), cache=tmp_path / "cache")

    return load_with


def cartographic_notes(held_out):
    return [note for note in held_out.notes() if "Cartographic" in note]


def test_a_palette_like_that_of_the_bundle_may_be_set(held_out_with):
    held_out = held_out_with(PALETTE, palette=PALETTE)
    assert held_out.evaluator.palette == PALETTE and cartographic_notes(held_out) == []


@pytest.mark.parametrize(
    ("exported", "given", "differing"),
    [
        (PALETTE, OTHER_PALETTE, "lake, land, road, water, park, ground"),
        (PALETTE, Palette(classes=PALETTE.classes | {"water": ("#aad2f1",)}), "water"),
        (None, OTHER_PALETTE, "lake, land"),
    ],
)
def test_a_palette_unlike_that_of_the_bundle_is_an_error(held_out_with, exported, given, differing):
    message = (
        rf"evaluation.palette is not the palette that run 1f0c was exported with \(they differ in {differing}\)\. "
        ".* leave evaluation.palette out, or set it and export the run again"
    )
    with pytest.raises(ConfigError, match=message):
        held_out_with(given, palette=exported)


def test_the_reason_for_a_missing_palette_is_in_the_notes(held_out_with):
    held_out = held_out_with(palette_missing="0 of 9 pixels of the maps lie in areas of one colour.")
    assert held_out.evaluator.palette is None
    assert held_out.evaluator.score(held_out.targets).keys() >= {"l1", "frechet_lite0"}
    assert cartographic_notes(held_out) == [
        "Cartographic scores are left out: 0 of 9 pixels of the maps lie in areas of one colour."
    ]


def test_a_bundle_of_0_1_0_without_palette_has_no_classes_and_the_note_names_the_remedy(held_out_with):
    held_out = held_out_with()
    assert held_out.evaluator.palette is None
    [note] = cartographic_notes(held_out)
    assert note.endswith("exported without a palette. Set evaluation.palette and export the run again.")


def test_photos_have_no_classes_whatever_the_palette(held_out_with):
    held_out = held_out_with(OTHER_PALETTE, direction="map_to_photo", signature=signature(NETWORK, "map_to_photo"))
    assert held_out.evaluator.palette is None
    assert cartographic_notes(held_out) == [
        "Cartographic scores are left out: the model draws photos, which have no classes."
    ]


def test_a_palette_can_be_set_on_the_command_line():
    text = 'evaluation.palette.classes={lake: ["#aad2f0"], land: ["#ebe6dc"]}'
    assert load(overrides=[text]).evaluation.palette == Palette(classes={"lake": ("#aad2f0",), "land": ("#ebe6dc",)})


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        ({"classes": {"lake": ["blue"], "land": ["#ebe6dc"]}}, "'blue' of the class lake is not a colour"),
        ({"classes": {"lake": ["#aad2f0"]}}, r"a palette of 1 class\(es\)"),
        ({"colours": {}}, "evaluation.palette.colours is not a setting; allowed here: classes"),
    ],
)
def test_an_invalid_palette_is_refused_with_the_reason(palette, message):
    with pytest.raises(ConfigError, match=message):
        with_settings(RunConfig(), {"evaluation.palette": palette})


def test_two_pairs_are_too_few(negatives, make_bundle, tmp_path):
    few = negatives.model_copy(update={"val": negatives.val[:2]})
    bundle = Bundle.open(make_bundle())
    held_out = load_held_out(few, bundle.manifest, EvaluationConfig(), cache=tmp_path)
    with pytest.raises(DataError, match="needs 3 or more"):
        measure(bundle, held_out, few, as_trained=held_out.targets)


# Deployed and as trained

# Keras, while it saves a model: https://github.com/keras-team/keras/blob/master/keras/src/backend/tensorflow/core.py
saves_with_keras = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def save(folder, **network):
    generator = build_generator(NetworkConfig(image_size=32, width=4, depth=4, **network), seed=3)
    generator.save(folder / "generator.keras")
    return generator


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@saves_with_keras
def test_as_trained_uses_the_statistics_of_each_image(tmp_path, photos):
    generator = save(tmp_path, dropout=0.0)
    drawn = draw_as_trained(tmp_path / "generator.keras", photos)
    deployed = to_pixels(generator(to_tensor(photos), training=False).numpy())
    assert np.abs(drawn.astype(int) - deployed).mean() > 2
    for photo, found in zip(photos, drawn, strict=True):
        fresh = keras.models.clone_model(generator)
        fresh.set_weights(generator.get_weights())
        expected = to_pixels(fresh(to_tensor(photo[None]), training=True).numpy())[0]
        assert np.abs(found.astype(int) - expected).max() <= 1


@saves_with_keras
def test_as_trained_uses_dropout_and_is_repeatable(tmp_path, photos):
    generator = save(tmp_path, dropout=0.5, norm="instance")
    first, again = (draw_as_trained(tmp_path / "generator.keras", photos) for _ in range(2))
    deployed = to_pixels(generator(to_tensor(photos), training=False).numpy())
    assert np.array_equal(first, again) and not np.array_equal(first, deployed)


@saves_with_keras
def test_with_instance_norm_and_no_dropout_both_draw_the_same(tmp_path, photos):
    generator = save(tmp_path, dropout=0.0, norm="instance")
    drawn = draw_as_trained(tmp_path / "generator.keras", photos)
    deployed = to_pixels(generator(to_tensor(photos), training=False).numpy())
    assert np.abs(drawn.astype(int) - deployed).max() <= 1


def test_gap_is_the_l1_lost_by_deployment(measured):
    found = measured(-0.9, as_trained=lambda targets: np.where(targets > 20, targets - 5, targets).astype(np.uint8))
    scores = found.scores
    assert scores.as_trained.keys() == {"l1", "psnr", "ssim"}
    assert scores.gap == pytest.approx(scores.model["l1"].value / scores.as_trained["l1"].value - 1)
    assert scores.metrics()["scores/deployment_gap"] == scores.gap > 0.1
