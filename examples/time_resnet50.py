"""Time PAG-ResNet-50 (output stride 8, 16 gates, random weights) on the CPU, beside PyTorch where it is installed.

    python examples/time_resnet50.py --size 480x640 --threads 2 --rounds 5

Rounds are interleaved, so that a machine whose speed drifts is fair to all; prints medians, spread and ratios.
PyTorch runs the same architecture with every branch computed (torch.where), batch norm folded, channels_last.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rooms.make import parse_size

import pagnp
from pagnp import nn

HEAD = {"segmentation": {"task": "segmentation", "classes": 19}}


def threshold_for(model, x, keep):
    """Return the gate threshold that keeps about `keep` of the gated work, by bisection over what the gates do."""
    low, high = -64.0, 64.0
    for _ in range(12):
        middle = (low + high) / 2
        share = gated_share(model, x, middle)
        low, high = (middle, high) if share > keep else (low, middle)
    return middle, share


def gated_share(model, pixels, threshold):
    """Return the share of the gated convs' MACs done at that threshold."""
    macs = model(pixels, threshold=threshold).macs
    return macs["gated_executed"] / macs["gated_dense"]


def torch_runner(size, threads):
    """Return a function that runs the same network in torch, or None where torch is missing."""
    try:
        import torch
        from torch.nn.utils.fusion import fuse_conv_bn_eval

        from pagnp.torch.nn import pag_resnet
    except ImportError:
        return None
    torch.set_num_threads(threads)
    net = pag_resnet(depth=50, gated="all", heads=HEAD).eval()
    for module in net.modules():
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
            if isinstance(getattr(module, norm, None), torch.nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, torch.nn.Identity())
    net = net.to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, *size).to(memory_format=torch.channels_last)

    def run():
        with torch.inference_mode():
            net(x)

    return run


def measure(runs, rounds):
    """Return name -> list of seconds, the runs taken in turn."""
    seconds = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    """Parse the command line, build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=(480, 640))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=float, nargs="*", default=[0.5])
    args = parser.parse_args()
    model = pagnp.Model(nn.pag_resnet(depth=50, gated="all", heads=HEAD, gate_bias=0), threads=args.threads)
    x = np.random.default_rng(0).standard_normal((1, *args.size, 3)).astype(np.float32)
    pixels = np.random.default_rng(0).integers(0, 256, (*args.size, 3), np.uint8)
    runs = {"dense": lambda: model.forward(x, dense=True)}
    for keep in args.keep:
        threshold, share = threshold_for(model, pixels, keep)
        runs[f"keep {share:.2f}"] = lambda threshold=threshold: model.forward(x, threshold=threshold)
    peer = torch_runner(args.size, args.threads)
    if peer is not None:
        runs["torch"] = peer
    seconds = measure(runs, args.rounds)
    base = statistics.median(seconds["torch" if peer else "dense"])
    print(f"{model.plan(args.size).macs / 1e9:.1f} GMAC, {args.threads} threads, {args.rounds} rounds")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:12} {middle:7.3f} s  ({min(values):.3f} - {max(values):.3f})  ratio {middle / base:.2f}")


if __name__ == "__main__":
    main()
