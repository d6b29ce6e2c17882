"""Evaluate, compare, and gate models on held-out pairs."""
