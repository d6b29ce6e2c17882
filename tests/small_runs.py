"""Finished runs that are made in milliseconds: a model of one operator, six small pairs, and scores of its own."""

import mlflow
import numpy as np
import onnx
from onnx import helper
from PIL import Image

from model.bundle import MODEL_FILE, BundleManifest, Parity, Variant, variant_file, write_manifest
from model.io.files import sha256
from model.spec import NetworkConfig, signature
from pipelines.config.loading import load as load_config
from pipelines.config.loading import with_settings
from pipelines.data.dataset import load_all
from pipelines.data.pairs import index_folder
from pipelines.evaluation.evaluate import REPORT_FILE, SCORES_FILE, SHEET_FILE
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import Scores
from pipelines.report.sheets import comparison
from pipelines.workspace import RunRecord, Workspace

NETWORK = NetworkConfig(image_size=32, width=2, depth=3)
TENSORS = signature(NETWORK)
COLOURS = np.array([(242, 239, 233), (255, 255, 255), (170, 211, 223), (200, 230, 180)], np.uint8)


def serialise(factor, *, constant=None):
    """Serialise a generator that multiplies by `factor`: -1 draws the true maps of `make_pairs`, others are worse."""
    shape = [value if isinstance(value, str) else int(value) for value in TENSORS.shape]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in (TENSORS.input, TENSORS.output)
    ]
    weight = constant or helper.make_tensor("factor", onnx.TensorProto.FLOAT, [], [factor])
    node = helper.make_node("Mul", [TENSORS.input, weight.name], [TENSORS.output])
    graph = helper.make_graph([node], "generator", ends[:1], ends[1:], initializer=[weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    # A field out of its usual order: who reads and writes the model again changes its bytes.
    return model.SerializeToString() + onnx.ModelProto(producer_name="a test").SerializeToString()


def make_pairs(folder):
    """Write six pairs, maps of flat squares and their negatives for photos, and index them."""
    random = np.random.default_rng(7)
    for part, count in (("train", 3), ("val", 3)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            blocks = COLOURS[random.integers(0, len(COLOURS), (4, 4))]
            street_map = blocks.repeat(8, axis=0).repeat(8, axis=1)
            Image.fromarray(np.concatenate([255 - street_map, street_map], axis=1)).save(
                folder / part / f"{number}.png"
            )
    return index_folder(folder, min_side=32)


def configure(folder, name="sat2map", **settings):
    """Return settings of small runs of the registered model `name`."""
    tree = {"workspace": str(folder / "workspace"), "tracking.model_name": name, "network": NETWORK.model_dump()}
    return with_settings(load_config("sample"), tree | settings)


def scores_of(run_id, model_sha256, pairs, **changes):
    """Return scores of a model that beats all baselines."""
    good = {"l1": (10.0, 9, 11), "psnr": (20.0, 19, 21), "ssim": (0.8, 0.7, 0.9), "frechet_lite0": (50.0, 40, 60)}
    bad = {"l1": (30.0, 29, 31), "psnr": (10.0, 9, 11), "ssim": (0.3, 0.2, 0.4), "frechet_lite0": (90.0, 80, 99)}

    def named(table):
        return {name: Score(value=value, low=low, high=high, n=3) for name, (value, low, high) in table.items()}

    values = {
        "run_id": run_id,
        "pairs": len(pairs.val),
        "data_source": pairs.source,
        "data_fingerprint": pairs.fingerprint,
        "direction": "photo_to_map",
        "model_sha256": model_sha256,
        "model": named(good),
        "as_trained": named(good),
        "baselines": {name: named(bad) for name in ("median_colour", "mean_map", "source_copied")},
        "classes": (),
        "names": tuple(pair.name for pair in pairs.val),
        "each": {},
        "notes": (),
    }
    return Scores(**values | changes)


def make_run(config, *, factor=-1.0, model=None):
    """Make the folder of a finished run, trained on `make_pairs`, in MLflow and below the workspace of `config`."""
    folder = config.workspace.parent
    experiment = mlflow.get_experiment_by_name("small")
    where = experiment.experiment_id if experiment else mlflow.create_experiment("small")
    run_id = mlflow.MlflowClient().create_run(where).info.run_id
    run = Workspace(config.workspace).new_run(run_id)
    pairs = make_pairs(folder / "pairs")
    pairs.save(run.pairs_file)
    run.write_record(RunRecord(run_id=run_id, config=config, steps=8, seconds=2.0, images_per_second=16.0))
    run.generator.write_bytes(b"the weights of run " + run_id.encode())
    run.bundle.mkdir()
    (run.bundle / MODEL_FILE).write_bytes(serialise(factor) if model is None else model)
    digest = sha256(run.bundle / MODEL_FILE)
    (run.bundle / variant_file("int8")).write_bytes(serialise(factor))
    int8 = Variant(
        sha256=sha256(run.bundle / variant_file("int8")),
        providers=("CPUExecutionProvider",),
        max_difference=0.05,
        ssim=0.99,
        losses={"l1": 0.002},
        photos=3,
    )
    manifest = BundleManifest(
        network=NETWORK,
        direction="photo_to_map",
        signature=TENSORS,
        opset=18,
        sha256=digest,
        parity=Parity(max_difference=1e-6, limit=1e-4, photos=3),
        variants={"int8": int8},
        run_id=run_id,
        data_fingerprint=pairs.fingerprint,
        code_revision="838b6f8",
    )
    write_manifest(run.bundle, manifest)
    run.evaluation.mkdir()
    (run.evaluation / SCORES_FILE).write_text(scores_of(run_id, digest, pairs).model_dump_json())
    (run.evaluation / REPORT_FILE).write_text("<!doctype html><title>Report</title>")
    photos, maps = load_all(pairs.val, side=NETWORK.image_size, direction="photo_to_map")
    comparison(photos, maps, maps, direction="photo_to_map").save(run.evaluation / SHEET_FILE)
    return run
