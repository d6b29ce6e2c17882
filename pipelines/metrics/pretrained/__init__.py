"""The pretrained networks that perceptual and set metrics use, in onnxruntime."""
