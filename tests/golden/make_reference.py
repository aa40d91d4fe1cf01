"""Write reference.npz: what PyTorch computes in every layer of a small gated network, for `pagnp compare --reference`.

    python tests/golden/make_reference.py

The network is a pag_resnet of `pagnp.nn` (CASE below, so its weights come from NumPy); torch gets those weights. The
versions are beside, in reference.json: the archive holds nothing but arrays that the network knows.
"""

import json
import sys
from pathlib import Path

import numpy as np

CASE = {
    "depth": 26,
    "width": 0.125,
    "gate_bias": 0.0,
    "gated": ["layer1.0", "layer2.0", "layer3.1", "layer4.0"],
    "multipool": {"block": "layer4.1", "rates": [0, 1, 2], "hidden": [8, 8]},
    "heads": {"labels": {"task": "segmentation", "classes": 5, "hidden": [8, 8]}},
    "seed": 21,
}
SIZE = (17, 27)
HERE = Path(__file__).resolve().parent
PATH = HERE / "reference.npz"
COMMAND = "python tests/golden/make_reference.py"


def network_input():
    """Return the input (1, h, w, 3): smooth in part, so that gates see areas."""
    rng = np.random.default_rng(21)
    coarse = rng.standard_normal((1, 3, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)[:, : SIZE[0], : SIZE[1]]
    return (coarse + 0.3 * rng.standard_normal((1, *SIZE, 3))).astype(np.float32)


def main():
    import torch
    import torch_record

    import pagnp.nn
    from pagnp.torch import nn

    options = {key: value for key, value in CASE.items() if key != "seed"}
    net = torch_record.filled(nn.pag_resnet(**options), pagnp.nn.pag_resnet(**CASE))
    arrays = torch_record.hooked(net, torch.from_numpy(network_input()).permute(0, 3, 1, 2))
    np.savez_compressed(PATH, **arrays)
    about = {"command": COMMAND, "torch": torch.__version__, "numpy": np.__version__}
    PATH.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"{PATH.name}: {len(arrays)} arrays, {PATH.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
    main()
