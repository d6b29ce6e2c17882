"""A bundle's model runs in onnxruntime, is checked against its manifest, and keeps the pixel contract."""

import hashlib
import re
from ctypes.util import find_library

import numpy as np
import pytest

from model.bundle import Bundle, Variant
from model.errors import BundleError, DataError
from model.spec import NetworkConfig, signature
from model.translator import BATCH, Translator

SIGNATURE = signature(NetworkConfig(image_size=32, depth=3))


@pytest.fixture
def negative(make_bundle):
    """Return a translator that draws the negative."""
    return Translator(Bundle.open(make_bundle()), threads=1)


def load(folder):
    """Load a bundle whose model is refused; return the message, which is one line and names the file."""
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError) as caught:
        Translator(bundle)
    message = str(caught.value)
    assert "\n" not in message
    assert str(bundle.model_file) in message
    return message


def photos(n):
    return np.random.default_rng(5).integers(0, 256, (n, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("n", [1, 3])
def test_tensors_are_passed_to_the_model_unchanged(negative, n):
    batch = np.random.default_rng(4).uniform(-1, 1, (n, 32, 32, 3)).astype(np.float32)
    drawn = negative.translate(batch)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, -batch)


def test_every_pixel_level_is_drawn_exactly(negative):
    levels = np.resize(np.arange(256, dtype=np.uint8), (1, 32, 32, 3))
    drawn = negative(levels)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, 255 - levels)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_maps_come_in_the_order_of_the_photos(negative, n):
    np.testing.assert_array_equal(negative(photos(n)), 255 - photos(n))


def test_photos_are_drawn_in_small_batches(make_bundle, onnx_model):
    # For black photos, a softmax over the batch returns one over its size.
    translator = Translator(Bundle.open(make_bundle(model=onnx_model(SIGNATURE, "Softmax", axis=0))))
    drawn = translator(np.zeros((BATCH + 3, 32, 32, 3), np.uint8))
    levels = np.repeat([round(255 * (1 / number + 1) / 2) for number in (BATCH, 3)], [BATCH, 3])
    np.testing.assert_array_equal(drawn, np.broadcast_to(levels[:, None, None, None], drawn.shape))


def test_values_out_of_range_are_clipped(make_bundle, onnx_model):
    translator = Translator(Bundle.open(make_bundle(model=onnx_model(SIGNATURE, "Exp"))))
    assert translator(np.full((1, 32, 32, 3), 255, np.uint8)).min() == 255


def test_a_model_of_the_other_direction_has_its_own_tensor_names(make_bundle, onnx_model):
    tensors = signature(NetworkConfig(image_size=32, depth=3), "map_to_photo")
    folder = make_bundle(model=onnx_model(tensors), signature=tensors, direction="map_to_photo")
    np.testing.assert_array_equal(Translator(Bundle.open(folder))(photos(1)), 255 - photos(1))


@pytest.mark.parametrize(
    "change", [{"input": "Identity:0"}, {"output": "drawn"}, {"height": 64}, {"channels": 4}, {"batch": "unk__61"}]
)
def test_tensors_that_differ_from_the_manifest_are_refused(make_bundle, onnx_model, change):
    folder = make_bundle(model=onnx_model(SIGNATURE.model_copy(update=change)))
    found, expected = re.fullmatch(
        r".* has the tensors (.*); its manifest says (.*); export it again\.", load(folder)
    ).groups()
    assert str(next(iter(change.values()))) in found
    assert (
        expected == "[('photo', 'tensor(float)', ('batch', 32, 32, 3)), ('map', 'tensor(float)', ('batch', 32, 32, 3))]"
    )


def test_a_model_with_a_fixed_batch_size_is_refused(make_bundle, onnx_model):
    folder = make_bundle(model=onnx_model(SIGNATURE.model_copy(update={"batch": 1})))
    assert "('photo', 'tensor(float)', (1, 32, 32, 3))" in load(folder)


def test_a_model_that_takes_pixels_gets_pixels(make_bundle, onnx_model):
    tensors = signature(NetworkConfig(image_size=32, depth=3), dtype="uint8")
    folder = make_bundle(model=onnx_model(tensors, "BitwiseNot"), signature=tensors, value_range=(0, 255))
    translator = Translator(Bundle.open(folder))
    np.testing.assert_array_equal(translator(photos(3)), 255 - photos(3))
    with pytest.raises(DataError, match="takes uint8 pixels"):
        translator.translate(np.zeros((1, 32, 32, 3), np.float32))


@pytest.fixture
def two_variants(make_bundle, onnx_model):
    """Return a bundle whose fp32 draws the negative, and whose int8, made for the CPU, copies."""
    copying = onnx_model(SIGNATURE, "Identity")
    int8 = Variant(
        sha256=hashlib.sha256(copying).hexdigest(),
        providers=("CPUExecutionProvider",),
        max_difference=0.1,
        ssim=0.99,
        losses={},
        photos=2,
    )
    folder = make_bundle(variants={"other": int8.model_copy(update={"providers": ("Elsewhere",)}), "int8": int8})
    for name in ("other", "int8"):
        (folder / f"generator.{name}.onnx").write_bytes(copying)
    return Bundle.open(folder)


def test_the_variant_for_this_machine_is_chosen(two_variants):
    translator = Translator(two_variants)
    assert translator.variant == "int8"
    np.testing.assert_array_equal(translator(photos(1)), photos(1))


def test_a_variant_can_be_chosen_by_name(two_variants):
    translator = Translator(two_variants, variant="fp32")
    np.testing.assert_array_equal(translator(photos(1)), 255 - photos(1))
    with pytest.raises(BundleError, match=r"no variant 'int4'; there are: fp32, other, int8\."):
        Translator(two_variants, variant="int4")


def test_an_altered_variant_is_refused(two_variants):
    (two_variants.folder / "generator.int8.onnx").write_bytes(two_variants.model_file.read_bytes())
    with pytest.raises(BundleError, match=r"generator\.int8\.onnx is not the file that was exported"):
        Translator(two_variants)


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_file_that_is_not_a_model_is_refused(make_bundle, content):
    assert "onnxruntime can't load" in load(make_bundle(model=content))


@pytest.mark.skipif(find_library("cuda") is not None, reason="this machine has a CUDA driver")
def test_the_cpu_runs_the_model_without_a_gpu(capfd, negative):
    assert negative.provider == "CPUExecutionProvider"
    negative(photos(1))
    assert capfd.readouterr() == ("", "")
