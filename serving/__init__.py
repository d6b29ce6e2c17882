"""The part that runs in services: it takes a bundle folder and never imports TensorFlow."""
