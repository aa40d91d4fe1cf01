"""Make tests/golden/torch_networks.npz: small networks and what PyTorch computes with them.

    python tests/golden/make_torch_networks.py

Each case is a pag_resnet of `pagnp.nn` (options and seed below, so its weights come from NumPy); torch gets those
weights. Kept per case: the input, each output in float64, the largest error of torch's own float32 run, and the
decisions of every gate. `command` and `torch_version` are in the file.
"""

import json
from pathlib import Path

import numpy as np

HEAD = {"task": "segmentation", "classes": 5, "hidden": [8, 8]}
SMALL = {"depth": 26, "width": 0.125, "heads": {"labels": HEAD}}
POOL = {"block": "layer4.1", "rates": [0, 1, 2, 4]}
CASES = {
    "gated-conv1-os8": {**SMALL, "gate_bias": 0.0, "seed": 1},
    "blur-conv2-os16-tied": {
        **SMALL,
        "stride_on": "conv2",
        "output_stride": 16,
        "gate_blur": True,
        "gate_bias": 0.1,
        "multipool": {**POOL, "tied": True},
        "seed": 2,
    },
    "soft-multipool-soft": {**SMALL, "gate_mode": "soft", "multipool": {**POOL, "mode": "soft"}, "seed": 3},
    "gumbel-hard-torch": {**SMALL, "gate_mode": "gumbel_hard", "gate_form": "torch", "gate_bias": 0.0, "seed": 4},
    "gumbel-soft-2018": {
        **SMALL,
        "gate_mode": "gumbel_soft",
        "gate_temperature": 0.7,
        "multipool": {**POOL, "mode": "gumbel_hard"},
        "seed": 5,
    },
    "four-heads-res6": {
        "depth": 26,
        "width": 0.125,
        "gated": ["layer1.0", "layer2.0", "layer3.1"],
        "stride_on": "conv2",
        "res6": 16,
        "in_channels": 4,
        "gate_bias": 0.0,
        "heads": {
            "labels": {**HEAD, "hidden": []},
            "depth": {"task": "depth", "unit": "m", "hidden": [8]},
            "normals": {"task": "normals", "hidden": [8, 8]},
            "boundary": {"task": "boundary", "hidden": [8, 8, 8]},
        },
        "seed": 6,
    },
}
SIZE = (41, 59)
PATH = Path(__file__).with_name("torch_networks.npz")


def network_input(case):
    """Return the case's input (1, h, w, c): smooth in part, so that gates see areas."""
    rng = np.random.default_rng(1000 + case["seed"])
    coarse = rng.standard_normal((1, 6, 8, case.get("in_channels", 3)))
    fine = rng.standard_normal((1, *SIZE, case.get("in_channels", 3)))
    grown = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, : SIZE[0], : SIZE[1]]
    return (grown + 0.3 * fine).astype(np.float32)


def run_torch(case, dtype):
    """Return ({output: array (n, c, h, w)}, {gate: decisions}) of torch with the weights of pagnp.nn."""
    import torch

    import pagnp.nn
    from pagnp.torch import nn
    from pagnp.torch.check import engine_noise

    options = {key: value for key, value in case.items() if key != "seed"}
    model = nn.pag_resnet(**options)
    state = {key: torch.from_numpy(array) for key, array in pagnp.nn.pag_resnet(**case).weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    model.eval().to(dtype)
    units = {name: unit for name, unit in model.named_modules() if isinstance(unit, nn.GateUnit)}
    for unit in units.values():
        unit.noise_source = engine_noise
    x = torch.from_numpy(network_input(case)).permute(0, 3, 1, 2).to(dtype)
    with torch.no_grad():
        outputs = {name: value.double().numpy() for name, value in model(x).items()}
    hard = {name.rpartition(".")[0]: u for name, u in units.items() if u.mode.endswith("hard")}
    return outputs, {name: u.chosen.argmax(dim=1).numpy().astype(np.uint8) for name, u in hard.items()}


def main():
    import torch

    arrays = {
        "command": np.array("python tests/golden/make_torch_networks.py"),
        "torch_version": np.array(torch.__version__),
    }
    for name, case in CASES.items():
        truth, decisions = run_torch(case, torch.float64)
        single, same = run_torch(case, torch.float32)
        assert all((decisions[gate] == same[gate]).all() for gate in decisions), f"{name}: choose another seed"
        arrays[f"{name}/options"] = np.array(json.dumps(case, sort_keys=True))
        for output, value in truth.items():
            arrays[f"{name}/output/{output}"] = value
            arrays[f"{name}/torch_error/{output}"] = np.abs(single[output] - value).max()
        for gate, chosen in decisions.items():
            arrays[f"{name}/decisions/{gate}"] = chosen
    np.savez_compressed(PATH, **arrays)
    print(f"{PATH.name}: {PATH.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
