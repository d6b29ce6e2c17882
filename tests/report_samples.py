"""Evaluations and comparisons to make pages of: painted scenes, and blurred and noisy maps as if a model drew them."""

from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

from model.bundle import BundleManifest, Parity
from model.spec import NetworkConfig, signature
from pipelines.config.loading import RunConfig
from pipelines.data.pairs import Pair, PairIndex, Rejected
from pipelines.data.sample.painter import paint
from pipelines.metrics import image_metrics
from pipelines.metrics.catalogue import METRICS
from pipelines.metrics.intervals import Score, Tally, bootstrap, paired_difference
from pipelines.metrics.scores import ClassScore, Comparison, Scores, gain
from pipelines.report.page import Evaluation
from pipelines.tracking.loss_curve import StepLosses
from pipelines.workspace import RunRecord

RUN = "7c1b90d2f3a84e55b0c6a9e0f1d2c3b4"
OTHER = "e41f02aa9b7d4c6c8d5500bb12aa34cd"
PAIRED = {"l1": image_metrics.l1, "psnr": image_metrics.psnr, "ssim": image_metrics.ssim}
CLASSES = {
    "ground": (("#f2efe9",), 0.61, 0.83),
    "road": (("#ffffff", "#f7c35f"), 0.17, 0.58),
    "water": (("#aad3df",), 0.14, 0.91),
    "green": (("#c8df9f", "#aed1a0"), 0.08, 0.42),
    "rail": (("#8a8a8a",), 0.0, None),
}
REST = {
    "ms_ssim": 0.71,
    "lpips": 0.2113,
    "within_5": 0.412,
    "within_10": 0.573,
    "mean_iou": 0.6841,
    "road_f1": 0.7712,
    "edge_f1": 0.6904,
    "fid": 142.51,
    "kid": 0.09134,
    "inception_score": 2.413,
    "frechet_lite0": 88.4,
    "kernel_lite0": 0.2311,
    "is_lite0": 2.215,
}


@cache
def scenes(count, side):
    painted = [paint(seed, size=side) for seed in range(count)]
    return np.stack([scene.photo for scene in painted]), np.stack([scene.street_map for scene in painted])


def draw(true, *, blur, noise, seed=0):
    """Draw as a model that has seen little: the true maps out of focus, worse from pair to pair, and some noise."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(true))
    blurred = [
        gaussian_filter(image.astype(float), (blur * (0.3 + place / len(true)),) * 2 + (0,))
        for image, place in zip(true, order, strict=True)
    ]
    return np.clip(np.stack(blurred) + random.normal(0, noise, true.shape), 0, 255).astype(np.uint8)


def tallies(drawn, true):
    return {name: Tally.mean(function(drawn, true)) for name, function in PAIRED.items()}


def rest(n, *, factor=1.0, names=tuple(REST)):
    """Make scores up that need networks; a factor above 1 makes all of them worse."""
    values = {name: REST[name] * (factor if METRICS[name].lower_is_better else 1 / factor) for name in names}
    return {name: Score(value=value, low=value * 0.94, high=value * 1.06, n=n) for name, value in values.items()}


def measured(drawn, true, **rests):
    return {name: bootstrap(tally) for name, tally in tallies(drawn, true).items()} | rest(len(true), **rests)


def index(names, *, source="kaggle://vikramtiwari/pix2pix-dataset/versions/1#maps", train=1096):
    def pair(name):
        return Pair(name=name, files=(f"/data/{name}.jpg",), sha256="ab" * 32, size=(600, 600))

    return PairIndex(
        source=source,
        train=tuple(pair(f"train/{number}") for number in range(train)),
        val=tuple(pair(name) for name in names),
        rejected=(Rejected(name="train/77", reason="broken"),),
        fingerprint="9b7e" * 16,
    )


def curve(steps, *, seed=0):
    """Make the losses of a training up, with held-out scores every 500 steps."""
    random = np.random.default_rng(seed)
    taken = []
    for step in range(1, steps + 1):
        age = step / steps
        losses = {
            "generator_loss": 30 * np.exp(-3 * age) + random.gamma(2, 1),
            "generator_adversarial_loss": 0.7 + 1.6 * age + random.gamma(2, 0.25),
            "generator_l1_loss": 0.08 + 0.4 * np.exp(-6 * age) + random.gamma(2, 0.008),
            "discriminator_loss": 1.2 * np.exp(-age) + random.gamma(2, 0.1),
        }
        if step % 500 == 0:
            losses |= {"val_l1": 9 + 14 * np.exp(-4 * age), "val_ssim": 0.72 - 0.4 * np.exp(-4 * age)}
        taken.append(StepLosses(step, 1e9 + step, {name: float(value) for name, value in losses.items()}))
    return taken


def evaluation(count=12, *, side=64, steps=3000, blur=2.0, noise=2.0, worse=1.15, **changes):
    """Make the evaluation of a model that is good, but for one score; changes go to the fields of `Scores`."""
    sources, true = scenes(count, side)
    drawn = draw(true, blur=blur, noise=noise)
    names = tuple(changes.pop("names", [f"val/{number:04d}" for number in range(1, count + 1)]))
    flat = np.broadcast_to(np.median(true, axis=(0, 1, 2)).astype(np.uint8), true.shape)
    mean = np.broadcast_to(true.mean(axis=0).astype(np.uint8), true.shape)
    rests = {"median_colour": (flat, 2.5), "mean_map": (mean, 2.2), "source_copied": (sources, 1.9)}
    baselines = {name: measured(images, true, factor=factor) for name, (images, factor) in rests.items()}
    real = REST["is_lite0"] * 1.4
    nearest = {"is_lite0": Score(value=real, low=real * 0.94, high=real * 1.06, n=count)}
    baselines["nearest_map"] = measured(np.roll(true, 1, axis=0), true, factor=1.7) | nearest
    model = measured(drawn, true)
    as_trained = model | measured(draw(true, blur=blur / worse**2, noise=noise / 2), true)
    pairs = index(names)
    network = NetworkConfig(image_size=side, depth=5)
    config = RunConfig(network=network)
    values = {
        "run_id": RUN,
        "pairs": count,
        "data_source": pairs.source,
        "data_fingerprint": pairs.fingerprint,
        "direction": "photo_to_map",
        "model_sha256": "5d" * 32,
        "model": model,
        "as_trained": {name: as_trained[name] for name in ("l1", "psnr", "ssim")},
        "baselines": baselines,
        "classes": tuple(
            ClassScore(
                name=name,
                colours=colours,
                share=share,
                iou=None if iou is None else Score(value=iou, low=iou - 0.06, high=iou + 0.05, n=count),
            )
            for name, (colours, share, iou) in CLASSES.items()
        ),
        "names": names,
        "each": {name: tuple(function(drawn, true).tolist()) for name, function in PAIRED.items()},
        "notes": ("FID falls with the number of images: 12 are too few to compare it with published values.",),
    }
    return Evaluation(
        scores=Scores(**values | changes),
        record=RunRecord(run_id=RUN, config=config, steps=steps, seconds=1834.2, images_per_second=5.46),
        manifest=BundleManifest(
            network=network,
            direction="photo_to_map",
            signature=signature(network),
            opset=18,
            sha256="5d" * 32,
            parity=Parity(max_difference=2.4e-6, limit=1e-4, photos=4),
            run_id=RUN,
            data_fingerprint=pairs.fingerprint,
            code_revision="7d5aa20",
        ),
        pairs=pairs,
        curve=curve(steps),
        sources=sources,
        drawn=drawn,
        targets=true,
        command=f"sat2map evaluate --run {RUN}",
    )


def comparison(count=12, *, side=64, blurs=(2.5, 1.2), names=None):
    """Make a comparison of a run with sharper or softer ones; returns it and its pictures."""
    sources, true = scenes(count, side)
    runs = (RUN, OTHER, *(f"{number:x}" * 32 for number in range(1, len(blurs) - 1)))
    drawn = {run: draw(true, blur=blur, noise=1, seed=seed) for seed, (run, blur) in enumerate(zip(runs, blurs))}  # noqa: B905
    found = {run: tallies(images, true) for run, images in drawn.items()}
    compared = Comparison(
        runs=runs[: len(blurs)],
        pairs=count,
        data_source="sample",
        data_fingerprint="9b7e" * 16,
        names=names or tuple(f"val/{number:04d}" for number in range(count)),
        scores={run: measured(images, true, names=("road_f1", "frechet_lite0")) for run, images in drawn.items()},
        gains={
            run: {name: gain(name, paired_difference(mine[name], found[RUN][name])) for name in mine}
            for run, mine in found.items()
            if run != RUN
        },
        each={run: tuple(mine["l1"].of_each().tolist()) for run, mine in found.items()},
        notes=("Intervals know nothing of the luck of a training run.",),
    )
    return compared, sources, true, drawn
