"""LPIPS computes the same as TensorFlow's own layers and as PyPI's lpips."""

import hashlib
import subprocess

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from model.errors import DataError
from pipelines.metrics.pretrained.lpips import ALEXNET, HEADS, OFFICIAL_SHA256, Lpips
from tests.fixtures.torch_checkpoints import save, torch_python

WIDTHS = (64, 192, 384, 256, 256)


def crops(count, side, *, seed=0):
    """Cut crops from two photos of scikit-image."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 300 - side + 1, (count, 2))
    return np.stack(
        [(data.chelsea(), data.coffee())[i % 2][y : y + side, x : x + side] for i, (y, x) in enumerate(corners)]
    )


def damaged(images, *, seed=0):
    """Blur the first half of the images, and add noise to the second."""
    random = np.random.default_rng(seed)
    half = len(images) // 2
    blurred = gaussian_filter(images[:half], sigma=2, axes=(1, 2))
    noisy = np.clip(images[half:] + random.normal(0, 20, images[half:].shape), 0, 255).astype(np.uint8)
    return np.concatenate([blurred, noisy])


@pytest.fixture(scope="module")
def weights():
    """Return random weights of AlexNet and the heads, by the names of their files."""
    random = np.random.default_rng(0)
    alexnet = {"classifier.1.weight": np.zeros((8, 8), np.float32)}
    kernels = zip((0, 3, 6, 8, 10), (3, *WIDTHS[:-1]), WIDTHS, (11, 5, 3, 3, 3), strict=True)
    for layer, before, width, side in kernels:
        spread = np.sqrt(2 / (before * side * side))
        alexnet[f"features.{layer}.weight"] = random.normal(0, spread, (width, before, side, side)).astype(np.float32)
        alexnet[f"features.{layer}.bias"] = random.normal(0, 0.1, width).astype(np.float32)
    # The real heads have no negative weights either.
    heads = {
        f"lin{number}.model.1.weight": random.uniform(0, 1, (1, width, 1, 1)).astype(np.float32)
        for number, width in enumerate(WIDTHS)
    }
    return {ALEXNET: alexnet, HEADS: heads}


@pytest.fixture(scope="module")
def folder(weights, tmp_path_factory):
    return tmp_path_factory.mktemp("lpips")


@pytest.fixture(scope="module")
def checksums(weights, folder):
    # The heads have the older of the two formats, as the real ones do.
    return {name: save(folder / name, values, legacy=name == HEADS) for name, values in weights.items()}


@pytest.fixture(scope="module")
def distance(folder, checksums):
    return Lpips(folder, sha256=checksums)


def reference(weights, drawn, true):
    """Compute the distance of section 3 of the paper with TensorFlow's layers."""
    import tensorflow as tf

    def maps(images):
        x = (images / 127.5 - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
        x = tf.constant(x, tf.float32)
        for layer, padding in ((0, 2), (3, 2), (6, 1), (8, 1), (10, 1)):
            if layer in (3, 6):
                x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            kernel = weights[ALEXNET][f"features.{layer}.weight"].transpose(2, 3, 1, 0)
            x = tf.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
            x = tf.nn.conv2d(x, kernel, 1 if layer else 4, "VALID") + weights[ALEXNET][f"features.{layer}.bias"]
            x = tf.nn.relu(x)
            yield x.numpy().astype(np.float64)

    total = 0
    for number, (a, b) in enumerate(zip(maps(drawn), maps(true), strict=True)):
        head = weights[HEADS][f"lin{number}.model.1.weight"].ravel()
        a, b = (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-10) for x in (a, b))
        total += (np.square(a - b) @ head).mean(axis=(1, 2))
    return total


@pytest.mark.parametrize("side", [31, 64, 250])
def test_the_graph_computes_what_tensorflow_computes(distance, weights, side):
    true = crops(6, side, seed=side)
    drawn = damaged(true)
    found = distance(drawn, true, batch=4)
    assert (found.shape, found.dtype) == ((6,), np.float64) and (found > 0.001).all()
    np.testing.assert_allclose(found, reference(weights, drawn, true), rtol=1e-4)


def test_the_distance_is_symmetric_and_zero_for_equal_images(distance):
    true = crops(4, 96)
    drawn = damaged(true)
    np.testing.assert_array_equal(distance(true, true), np.zeros(4))
    np.testing.assert_allclose(distance(drawn, true), distance(true, drawn), rtol=1e-5)


def test_black_images_have_a_finite_distance(distance):
    black = np.zeros((2, 64, 64, 3), np.uint8)
    assert np.isfinite(distance(black, crops(2, 64))).all()


def test_different_shapes_and_small_images_are_refused(distance):
    with pytest.raises(DataError, match="give both the same shape"):
        distance(crops(2, 64), crops(2, 65))
    with pytest.raises(DataError, match="Images of 40x30 are too small for AlexNet; give 31x31"):
        distance(np.zeros((2, 30, 40, 3), np.uint8), np.zeros((2, 30, 40, 3), np.uint8))


@pytest.mark.parametrize("name", [ALEXNET, HEADS])
def test_a_missing_file_is_reported_with_its_source(weights, tmp_path, name):
    for other, values in weights.items():
        if other != name:
            save(tmp_path / other, values)
    with pytest.raises(DataError, match=f"no {name} in {tmp_path}; get it from .*(pytorch.org/models|PyPI's lpips)"):
        Lpips(tmp_path)


def test_other_weights_need_their_own_sha256(folder, checksums):
    with pytest.raises(DataError, match=f"has sha256 {checksums[ALEXNET]}, not {OFFICIAL_SHA256[ALEXNET]}"):
        Lpips(folder)
    with pytest.raises(DataError, match=f"has sha256 {checksums[HEADS]}, not {OFFICIAL_SHA256[HEADS]}"):
        Lpips(folder, sha256=OFFICIAL_SHA256 | {ALEXNET: checksums[ALEXNET]})


IN_TORCH = """
import pathlib, shutil, sys
import lpips, numpy as np, torch
from lpips import pretrained_networks

torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
torch.manual_seed(0)
alexnet = pretrained_networks.tv.alexnet(weights=None)
for layer in alexnet.features:
    if isinstance(layer, torch.nn.Conv2d):
        torch.nn.init.kaiming_normal_(layer.weight)
torch.save(alexnet.state_dict(), folder / "alexnet-owt-7be5be79.pth")
shutil.copy(pathlib.Path(lpips.__file__).parent / "weights/v0.1/alex.pth", folder)
pretrained_networks.tv.alexnet = lambda *_, **__: alexnet
distance = lpips.LPIPS(net="alex", verbose=False)
drawn, true = (torch.from_numpy(np.load(folder / f"{name}.npy")).permute(0, 3, 1, 2) for name in ("drawn", "true"))
with torch.no_grad():
    np.save(folder / "distances.npy", distance(drawn / 127.5 - 1, true / 127.5 - 1).flatten().numpy())
"""


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 256])
def test_distances_agree_with_pypis_lpips_and_its_heads(tmp_path, tmp_path_factory, side):
    true = crops(8, side)
    drawn = damaged(true)
    for name, images in (("drawn", drawn), ("true", true)):
        np.save(tmp_path / f"{name}.npy", images)
    command = [torch_python(tmp_path_factory), "-c", IN_TORCH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    expected = np.load(tmp_path / "distances.npy")
    alexnet = hashlib.sha256((tmp_path / ALEXNET).read_bytes()).hexdigest()
    found = Lpips(tmp_path, sha256=OFFICIAL_SHA256 | {ALEXNET: alexnet})(drawn, true)
    assert (expected > 1e-4).all()
    np.testing.assert_allclose(found, expected, rtol=1e-3)
