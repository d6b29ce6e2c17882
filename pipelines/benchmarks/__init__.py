"""Benchmarks of training and inference on this machine."""
