"""The torch-free builder: configurations, names, random weights; and its networks against PyTorch's golden outputs."""

import importlib.util
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import pagnp.nn
from pagnp.canonical import canonical
from pagnp.errors import GraphError, UsageError
from pagnp.lower import lower
from pagnp.model import Model
from pagnp.nn import GraphBuilder
from pagnp.nn.spec import resnet_spec, scale_channels
from pagnp.runner import execute

HEADS = {"labels": {"task": "segmentation", "classes": 4}}
GOLDEN = Path(__file__).parent / "golden"


def load_maker():
    spec = importlib.util.spec_from_file_location("make_torch_networks", GOLDEN / "make_torch_networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = load_maker()


def network(**options):
    return pagnp.nn.pag_resnet(**{"depth": 26, "width": 0.125, "heads": HEADS, **options})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"depth": 18}, "pag_resnet: depth 18 is unknown; choose one of 26, 50, 101"),
        ({"output_stride": 4}, "pag_resnet: output_stride 4 is unknown; choose one of 8, 16, 32"),
        ({"stride_on": "conv3"}, "pag_resnet: stride_on 'conv3' is unknown; choose one of conv1, conv2"),
        ({"gated": ["layer9.0"]}, "pag_resnet: gated block 'layer9.0' does not exist; the last is layer4.1"),
        ({"heads": None}, "pag_resnet: no heads"),
        ({"heads": {"a": {"task": "flow"}}}, "head 'a': task 'flow' is unknown; choose one of segmentation"),
        ({"heads": {"a": {"task": "segmentation"}}}, "head 'a': segmentation needs classes"),
        ({"heads": {"a": {"task": "depth", "colour": 1}}}, "head 'a': no option colour; it takes task"),
        ({"gate_mode": "open"}, "gate: mode 'open' is unknown; choose one of hard, soft, gumbel_hard, gumbel_soft"),
        ({"gate_form": "2018"}, "gate: form '2018' is unknown; choose one of kong2018, torch"),
        ({"gate_temperature": 0}, "gate: temperature 0.0 is not positive"),
        ({"multipool": {"block": "layer5.0"}}, "pag_resnet: multipool block 'layer5.0' does not exist"),
        ({"multipool": {"rates": [1, 1]}}, "MultiPool: rates [1, 1] must be two or more different integers"),
        ({"multipool": {"kind": "x"}}, "pag_resnet: multipool has no option kind"),
        ({"gated": 3}, "pag_resnet: gated is 3, need 'all', None or a list of blocks"),
        ({"gated": "layer1.0"}, "pag_resnet: gated is 'layer1.0', need 'all', None or a list of blocks"),
        ({"multipool": 5}, "pag_resnet: multipool is 5, need a dict"),
        ({"multipool": {"rates": 5}}, "MultiPool: rates is 5, need a list"),
        ({"multipool": {"hidden": 3}}, "pag_resnet: multipool hidden is 3, need a list"),
        ({"heads": {"a": {"task": "depth", "hidden": 5}}}, "head 'a': hidden is 5, need a list"),
        ({"heads": {"a": {"task": "depth", "hidden": [-1]}}}, "head 'a': hidden is [-1], need a list"),
        ({"heads": {"a": {"task": "depth", "upsample": "bilinear"}}}, "head 'a': upsample is 'bilinear', need a dict"),
        ({"multipool": {"block": "layer2.0"}}, "multipool cannot stand in layer2.0, which has stride 2"),
        (
            {"multipool": {"block": "layer4.1"}, "gated": ["layer4.1"]},
            "pag_resnet: block 'layer4.1' cannot be gated, it holds the MultiPool",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UsageError) as caught:
        network(**options)
    assert str(caught.value).startswith(message) or message in str(caught.value)


@pytest.mark.parametrize("channels, width, want", [(64, 1.0, 64), (64, 0.25, 16), (64, 0.05, 8), (512, 0.3, 152)])
def test_channels_are_multiples_of_8(channels, width, want):
    assert scale_channels(channels, width) == want


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("stride_on", ["conv1", "conv2"])
def test_output_stride(output_stride, stride_on):
    graph = network(output_stride=output_stride, stride_on=stride_on)
    value = graph.infer(96, 64)[graph.outputs["labels"]]
    assert (value.h, value.w, value.c) == (96 // output_stride, 64 // output_stride, 4)
    assert graph.preprocess["pad_multiple"] == output_stride


def test_resnet50_has_the_shipped_models_gates():
    spec = resnet_spec(depth=50, multipool={"block": "layer4.1"}, heads=HEADS)
    assert sum(block.gated for block in spec.blocks) == 15  # PAG.md section 1: res5_2 holds MultiPool
    assert [block.gate_index for block in spec.blocks] == list(range(16))
    assert [block.c_out for block in spec.blocks if block.name.endswith(".0")] == [256, 512, 1024, 2048]


def test_resnet50_costs_what_pag_md_says():
    graph = canonical(pagnp.nn.pag_resnet(depth=50, multipool=None, heads=HEADS))
    plan = lower(graph, 480, 640)
    backbone = sum(macs for name, macs in plan.macs.items() if not name.startswith("heads") and ".gate" not in name)
    assert round(backbone / 1e9, 1) == 116.3  # PAG.md section 6
    assert round(sum(plan.macs[name] for name in plan.gated) / 1e9, 1) == 55.9


def test_same_seed_same_weights():
    first, again, other = network(seed=5), network(seed=5), network(seed=6)
    assert first.to_json() == again.to_json() == other.to_json()
    assert all(np.array_equal(first.weights[key], again.weights[key]) for key in first.weights)
    assert not np.array_equal(first.weights["conv1.weight"], other.weights["conv1.weight"])


def test_names_are_torchvisions_where_torchvision_has_the_layer():
    graph = network(stride_on="conv2", multipool={"block": "layer4.1", "rates": [0, 1]})
    for key in ("conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer1.0.gate.conv.bias"):
        assert key in graph.weights
    assert graph.weights["layer4.1.multipool.branches.1.conv.weight"].shape == (64, 64, 3, 3)
    assert graph.nodes["layer1.0.select"].inputs == ("layer1.0.gate", "layer1.0.relu1", "layer1.0.relu2")
    assert graph.nodes["layer2.0.select"].inputs[1] == "layer2.0.max_pool2d"  # a skipped pixel carries x1[s*oy, s*ox]
    assert graph.nodes["layer2.0.gate.conv"].inputs == ("layer1.1.relu3",)  # the gate reads the block's input
    assert graph.nodes["layer4.1.multipool.select"].inputs[1] == "layer4.1.relu1"  # rate 0 copies


def test_tied_branches_share_one_weight():
    graph = network(multipool={"block": "layer4.1", "rates": [1, 2, 4], "tied": True})
    keys = {graph.nodes[f"layer4.1.multipool.branches.{i}.conv"].weights["weight"] for i in range(3)}
    assert keys == {"layer4.1.multipool.conv.weight"}


def run(graph, x, backend="numpy"):
    """Return ({output: array}, {gate: mask or index}) of a graph."""
    model = Model(graph, backend=backend)
    plan = lower(model._canonical, *x.shape[1:3])
    decisions = {}
    keep = lambda name, array: decisions.setdefault(name, array.copy())  # noqa: E731
    got = execute(plan, model.backend, model._parameters, x, watch=keep)
    return {name: got.value(node) for name, node in graph.outputs.items()}, decisions


def test_random_networks_behave():
    """Activations stay near one; with gate_bias 0 the gates are, taken together, about half open."""
    shares = []
    for seed in range(3):
        graph = network(seed=seed, gate_bias=0.0)
        outputs, decisions = run(graph, MAKER.network_input({"seed": seed}))
        assert 0.1 < outputs["labels"].std() < 30
        shares += [decisions[name].mean() for name in graph.gates()]
    assert 0.25 < np.mean(shares) < 0.75


def test_builder_by_hand():
    g = GraphBuilder(channels=2, seed=0)
    x = g.relu(g.norm(g.conv("input", 4, kernel=3, padding=1, name="conv"), name="bn"), name="relu")
    mask = g.gate(g.conv(x, 2, kernel=1, bias=True, name="score"), name="gate")
    y = g.select(mask, (x, g.conv(x, 4, kernel=(3, 1), padding=(1, 0), name="wide")), name="select")
    y = g.bilinear(g.max_pool(y, kernel=2, name="pool"), like="input", name="up")
    graph = g.finish({"both": g.concat([y, x], name="cat")})
    assert graph.infer(6, 8)["cat"].shape == (6, 8, 8)
    assert graph.nodes["gate"].attrs["gate_index"] == 0
    assert Model(graph, backend="numpy").forward(np.ones((1, 6, 8, 2), np.float32))["both"].shape == (1, 6, 8, 8)


@pytest.mark.parametrize("name", list(MAKER.CASES))
def test_golden_outputs_of_torch(name, backend_name):
    """Every decision as torch's; every output within 16 times torch's own distance from float64."""
    golden = np.load(MAKER.PATH)
    case = MAKER.CASES[name]
    assert json.loads(str(golden[f"{name}/options"])) == json.loads(json.dumps(case)), "run make_torch_networks.py"
    outputs, decisions = run(pagnp.nn.pag_resnet(**case), MAKER.network_input(case), backend_name)
    for key in (key for key in golden.files if key.startswith(f"{name}/decisions/")):
        assert np.array_equal(decisions[key.rpartition("/")[2]], golden[key]), key
    for output, got in outputs.items():
        want = golden[f"{name}/output/{output}"].transpose(0, 2, 3, 1)
        bound = 16 * max(float(golden[f"{name}/torch_error/{output}"]), 2.0**-23 * np.abs(want).max())
        error = np.abs(got - want).max()
        assert error <= bound, f"{output}: error {error}, bound {bound}"


@pytest.mark.parametrize(
    "add, message",
    [
        (lambda g: g.conv("nothing", 4, kernel=1, name="a"), "there is no node 'nothing' yet; the image is 'input'"),
        (lambda g: g.select("input", ("input", "none"), name="a"), "node 'a': .*'none'"),
        (lambda g: g.node("sigmoyd", "input", name="a"), "node 'a': unknown op 'sigmoyd'"),
        (lambda g: g.node("avg_pool2d", "input", name="a", kernel=[2, 2]), "node 'a' .*avg_pool2d"),
        (lambda g: g.gate("input", name="a"), "node 'a' .*the logits have 3 channels, need 2"),
        (lambda g: g.add("input", g.conv("input", 2, kernel=1, name="b"), name="a"), "node 'a' .*cannot be combined"),
        (lambda g: g.conv("input", 4, kernel=3, stride=0, name="a"), "node 'a' .*stride"),
        (lambda g: g.conv("input", 4, kernel=3, groups=2, name="a"), "node 'a' .*weight expects 2 input channels"),
        (lambda g: g.conv("input", 4, kernel=3, groups=0, name="a"), "node 'a' .*0 groups; need whole numbers"),
        (lambda g: g.conv("input", 4, kernel=0, name="a"), "node 'a' .*kernel 0"),
        (lambda g: g.conv("input", 4, kernel=(3,), name="a"), "is no number and no pair"),
        (lambda g: g.conv("input", 4, kernel=3, padding=(1, 2, 3), name="a"), "is no number and no pair"),
        (lambda g: g.node("conv2d", "input", name="a", weights={"weight": "zz"}), "node 'a' .*no weight 'zz'"),
        (lambda g: g.gate("input", name="a", index=7), "node 'a' .*the logits have 3 channels, need 2"),
    ],
)
def test_a_mistake_in_a_network_is_found_where_it_is_made(add, message):
    g, untouched = GraphBuilder(), GraphBuilder()
    with pytest.raises(GraphError, match=message):
        add(g)
    assert "a" not in g.graph.nodes and not [key for key in g.graph.weights if key.startswith("a.")]
    if not g.graph.nodes:  # nothing was right before it: as if it had never been called
        for each in (g, untouched):
            each.gate(each.conv("input", 2, kernel=3, name="a"), name="gate")
        assert np.array_equal(g.graph.weights["a.weight"], untouched.graph.weights["a.weight"])
        assert g.graph.nodes == untouched.graph.nodes


def test_sizes_may_be_numpys_whole_numbers():
    g, plain = GraphBuilder(), GraphBuilder()
    g.conv("input", np.int64(4), kernel=np.int64(3), name="a")
    plain.conv("input", 4, kernel=3, name="a")
    assert g.graph.nodes == plain.graph.nodes and g.channels == plain.channels
    for wrong in ({"kernel": 3.0}, {"kernel": 3, "groups": True}):
        with pytest.raises(GraphError, match="node 'b' .*need whole numbers of 1 or more"):
            g.conv("input", 4, name="b", **wrong)


def test_a_shared_weight_has_to_fit():
    g = GraphBuilder()
    g.conv("input", 8, kernel=3, name="first", shared="w")
    g.conv("input", 8, kernel=3, name="second", padding=(1, 2), shared="w")
    assert list(g.graph.nodes["second"].attrs["padding"]) == [1, 1, 2, 2] and list(g.graph.weights) == ["w"]
    with pytest.raises(GraphError, match=r"node 'third' .*'w' has shape \(8, 3, 3, 3\), need \(16, 3, 5, 5\)"):
        g.conv("input", 16, kernel=5, name="third", shared="w")


def test_any_op_can_be_added_by_its_name():
    g = GraphBuilder(channels=4)
    mask = g.node("compare", g.node("slice_channels", "input", name="s", start=1, stop=2), name="m", op="gt", value=0.0)
    x = g.node("masked", (g.conv("input", 6, kernel=3, padding=1, name="c"), mask), name="x")
    assert g.channels == {"input": 4, "s": 1, "m": 1, "c": 6, "x": 6}
    graph = g.finish({"y": x})
    assert graph.gates() == ["m"] and graph.nodes["m"].attrs == {"op": "gt", "value": 0.0}


def test_the_example_of_a_network_runs(tmp_path, monkeypatch, capsys):
    path = GOLDEN.parents[1] / "examples" / "write_a_network.py"
    saved, printed = tmp_path / "model.h5", []
    for arguments in (["--backend", "numpy", "--save", str(saved)], ["--backend", "numba"]):
        monkeypatch.setattr("sys.argv", [path.name, *arguments])
        runpy.run_path(str(path), run_name="__main__")
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    values = dict(line.split(maxsplit=1) for line in printed[0].splitlines())
    executed, dense = (int(number.replace(",", "")) for number in values["MACs"].split(" of "))
    assert values["labels"] == "(240, 320)" and 0 < executed < dense and len(values["digest"]) == 64
    image = path.parent / "images" / "room.png"
    assert pagnp.load(saved, backend="numpy")(str(image)).digest == values["digest"]
