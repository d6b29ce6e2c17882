"""Export: every file of a bundle draws like TensorFlow or is left out with the reason; the palette of the maps."""

import json
import shutil
from collections import Counter
from importlib import metadata

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from model.bundle import MODEL_FILE, variant_file
from model.errors import ExportError, MissingStepError
from model.io.locations import Location
from model.networks import keras_file
from model.pixels import to_tensor
from model.spec import Palette
from model.translator import BATCH, Translator
from pipelines.config.loading import load as load_config
from pipelines.config.loading import with_settings
from pipelines.config.schema import EvaluationConfig
from pipelines.data.dataset import load_all
from pipelines.data.indexing import index_folder
from pipelines.data.pairs import PairIndex
from pipelines.evaluation.evaluate import load_held_out
from pipelines.export import export
from pipelines.run_record import RunRecord
from pipelines.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

NETWORK = {"network.image_size": 32, "network.depth": 4, "network.width": 4}
LENIENT = {"export.min_ssim": 0, "export.max_loss": 1e9}
"""Limits that maps of random weights keep."""


@pytest.fixture(scope="module")
def make_run(tmp_path_factory, negatives):
    """Return a function that makes the folder of a run whose generator has random weights."""

    def make(pairs=negatives, **settings):
        folder = tmp_path_factory.mktemp("export")
        config = with_settings(load_config("default"), NETWORK | {"workspace": str(folder)} | settings)
        run = Workspace(folder).new_run("1f0c")
        pairs.save(run.pairs_file)
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
    expected = np.concatenate([tensorflow(run)(to_tensor(photo[None])) for photo in photos])
    assert {*manifest.variants} == {"fp16", "int8", "int8-openvino"} and manifest.left_out == {}
    limits = {"fp32": manifest.parity.max_difference} | {
        name: variant.max_difference for name, variant in manifest.variants.items()
    }
    for name, limit in limits.items():
        difference = np.abs(Translator(bundle, variant=name).translate(to_tensor(photos)) - expected).max()
        assert difference == pytest.approx(limit, rel=0.05, abs=1e-6), name
    assert limits["fp32"] <= 1e-5 and 0 < limits["fp16"] < 0.02 and 0 < limits["int8"] < 0.5


def test_repeated_pixels_are_exported_like_transposed_convolutions(make_run, exported):
    run, settings = make_run(**LENIENT, **{"network.upsampling": "nearest", "export.variants": ["int8"]})
    bundle, photos = export.to_bundle(run, settings), held_out(run)
    expected = np.concatenate([tensorflow(run)(to_tensor(photo[None])) for photo in photos])
    drawn = Translator(bundle, variant="fp32").translate(to_tensor(photos))
    assert np.abs(drawn - expected).max() <= 1e-5 and bundle.manifest.variants["int8"].float_layers == ()
    for name in bundle.manifest.hashes():
        own, other = (onnx.load(found.verified(name)) for found in (bundle, exported[1]))
        assert Counter(node.op_type for node in own.graph.node) == Counter(node.op_type for node in other.graph.node)


def test_a_map_does_not_depend_on_other_photos_of_the_batch(exported):
    run, bundle = exported
    photos = np.resize(held_out(run), (BATCH + 1, 32, 32, 3))
    for name in bundle.manifest.hashes():
        translator = Translator(bundle, variant=name)
        alone = np.concatenate([translator(photo[None]) for photo in photos])
        assert np.array_equal(translator(photos), alone), name


def test_manifest_holds_the_quality_of_each_variant(exported):
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


def test_uint8_models_take_and_return_pixels(make_run, exported):
    run, settings = make_run(**LENIENT, **{"export.dtype": "uint8", "export.variants": ["int8"]})
    bundle, photos = export.to_bundle(run, settings), held_out(run)
    assert bundle.manifest.signature.dtype == "uint8" and bundle.manifest.value_range == (0, 255)
    assert np.array_equal(Translator(bundle, variant="fp32")(photos), Translator(exported[1], variant="fp32")(photos))
    drawn, floats = (Translator(found, variant="int8")(photos) for found in (bundle, exported[1]))
    assert np.abs(drawn.astype(int) - floats).max() <= 1


def test_fp32_refuses_levels_of_0_to_255(exported):
    run, bundle = exported
    session = onnxruntime.InferenceSession(bundle.model_file, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=r"photo must hold RGB in \[-1, 1\]"):
        session.run(None, {"photo": held_out(run).astype(np.float32)})


def test_every_file_explains_itself(exported):
    _, bundle = exported
    for name in bundle.manifest.hashes():
        model = onnx.load(bundle.verified(name), load_external_data=False)
        assert {entry.key: entry.value for entry in model.metadata_props} == {
            "description": "Draws a map of each photo: float32 RGB (batch, 32, 32, 3).",
            "direction": "photo_to_map",
            "input": "photo",
            "output": "map",
            "value_range": "-1 to 1",
            "resolution": "unknown",
            "licence": "not stated",
            "version": metadata.version("sat2map"),
            "data_fingerprint": bundle.manifest.data_fingerprint,
            "classes": json.dumps(bundle.manifest.palette.model_dump(mode="json")["classes"]),
        }


def test_an_export_repeated_later_writes_the_same_bytes(exported):
    run, bundle = exported
    copy = Workspace(run.path.parent.parent).new_run("2a3b")
    shutil.copytree(run.path, copy.path, dirs_exist_ok=True)
    assert export.to_bundle(copy, run.record().config.export).manifest.hashes() == bundle.manifest.hashes()


def metadata_of(bundle):
    """Return the metadata of fp32, as onnxruntime reads them."""
    session = onnxruntime.InferenceSession(bundle.model_file, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def test_metadata_follow_direction_resolution_and_licence(make_run):
    settings = {"data.direction": "map_to_photo", "export.dtype": "uint8", "export.licence": "CC-BY-4.0"}
    run, exporting = make_run(**settings, **{"export.variants": []})
    session = onnxruntime.InferenceSession(
        export.to_bundle(run, exporting).model_file, providers=["CPUExecutionProvider"]
    )
    found = session.get_modelmeta().custom_metadata_map
    assert (found["direction"], found["input"], found["output"]) == ("map_to_photo", "map", "photo")
    assert (found["value_range"], found["licence"]) == ("0 to 255", "CC-BY-4.0") and "classes" not in found
    run, exporting = make_run(**{"export.variants": [], "data.resolution": 0.5})
    session = onnxruntime.InferenceSession(
        export.to_bundle(run, exporting).model_file, providers=["CPUExecutionProvider"]
    )
    assert session.get_modelmeta().custom_metadata_map["resolution"] == "0.5 metres per pixel"


def test_a_variant_that_draws_worse_is_left_out_with_the_reason(make_run):
    run, settings = make_run(**{"export.max_loss": 0, "export.min_ssim": 0, "export.variants": ["int8"]})
    bundle = export.to_bundle(run, settings)
    assert bundle.manifest.variants == {} and "at most 0.00% is allowed" in bundle.manifest.left_out["int8"]
    assert sorted(path.name for path in bundle.folder.iterdir()) == ["bundle.json", MODEL_FILE]


def test_manifest_holds_the_ground_resolution(make_run):
    run, settings = make_run(**{"export.variants": [], "data.resolution": 0.5})
    assert export.to_bundle(run, settings).manifest.resolution == 0.5


def test_photos_have_neither_resolution_nor_palette(make_run):
    given = {"classes": {"road": ["#ffffff"], "water": ["#aadaff"]}}
    run, settings = make_run(**{"export.variants": [], "data.direction": "map_to_photo", "evaluation.palette": given})
    manifest = export.to_bundle(run, settings).manifest
    assert manifest.resolution is None and manifest.signature.input == "map"
    assert manifest.palette is None and manifest.palette_missing == ""


def test_a_model_unlike_tensorflow_s_is_not_exported(make_run, monkeypatch):
    run, settings = make_run(**{"export.variants": []})

    def darker(plain):
        (tanh,) = [node for node in plain.graph.node if node.op_type == "Tanh"]
        tanh.op_type = "Softsign"
        return plain

    monkeypatch.setattr(export, "lower", darker)
    with pytest.raises(ExportError, match=r"differs from TensorFlow's by up to .*; at most 0.0001 is allowed"):
        export.to_bundle(run, settings)
    assert not run.bundle.exists()


def test_a_run_without_generator_is_refused(make_run):
    run, settings = make_run()
    run.generator.unlink()
    with pytest.raises(MissingStepError, match=r"generator\.keras is missing; run `train` first"):
        export.to_bundle(run, settings)
    assert not run.bundle.exists()


# The palette


def write_pairs(folder, street_maps, *, val=3):
    """Write maps (N, 32, 32, 3) next to noise for photos, and index them; the last ones are held out."""
    random = np.random.default_rng(0)
    for number, street_map in enumerate(street_maps):
        split = folder / ("train" if number < len(street_maps) - val else "val")
        split.mkdir(parents=True, exist_ok=True)
        photo = random.integers(0, 256, street_map.shape, np.uint8)
        Image.fromarray(np.concatenate([photo, street_map], axis=1)).save(split / f"{number:03d}.png")
    return index_folder(Location(folder), min_side=32)


@pytest.fixture(scope="module")
def three_hundred_pairs(tmp_path_factory):
    """Return an index of 300 training pairs; water is in six of the last, which 256 evenly spread pairs would miss."""
    maps = np.full((303, 32, 32, 3), (235, 230, 220), np.uint8)
    maps[:, :, 8:12] = 255
    skipped = set(range(300)) - {round(position) for position in np.linspace(0, 299, 256)}
    last = sorted(skipped)[-6:]
    assert len(last) == 6 and last[0] > 256
    maps[last, :, 20:] = (170, 210, 240)
    return write_pairs(tmp_path_factory.mktemp("many"), maps)


def test_palette_comes_from_all_training_maps_and_evaluation_uses_it(make_run, three_hundred_pairs, tmp_path):
    run, settings = make_run(three_hundred_pairs, **{"export.variants": []})
    manifest = export.to_bundle(run, settings).manifest
    assert manifest.palette.classes == {"road": ("#ffffff",), "water": ("#aad2f0",), "ground": ("#ebe6dc",)}
    held_out = load_held_out(three_hundred_pairs, manifest, EvaluationConfig(), cache=tmp_path)
    assert held_out.evaluator.palette == manifest.palette and held_out.palette_missing == ""


def test_maps_without_flat_colours_give_the_reason_for_the_missing_palette(make_run, tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (9, 32, 32, 3), np.uint8)
    pairs = write_pairs(tmp_path / "noise", noise)
    run, settings = make_run(pairs, **{"export.variants": []})
    manifest = export.to_bundle(run, settings).manifest
    assert manifest.palette is None and "lie in areas of one colour" in manifest.palette_missing
    held_out = load_held_out(pairs, manifest, EvaluationConfig(), cache=tmp_path)
    assert held_out.notes()[-1] == f"Cartographic scores are left out: {manifest.palette_missing}"


def test_palette_of_the_export_wins_over_that_of_the_run(make_run):
    trained_with = {"classes": {"road": ["#ffffff"], "water": ["#aadaff"]}}
    run, settings = make_run(**{"export.variants": [], "evaluation.palette": trained_with})
    manifest = export.to_bundle(run, settings).manifest
    assert manifest.palette.classes == {"road": ("#ffffff",), "water": ("#aadaff",)} and manifest.palette_missing == ""
    given = Palette(classes={"lake": ("#aad2f0",), "land": ("#ebe6dc",)})
    assert export.to_bundle(run, settings, palette=given).manifest.palette == given
