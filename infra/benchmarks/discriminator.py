"""Train a discriminator on the maps of a finished generator, once for each view of the pairs, and print its accuracy.

    python infra/benchmarks/discriminator.py workspace/runs/ID

A discriminator with random weights is trained on the run's training pairs and the maps that its generator draws of
them; the generator stays as it is. The accuracy is the share of patches that are judged right: 0.5 is guessing.
"""

import sys
from itertools import product
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from model.networks import losses
from model.networks.keras_file import load_generator
from model.networks.layers import FAST
from model.networks.optimizers import FusedAdam
from model.networks.pix2pix import build_discriminator
from model.networks.view import View
from model.pixels import to_tensor
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.data.standardisation import measure
from pipelines.run_folder import RunFolder

STEPS, BATCH, RATE = 120, 4, 2e-4


def accuracy(on_real, on_drawn):
    n = len(on_real)
    shares = (
        losses.share_right(on_real, real=True, global_batch=n),
        losses.share_right(on_drawn, real=False, global_batch=n),
    )
    return float(sum(shares)) / 2


def trial(view, network, trained, held_out):
    """Return the accuracy in each quarter of the steps, and on held-out pairs."""
    discriminator = build_discriminator(network, seed=0, layer_set=FAST)
    optimizer = FusedAdam(RATE, beta_1=0.5)
    optimizer.build(discriminator.trainable_variables)

    @tf.function
    def step(photo, street_map, drawn):
        with tf.GradientTape() as tape:
            on_real, on_drawn = view.logits(discriminator, photo, [street_map, drawn])
            loss = losses.adversarial(on_real, real=True, global_batch=BATCH)
            loss += losses.adversarial(on_drawn, real=False, global_batch=BATCH)
        gradients = tape.gradient(loss, discriminator.trainable_variables)
        optimizer.apply_gradients(zip(gradients, discriminator.trainable_variables, strict=True))
        return on_real, on_drawn

    random, found = np.random.default_rng(0), []
    for _ in range(STEPS):
        chosen = random.choice(len(trained[0]), BATCH, replace=False)
        # Turned and mirrored, so that it can't learn the pairs by heart.
        turns, flip = random.integers(4), random.choice([1, -1])
        batch = [np.ascontiguousarray(np.rot90(images[chosen], turns, (1, 2))[:, ::flip]) for images in trained]
        found.append(accuracy(*step(*batch)))
    photo, street_map, drawn = held_out
    last = accuracy(*view.logits(discriminator, photo, [street_map, drawn]))
    return [*np.array(found).reshape(4, -1).mean(axis=1), last]


def main():
    run = RunFolder(Path(sys.argv[1]))
    config, pairs = run.config(), PairIndex.load(run.pairs_file)
    generator = load_generator(run.generator)
    sets = []
    for part in (pairs.train, pairs.val):
        source, target = map(to_tensor, load_all(part, side=config.network.image_size, direction=config.data.direction))
        sets.append((source, target, np.concatenate([generator(image[None], training=False) for image in source])))
    levels = measure(pairs.train, config)
    keras.config.set_dtype_policy(config.training.precision)
    print("| batches | standardised | steps 1-30 | 31-60 | 61-90 | 91-120 | held out |")
    print("|---|---|---|---|---|---|---|")
    for joint, standardised in product((False, True), (False, True)):
        numbers = trial(View(joint, levels if standardised else None), config.network, *sets)
        names = "joint" if joint else "separate", "yes" if standardised else "no"
        print("|", " | ".join([*names, *(f"{number:.2f}" for number in numbers)]), "|", flush=True)


if __name__ == "__main__":
    main()
