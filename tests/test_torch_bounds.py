"""Whole networks against PyTorch with every layer recorded: inside the running bounds, and to the bit on integers."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: test_compare_reference.py has a golden file")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812
from torch_record import filled, hooked, traced, with_engine_noise  # noqa: E402

import pagnp  # noqa: E402
from pagnp.backends.base import get_backend  # noqa: E402
from pagnp.contract import compare  # noqa: E402
from pagnp.errorbound import network  # noqa: E402
from pagnp.errorbound.reference import ReferenceFile  # noqa: E402
from pagnp.torch import to_graph  # noqa: E402
from pagnp.torch.nn import Bottleneck, GatedBottleneck, MultiPool, pag_resnet  # noqa: E402

_SPEC = importlib.util.spec_from_file_location(
    "make_torch_networks", Path(__file__).parent / "golden" / "make_torch_networks.py"
)
NETWORKS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(NETWORKS)


def check(graph, arrays, tmp_path, backend="numba"):
    """Return the Report of `graph` against recorded arrays, by way of a file as a user has it."""
    np.savez(tmp_path / "torch.npz", **arrays)
    with ReferenceFile(tmp_path / "torch.npz", graph) as file:
        file.fit(file.input_size(), file.input_size())
        return network.check(graph, file.input(), file, get_backend(backend))


@pytest.mark.parametrize("name", list(NETWORKS.CASES))
def test_pag_networks(name, tmp_path):
    case = NETWORKS.CASES[name]
    graph = pagnp.nn.pag_resnet(**case)
    net = with_engine_noise(filled(pag_resnet(**{k: v for k, v in case.items() if k != "seed"}), graph))
    x = torch.from_numpy(NETWORKS.network_input(case)[:, :17, :25].copy()).permute(0, 3, 1, 2)
    report = check(graph, hooked(net, x), tmp_path)
    assert report.first is None, str(report.first)
    assert len(report.rows) > 100 and not report.missing or case.get("stride_on") == "conv2"
    assert any(row.difference > 0 for row in report.rows if row.kind == "tensor")


def _foreign():
    from test_torch_foreign import GATES, Parts

    return GATES, Parts


@pytest.mark.parametrize("name", list(_foreign()[0]))
def test_foreign_gates(name, tmp_path):
    functions, parts = _foreign()
    net, x = parts(functions[name]), torch.randn(1, 3, 18, 22, generator=torch.Generator().manual_seed(4))
    graph, arrays = traced(net, x)
    report = check(graph, arrays, tmp_path)
    assert report.first is None, str(report.first)
    assert sum(row.decisions for row in report.rows) > 0 and set(report.missing) <= {"to_float", "to_float_1"}
    # Modules alone: what torch.where and comparisons do in between is covered by bounds that run on.
    report = check(graph, hooked(net, x), tmp_path)
    assert report.first is None, str(report.first)
    assert report.missing


class Exact(nn.Module):
    """Small integers and powers of two all along, so that every sum is exact in float32, in any order."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.gated = GatedBottleneck(16, 4, bias=0.0)
        pool = MultiPool(4, [0, 1, 2], hidden=(4, 4))
        self.pooled = Bottleneck(16, 4, multipool=pool)
        self.body, self.logits, self.many = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 2, 1), nn.Conv2d(16, 3, 1)
        self.up, self.last = nn.ConvTranspose2d(16, 16, 4, 2, 1, groups=4), nn.Conv2d(32, 4, 1)
        generator = torch.Generator().manual_seed(25)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                for parameter in module.parameters():
                    kept = torch.rand(parameter.shape, generator=generator) < 12 / max(12, parameter[0].numel())
                    parameter.data = torch.randint(-1, 2, parameter.shape, generator=generator) * kept.float()
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
                module.running_var.fill_(4.0)  # a scale of 1/2 or 1
                module.running_mean = torch.randint(-2, 3, module.bias.shape, generator=generator).float()
                module.weight.data = 2.0 ** torch.randint(0, 2, module.bias.shape, generator=generator)
                module.bias.data = torch.randint(-1, 2, module.bias.shape, generator=generator).float()
        for decision in (self.gated.gate.conv, self.logits):  # both logits of one size, so that neither always wins
            decision.weight.data[1] = decision.weight.data[0].roll(3, 0)
            decision.bias.data.zero_()
        self.last.weight.data[:, 6:] = 0

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        y = torch.cat([F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2)], 1)
        y = self.pooled(self.gated(y))
        z = self.logits(y)
        mask = z[:, 1:] > z[:, :1]
        y = torch.where(mask, F.relu(self.body(y)), y)
        y = torch.where(self.many(y).argmax(1, keepdim=True) == 1, y * 2.0, y - 1)
        y = y + torch.where(~mask, self.body(y), torch.zeros_like(y)) * mask.float()
        wide = F.interpolate(y, scale_factor=2, mode="bilinear") + F.interpolate(y, scale_factor=2)
        wide = wide - self.up(y) / 4
        wide = wide * 0.5 + wide[:, :1] + x.mean((2, 3), keepdim=True)[:, :1]
        return self.last(F.pad(torch.cat([wide, x, x], 1), (1, 2, 0, 1)))


def _steps(array):
    """Return the largest |value| in units of the smallest power of two that divides all."""
    wide, fraction = np.abs(array.astype(np.float64)), 0
    while (wide * 2.0**fraction % 1).any():
        fraction += 1
    return wide.max() * 2.0**fraction


def test_integers_agree_to_the_bit(tmp_path, backend_name):
    net = Exact()
    x = torch.randint(-2, 3, (1, 3, 16, 16), generator=torch.Generator().manual_seed(8)).float()
    graph, arrays = traced(net, x)
    assert {node.op for node in graph.nodes.values()} >= {
        *("conv2d", "conv_transpose2d", "norm", "max_pool2d", "avg_pool2d", "bilinear", "nearest", "global_mean"),
        *("relu", "add", "sub", "mul", "div", "concat", "pad", "slice_channels", "argmax", "compare", "logical_not"),
        *("to_float", "gate", "select", "masked"),
    }
    # The premise: sums of the sizes of what is added, counted in each value's own steps, stay within 24 bits.
    steps = {name: _steps(array) for name, array in arrays.items()}
    assert max(steps.values()) < 2**22
    for node in (node for node in graph.nodes.values() if "weight" in node.weights):
        weight = np.abs(graph.weights[node.weights["weight"]])
        sums = weight.sum(axis=(1, 2, 3) if node.op == "conv2d" else (0, 2, 3))
        assert steps[node.inputs[0]] * (sums.max() + 1) < 2**24, node.name
    report = check(graph, arrays, tmp_path, backend_name)
    assert report.first is None and report.missing == []
    for row in report.rows:
        assert row.difference == 0 and row.ulp in (0, None) and not row.flips and not row.run_flips, str(row)
        assert row.run in (0, None), str(row)
    ours = pagnp.Model(graph, backend=backend_name).forward(np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()))
    want = np.ascontiguousarray(net(x).detach().permute(0, 2, 3, 1).numpy())
    # A sum of zero has no sign of its own in PyTorch.
    assert not compare(ours["output"] + np.float32(0), want + np.float32(0))
    for name in ("gated.gate", "compare", "compare_1"):
        assert 0 < np.count_nonzero(arrays[name]) < arrays[name].size, name
    assert len(np.unique(arrays["pooled.multipool"])) > 1


class Tied(nn.Module):
    """A gate whose two logits are one sum in two orders: their margin is rounding and nothing else."""

    ORDER = (5, 2, 7, 0, 3, 6, 1, 4)

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.logits = nn.Conv2d(16, 2, 1, bias=False)
        weight = torch.randn(8)
        with torch.no_grad():
            self.logits.weight.zero_()
            self.logits.weight[0, :8, 0, 0] = weight
            self.logits.weight[1, 8:, 0, 0] = weight[list(self.ORDER)]

    def forward(self, x):
        x = self.stem(x)
        z = self.logits(torch.cat([x, *(x[:, i : i + 1] for i in self.ORDER)], 1))
        return torch.where(z[:, 1:] > z[:, :1], F.relu(self.body(x)), x)


def test_a_gate_differs_only_inside_its_margin(tmp_path):
    net, x = Tied(), torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(6))
    graph, arrays = traced(net, x)
    logits, decided = "logits", next(node.name for node in graph.nodes.values() if node.op == "compare")
    without = {name: array for name, array in arrays.items() if name in ("input", decided, "select")}
    report = check(graph, without, tmp_path)
    row = next(row for row in report.rows if row.name == decided)
    assert report.first is None, str(report.first)
    assert row.flips > 10 and row.flip_margin < 1e-5  # rounding decides, and decides otherwise
    # Where torch's logits are there, its decisions follow from them and none may differ.
    report = check(graph, arrays, tmp_path)
    row = next(row for row in report.rows if row.name == decided)
    assert report.first is None and row.flips == 0 and row.run_flips > 10 and logits in {r.name for r in report.rows}
    # A decision that rounding does not explain is found.
    net.logits.weight.data[0] += 1.0
    other, recorded = traced(net, x)
    wrong = {name: recorded[name] for name in ("input", decided, "select")}
    wrong[decided] = wrong[decided].copy()
    far = np.unravel_index(int(np.argmax(np.abs(np.diff(recorded[logits], axis=1)))), wrong[decided].shape)
    wrong[decided][far] ^= True
    report = check(other, wrong, tmp_path)
    assert report.first is not None and report.first.name == decided and report.first.place == tuple(far[-2:])


def test_the_recipe_of_the_docs(tmp_path, monkeypatch):
    """The lines of docs/NUMERICS.md, as they stand there, on a network with a layer that is called twice."""
    page = (Path(__file__).parent.parent / "docs" / "NUMERICS.md").read_text()
    recipe = page[page.index("## Against other libraries") :].partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    relu = nn.ReLU(inplace=True)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), relu, nn.Dropout(), nn.Conv2d(4, 4, 1), relu)
    x = torch.randn(1, 3, 9, 11)
    graph = to_graph(net, x)
    exec(recipe, {"torch": torch, "np": np, "net": net, "x": x.clone()})
    with ReferenceFile("torch.npz", graph) as file:
        file.fit((9, 11), (9, 11), skip_unknown=True)
        report = network.check(graph, file.input(), file, get_backend("numpy"))
    assert file.skipped == ["3"] and report.first is None and report.missing == []
    assert [row.name for row in report.rows] == ["0", "1", "2", "4", "2_1"]


def test_float64_arrays_are_held_to_the_same_bounds(tmp_path):
    """A network run in float64 is honest, too; that its values are no float32 counts as an error of ours' inputs."""
    case = NETWORKS.CASES["gated-conv1-os8"]
    graph = pagnp.nn.pag_resnet(**case)
    net = filled(pag_resnet(**{k: v for k, v in case.items() if k != "seed"}), graph).double()
    x = torch.from_numpy(NETWORKS.network_input(case)[:, :17, :25].copy()).permute(0, 3, 1, 2)
    arrays = hooked(net, x.double()) | {"input": x.numpy()}
    report = check(graph, arrays, tmp_path)
    assert report.first is None, str(report.first)
    half = {name: a.astype(np.float16).astype(np.float32) if a.dtype == np.float64 else a for name, a in arrays.items()}
    assert check(graph, half, tmp_path).first is not None  # half precision is not
