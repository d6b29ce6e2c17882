"""Inference on images of any size: tiling, blending and complete scenes."""
