"""The reference that the training step is measured against: plain Pix2Pix in PyTorch.

The networks are those of model/networks/pix2pix.py (seven-level U-Net, PatchGAN, 64 base filters, 256x256), written
the usual PyTorch way, with the settings a PyTorch user would pick on a processor: bfloat16 autocast, channels_last.

    python3 -m venv torch-env && torch-env/bin/pip install torch==2.13.0
    torch-env/bin/python infra/benchmarks/torch_pix2pix.py --batch 4

Prints one JSON line: images per second (median step) on random input.
"""

import argparse
import json
import os
import statistics
import time

import torch
from torch import nn


class UBlock(nn.Module):
    """One U-Net level: down, the deeper levels, up; the input is concatenated to the output."""

    def __init__(self, outer, inner, channels_in, deeper=None, outermost=False, dropout=False):
        super().__init__()
        self.outermost = outermost
        layers = [] if outermost else [nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(channels_in, inner, 4, 2, 1, bias=False))
        if deeper is not None:
            if not outermost:
                layers.append(nn.BatchNorm2d(inner))
            layers.append(deeper)
        layers += [nn.ReLU(), nn.ConvTranspose2d(inner * (1 if deeper is None else 2), outer, 4, 2, 1, bias=outermost)]
        layers.append(nn.Tanh() if outermost else nn.BatchNorm2d(outer))
        if dropout:
            layers.append(nn.Dropout(0.5))
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        y = self.layers(x)
        return y if self.outermost else torch.cat([x, y], 1)


def generator(base=64, levels=7):
    widths = [min(base * 2**k, base * 8) for k in range(levels)]
    block = UBlock(widths[-2], widths[-1], widths[-2])
    for k in range(levels - 2, 0, -1):
        block = UBlock(widths[k - 1], widths[k], widths[k - 1], block, dropout=k >= levels - 4)
    return UBlock(3, widths[0], 3, block, outermost=True)


def discriminator(base=64):
    layers, channels = [], 6
    for k, width in enumerate([base, base * 2, base * 4, base * 8]):
        layers.append(nn.Conv2d(channels, width, 4, 2, 1, bias=k == 0))
        if k:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.LeakyReLU(0.2))
        channels = width
    layers += [nn.Conv2d(channels, channels, 4, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, 1, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precision", choices=["mixed_bfloat16", "float32"], default="mixed_bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile both networks")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    g, d = (m.to(memory_format=torch.channels_last) for m in (generator(), discriminator()))
    if args.compile:
        g, d = torch.compile(g), torch.compile(d)
    photo, street = (
        torch.rand(args.batch, 3, 256, 256).mul(2).sub(1).contiguous(memory_format=torch.channels_last) for _ in "ab"
    )
    g_adam, d_adam = (torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999)) for m in (g, d))
    bce = nn.BCEWithLogitsLoss()

    def autocast():
        return torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "mixed_bfloat16")

    def target(logits, value):
        return torch.full_like(logits, value, dtype=torch.float32)

    def step():
        with autocast():
            fake = g(photo)
            on_fake = d(torch.cat([photo, fake.detach()], 1)).float()
            on_real = d(torch.cat([photo, street], 1)).float()
        d_adam.zero_grad()
        (0.5 * (bce(on_fake, target(on_fake, 0.0)) + bce(on_real, target(on_real, 1.0)))).backward()
        d_adam.step()
        d.requires_grad_(False)
        with autocast():
            on_fake = d(torch.cat([photo, fake], 1)).float()
        g_adam.zero_grad()
        (bce(on_fake, target(on_fake, 1.0)) + 100 * (fake.float() - street).abs().mean()).backward()
        g_adam.step()
        d.requires_grad_(True)

    step()
    step()
    seconds = []
    for _ in range(args.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    speed = round(args.batch / statistics.median(seconds), 3)
    settings = {"batch": args.batch, "precision": args.precision, "compile": args.compile}
    print(json.dumps(settings | {"images_per_second": speed}))


if __name__ == "__main__":
    main()
