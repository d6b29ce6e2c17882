"""Rewrites of the exported ONNX graph: folding, precision, quantisation."""
