"""Export: our networks give the builder's graph; foreign networks translate; what cannot is listed with its place."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pagnp[torch])")

from test_nn import MAKER  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import pagnp.nn  # noqa: E402
import pagnp.torch  # noqa: E402
from pagnp import modelfile  # noqa: E402
from pagnp.errors import ExportError  # noqa: E402
from pagnp.lower import lower  # noqa: E402
from pagnp.model import Model  # noqa: E402
from pagnp.torch import nn as pag  # noqa: E402
from pagnp.torch.export import _export as export_and_check  # noqa: E402

CONFIGS = {
    **MAKER.CASES,
    "resnet50": {"depth": 50, "width": 0.125, "multipool": {"mode": "soft"}, "heads": MAKER.SMALL["heads"]},
    "ungated": {**MAKER.SMALL, "gated": None, "output_stride": 32},
    "heads": {
        **MAKER.SMALL,
        "heads": {
            "rooms": {
                "task": "segmentation",
                "classes": ["wall", "floor"],
                "palette": [[1, 2, 3], (4, 5, 6)],
                "upsample": {"op": "bilinear_deconv", "factor": 8},
            },
            "depth": {"task": "depth", "decode": "exp10", "unit": "m"},
        },
    },
}


def options_of(case):
    return {key: value for key, value in case.items() if key != "seed"}


def loaded(case):
    """The torch network of a case with the builder's weights, in train mode."""
    model = pag.pag_resnet(**options_of(case))
    state = {key: torch.from_numpy(array) for key, array in pagnp.nn.pag_resnet(**case).weights.items()}
    model.load_state_dict(state, strict=False)
    return model


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("name", list(CONFIGS))
def test_export_gives_the_builders_graph(name):
    case = CONFIGS[name]
    built = pagnp.nn.pag_resnet(**case)
    exported = pagnp.torch.to_graph(loaded(case), torch.zeros(1, case.get("in_channels", 3), 32, 32))
    assert exported.to_json() == built.to_json()
    assert exported.weights.keys() == built.weights.keys()
    assert all(np.array_equal(exported.weights[key], built.weights[key]) for key in built.weights)


@pytest.mark.parametrize("name", list(MAKER.CASES))
def test_golden_outputs_recomputed(name):
    """This torch still computes what the golden file says (its own float64 run, to float64's rounding)."""
    golden = np.load(MAKER.PATH)
    outputs, decisions = MAKER.run_torch(MAKER.CASES[name], torch.float64)
    for gate, chosen in decisions.items():
        assert np.array_equal(chosen, golden[f"{name}/decisions/{gate}"])
    for output, value in outputs.items():
        np.testing.assert_allclose(value, golden[f"{name}/output/{output}"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["blur-conv2-os16-tied", "gumbel-hard-torch"])
def test_exported_file(name, tmp_path):
    """The check passes, the mode is restored, a second export has the same bytes, the file reads back."""
    case = CONFIGS[name]
    model, x = loaded(case), nchw(MAKER.network_input(case))
    attributes = set(vars(model))
    report = pagnp.torch.export(model, tmp_path / "a.h5", x, backend="numpy")
    pagnp.torch.export(model, tmp_path / "b.h5", x, backend="numpy")
    assert model.training and model.layer1[0].gate.training and set(vars(model)) == attributes
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert report.check.ok and report.check.decisions > 100 and report.check.flips <= report.check.decisions // 100
    assert "labels: largest error" in str(report) and "fall differently" in str(report)
    assert modelfile.read(tmp_path / "a.h5").to_json() == pagnp.nn.pag_resnet(**case).to_json()


class SkipBlock(nn.Module):
    """Somebody's own gate: a score, a comparison, torch.where."""

    def __init__(self, c):
        super().__init__()
        self.score = nn.Conv2d(c, 1, 1)
        self.conv = nn.Conv2d(c, c, 3, padding="same", bias=False)
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x):
        mask = self.score(x) > 0.1
        return torch.where(mask, F.relu(self.bn(self.conv(x)), inplace=True), x)


class Foreign(nn.Module):
    """A network that knows nothing of pagnp."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.2))
        self.block = SkipBlock(8)
        self.refine = nn.Conv2d(8, 8, (1, 3), padding=(0, 2), dilation=(1, 2), groups=4)
        self.up = nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, repeat=2):
        y = self.stem(x)
        for _ in range(repeat):
            y = self.block(y)
        attended = y * torch.sigmoid(self.pool(y))
        branch = torch.where(y[:, 2:3] > attended[:, :1], self.refine(y), torch.zeros_like(y))
        attended += self.scale * branch
        h, w = x.shape[-2:]
        up = F.interpolate(attended, size=(h, w), mode="bilinear", align_corners=False)
        return {"labels": torch.cat([self.up(attended), up], dim=1), "map": attended[:, 0:1]}


def foreign():
    torch.manual_seed(7)
    model = Foreign()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 16, 16))  # running statistics
    return model.eval()


def test_a_foreign_network_exports_and_is_perforated(tmp_path):
    model, x = foreign(), torch.randn(1, 3, 20, 28)
    heads = [
        {"name": "labels", "task": "segmentation", "output": "labels", "upsample": {"op": "none"}, "decode": "argmax"}
    ]
    preprocess = {"kind": "caffe", "mean": [1, 2, 3], "pad_multiple": 4}
    report = pagnp.torch.export(model, tmp_path / "f.h5", x, preprocess, heads, backend="numpy")
    assert report.check.ok and report.check.decisions == 3 * 10 * 14
    graph = modelfile.read(tmp_path / "f.h5")
    assert (graph.preprocess, graph.heads) == (preprocess, heads)
    assert graph.gates() == ["block.compare", "block.compare_1", "compare"]
    assert graph.nodes["block.conv_1"].weights == {"weight": "block.conv.weight"}  # the block is used twice
    plan = lower(Model(graph, backend="numpy")._canonical, 20, 28)
    assert {step.layer.name for step in plan.steps if step.kind == "conv2d" and step.sites is not None} == {
        "block.relu",
        "block.relu_1",
        "refine",
    }


class Call(nn.Module):
    """A module of one expression, behind a conv so that the input is no network output."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.function = nn.Conv2d(4, 4, 3, padding=1), function
        self.one, self.vector = nn.Parameter(torch.tensor([1.5])), nn.Parameter(torch.randn(1, 4, 1, 1))
        self.relu, self.wide = nn.ReLU(inplace=True), nn.Parameter(torch.zeros(4, 4, 1, 1, dtype=torch.float64))
        self.layers = nn.ModuleDict({"act": nn.LeakyReLU(), "fc": nn.Linear(4, 4)})

    def forward(self, x):
        return self.function(self, self.conv(x))


def _parts(s, x):
    a, b = x.chunk(2, 1)
    c, d = x.split([1, 3], dim=1)
    return torch.cat((b, a, c, d), dim=1)


# name -> (expression, ops of the graph behind the conv)
SUPPORTED = {
    "pads": (lambda s, x: F.max_pool2d(F.pad(x, (1, 0, 2, 3)), 2), "pad max_pool2d"),
    "avg-pool-ceil": (lambda s, x: F.avg_pool2d(x, 3, 2, 1, True, False), "avg_pool2d"),
    "max-pool-dilated": (lambda s, x: F.max_pool2d(x, 2, 1, 1, dilation=2, ceil_mode=True), "max_pool2d"),
    "pool-to-one": (
        lambda s, x: x + F.adaptive_avg_pool2d(x, 1) - x.mean((-1, -2), keepdim=True),
        "global_mean add global_mean sub",
    ),
    "scale-2": (lambda s, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True), "bilinear"),
    "nearest-size": (lambda s, x: F.interpolate(x, (9, 5)), "nearest"),
    "size-of-another": (lambda s, x: F.interpolate(F.max_pool2d(x, 2), x.size()[2:]), "max_pool2d nearest"),
    "twice-its-size": (lambda s, x: F.interpolate(x, (2 * x.shape[2], x.size(3) * 3)), "nearest"),
    "scalars": (lambda s, x: 1 - 2 / (x * x + 1.5) * s.one + (-x), "mul add div mul sub mul add"),
    "own-functions": (lambda s, x: torch.log(torch.exp(x.sigmoid()) + 1), "sigmoid exp add log"),
    "softmax": (lambda s, x: F.softmax(x, dim=1) + torch.softmax(x, -3), "softmax*2 add"),
    "chunks": (_parts, "slice_channels*4 concat"),
    "dots": (lambda s, x: x[..., :, :][:, -2:], "slice_channels"),
    "stride": (lambda s, x: x[:, :, ::2, ::3].contiguous().clone(), "max_pool2d"),
    "not": (lambda s, x: torch.where(~(x[:, :1] <= 0.2), x, -x), "slice_channels compare logical_not mul select"),
    "where-zero-first": (lambda s, x: torch.where(x[:, :1] > 0, 0.0, x), "slice_channels compare logical_not masked"),
    "masked-fill": (
        lambda s, x: x.masked_fill(torch.ge(x[:, :1], x[:, 1:2]), 0),
        "slice_channels*2 compare logical_not masked",
    ),
    "mask-as-number": (
        lambda s, x: x * (x[:, :1] != 0).to(x.dtype) + (x[:, :1] > 0),
        "slice_channels compare to_float mul slice_channels compare to_float add",
    ),
    "without-channel-axis": (
        lambda s, x: torch.where((x[:, 0] > x[:, 1]).unsqueeze(1), x, s.one * x),
        "slice_channels*2 compare mul select",
    ),
    "argmax-is": (lambda s, x: torch.where(x.argmax(1, keepdim=True) == 2, x, x * 3), "argmax compare mul select"),
    "mirrored-comparison": (lambda s, x: torch.where(0.1 < x[:, :1], x, x + 1), "slice_channels compare add select"),
    "in-place": (lambda s, x: (s.relu(x), x.add_(1), x)[2] + x, "relu add add"),
    "dropout": (lambda s, x: F.dropout(x + 0, training=s.training).detach().float(), "add"),
}


@pytest.mark.parametrize("name", list(SUPPORTED))
def test_supported_expressions(name):
    function, ops = SUPPORTED[name]
    model, x = Call(function), torch.randn(2, 4, 7, 8)
    graph, report = export_and_check(model, x, None, None, "numpy")
    want = []
    for op in ops.split():
        op, _, times = op.partition("*")
        want += [op] * int(times or 1)
    assert [node.op for node in graph.nodes.values()][1:] == want
    assert report.ok
    with torch.no_grad():
        truth = model.eval()(x)
    got = Model(graph, backend="numpy").forward(np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()))["output"]
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), truth.numpy(), rtol=2e-5, atol=2e-5)


def _branching(s, x):
    return x if x.sum() > 0 else -x


UNSUPPORTED = {
    "gelu": (lambda s, x: F.gelu(x), r"test_torch_export.py:\d+\): gelu\(\) is not supported"),
    "leaky": (lambda s, x: s.layers["act"](x), r"layers.act \(test_torch_export.py:\d+\): layer LeakyReLU is not"),
    "linear": (lambda s, x: s.layers["fc"](x), r"layers.fc .*: layer Linear is not supported"),
    "fraction": (lambda s, x: F.interpolate(x, scale_factor=1.5), "scale_factor=1.5; only whole numbers"),
    "bicubic": (lambda s, x: F.interpolate(x, scale_factor=2, mode="bicubic"), "interpolate with mode='bicubic'"),
    "mask-channels": (lambda s, x: torch.where(x > 0, x, -x), "a mask has one channel"),
    "softmax-rows": (lambda s, x: x.softmax(2), "softmax over dim=2; only over channels"),
    "cat-rows": (lambda s, x: torch.cat([x, x], 2), "cat over dim=2; only over channels"),
    "mean-channels": (lambda s, x: x.mean(1, keepdim=True), "mean over 1 with keepdim=True; only"),
    "double": (lambda s, x: x.to(torch.float64), "conversion to torch.float64; only float32"),
    "double-weight": (lambda s, x: F.conv2d(x, s.wide), "weight 'wide' is torch.float64, need float32"),
    "reflect": (lambda s, x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "pad with mode='reflect'"),
    "negative-pad": (lambda s, x: F.pad(x, (-1, 0, 0, 0)), r"pad by \[-1, 0, 0, 0\]"),
    "vector": (lambda s, x: x * s.vector, r"arithmetic with parameter 'vector' \(1, 4, 1, 1\)"),
    "crop": (lambda s, x: x[:, :, 1:-1], r"indexing by .* only channels"),
    "kept-dropout": (lambda s, x: F.dropout(x), "F.dropout with training=True"),
    "two-indices": (lambda s, x: F.max_pool2d(x, 2, return_indices=True)[0], r"max_pool2d_with_indices\(\) is not"),
    "no-batch-statistics": (lambda s, x: F.batch_norm(x, None, None), "batch_norm with the statistics of the batch"),
    "mask-output": (lambda s, x: x[:, :1] > 0, "output 'output' is a mask"),
    "control-flow": (_branching, r"torch.fx cannot trace it: symbolically traced variables"),
    "unknown-argument": (
        lambda s, x: torch.add(x, x, out=None),
        "add.. called in a way that is not supported: .*'out'",
    ),
}


@pytest.mark.parametrize("name", list(UNSUPPORTED))
def test_unsupported_expressions_say_what_and_where(name, tmp_path):
    function, message = UNSUPPORTED[name]
    with pytest.raises(ExportError, match=message) as caught:
        pagnp.torch.export(Call(function), tmp_path / "no.h5", torch.randn(1, 4, 8, 8))
    assert len(caught.value.problems) >= 1 and list(tmp_path.iterdir()) == []


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ELU())
        self.bn = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        y = self.bn(self.body(x))
        return torch.cumsum(y, dim=2)


def test_every_unsupported_thing_is_listed():
    model = Broken()
    with pytest.raises(ExportError) as caught:
        pagnp.torch.to_graph(model, torch.zeros(1, 3, 8, 8))
    assert [what for _, what in caught.value.problems] == [
        "Conv2d with padding_mode='reflect'; only 'zeros'",
        "layer ELU is not supported",
        "BatchNorm2d without running statistics (track_running_stats=False)",
        "cumsum() is not supported",
    ]
    where = [place for place, _ in caught.value.problems]
    assert where[0].startswith("body.0 (test_torch_export.py:") and where[3].startswith("the module itself (test_")
    assert str(caught.value).startswith("export: 4 things in the module cannot be expressed:\n  body.0 (")
    assert model.training


def test_control_flow_names_the_module_and_the_other_layers():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Call(_branching), nn.GELU())
    with pytest.raises(ExportError) as caught:
        pagnp.torch.to_graph(model, torch.zeros(1, 3, 8, 8))
    assert caught.value.problems[0][0].startswith("1 (test_torch_export.py:")
    assert ("2", "layer GELU is not supported (if it is called)") in caught.value.problems


@pytest.mark.parametrize("x", [torch.zeros(1, 3, 8, 8).double(), torch.zeros(3, 8, 8), "image.png"])
def test_example_input_is_checked(x):
    with pytest.raises(ExportError, match=r"example_input: is .*, need a float32 tensor \(n, c, h, w\)"):
        pagnp.torch.to_graph(foreign(), x)


def test_gates_without_an_index_get_one():
    torch.manual_seed(0)
    model = nn.Sequential(pag.GatedBottleneck(8, 4), pag.GatedBottleneck(16, 4, index=0), pag.GatedBottleneck(16, 4))
    with pytest.raises(ExportError, match="gate_index 0 is used by two gates"):
        pagnp.torch.to_graph(model, torch.zeros(1, 8, 6, 6))
    model[1].gate.unit.gate_index = None
    graph = pagnp.torch.to_graph(model, torch.zeros(1, 8, 6, 6))
    assert [graph.nodes[name].attrs["gate_index"] for name in graph.gates()] == [0, 1, 2]


def _planted(monkeypatch, change):
    """Let the check see a graph in which `change(graph)` has planted an error."""
    from pagnp.torch import check as checking

    right = checking.network.check

    def wrong(graph, *args):
        graph = replace(graph, nodes=dict(graph.nodes), weights={k: w.copy() for k, w in graph.weights.items()})
        change(graph)
        return right(graph, *args)

    monkeypatch.setattr(checking.network, "check", wrong)


def _one_percent(graph):
    weight = graph.weights["block.conv.weight"].reshape(-1)
    weight[np.argmax(np.abs(weight))] *= np.float32(1.01)


def _other_comparison(graph):
    graph.nodes["block.compare"] = replace(graph.nodes["block.compare"], attrs={"op": "lt", "value": 0.0})


@pytest.mark.parametrize(
    ("change", "where"),
    [(_one_percent, ["block.relu", "block.relu_1"]), (_other_comparison, ["block.compare"])],
    ids=["weight", "gate"],
)
def test_a_disagreement_is_an_error_and_nothing_is_written(change, where, tmp_path, monkeypatch):
    """The check must be able to fail, for an error of 1 % in one weight and for a decision turned round."""
    _planted(monkeypatch, change)
    with pytest.raises(ExportError, match=r"pagnp and torch disagree(.|\n)*OUT OF BOUND") as caught:
        pagnp.torch.export(foreign(), tmp_path / "no.h5", torch.randn(2, 3, 12, 12), backend="numpy")
    assert [name for name, _ in caught.value.problems] == where and list(tmp_path.iterdir()) == []
