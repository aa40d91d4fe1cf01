"""Export of networks as somebody else writes them: gates are perforated, the module is left alone, or we say no."""

import os
import subprocess
import sys
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pagnp[torch])")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import pagnp.torch  # noqa: E402
from pagnp.errors import ExportError  # noqa: E402
from pagnp.model import Model  # noqa: E402
from pagnp.torch.export import _export as export_and_check  # noqa: E402

Answers = namedtuple("Answers", "labels depth")


class Parts(nn.Module):
    """Layers for the functions below to call: forward is `function(self, x)`."""

    def __init__(self, function=None):
        super().__init__()
        torch.manual_seed(3)
        self.function = function
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.logits, self.many = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 3, 1)
        self.norm, self.act, self.up = nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.ConvTranspose2d(8, 8, 2, 2)
        self.alpha, self.kept = nn.Parameter(torch.tensor(0.3)), []
        self.norm.running_mean.normal_()

    def forward(self, x):
        return self.function(self, x)


def gated(decide):
    """A function whose 3x3 runs where `decide(self, x)` says so."""

    def function(s, x):
        x = s.stem(x)
        return torch.where(decide(s, x), F.relu(s.body(x)), x)

    return function


def _chunk(s, x):
    skip, compute = s.logits(x).chunk(2, dim=1)
    return compute > skip


def _k_ways(s, x):
    x = s.stem(x)
    index, y = s.many(x).argmax(1, keepdim=True), x
    for k, factor in ((1, 2.0), (2, 3.0)):
        y = torch.where(index == k, s.body(x * factor), y)
    return y


def _masked(s, x):
    x = s.stem(x)
    z = s.logits(x)
    return x + torch.where(z[:, 1:] > z[:, :1], s.body(x), torch.zeros_like(x))


def _reused(s, x):
    x = s.stem(x)
    mask = s.logits(x)[:, 1:] > s.alpha
    return torch.where(~mask, x, torch.where(mask, s.body(x), s.body(x * 2)))


GATES = {
    "slices": gated(lambda s, x: (lambda z: z[:, 1:] > z[:, :1])(s.logits(x))),
    "argmax": gated(lambda s, x: (s.logits(x).argmax(1) == 1).unsqueeze(1)),
    "sigmoid": gated(lambda s, x: torch.sigmoid(s.logits(x)[:, :1]) > 0.5),
    "softmax": gated(lambda s, x: F.softmax(s.logits(x), 1)[:, 1, None] > 0.5),
    "chunk": gated(_chunk),
    "parameter": gated(lambda s, x: s.logits(x)[:, :1] > s.alpha * 0.5),
    "float-mask": gated(lambda s, x: (s.logits(x)[:, :1] > 0).float() > 0.5),
    "masks-equal": gated(lambda s, x: (s.logits(x)[:, :1] > 0) == (s.logits(x)[:, 1:] > 0)),
    "k-ways": _k_ways,
    "masked": _masked,
    "reused": _reused,
}


@pytest.mark.parametrize("name", list(GATES))
def test_own_gates_are_perforated(name, tmp_path):
    path, x = tmp_path / "m.h5", torch.randn(1, 3, 18, 22)
    report = pagnp.torch.export(Parts(GATES[name]), path, x, {"kind": "caffe", "mean": [90, 90, 90], "pad_multiple": 1})
    assert report.check.ok and report.check.decisions
    model = pagnp.load(path, backend="numpy")
    image = np.random.default_rng(5).integers(0, 255, (18, 22, 3), np.uint8)
    sparse, dense = model(image), model(image, dense=True)
    assert sparse.macs["executed"] < sparse.macs["dense"] == dense.macs["executed"]
    assert sparse.digest == dense.digest


def _global_gate(s, x):
    x = s.stem(x)
    z = s.logits(x.mean((2, 3), keepdim=True))
    return torch.where(z[:, 1:] > z[:, :1], s.body(x), x)


def test_a_whole_image_gate_skips_per_image(tmp_path):
    model, x = Parts(_global_gate), torch.randn(3, 3, 12, 12)
    with torch.no_grad():
        z = model.logits(model.stem(x).mean((2, 3), keepdim=True))
        margin = (z[:, 1] - z[:, 0]).flatten().sort().values
        model.logits.bias[0] += (margin[0] + margin[1]) / 2  # one of the three skips
    pagnp.torch.export(model, tmp_path / "m.h5", x, {"kind": "caffe", "mean": [0, 0, 0], "pad_multiple": 1})
    graph = pagnp.load(tmp_path / "m.h5", backend="numpy").graph
    assert graph.gates() == ["compare"]
    got = Model(graph, backend="numpy").forward(np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()))["output"]
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), model(x).detach().numpy(), rtol=1e-5, atol=1e-5)


def _alias(s, x):
    x = s.stem(x)
    y = x
    x += s.body(x)
    return y * 2 - x


def _in_place_operators(s, x):
    x = s.stem(x)
    y = s.body(x)
    z = y
    y -= x
    y *= 2
    y /= 3
    return s.act(z) + y


def _clones(s, x):
    x = s.stem(x)
    a = x.clone()
    b = a.clone()
    a += 1
    F.relu_(b)
    return a * b - x


def _siblings(s, x):
    a, b = s.stem(x).chunk(2, 1)
    a = s.act(a)
    b += 1
    return torch.cat([a, b], 1)


def _u_net(s, x):
    a = s.stem(x)
    b = s.body(F.max_pool2d(a, 2, ceil_mode=True))
    h, w = a.shape[2:]
    return torch.cat([a, F.interpolate(b, size=(h, w), mode="bilinear", align_corners=True)], 1)


def _own_transposed(s, x):
    return F.conv_transpose2d(s.stem(x), s.up.weight, s.up.bias, 3, 1, 2, 1, 2)


def _own_norm(s, x):
    n = s.norm
    return F.batch_norm(s.stem(x), n.running_mean, n.running_var, n.weight, bias=n.bias, eps=1e-3)


def _half_of_the_channels(s, x):
    y = s.stem(input=x)
    k = y.shape[1] // 2
    return y[:, k:] * y[:, :k]


SUPPORTED = {
    "alias": _alias,
    "in-place-operators": _in_place_operators,
    "clones": _clones,
    "sibling-slices": _siblings,
    "u-net": _u_net,
    "conv_transpose2d": _own_transposed,
    "batch_norm": _own_norm,
    "channel-count": _half_of_the_channels,
    "log-of-zero": lambda s, x: torch.log(F.relu(s.stem(x))),
    "change-of-the-input": lambda s, x: s.stem(x.sub_(0.5)),
}


@pytest.mark.parametrize("name", list(SUPPORTED))
def test_supported(name):
    """The graph computes what the module itself does, not only what torch.fx recorded."""
    model, x = Parts(SUPPORTED[name]), torch.randn(2, 3, 13, 10)
    example = x.clone()
    graph, report = export_and_check(model, example, None, None, "numpy")
    assert report.ok and torch.equal(example, x)
    with torch.no_grad():
        truth = model.eval()(x.clone()).numpy()
    got = Model(graph, backend="numpy").forward(np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()))["output"]
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), truth, rtol=1e-5, atol=1e-5)


def _changed_slice(s, x):
    y = s.stem(x)
    part = y[:, :2]
    part += 1
    return y


def _slice_of_changed(s, x):
    y = s.stem(x)
    part = y[:, :2]
    y += 1
    return part


UNSUPPORTED = {
    "changed-slice": (_changed_slice, "'stem' is read after an in-place change of a tensor that shares its memory"),
    "slice-of-changed": (_slice_of_changed, "'slice_channels' is read after an in-place change"),
    "two-inputs": (None, "forward needs x, y, but one image is all that goes in"),
    "random": (lambda s, x: s.stem(x) + torch.rand(()), "what torch.fx traced is not what the module computes"),
    "wider-zeros": (
        lambda s, x: torch.where(x[:, :1] > 0, x[:, 1:2] * 2, torch.zeros_like(x)),
        "torch.where with zeros of 3 channels beside a tensor of 1",
    ),
    "small-branch": (
        lambda s, x: torch.where(x[:, :1] > 0, x.mean((2, 3), keepdim=True), x),
        "example_input: cannot be run through the network: node 'select'",
    ),
    "size-of-a-mask": (
        lambda s, x: F.interpolate(s.stem(x), size=(x[:, :1] > 0).shape[-2:]),
        "interpolate to the size of a mask",
    ),
    "size-in-a-pool": (lambda s, x: F.avg_pool2d(x, x.shape[-2:]), "that depends on the image's size"),
    "short-split": (lambda s, x: torch.split(s.stem(x), [2, 3], 1)[0], "split of 8 channels into"),
    "one-name-twice": (lambda s, x: {"a": {"b": s.stem(x)}, "a.b": s.body(s.stem(x))}, "two outputs are called 'a.b'"),
    "nothing": (lambda s, x: None, "returns no tensor"),
    "part-of-a-weight": (lambda s, x: F.conv2d(x, s.stem.weight[:4]), r"indexing of parameter 'stem.weight' \(8, 3, 3"),
    "two-numbers": (lambda s, x: torch.where(s.alpha > 0, x, x * 2), "a comparison of two numbers"),
}


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize("name", list(UNSUPPORTED))
def test_unsupported(name, tmp_path):
    function, text = UNSUPPORTED[name]
    with pytest.raises(ExportError, match=text):
        pagnp.torch.export(Parts(function) if function else TwoInputs(), tmp_path / "no.h5", torch.randn(1, 3, 8, 8))
    assert list(tmp_path.iterdir()) == []


def test_every_bad_output_is_listed():
    model = Parts(lambda s, x: {"a": x.argmax(1), "b": (x * 2)[:, 0], "c": x[:, :1] > 0, "d": x, "e": 3, "f": s.alpha})
    with pytest.raises(ExportError) as caught:
        pagnp.torch.to_graph(model, torch.zeros(1, 3, 8, 8))
    assert [what.split(";")[0] for _, what in caught.value.problems] == [
        "output 'a' is an index",
        "output 'b' is a tensor without its channel axis",
        "output 'c' is a mask",
        "output 'd' is the input itself",
        "output 'e' is of type int",
        "output 'f' is parameter 'alpha' ()",
    ]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda s, x: Answers(s.stem(x), s.stem(x)[:, :1]), ["labels", "depth"]),
        (lambda s, x: OrderedDict(out=s.stem(x), aux=[s.stem(x)]), ["out", "aux.0"]),
    ],
)
def test_names_of_outputs(function, names):
    assert list(pagnp.torch.to_graph(Parts(function), torch.zeros(1, 3, 8, 8)).outputs) == names


class Recording(nn.Module):
    """Keeps what it saw, as people do for their sparsity loss; its train() does more than set a flag."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.masks, self.last = [], self.conv(torch.zeros(1, 3, 4, 4)) * 2  # not a leaf: it cannot be deep-copied

    def train(self, mode=True):
        raise RuntimeError("nobody but its owner trains this")

    def forward(self, x, scale=1, name="a", sizes=(2, 3), *, flag=True):
        mask = self.norm(x)[:, :1] > 0
        self.masks.append(mask)
        self.last, self.new = mask, mask
        return torch.where(mask, self.conv(x), x * len(sizes)) if flag and name == "a" else x


def test_the_module_is_left_as_it_was(tmp_path):
    model = nn.Sequential(Recording(), nn.Dropout(0.5), nn.BatchNorm2d(3))
    model[2].training = False
    flags = [m.training for m in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    kept, random = model[0].last, torch.get_rng_state()
    attributes = [set(vars(m)) for m in model.modules()]
    for name in ("a", "b"):
        pagnp.torch.export(model, tmp_path / name, torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1)))
    assert [m.training for m in model.modules()] == flags and [set(vars(m)) for m in model.modules()] == attributes
    assert model[0].last is kept and model[0].masks == []
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and torch.is_grad_enabled()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class Subclass(nn.BatchNorm2d):
    """Changes nothing of what BatchNorm2d computes."""


def test_layers_like_supported_ones():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Subclass(4), nn.SyncBatchNorm(4))
    assert [n.op for n in pagnp.torch.to_graph(model, torch.zeros(1, 3, 4, 4)).nodes.values()] == [
        "conv2d",
        "norm",
        "norm",
    ]


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_looked_through(wrap):
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert list(pagnp.torch.to_graph(wrap(model), torch.zeros(1, 3, 4, 4)).weights) == ["0.weight", "0.bias"]


MODULES = {
    "no module": (lambda m: "net.pt", "module: is a str, need a torch.nn.Module written in Python"),
    "scripted": (torch.jit.script, "module: is a RecursiveScriptModule, need"),
    "weight_norm": (nn.utils.parametrizations.weight_norm, "a weight that is computed from others"),
    "spectral_norm": (nn.utils.spectral_norm, "a weight that is computed from others"),
    "meta": (lambda m: m.to("meta"), "weight 'weight' is on the meta device"),
    "half": (lambda m: m.half(), "weight 'weight' is torch.float16, need float32"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(MODULES))
def test_modules_that_cannot_be_exported(name):
    change, text = MODULES[name]
    changed = change(nn.Conv2d(3, 4, 1))
    with pytest.raises(ExportError, match=text):
        wrapped = changed if name in ("no module", "scripted", "meta", "half") else nn.Sequential(changed)
        pagnp.torch.to_graph(wrapped, torch.zeros(1, 3, 4, 4))


INPUTS = {
    "empty": (torch.zeros(0, 3, 4, 4), "need a float32 tensor"),
    "meta": (torch.zeros(1, 3, 4, 4, device="meta"), "on meta, need a float32 tensor"),
    "nan": (torch.full((1, 3, 4, 4), torch.nan), "has NaN or infinite values"),
    "small": (torch.zeros(1, 3, 2, 2), "example_input: cannot be run through the network: .* use a larger image"),
    "channels": (torch.zeros(1, 5, 8, 8), "weight expects 3 input channels in 1 groups, the input has 5"),
}


@pytest.mark.parametrize("name", list(INPUTS))
def test_example_inputs_that_do_not_fit(name, tmp_path):
    x, text = INPUTS[name]
    with pytest.raises(ExportError, match=text):
        pagnp.torch.export(nn.Sequential(nn.Conv2d(3, 4, 5)), tmp_path / "no.h5", x, backend="numpy")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"heads": [{"name": "a"}]}, r"heads or preprocess \$.heads\[0\]: 'task' is a required property"),
        ({"preprocess": {"kind": "x"}}, r"heads or preprocess \$.preprocess: 'mean' is a required property"),
    ],
)
def test_heads_and_preprocess_are_checked(options, text):
    with pytest.raises(ExportError, match=text):
        pagnp.torch.to_graph(nn.Sequential(nn.Conv2d(3, 4, 1)), torch.zeros(1, 3, 4, 4), **options)


SCRIPT = """
import sys, torch, pagnp.torch
torch.manual_seed(0)
model = pagnp.torch.nn.pag_resnet(depth=26, width=0.125, multipool={}, heads={"d": {"task": "depth"}})
pagnp.torch.export(model, sys.argv[1], torch.ones(1, 3, 24, 24), backend="numpy")
"""


def test_another_process_writes_the_same_bytes(tmp_path):
    """With other hashes of strings, so that no order of a set or dict may matter."""
    here, there = tmp_path / "here", tmp_path / "there"
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, str(there)], check=True, env=environment)
    with torch.random.fork_rng():
        exec(SCRIPT.replace("sys.argv[1]", repr(str(here))), {})
    assert here.read_bytes() == there.read_bytes()
