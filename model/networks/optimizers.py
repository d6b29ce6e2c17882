"""Adam in one pass over each weight, and a linear decay of the learning rate."""

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras' Adam with TensorFlow's fused kernel as its update.

    The formula is the same (Kingma & Ba 2015, end of section 2). Keras uses about twelve operations, each of which
    reads and writes arrays as large as the weights; at batch 1 that is a large part of a training step.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update one weight and both of its moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.constant(self.beta_1, tf.float32), step),
            beta2_power=tf.pow(tf.constant(self.beta_2, tf.float32), step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )


class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate that is constant at first and then falls linearly to zero.

    The authors' code decays over the second half of 200 epochs (github.com/phillipi/pix2pix).
    """

    def __init__(self, learning_rate: float, *, steps: int, share: float) -> None:
        """Decay from `learning_rate` to zero over the last `share` of `steps`."""
        self.learning_rate, self.share = learning_rate, share
        # A variable, because a training by minutes learns only on its way how many steps it has.
        self.steps = tf.Variable(steps, trainable=False, dtype=tf.int64)

    def starting_at(self, learning_rate: float) -> "LinearDecay":
        """Return the decay from another learning rate over the same steps, also if those change later."""
        other = LinearDecay(learning_rate, steps=0, share=self.share)
        other.steps = self.steps
        return other

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate after `step` finished steps."""
        steps = tf.cast(self.steps, tf.float32)
        left = (steps - tf.cast(step, tf.float32)) / tf.maximum(1.0, self.share * steps)
        return self.learning_rate * tf.clip_by_value(left, 0.0, 1.0)

    def get_config(self) -> dict[str, float]:
        """Return the arguments of the constructor, for Keras."""
        return {"learning_rate": self.learning_rate, "steps": int(self.steps), "share": self.share}
