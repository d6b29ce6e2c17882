"""What runs beside other services: it takes a bundle folder, and never imports TensorFlow."""
