"""Export of a trained generator to a bundle of ONNX files."""
