"""Inception computes the same as TensorFlow's own layers and as pytorch-fid."""

import hashlib
import subprocess

import numpy as np
import pytest
from skimage import data

from model.errors import DataError
from pipelines.metrics.pretrained.inception import OFFICIAL_SHA256, Inception
from pipelines.metrics.pretrained.lite0 import FILE, PACKAGE, SHA256, installed_file
from pipelines.metrics.set_metrics import frechet_distance
from tests.fixtures.torch_checkpoints import save, torch_python


def crops(count, height, width, *, seed=0):
    """Cut crops from three photos of scikit-image, and darken or brighten each."""
    random = np.random.default_rng(seed)
    photos = [data.chelsea(), data.coffee(), data.astronaut()]
    pieces = []
    for number in range(count):
        photo = photos[number % 3]
        y, x = (random.integers(0, room + 1) for room in (photo.shape[0] - height, photo.shape[1] - width))
        pieces.append(np.clip(photo[y : y + height, x : x + width] * random.uniform(0.6, 1.4), 0, 255))
    return np.stack(pieces).astype(np.uint8)


class Reference:
    """Inception v3 in TensorFlow, an eighth as wide and without folded norms; the first call makes random weights.

    Written after the table of Szegedy et al. (2015) and the graph of 2015, with its SAME and VALID.
    """

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.weights = {}

    def unit(self, x, name, width, kernel, stride=1, padding="SAME"):
        """Apply convolution, normalisation and ReLU."""
        import tensorflow as tf

        shape = (width // 8, x.shape[-1], *kernel)
        if f"{name}.conv.weight" not in self.weights:
            spread = np.sqrt(2 / np.prod(shape[1:]))
            self.weights[f"{name}.conv.weight"] = self.random.normal(0, spread, shape).astype(np.float32)
        x = tf.nn.conv2d(x, self.weights[f"{name}.conv.weight"].transpose(2, 3, 1, 0), stride, padding)
        if f"{name}.bn.weight" not in self.weights:
            # Close to the statistics of the inputs, so that values neither vanish nor explode in 94 layers.
            mean, variance = (value.numpy() for value in tf.nn.moments(x, [0, 1, 2]))
            draws = {
                "running_mean": mean + np.sqrt(variance) * self.random.normal(0, 0.1, len(mean)),
                "running_var": variance * self.random.uniform(0.8, 1.25, len(mean)),
                "bias": self.random.normal(0, 0.1, len(mean)),
                "weight": self.random.uniform(0.8, 1.25, len(mean)),
            }
            self.weights |= {f"{name}.bn.{key}": value.astype(np.float32) for key, value in draws.items()}
            self.weights[f"{name}.bn.num_batches_tracked"] = np.array(3)
        names = ("running_mean", "running_var", "bias", "weight")
        return tf.nn.relu(tf.nn.batch_normalization(x, *[self.weights[f"{name}.bn.{key}"] for key in names], 1e-3))

    def branch(self, x, name, *layers):
        """Apply units in sequence, each given as (end of the name, width, kernel, ...)."""
        for end, *rest in layers:
            x = self.unit(x, name + end, *rest)
        return x

    def __call__(self, images):
        """Return pool and logits without bias for uint8 images."""
        import tensorflow as tf

        x = tf.image.resize(images.astype(np.float32) / 255, (299, 299), "bilinear", antialias=False) * 2 - 1
        x = self.unit(x, "Conv2d_1a_3x3", 32, (3, 3), 2, "VALID")
        x = self.unit(x, "Conv2d_2a_3x3", 32, (3, 3), 1, "VALID")
        x = self.unit(x, "Conv2d_2b_3x3", 64, (3, 3))
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        x = self.unit(x, "Conv2d_3b_1x1", 80, (1, 1))
        x = self.unit(x, "Conv2d_4a_3x3", 192, (3, 3), 1, "VALID")
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        assert x.shape[1:3] == (35, 35)
        for letter, pooled in ("b", 32), ("c", 64), ("d", 64):
            x = self.wide(x, f"Mixed_5{letter}.branch", pooled)
        three, name = ((3, 3), 2, "VALID"), "Mixed_6a.branch3x3"
        double = self.branch(x, f"{name}dbl", ("_1", 64, (1, 1)), ("_2", 96, (3, 3)), ("_3", 96, *three))
        x = tf.concat([self.unit(x, name, 384, *three), double, tf.nn.max_pool2d(x, 3, 2, "VALID")], 3)
        assert x.shape[1:3] == (17, 17)
        for letter, width in ("b", 128), ("c", 160), ("d", 160), ("e", 192):
            x = self.long(x, f"Mixed_6{letter}.branch", width)
        name = "Mixed_7a.branch"
        first = self.branch(x, f"{name}3x3", ("_1", 192, (1, 1)), ("_2", 320, *three))
        seven = [("_1", 192, (1, 1)), ("_2", 192, (1, 7)), ("_3", 192, (7, 1)), ("_4", 192, *three)]
        x = tf.concat([first, self.branch(x, f"{name}7x7x3", *seven), tf.nn.max_pool2d(x, 3, 2, "VALID")], 3)
        assert x.shape[1:3] == (8, 8)
        x = self.forked(x, "Mixed_7b.branch", tf.nn.avg_pool2d(x, 3, 1, "SAME"))
        x = self.forked(x, "Mixed_7c.branch", tf.nn.max_pool2d(x, 3, 1, "SAME"))
        pool = tf.reduce_mean(x, [1, 2])
        if "fc.weight" not in self.weights:
            self.weights["fc.weight"] = self.random.normal(0, 0.3, (126, pool.shape[1])).astype(np.float32)
            self.weights["fc.bias"] = self.random.normal(0, 5, 126).astype(np.float32)
        return pool.numpy(), (pool @ self.weights["fc.weight"].T).numpy()

    def wide(self, x, name, pooled):
        """Apply the block with 5x5 kernels."""
        import tensorflow as tf

        one, five = self.unit(x, f"{name}1x1", 64, (1, 1)), (("_1", 48, (1, 1)), ("_2", 64, (5, 5)))
        double = self.branch(x, f"{name}3x3dbl", ("_1", 64, (1, 1)), ("_2", 96, (3, 3)), ("_3", 96, (3, 3)))
        # TensorFlow's average pool does not count the padding.
        last = self.unit(tf.nn.avg_pool2d(x, 3, 1, "SAME"), f"{name}_pool", pooled, (1, 1))
        return tf.concat([one, self.branch(x, f"{name}5x5", *five), double, last], 3)

    def long(self, x, name, width):
        """Apply the block with 1x7 and 7x1 kernels."""
        import tensorflow as tf

        seven = [("_1", width, (1, 1)), ("_2", width, (1, 7)), ("_3", 192, (7, 1))]
        double = [("_1", width, (1, 1)), ("_2", width, (7, 1)), ("_3", width, (1, 7)), ("_4", width, (7, 1))]
        return tf.concat(
            [
                self.unit(x, f"{name}1x1", 192, (1, 1)),
                self.branch(x, f"{name}7x7", *seven),
                self.branch(x, f"{name}7x7dbl", *double, ("_5", 192, (1, 7))),
                self.unit(tf.nn.avg_pool2d(x, 3, 1, "SAME"), f"{name}_pool", 192, (1, 1)),
            ],
            3,
        )

    def forked(self, x, name, pooled):
        """Apply the block with forked branches."""
        import tensorflow as tf

        three = self.unit(x, f"{name}3x3_1", 384, (1, 1))
        double = self.branch(x, f"{name}3x3dbl", ("_1", 448, (1, 1)), ("_2", 384, (3, 3)))
        parts = [self.unit(x, f"{name}1x1", 320, (1, 1))]
        for source, end in (three, "3x3_2"), (double, "3x3dbl_3"):
            parts += [self.unit(source, f"{name}{end}a", 384, (1, 3)), self.unit(source, f"{name}{end}b", 384, (3, 1))]
        return tf.concat([*parts, self.unit(pooled, f"{name}_pool", 192, (1, 1))], 3)


@pytest.fixture(scope="module")
def reference():
    """Return the reference with random weights."""
    network = Reference()
    network(crops(4, 200, 260))
    return network


@pytest.fixture(scope="module")
def network(reference, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "small.pth"
    return Inception(file, sha256=save(file, reference.weights))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (290, 400), (299, 299)])
def test_the_graph_computes_what_tensorflow_computes(network, reference, height, width):
    images = crops(3, height, width, seed=height)
    pool, logits = reference(images)
    features = network(images, batch=2)
    # Most features differ between images.
    assert (pool.std(axis=0) > 0.01).mean() > 0.8
    np.testing.assert_allclose(features.pool, pool, atol=1e-4 * pool.max())
    exact = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(features.probabilities, exact / exact.sum(axis=1, keepdims=True), atol=1e-4)


def test_features_do_not_depend_on_the_batch(network):
    images = crops(5, 80, 80)
    whole, parts = network(images), network(images, batch=2)
    assert (whole.pool.shape, whole.probabilities.shape) == ((5, 256), (5, 126))
    np.testing.assert_allclose(parts.pool, whole.pool, atol=1e-5)
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-5)


@pytest.mark.parametrize(
    "images", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3))]
)
def test_only_uint8_rgb_images_are_accepted(network, images):
    with pytest.raises(DataError, match="uint8 in"):
        network(images)


def test_the_network_has_the_sha256_of_its_weights(network, reference, tmp_path):
    sum_ = save(tmp_path / "again.pth", reference.weights)
    assert (network.name, network.sha256) == ("inception", sum_)


def test_other_weights_need_their_own_sha256(reference, tmp_path):
    found = save(tmp_path / "own.pth", reference.weights)
    with pytest.raises(DataError, match=rf"own\.pth has sha256 {found}, not {OFFICIAL_SHA256}"):
        Inception(tmp_path / "own.pth")


def test_weights_of_another_network_are_refused(reference, tmp_path):
    with pytest.raises(DataError, match=r"There is no Conv2d_1a_3x3\.conv\.weight among"):
        Inception(installed_file(PACKAGE, FILE), sha256=SHA256)
    few = reference.weights | {"fc.weight": np.zeros((126, 100), np.float32)}
    with pytest.raises(DataError, match="The weights are not those of inception"):
        Inception(tmp_path / "few.pth", sha256=save(tmp_path / "few.pth", few))


def test_layers_that_do_not_fit_together_are_refused(reference, tmp_path):
    narrow = reference.weights | {"Mixed_7a.branch3x3_1.conv.weight": np.zeros((24, 5, 1, 1), np.float32)}
    network = Inception(tmp_path / "narrow.pth", sha256=save(tmp_path / "narrow.pth", narrow))
    with pytest.raises(DataError, match=r"can't compute inception features: .*Input channels C"):
        network(crops(1, 40, 40))


# Against pytorch-fid

IN_TORCH = """
import pathlib, sys
import numpy as np, torch
from pytorch_fid import fid_score, inception

# Several threads would be slow on a busy machine.
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
sets = [np.load(folder / f"images{number}.npy") for number in range(2)]
inputs = [torch.from_numpy(images).permute(0, 3, 1, 2) / 255 for images in sets]
torch.manual_seed(0)

# Random weights, and statistics close to those of the inputs.
inception.load_state_dict_from_url = lambda *_, **__: inception._inception_v3(
    num_classes=1008, aux_logits=False, weights=None
).state_dict()
network = inception.fid_inception_v3()
norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
for layer in network.modules():
    if isinstance(layer, torch.nn.Conv2d):
        torch.nn.init.kaiming_normal_(layer.weight)
for layer in norms:
    torch.nn.init.uniform_(layer.weight, 0.8, 1.25)
    torch.nn.init.normal_(layer.bias, 0, 0.1)
    layer.momentum = 1.0
torch.nn.init.normal_(network.fc.weight, 0, 0.1)
torch.nn.init.normal_(network.fc.bias, 0, 5)
with torch.no_grad():
    images = torch.nn.functional.interpolate(inputs[0], (299, 299), mode="bilinear")
    network.train()(2 * images - 1)
    for layer in norms:
        layer.running_mean += 0.1 * layer.running_var.sqrt() * torch.randn_like(layer.running_mean)
        layer.running_var *= torch.empty_like(layer.running_var).uniform_(0.8, 1.25)
    for name, zipped in ("zip.pth", True), ("legacy.pth", False):
        torch.save(network.state_dict(), folder / name, _use_new_zipfile_serialization=zipped)

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(folder / "zip.pth", weights_only=True)
    network, classes = inception.InceptionV3([3]).eval(), network.fc.weight
    pools = [torch.cat([network(x[None])[0].flatten(1) for x in images]) for images in inputs]
    probabilities = [torch.softmax(pool @ classes.T, dim=1).numpy() for pool in pools]
pools = [pool.numpy() for pool in pools]
statistics = [part for pool in pools for part in (np.mean(pool, axis=0), np.cov(pool, rowvar=False))]
np.savez(
    folder / "seen.npz",
    pool0=pools[0], pool1=pools[1], probabilities0=probabilities[0], probabilities1=probabilities[1],
    fid=fid_score.calculate_frechet_distance(*statistics),
)
"""


@pytest.mark.slow
def test_features_and_fid_agree_with_pytorch_fid(tmp_path, tmp_path_factory):
    sets = [crops(8, 120, 150), crops(8, 280, 380, seed=1)]
    for number, images in enumerate(sets):
        np.save(tmp_path / f"images{number}.npy", images)
    command = [torch_python(tmp_path_factory), "-c", IN_TORCH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    seen = np.load(tmp_path / "seen.npz")
    pools = []
    for layout in ("zip", "legacy"):
        file = tmp_path / f"{layout}.pth"
        network = Inception(file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        for number, images in enumerate(sets):
            features = network(images)
            expected = seen[f"pool{number}"]
            assert expected.shape == (8, 2048) and (expected.std(axis=0) > 0.01).mean() > 0.8
            # Relative to the norm of each image's features; both sides round to float32 in 94 layers.
            error = np.linalg.norm(features.pool - expected, axis=1) / np.linalg.norm(expected, axis=1)
            assert error.max() < 3e-4
            np.testing.assert_allclose(features.probabilities, seen[f"probabilities{number}"], atol=1e-3)
            pools.append(features.pool)
    assert frechet_distance(pools[0], pools[1]) == pytest.approx(float(seen["fid"]), rel=1e-3)
    assert frechet_distance(pools[2], pools[3]) == pytest.approx(float(seen["fid"]), rel=1e-3)
