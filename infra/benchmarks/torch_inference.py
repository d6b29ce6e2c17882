"""The reference that drawing maps is measured against: the generator in PyTorch.

The network is that of infra/benchmarks/torch_pix2pix.py, channels_last, in inference mode; with `--compile` its weights
are frozen into the program that inductor writes.

    python3 -m venv torch-env && torch-env/bin/pip install torch==2.13.0
    torch-env/bin/python infra/benchmarks/torch_inference.py --precision bf16 --compile --batch 8

Prints one JSON line: images per second (median batch) on random input.
"""

import argparse
import json
import os
import statistics
import time

import torch
from torch_pix2pix import generator


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[args.precision]
    network = generator().eval().to(dtype, memory_format=torch.channels_last)
    if args.compile:
        network = torch.compile(network, options={"freezing": True})
    photos = torch.rand(args.batch, 3, 256, 256).mul(2).sub(1).to(dtype).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode() if not args.compile else torch.no_grad():
        for _ in range(3):
            network(photos)
        end = time.perf_counter() + args.seconds
        while len(seconds) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            network(photos)
            seconds.append(time.perf_counter() - start)
    speed = round(args.batch / statistics.median(seconds), 3)
    settings = {"batch": args.batch, "precision": args.precision, "compile": args.compile, "threads": args.threads}
    print(json.dumps(settings | {"images_per_second": speed}))


if __name__ == "__main__":
    main()
