"""A trained generator becomes a bundle whose files all draw what TensorFlow draws, or are left out with the reason."""

import json

import numpy as np
import onnx
import pytest

from model.bundle import MODEL_FILE, variant_file
from model.errors import ExportError, MissingStepError
from model.networks import keras_file
from model.pixels import to_tensor
from model.translator import BATCH, Translator
from pipelines.config.loading import load as load_config
from pipelines.config.loading import with_settings
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.export import export
from pipelines.workspace import RunRecord, Workspace

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

NETWORK = {"network.image_size": 32, "network.depth": 4, "network.width": 4}
LENIENT = {"export.min_ssim": 0, "export.max_loss": 1e9}
"""What random weights draw is judged by nobody."""


@pytest.fixture(scope="module")
def make_run(tmp_path_factory, negatives):
    """Return a function that makes the folder of a run whose generator has random weights."""

    def make(**settings):
        folder = tmp_path_factory.mktemp("export")
        config = with_settings(load_config("default"), NETWORK | {"workspace": str(folder)} | settings)
        run = Workspace(folder).new_run("1f0c")
        negatives.save(run.pairs_file)
        run.write_record(RunRecord(run_id="1f0c", config=config, steps=8, seconds=2.0, images_per_second=16.0))
        keras_file.save_untrained(config.network, run.generator)
        return run, config.export

    return make


@pytest.fixture(scope="module")
def exported(make_run):
    run, settings = make_run(**LENIENT)
    return run, export.to_bundle(run, settings)


def held_out(run):
    return load_all(PairIndex.load(run.pairs_file).val, side=32, direction="photo_to_map")[0]


def tensorflow(run):
    return keras_file.drawer(keras_file.load_generator(run.generator))


def test_every_variant_draws_what_tensorflow_draws(exported):
    run, bundle = exported
    manifest, photos = bundle.manifest, held_out(run)
    wanted = np.concatenate([tensorflow(run)(to_tensor(photo[None])) for photo in photos])
    assert {*manifest.variants} == {"fp16", "int8", "int8-openvino"} and manifest.left_out == {}
    limits = {"fp32": manifest.parity.max_difference} | {
        name: variant.max_difference for name, variant in manifest.variants.items()
    }
    for name, limit in limits.items():
        difference = np.abs(Translator(bundle, variant=name).translate(to_tensor(photos)) - wanted).max()
        assert difference == pytest.approx(limit, rel=0.05, abs=1e-6), name
    assert limits["fp32"] <= 1e-5 and 0 < limits["fp16"] < 0.02 and 0 < limits["int8"] < 0.5


def test_a_map_does_not_depend_on_the_photos_beside_it(exported):
    run, bundle = exported
    photos = np.resize(held_out(run), (BATCH + 1, 32, 32, 3))
    for name in bundle.manifest.hashes():
        translator = Translator(bundle, variant=name)
        alone = np.concatenate([translator(photo[None]) for photo in photos])
        assert np.array_equal(translator(photos), alone), name


def test_the_manifest_says_how_good_each_variant_is(exported):
    run, bundle = exported
    for variant in bundle.manifest.variants.values():
        assert 0.8 < variant.ssim <= 1 and variant.photos == len(PairIndex.load(run.pairs_file).val)
        assert {"l1", "psnr", "ssim", "frechet_lite0"} <= variant.losses.keys()
    assert bundle.manifest.variants["fp16"].ssim > bundle.manifest.variants["int8"].ssim - 1e-6
    assert json.loads((bundle.folder / "bundle.json").read_text())["variants"].keys() == bundle.manifest.variants.keys()


def test_int8_is_smaller_and_checked(exported):
    _, bundle = exported
    sizes = {name: (bundle.folder / variant_file(name)).stat().st_size for name in bundle.manifest.hashes()}
    assert sizes["fp16"] < 0.7 * sizes["fp32"]
    for name in bundle.manifest.hashes():
        model = onnx.load(bundle.verified(name))
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["photo", "map"]


def test_a_model_may_take_pixels(make_run, exported):
    run, settings = make_run(**LENIENT, **{"export.dtype": "uint8", "export.variants": ["int8"]})
    bundle, photos = export.to_bundle(run, settings), held_out(run)
    assert bundle.manifest.signature.dtype == "uint8" and bundle.manifest.value_range == (0, 255)
    assert np.array_equal(Translator(bundle, variant="fp32")(photos), Translator(exported[1], variant="fp32")(photos))
    drawn, floats = (Translator(found, variant="int8")(photos) for found in (bundle, exported[1]))
    assert np.abs(drawn.astype(int) - floats).max() <= 1


def test_a_variant_that_draws_worse_is_left_out_with_the_reason(make_run):
    run, settings = make_run(**{"export.max_loss": 0, "export.min_ssim": 0, "export.variants": ["int8"]})
    bundle = export.to_bundle(run, settings)
    assert bundle.manifest.variants == {} and "at most 0.00% is allowed" in bundle.manifest.left_out["int8"]
    assert sorted(path.name for path in bundle.folder.iterdir()) == ["bundle.json", MODEL_FILE]


def test_photos_and_maps_are_described(make_run, negatives):
    settings = {"export.variants": [], "data.resolution": 0.5}
    settings["evaluation.palette"] = {"classes": {"road": ["#ffffff"], "water": ["#aadaff"]}}
    run, wanted = make_run(**settings)
    manifest = export.to_bundle(run, wanted).manifest
    assert manifest.resolution == 0.5 and {*manifest.palette.classes} == {"road", "water"}
    run, wanted = make_run(**{"export.variants": [], "data.direction": "map_to_photo"})
    manifest = export.to_bundle(run, wanted).manifest
    assert manifest.resolution is None and manifest.palette is None and manifest.signature.input == "map"


def test_a_model_that_draws_something_else_is_no_bundle(make_run, monkeypatch):
    run, settings = make_run(**{"export.variants": []})

    def darker(plain):
        (tanh,) = [node for node in plain.graph.node if node.op_type == "Tanh"]
        tanh.op_type = "Softsign"
        return plain

    monkeypatch.setattr(export, "lower", darker)
    with pytest.raises(ExportError, match=r"differ from TensorFlow's by up to .*; at most 0.0001 is allowed"):
        export.to_bundle(run, settings)
    assert not run.bundle.exists()


def test_nothing_is_exported_before_it_is_trained(make_run):
    run, settings = make_run()
    run.generator.unlink()
    with pytest.raises(MissingStepError, match=r"generator\.keras is missing; run `train` first"):
        export.to_bundle(run, settings)
    assert not run.bundle.exists()
