"""The discriminator's view of photos and maps: its batches, their standardisation and random changes."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from model.networks.augmentation import augment
from model.spec import Augmentation, Standardisation


class View(NamedTuple):
    """Changes of the pairs that the discriminator sees; none by default."""

    joint: bool = False
    """True and drawn maps are in one batch, not in one each."""
    standardisation: Standardisation | None = None
    """Means to subtract, and deviations to divide by."""
    augmentations: tuple[Augmentation, ...] = ()
    """Random changes, after the standardisation."""

    def logits(
        self, discriminator: keras.Model, photo: tf.Tensor, maps: Sequence[tf.Tensor], draws: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """Return the discriminator's logits for each of `maps`, (N, P, P, 1); `draws` are those of `augment`."""
        pairs = [self.pairs(photo, street_map, draws) for street_map in maps]
        if not self.joint:
            return [discriminator(pair, training=True) for pair in pairs]
        joint: list[tf.Tensor] = [tf.concat(images, axis=0) for images in zip(*pairs, strict=True)]
        each: list[tf.Tensor] = tf.split(discriminator(joint, training=True), len(maps))
        return each

    def pairs(self, photo: tf.Tensor, street_map: tf.Tensor, draws: tf.Tensor | None = None) -> list[tf.Tensor]:
        """Return photos and maps, each (N, S, S, 3), as the discriminator sees them."""
        if self.standardisation is None and not self.augmentations:
            return [photo, street_map]
        pairs = tf.concat([photo, street_map], axis=-1)
        if self.standardisation is not None:
            pairs = (pairs - self.standardisation.means) / self.standardisation.deviations
        pairs = augment(pairs, draws, self.augmentations)
        return [pairs[..., :3], pairs[..., 3:]]


AS_IN_THE_PAPER = View()
