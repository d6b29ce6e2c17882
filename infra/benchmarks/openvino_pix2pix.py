"""The reference that drawing maps is measured against: OpenVINO's own runtime, on the plain file that tf2onnx makes.

int8 is what NNCF, OpenVINO's own quantiser, makes of that file with its default settings.

    python3 -m venv openvino-env && openvino-env/bin/pip install openvino==2026.4.1 nncf==3.4.0
    openvino-env/bin/python infra/benchmarks/openvino_pix2pix.py --model plain.onnx --precision int8 --batch 8

Prints one JSON line: images per second (median batch) on random input. The int8 model is written beside the plain one
and used again by the next run.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import openvino as ov


def quantise(model, photos, file):
    import nncf

    if not file.exists():
        data = nncf.Dataset([photo[None] for photo in photos])
        quantised = nncf.quantize(model, data, preset=nncf.QuantizationPreset.PERFORMANCE, subset_size=len(photos))
        ov.save_model(quantised, file, compress_to_fp16=False)
    return ov.Core().read_model(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the plain float32 ONNX file")
    parser.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="bf16")
    parser.add_argument("--photos", type=Path, help="float32 (N, S, S, 3) in [-1, 1] as .npy, to calibrate int8 on")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    core = ov.Core()
    model = core.read_model(args.model)
    shape = [args.batch, *(size.get_length() for size in list(model.input().partial_shape)[1:])]
    random = np.random.default_rng(0)
    if args.precision == "int8":
        photos = np.load(args.photos) if args.photos else random.uniform(-1, 1, (16, *shape[1:])).astype(np.float32)
        model = quantise(model, photos, args.model.with_suffix(".int8.xml"))
    # A fixed batch and one stream of all threads: the fastest way to draw one batch after the other.
    model.reshape(shape)
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": args.threads}
    if args.precision != "int8":
        hints["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[args.precision]
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    batch = random.uniform(-1, 1, shape).astype(np.float32)

    def draw():
        request.infer([batch], share_inputs=True, share_outputs=True)

    for _ in range(3):
        draw()
    seconds, end = [], time.perf_counter() + args.seconds
    while len(seconds) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        draw()
        seconds.append(time.perf_counter() - start)
    speed = round(args.batch / statistics.median(seconds), 3)
    settings = {"batch": args.batch, "precision": args.precision, "threads": args.threads}
    print(json.dumps(settings | {"images_per_second": speed}))


if __name__ == "__main__":
    main()
