"""Write a gated network without torch, run it on a picture, and see what its gates saved.

    python examples/write_a_network.py [--image FILE] [--save model.h5] [--seed 1]

The weights are random, so the picture is not understood; the work that the gates skip is real.
"""

import argparse
from pathlib import Path

import pagnp
from pagnp import modelfile
from pagnp.nn import GateSpec, GraphBuilder, MultiPoolSpec, conv_norm_relu, multipool, pag_gate

IMAGE = Path(__file__).with_name("images") / "room.png"
CLASSES = ["floor", "wall", "thing"]
GATE = GateSpec(bias=0.0)  # random gates without a bias are about half open


def conv(g, x, c_out, name, **options):
    """conv3x3, norm, relu: three nodes under one name."""
    return conv_norm_relu(g, x, c_out, kernel=3, conv=f"{name}.conv", norm=f"{name}.bn", relu=f"{name}.relu", **options)


def gated_block(g, x, name):
    """A residual block whose convs run only at the pixels that its gate picks; the others pass unchanged."""
    width = g.channels[x]
    mask = pag_gate(g, x, stride=1, gate=GATE, index=None, name=f"{name}.gate")
    y = conv(g, conv(g, x, width, f"{name}.1"), width, f"{name}.2")
    y = g.relu(g.add(x, y, name=f"{name}.add"), name=f"{name}.relu")
    return g.select(mask, (x, y), name=f"{name}.select")  # x where the mask is False, y where it is True


def network(seed):
    """Return the Graph: a stem at a quarter of the size, four gated blocks, a MultiPool, a classifier."""
    g = GraphBuilder(channels=3, seed=seed)
    x = conv(g, conv(g, "input", 16, "stem.1", stride=2), 32, "stem.2", stride=2)
    for i in range(4):
        x = gated_block(g, x, f"block{i}")
    pool = MultiPoolSpec(rates=(0, 1, 2, 4), mode="hard", tied=False, hidden=(16, 8))
    x = multipool(g, x, pool, GATE, None, "pool")
    # Any other op of docs/MODEL_FORMAT.md goes in by its name: here, every channel weighed by its mean over the map.
    weight = g.node("sigmoid", g.node("global_mean", x, name="mean"), name="weight")
    x = g.node("mul", (x, weight), name="attended")
    logits = g.conv(x, len(CLASSES), kernel=1, bias=True, name="classify")
    head = {
        **{"name": "segmentation", "task": "segmentation", "output": "logits", "decode": "argmax"},
        **{"upsample": {"op": "bilinear", "align_corners": False}, "classes": CLASSES},
    }
    preprocess = {"kind": "torchvision", "mean": [0.5] * 3, "std": [0.25] * 3, "pad_multiple": 4}
    return g.finish({"logits": logits}, [head], preprocess)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default=IMAGE)
    parser.add_argument("--save", help="also write a model file, for `pagnp run --weights`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()

    graph = network(options.seed)
    if options.save:
        modelfile.write(graph, options.save, overwrite=False)
    result = pagnp.Model(graph, options.backend)(options.image)
    print(f"labels  {result.outputs['segmentation'].shape}")
    for name, mask in result.masks.items():
        print(f"kept    {mask.mean():6.1%}  {name}")
    print(f"MACs    {result.macs['executed']:,} of {result.macs['dense']:,}")
    print(f"digest  {result.digest}")


if __name__ == "__main__":
    main()
