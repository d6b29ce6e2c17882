"""Download of a registered version as a bundle, with the content of the registry treated as untrusted.

Nothing is unpickled, and no model is loaded: only JSON, HTML and ONNX files are fetched, each up to a limit, and ONNX
files are parsed on their own, without the files that they may refer to.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
import yaml
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from model.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    PULLED_FILE,
    Bundle,
    BundleManifest,
    Pulled,
    read_manifest,
    variant_file,
)
from model.errors import BundleError, DataError, StorageError
from model.io.files import check_writable, new_folder, scratch_folder, sha256, write_text
from pipelines.data.pairs import PairIndex
from pipelines.registry import references, versions
from pipelines.registry.artifacts import Artifacts
from pipelines.registry.versions import FILES_FOLDER, ONNX_FILE, PAIRS_FILE, Version, variant_path
from pipelines.run_folder import DISCRIMINATOR_FILE, GENERATOR_FILE, REPORT_FILE, SCORES_FILE
from pipelines.tracking import mlflow_server

FLAVOURS_FILE = "MLmodel"
TINY, SMALL, PAGE, MODEL = 1 << 15, 1 << 20, 64 << 20, 1 << 30
"""Size limits in bytes; a generator of the paper's width has 218 MB, and protobuf's limit is 2 GiB."""
MANIFEST = f"{FILES_FOLDER}/{MANIFEST_FILE}"
EXTRAS = {f"{FILES_FOLDER}/{SCORES_FILE}": (SCORES_FILE, PAGE), f"{FILES_FOLDER}/{REPORT_FILE}": (REPORT_FILE, PAGE)}
MODEL_NAME = re.compile(r"generator(\.[a-z0-9-]+)?\.onnx")
PICKLES = {".bin", ".cloudpickle", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth", ".torch"}
"""Suffixes of files that may contain pickles; NumPy's files do if an array holds objects."""


def pull(name: str, which: str | int, out: Path) -> Bundle:
    """Fetch a version as a bundle into the folder `out`, with its scores and report if present.

    A bundle that was pulled to `out` before is replaced once the new one is complete and checked.

    Args:
        name: The registered model, unless `which` names one.
        which: A number, an alias, or a URI such as models:/NAME@ALIAS or models:/NAME/VERSION.
        out: The folder.

    Raises:
        ConfigError: `which` begins like a URI but is not one.
        BundleError: The version's content can't be trusted, or `out` holds something else; nothing was changed.
        MissingStepError: There is no such version, or it was not created by `register`.
        TrackingError: MLflow does not answer.
    """
    name, which = references.parse(which, name=name)
    _check_replaceable(out)
    check_writable(out)
    mlflow_server.connect_to_existing()
    version = versions.find(name, which)
    with new_folder(out) as draft:
        fetch_bundle(version, draft, extras=True)
        origin = Pulled(name=name, version=version.number, run_id=version.run_id, sha256=version.sha256)
        write_text(draft / PULLED_FILE, origin.model_dump_json(indent=2) + "\n")
    return Bundle.open(out)


def fetch_bundle(version: Version, folder: Path, *, extras: bool = False) -> Bundle:
    """Fetch a version into an existing folder, and check everything that can be checked without running the model.

    Raises:
        BundleError: A check failed; the message names it.
        StorageError: The disk has too little space.
    """
    artifacts = version.artifacts()
    sizes = artifacts.sizes()
    _check_listing(version, sizes, {MANIFEST: SMALL, ONNX_FILE: MODEL})
    _check_flavours(version, artifacts)
    artifacts.fetch(MANIFEST, folder / MANIFEST_FILE, limit=SMALL)
    _check_same(version, MANIFEST, folder / MANIFEST_FILE, version.bundle_sha256)
    manifest = read_manifest(folder)
    if manifest.run_id != version.run_id:
        raise BundleError(
            f"{_title(version)} belongs to run {version.run_id!r}, but its bundle to run {manifest.run_id!r}. "
            "Register the run again."
        )
    files = {variant_path(name): (variant_file(name), MODEL) for name in manifest.hashes()}
    if extras:
        files |= {path: target for path, target in EXTRAS.items() if path in sizes}
    _check_listing(version, sizes, {path: limit for path, (_, limit) in files.items()})
    _check_space(folder, sum(sizes[path] for path in files))
    for path, (name, limit) in files.items():
        artifacts.fetch(path, folder / name, limit=limit)
    _check_same(version, ONNX_FILE, folder / MODEL_FILE, version.sha256)
    bundle = Bundle.open(folder)
    for variant in manifest.hashes():
        check_model(bundle, variant)
    return bundle


def fetch_networks(version: Version, folder: Path) -> BundleManifest:
    """Fetch the Keras files of a version into a folder, and return the version's manifest.

    Raises:
        BundleError: They are too large, were altered, or the version has none.
        TrackingError: They can't be fetched.
    """
    artifacts = version.artifacts()
    with new_folder(folder) as draft:
        artifacts.fetch(MANIFEST, draft / MANIFEST_FILE, limit=SMALL)
        _check_same(version, MANIFEST, draft / MANIFEST_FILE, version.bundle_sha256)
        manifest = read_manifest(draft)
        expected = {GENERATOR_FILE: manifest.generator_sha256, DISCRIMINATOR_FILE: manifest.discriminator_sha256}
        if not manifest.generator_sha256:
            raise BundleError(
                f"{_title(version)} does not name its Keras file: it was exported by version 0.2.0 or earlier. Export "
                "and register its run again."
            )
        for name, digest in expected.items():
            if digest:
                artifacts.fetch(f"{FILES_FOLDER}/{name}", draft / name, limit=MODEL)
                _check_same(version, name, draft / name, digest)
    return manifest


def fetch_pairs(version: Version) -> PairIndex:
    """Fetch the index of the pairs that a version was trained and evaluated on, without the images themselves.

    Raises:
        BundleError: The index is too large or invalid, or was altered.
        TrackingError: The index can't be fetched.
    """
    path = f"{FILES_FOLDER}/{PAIRS_FILE}"
    with scratch_folder() as scratch:
        file = Path(scratch, PAIRS_FILE)
        version.artifacts().fetch(path, file, limit=PAGE)
        try:
            pairs = PairIndex.load(file)
        except DataError as error:
            raise BundleError(
                f"{path} of {_title(version)} is not an index of pairs, or was altered; register the run again."
            ) from error
    if pairs.fingerprint != version.tags.get("data.fingerprint"):
        raise BundleError(
            f"{path} of {_title(version)} does not match the tag data.fingerprint; register the run again."
        )
    return pairs


def check_model(bundle: Bundle, variant: str) -> None:
    """Parse an ONNX file of a bundle on its own, and check that it holds all its tensors and matches the manifest.

    Raises:
        BundleError: The file was altered, is not an ONNX model, refers to other files, or has other inputs or outputs
            than the manifest.
    """
    file = PurePosixPath(variant_path(variant)).name
    try:
        model = onnx.load_model_from_string(bundle.verified(variant).read_bytes())
    except DecodeError as error:
        raise BundleError(f"The fetched {file} is not an ONNX model: {error}. Register the run again.") from error
    for tensor in _tensors(model):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            external = [entry.value for entry in tensor.external_data if entry.key == "location"]
            raise BundleError(
                f"The fetched {file} stores the tensor {tensor.name!r} in another file ({', '.join(external)!r}); "
                "a bundle's model must contain all its tensors. Don't use it."
            )
    tensors = bundle.manifest.signature
    found = [[value.name for value in ends] for ends in (model.graph.input, model.graph.output)]
    if found != [[tensors.input], [tensors.output]]:
        raise BundleError(
            f"The fetched {file} has inputs and outputs {found}; its manifest names {tensors.input!r} and "
            f"{tensors.output!r}. Register the run again."
        )


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a message: initialisers, attributes of nodes, subgraphs, functions and sparse tensors."""
    if isinstance(message, onnx.TensorProto):
        yield message
    for _, value in message.ListFields():
        if isinstance(value, Message):
            yield from _tensors(value)
        elif not isinstance(value, str | bytes | int | float):
            for item in value:
                if not isinstance(item, Message):
                    break
                yield from _tensors(item)


def _check_replaceable(out: Path) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise BundleError(f"{out} is not a folder; choose another one.")
    names = {path.name for path in out.iterdir()}
    own = {PULLED_FILE, MANIFEST_FILE, *(name for name, _ in EXTRAS.values())}
    own |= {name for name in names if MODEL_NAME.fullmatch(name)}
    if names and (PULLED_FILE not in names or names - own):
        raise BundleError(
            f"{out} contains {', '.join(sorted(names - own)) or 'a bundle that was not pulled'}; only folders made by "
            "`pull` are replaced. Choose another folder."
        )


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise StorageError(
            f"The model has {size:,} bytes, and {free:,} are free on the disk that it goes to; make room, or choose "
            "another disk (--out, or TMPDIR for temporary files)."
        )


def _check_listing(version: Version, sizes: dict[str, int], limits: dict[str, int]) -> None:
    for path in sorted(sizes):
        if PurePosixPath(path).suffix.lower() in PICKLES:
            raise BundleError(
                f"{_title(version)} contains {path!r}, which may be a pickle; `register` writes none. Don't use it."
            )
    for path, limit in limits.items():
        if path not in sizes:
            raise BundleError(f"{_title(version)} has no {path}; register the run again.")
        if sizes[path] > limit:
            raise BundleError(
                f"{path} of {_title(version)} has {sizes[path]:,} bytes; the limit is {limit:,}. "
                "This is not a sat2map model."
            )


def _check_same(version: Version, path: str, file: Path, expected: str) -> None:
    if (found := sha256(file)) != expected:
        raise BundleError(
            f"{path} of {_title(version)} was altered: its sha256 is {found}, not {expected} as registered. "
            "Don't use it; register the run again."
        )


def _check_flavours(version: Version, artifacts: Artifacts) -> None:
    """Read MLmodel, and check that MLflow would load the version as plain ONNX."""
    with scratch_folder() as scratch:
        file = Path(scratch, FLAVOURS_FILE)
        artifacts.fetch(FLAVOURS_FILE, file, limit=TINY)
        try:
            content: Any = yaml.safe_load(file.read_bytes())
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BundleError(f"{FLAVOURS_FILE} of {_title(version)} can't be read; register the run again.") from error
    flavours = content.get("flavors") if isinstance(content, dict) else None
    if not isinstance(flavours, dict) or not all(isinstance(flavour, dict) for flavour in flavours.values()):
        raise BundleError(f"{FLAVOURS_FILE} of {_title(version)} names no flavours; register the run again.")
    others = sorted(str(name) for name in flavours.keys() - {"onnx", "python_function"})
    if others or "onnx" not in flavours:
        raise BundleError(
            f"{_title(version)} has the flavours {', '.join(others) or 'python_function'}; only onnx is supported."
        )
    loader = flavours.get("python_function", {}).get("loader_module", "mlflow.onnx")
    if loader != "mlflow.onnx":
        # The value itself only if it is text: a short YAML file can expand beyond the memory.
        shown = repr(loader[:100]) if isinstance(loader, str) else f"a {type(loader).__name__}"
        raise BundleError(f"{_title(version)} is loaded by {shown}; only mlflow.onnx is supported.")
    if any(flavour.get("code") for flavour in flavours.values()):
        raise BundleError(f"{_title(version)} contains code that MLflow would run; only plain ONNX is supported.")


def _title(version: Version) -> str:
    return f"version {version.number} of {version.name}"
