"""Versions in MLflow's model registry: register, promote, roll back, pull, resolve."""
