"""The Inception network of FID, KID and Inception Score: that of TensorFlow from 2015, with pytorch-fid's weights."""

import os
import time
from pathlib import Path

import numpy as np

from model.errors import DataError, StorageError
from model.io import files
from model.io.addresses import hide_passwords, is_address, refuse_password
from model.io.progress import stage
from model.pixels import Pixels, check_images, to_tensor
from pipelines.metrics.pretrained.onnx_layers import Layers, run
from pipelines.metrics.pretrained.torch_weights import MAX_BYTES, read_weights
from pipelines.metrics.set_metrics import Features

OFFICIAL_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
)
"""URL from which pytorch-fid fetches the weights; torch-fidelity and OpenMMLab use the same file."""

# pytorch-fid has the first eight digits in the name of the file; the projects that pin it have all of them.
OFFICIAL_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

SIDE = 299
CONNECT_SECONDS, SILENCE_SECONDS, TOTAL_SECONDS = 10, 60, 3600
"""Limits for a server of weights: to answer, to send the next bytes, and for the complete file."""
BLOCK = 1 << 20


class Inception:
    """Inception v3 (Szegedy et al. 2015) as Heusel et al. (2017) use it for FID: images -> `Features`."""

    name = "inception"

    def __init__(self, weights: Path, *, sha256: str = OFFICIAL_SHA256) -> None:
        """Read a file of weights, as `weights_file` returns it, and build the network.

        Raises:
            DataError: The file can't be read, has another sha256, or is of another network.
        """
        self.sha256 = sha256
        layers = _InceptionLayers(read_weights(weights, sha256=sha256))
        layers.add_network()
        classes, features = layers.weight("fc.weight").shape
        self._session = layers.open(
            self.name,
            {"images": ["N", "height", "width", 3]},
            {"pool": ["N", features], "probabilities": ["N", classes]},
        )

    def __call__(self, images: Pixels, *, batch: int = 16) -> Features:
        """Return `pool` (N, 2048) and `probabilities` (N, 1008) of uint8 RGB images (N, H, W, 3) of any size.

        Images are resized to 299x299 as in pytorch-fid: bilinearly, with pixel centres at halves and without
        antialiasing. That distorts scores (Parmar et al. 2022), but published numbers are computed this way.

        Raises:
            DataError: `images` are not one or more uint8 RGB images.
        """
        check_images(images)
        starts = range(0, len(images), batch)
        feeds = ({"images": to_tensor(images[start : start + batch])} for start in starts)
        pool, probabilities = run(self._session, feeds, label=f"{self.name} features", total=len(starts))
        return Features(pool=pool, probabilities=probabilities)


def weights_file(address: str, *, sha256: str = OFFICIAL_SHA256) -> Path:
    """Return the path of a file of weights; `address` is a path, or an https:// URL such as `OFFICIAL_URL`.

    A URL is fetched once, into `sat2map` in XDG_CACHE_HOME or ~/.cache, and kept there if its sha256 is right. The file
    is named by that sum, so that it serves for any URL, and offline.

    Raises:
        DataError: There is no such file, the URL is not https, or its file can't be fetched, is larger than 256 MiB or
            has another sha256.
    """
    if not is_address(address):
        path = Path(address).expanduser()
        if not path.is_file():
            raise DataError(f"There is no file {address}; give the path of Inception's weights, or {OFFICIAL_URL}.")
        return path
    refuse_password(address)
    scheme = address.partition("://")[0].lower()
    if scheme != "https":
        raise DataError(
            f"{scheme}:// is not fetched, because only https:// authenticates the server; give https:// or a path."
        )
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sat2map"
    kept = folder / f"inception-{sha256}.pth"
    if not kept.is_file() or files.sha256(kept) != sha256:
        with stage("Fetching the weights of Inception"):
            _fetch(address, kept, sha256=sha256)
    return kept


def _fetch(url: str, path: Path, *, sha256: str) -> None:
    """Fetch a file to `path`, completely and with the right sha256 or not at all."""
    import requests

    shown = hide_passwords(url)
    manually = f"download {OFFICIAL_URL} and give the path of the file."
    try:
        with files.new_file(path) as draft:
            _download(url, draft)
            if (found := files.sha256(draft)) != sha256:
                raise DataError(
                    f"{shown} has sha256 {found}, not {sha256}, and was discarded; check the URL, or {manually}"
                )
    except requests.RequestException as error:
        raise DataError(f"{shown} can't be fetched ({hide_passwords(str(error))}); try again, or {manually}") from error
    except (OSError, StorageError) as error:
        reason = error.__cause__ if isinstance(error, StorageError) else error
        raise DataError(f"{path} can't be written ({reason}); set XDG_CACHE_HOME to a writable folder.") from error


def _download(url: str, path: Path) -> None:
    """Stream a URL into a file, within limits of size and time."""
    import requests

    end = time.monotonic() + TOTAL_SECONDS
    with requests.Session() as session:
        # GitHub redirects; without an adapter for http, redirects can only lead to https.
        session.adapters.pop("http://")
        answer = session.get(
            url,
            stream=True,
            timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
            # A compressed response could expand to any size.
            headers={"Accept-Encoding": "identity"},
        )
        answer.raise_for_status()
        size = 0
        with path.open("wb") as file:
            for block in answer.iter_content(BLOCK):
                size += len(block)
                if size > MAX_BYTES:
                    raise DataError(f"{hide_passwords(url)} is larger than {MAX_BYTES >> 20} MiB; check the URL.")
                if time.monotonic() > end:
                    raise DataError(f"{hide_passwords(url)} took longer than {TOTAL_SECONDS} s; try again later.")
                file.write(block)


class _InceptionLayers(Layers):
    """The layers of Inception v3 under torchvision's names.

    Where torchvision's network differs from TensorFlow's of 2015, this follows TensorFlow's, as pytorch-fid does:
    average pools do not count the padding, the last block pools by maximum, and there are 1008 classes.
    """

    def add_network(self) -> None:
        """Add all layers: images (N, H, W, 3) in [-1, 1] -> pool (N, 2048), probabilities (N, 1008)."""
        x = self.resize(self.add("Transpose", ["images"], perm=[0, 3, 1, 2]))
        x = self.unit(x, "Conv2d_1a_3x3", stride=2)
        x = self.unit(x, "Conv2d_2a_3x3", padded=False)
        x = self.unit(x, "Conv2d_2b_3x3")
        x = self.unit(self.halve(x), "Conv2d_3b_1x1")
        x = self.unit(x, "Conv2d_4a_3x3", padded=False)
        x = self.halve(x)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.block_a(x, name)
        x = self.block_b(x, "Mixed_6a")
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self.block_c(x, name)
        x = self.block_d(x, "Mixed_7a")
        x = self.block_e(x, "Mixed_7b", self.average(x))
        x = self.block_e(x, "Mixed_7c", self.maximum(x))
        self.add("Flatten", [self.add("GlobalAveragePool", [x])], "pool")
        # Without fc.bias, which Salimans et al. (2016) left out of the Inception Score, as is usual since.
        classes = self.constant("classes", self.weight("fc.weight"))
        self.add("Softmax", [self.add("Gemm", ["pool", classes], transB=1)], "probabilities", axis=1)

    def resize(self, source: str) -> str:
        """Add a resize to 299x299."""
        size = self.constant("size", np.array([SIDE, SIDE], np.int64))
        return self.add("Resize", [source, "", "", size], mode="linear", axes=[2, 3])

    def unit(self, source: str, name: str, *, stride: int = 1, padded: bool = True) -> str:
        """Add a convolution, batch normalisation and ReLU; the size stays with stride 1 and `padded`."""
        height, width = self.weight(f"{name}.conv.weight").shape[2:]
        pads = [height // 2, width // 2] * 2 if padded and stride == 1 else [0] * 4
        x = self.conv_norm(source, f"{name}.conv", f"{name}.bn", strides=[stride, stride], pads=pads)
        return self.add("Relu", [x])

    def chain(self, source: str, name: str, *ends: str, stride: int = 1) -> str:
        """Add units in sequence, named `name` with each of `ends`; the last has the stride."""
        for end in ends[:-1]:
            source = self.unit(source, name + end)
        return self.unit(source, name + ends[-1], stride=stride)

    def fork(self, source: str, name: str) -> str:
        """Add two parallel units, 1x3 and 3x1."""
        return self.join(self.unit(source, f"{name}a"), self.unit(source, f"{name}b"))

    def join(self, *sources: str) -> str:
        """Concatenate channels."""
        return self.add("Concat", list(sources), axis=1)

    def halve(self, source: str) -> str:
        """Add a 3x3 maximum pool that halves the size."""
        return self.add("MaxPool", [source], kernel_shape=[3, 3], strides=[2, 2])

    def average(self, source: str) -> str:
        """Add a 3x3 average pool that does not count the padding; the size stays."""
        return self.add("AveragePool", [source], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=0)

    def maximum(self, source: str) -> str:
        """Add a 3x3 maximum pool; the size stays."""
        return self.add("MaxPool", [source], kernel_shape=[3, 3], pads=[1] * 4)

    def block_a(self, x: str, name: str) -> str:
        """Add a block with 5x5 kernels, for 35x35 pixels."""
        return self.join(
            self.chain(x, f"{name}.branch1x1", ""),
            self.chain(x, f"{name}.branch5x5", "_1", "_2"),
            self.chain(x, f"{name}.branch3x3dbl", "_1", "_2", "_3"),
            self.chain(self.average(x), f"{name}.branch_pool", ""),
        )

    def block_b(self, x: str, name: str) -> str:
        """Add the block that reduces 35x35 to 17x17 pixels."""
        return self.join(
            self.chain(x, f"{name}.branch3x3", "", stride=2),
            self.chain(x, f"{name}.branch3x3dbl", "_1", "_2", "_3", stride=2),
            self.halve(x),
        )

    def block_c(self, x: str, name: str) -> str:
        """Add a block with 1x7 and 7x1 kernels, for 17x17 pixels."""
        return self.join(
            self.chain(x, f"{name}.branch1x1", ""),
            self.chain(x, f"{name}.branch7x7", "_1", "_2", "_3"),
            self.chain(x, f"{name}.branch7x7dbl", "_1", "_2", "_3", "_4", "_5"),
            self.chain(self.average(x), f"{name}.branch_pool", ""),
        )

    def block_d(self, x: str, name: str) -> str:
        """Add the block that reduces 17x17 to 8x8 pixels."""
        return self.join(
            self.chain(x, f"{name}.branch3x3", "_1", "_2", stride=2),
            self.chain(x, f"{name}.branch7x7x3", "_1", "_2", "_3", "_4", stride=2),
            self.halve(x),
        )

    def block_e(self, x: str, name: str, pooled: str) -> str:
        """Add a block with forked branches, for 8x8 pixels; its last branch starts from `pooled`."""
        return self.join(
            self.chain(x, f"{name}.branch1x1", ""),
            self.fork(self.chain(x, f"{name}.branch3x3", "_1"), f"{name}.branch3x3_2"),
            self.fork(self.chain(x, f"{name}.branch3x3dbl", "_1", "_2"), f"{name}.branch3x3dbl_3"),
            self.chain(pooled, f"{name}.branch_pool", ""),
        )
