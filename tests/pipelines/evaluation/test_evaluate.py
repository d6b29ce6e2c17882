"""An evaluation: what is drawn, in both ways of running the net, and what it is measured beside."""

import re

import keras
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from model.bundle import Bundle
from model.errors import ConfigError, DataError
from model.networks.pix2pix import build_generator
from model.pixels import to_pixels, to_tensor
from model.spec import NetworkConfig, Palette, signature
from model.io.locations import Location
from pipelines.config.loading import load, with_settings
from pipelines.config.schema import EvaluationConfig, RunConfig
from pipelines.data.pairs import index_folder
from pipelines.evaluation.evaluate import draw_as_trained, load_held_out, measure
from pipelines.metrics.catalogue import BASELINES, METRICS
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import ClassScore, Scores, gain, headline

NETWORK = NetworkConfig(image_size=32, width=2, depth=3)


@pytest.fixture
def measured(negatives, tmp_path, make_bundle, scaling_model):
    """Return a function that measures a generator which multiplies; -1 draws these maps perfectly."""

    def measure_factor(factor, as_trained=None, settings=None, **changes):
        bundle = Bundle.open(make_bundle(model=scaling_model(factor, NETWORK), **changes))
        held_out = load_held_out(negatives, bundle.manifest, settings or EvaluationConfig(), cache=tmp_path / "cache")
        drawn = held_out.targets if as_trained is None else as_trained(held_out.targets)
        return measure(bundle, held_out, negatives, as_trained=drawn)

    return measure_factor


def test_a_perfect_generator_is_measured_as_perfect(measured, negatives):
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
    assert {name for baseline, name in found.scores.lost() if baseline == "source_copied"} == set(found.scores.model)
    baselines = np.abs(found.sources.astype(int) - found.targets).mean()
    assert found.scores.model["l1"].value == pytest.approx(baselines)


def test_a_palette_of_the_settings_is_used(measured):
    palette = Palette(classes={"lake": ("#aad2f0",), "land": ("#ebe6dc", "#ffffff", "#bee1b4")})
    found = measured(-1.0, settings=EvaluationConfig(palette=palette))
    assert [(kind.name, kind.iou.value) for kind in found.scores.classes] == [("lake", 1), ("land", 1)]


def test_a_palette_can_be_set_on_the_command_line():
    text = 'evaluation.palette.classes={lake: ["#aad2f0"], land: ["#ebe6dc"]}'
    assert load(overrides=[text]).evaluation.palette == Palette(classes={"lake": ("#aad2f0",), "land": ("#ebe6dc",)})


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        ({"classes": {"lake": ["blue"], "land": ["#ebe6dc"]}}, "'blue' of the class lake is no colour"),
        ({"classes": {"lake": ["#aad2f0"]}}, r"a palette of 1 class\(es\)"),
        ({"colours": {}}, "evaluation.palette.colours is no setting; allowed here: classes"),
    ],
)
def test_a_palette_that_can_t_be_used_is_refused_with_the_reason(palette, message):
    with pytest.raises(ConfigError, match=message):
        with_settings(RunConfig(), {"evaluation.palette": palette})


def notes_of(pairs, direction, settings, make_bundle, cache):
    tensors = signature(NETWORK, direction)
    bundle = Bundle.open(make_bundle(signature=tensors, direction=direction, name=direction))
    held_out = load_held_out(pairs, bundle.manifest, settings, cache=cache)
    return held_out, [note for note in held_out.notes() if "Cartographic" in note]


def test_photos_have_no_classes_whatever_the_palette(negatives, make_bundle, tmp_path):
    settings = EvaluationConfig(palette=Palette(classes={"lake": ("#aad2f0",), "land": ("#ebe6dc",)}))
    held_out, notes = notes_of(negatives, "map_to_photo", settings, make_bundle, tmp_path)
    assert held_out.evaluator.palette is None
    assert notes == ["Cartographic scores are left out: photos are drawn here, and they have no classes."]


def test_maps_without_flat_colours_have_no_palette_unless_it_is_given(tmp_path, make_bundle):
    rng = np.random.default_rng(0)
    for number in range(9):
        split = tmp_path / "noise" / ("train" if number < 5 else "val")
        split.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (32, 64, 3), np.uint8)).save(split / f"{number}.png")
    pairs = index_folder(Location(tmp_path / "noise"), min_side=32)
    held_out, [note] = notes_of(pairs, "photo_to_map", EvaluationConfig(), make_bundle, tmp_path)
    assert held_out.evaluator.palette is None and "lie in areas of one colour" in note
    assert held_out.evaluator.score(held_out.targets).keys() >= {"l1", "frechet_lite0"}
    given = Palette(classes={"lake": ("#aad2f0",), "land": ("#ebe6dc",)})
    bundle = Bundle.open(make_bundle(name="given"))
    held_out = load_held_out(pairs, bundle.manifest, EvaluationConfig(palette=given), cache=tmp_path)
    assert held_out.evaluator.palette == given and held_out.missing == ""


def test_two_pairs_are_too_few(negatives, make_bundle, tmp_path):
    few = negatives.model_copy(update={"val": negatives.val[:2]})
    bundle = Bundle.open(make_bundle())
    held_out = load_held_out(few, bundle.manifest, EvaluationConfig(), cache=tmp_path)
    with pytest.raises(DataError, match="takes 3 or more"):
        measure(bundle, held_out, few, as_trained=held_out.targets)


# Both ways of running the net

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
def test_as_trained_takes_each_image_s_own_statistics(tmp_path, photos):
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
def test_as_trained_drops_out_and_repeats_itself(tmp_path, photos):
    generator = save(tmp_path, dropout=0.5, norm="instance")
    first, again = (draw_as_trained(tmp_path / "generator.keras", photos) for _ in range(2))
    deployed = to_pixels(generator(to_tensor(photos), training=False).numpy())
    assert np.array_equal(first, again) and not np.array_equal(first, deployed)


@saves_with_keras
def test_with_instance_norm_and_no_dropout_both_ways_are_one(tmp_path, photos):
    generator = save(tmp_path, dropout=0.0, norm="instance")
    drawn = draw_as_trained(tmp_path / "generator.keras", photos)
    deployed = to_pixels(generator(to_tensor(photos), training=False).numpy())
    assert np.abs(drawn.astype(int) - deployed).max() <= 1


def test_the_gap_is_what_deployment_costs(measured):
    found = measured(-0.9, as_trained=lambda targets: np.where(targets > 20, targets - 5, targets).astype(np.uint8))
    scores = found.scores
    assert scores.as_trained.keys() == {"l1", "psnr", "ssim"}
    assert scores.gap == pytest.approx(scores.model["l1"].value / scores.as_trained["l1"].value - 1)
    assert scores.flat()["scores/deployment_gap"] == scores.gap > 0.1


# Scores


def named(**values):
    return {name: Score(value=value, low=value - 1, high=value + 1, n=4) for name, value in values.items()}


def scores(**model):
    return Scores(
        run_id="1f0c",
        pairs=4,
        data_source="sample",
        data_fingerprint="9b7e",
        direction="photo_to_map",
        model_sha256="aa",
        model=named(**model),
        as_trained=named(l1=28, psnr=20, ssim=0.5),
        baselines={"mean_map": named(ssim=0.5, psnr=20, l1=30, frechet_lite0=40, kernel_lite0=2)},
        classes=(ClassScore(name="road", colours=("#ffffff",), share=0.2, iou=named(l1=0.5)["l1"]),),
        names=("a", "b", "c", "d"),
        each={"l1": (1, 2, 3, 4)},
        notes=(),
    )


WORSE = {"ssim": 0.4, "psnr": 19, "l1": 31, "frechet_lite0": 41, "kernel_lite0": 2.1}
EQUAL = {"ssim": 0.5, "psnr": 20, "l1": 30, "frechet_lite0": 40, "kernel_lite0": 2}
BETTER = {"ssim": 0.6, "psnr": 21, "l1": 29, "frechet_lite0": 39, "kernel_lite0": 1.9}


@pytest.mark.parametrize(("values", "better"), [(WORSE, False), (EQUAL, False), (BETTER, True)])
def test_to_beat_is_to_be_better_in_the_direction_of_the_score(values, better):
    found = scores(**values)
    assert {name: found.beats("mean_map", name) for name in values} == dict.fromkeys(values, better)
    assert found.lost() == (() if better else tuple(("mean_map", name) for name in values))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (BETTER, "Beats every trivial baseline in all 5 scores, on 4 held-out pairs."),
        (WORSE, "Loses to what needs no learning: SSIM, PSNR, L1, Fréchet Lite0 and Kernel Lite0 to mean map, on"),
        (BETTER | {"kernel_lite0": 3}, "Beats every trivial baseline in L1 and SSIM, but loses "),
        (BETTER | {"kernel_lite0": 3}, "loses Kernel Lite0 to mean map, on 4 held-out pairs."),
    ],
)
def test_the_headline_is_one_sentence(values, sentence):
    assert sentence in headline(scores(**values))


def test_more_gain_is_better_whatever_the_score():
    difference = Score(value=2, low=1, high=4, n=5)
    assert gain("ssim", difference) == difference
    assert gain("l1", difference) == Score(value=-2, low=-4, high=-1, n=5)
    with pytest.raises(DataError, match="beauty is no score; there are: l1, "):
        gain("beauty", difference)


def test_flat_names_every_number_with_its_table():
    flat = scores(**BETTER).flat()
    assert len(flat) == 2 + 3 * (5 + 3 + 5) + 1 and flat["scores/pairs"] == 4
    assert (flat["scores/ssim"], flat["scores/ssim_low"], flat["scores/ssim_high"]) == (0.6, -0.4, 1.6)
    assert (flat["mean_map/l1"], flat["as_trained/l1"], flat["scores/iou_road"]) == (30, 28, 0.5)
    assert all(isinstance(value, float | int) for value in flat.values())
    assert all(re.fullmatch(r"[\w/ .-]+", name) for name in flat)


def test_scores_survive_their_file_and_are_never_changed():
    found = scores(**BETTER)
    assert Scores.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValidationError, match="frozen"):
        found.pairs = 5
    with pytest.raises(ValidationError, match="fid"):
        Scores.model_validate(found.model_dump() | {"fid": 3})
