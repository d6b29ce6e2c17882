"""The Keras networks of Pix2Pix and one training step. Needs TensorFlow."""
