"""ONNX models of graphs, run by ONNX's reference evaluator and by ONNX Runtime: each node within its bound of ours."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'pagnp[onnx]')")

import onnx_graph  # noqa: E402
from onnx_rows import ROWS, row_id  # noqa: E402
from random_graphs import grow  # noqa: E402
from random_graphs_recipe import Recipe  # noqa: E402

import pagnp  # noqa: E402
import pagnp.onnx  # noqa: E402
from pagnp import modelfile, opset  # noqa: E402
from pagnp.canonical import canonical  # noqa: E402
from pagnp.cli.main import main  # noqa: E402
from pagnp.errors import BackendError, ExportError, ShapeError, UsageError  # noqa: E402
from pagnp.graph import INPUT  # noqa: E402
from pagnp.onnx import nodes  # noqa: E402

ROOMS = Path(__file__).resolve().parent.parent / "examples" / "models" / "rooms-seg.h5"
NEWEST = min(22, onnx.defs.onnx_opset_version())  # that is run here; newer ones are checked by the checker
SEEDS = range(30)  # python tests/test_onnx.py FIRST LAST runs others


@pytest.fixture(params=list(onnx_graph.RUNS))
def run(request):
    """The name of each of the two that run ONNX models."""
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    elif tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 17):
        pytest.skip(f"the evaluator of onnx {onnx.__version__} knows no groups in ConvTranspose")
    return request.param


@pytest.fixture(scope="module")
def small():
    """A gated network with a MultiPool and all kinds of heads."""
    heads = {
        "labels": {"task": "segmentation", "classes": 5, "hidden": [8]},
        "depth": {"task": "depth", "decode": "exp10", "hidden": [8]},
        "normals": {"task": "normals", "hidden": [8], "upsample": {"op": "bilinear_deconv", "factor": 8}},
        "boundary": {"task": "boundary", "hidden": [8], "upsample": {"op": "nearest"}},
    }
    multipool = {"block": "layer4.1", "rates": [0, 1, 2], "mode": "hard", "tied": True, "hidden": [8, 8]}
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gate_bias": 0.0}
    return pagnp.nn.pag_resnet(seed=1, gated="all", multipool=multipool, heads=heads, **options)


def test_every_op_is_written_and_has_rows():
    assert set(nodes.OPS) == set(opset.OPS)
    assert {row.op for row in ROWS} == set(opset.OPS)


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_an_op(row, run):
    graph, x = row.graph(), row.input()
    for size, version in ((row.size, 17), (None, 17), (row.size, 13), (None, NEWEST)):
        if size is None and row.fixed:
            continue
        proto = pagnp.onnx.model(graph, size=size, opset=version)
        onnx.checker.check_model(proto, full_check=True)
        if run == "evaluator" and onnx_graph.evaluator_errs(proto):
            continue
        found = onnx_graph.check(graph, proto, x, run)
        if row.exact:
            assert all(part.difference == 0 for part in found), [str(part) for part in found if part.difference]


def check_seed(seed, run):
    """Check the graph of a seed, as loaded or canonical, with its size fixed or free; return the Rows."""
    g = grow(Recipe(seed))
    joined = g.finish()
    graph = joined if seed % 2 else g.graph
    h, w = g.values[INPUT].h, g.values[INPUT].w
    x = np.random.default_rng(seed).standard_normal((1, h, w, graph.channels)).astype(np.float32)
    try:
        proto = pagnp.onnx.model(graph, size=(h, w) if seed % 3 else None, opset=(13, 15, 17, NEWEST)[seed % 4])
    except ExportError:  # a ceil mode that depends on the size
        proto = pagnp.onnx.model(graph, size=(h, w))
    onnx.checker.check_model(proto, full_check=True)
    if run == "evaluator" and onnx_graph.evaluator_errs(proto):
        return []
    try:
        return onnx_graph.check(graph, proto, x, run)
    except Exception as error:
        raise AssertionError(f"seed {seed}, {run}: {error}") from error


def test_random_graphs(run):
    rows = [row for seed in SEEDS for row in check_seed(seed, run)]
    assert len(rows) > 150 and sum(row.decisions for row in rows) > 300
    assert any(row.difference > 0 for row in rows)


def test_the_shipped_model(run):
    model = pagnp.load(ROOMS, backend="numba")
    x = np.random.default_rng(3).uniform(-2, 2, (1, 32, 40, 3)).astype(np.float32)
    proto = pagnp.onnx.model(ROOMS, size=(32, 40))
    onnx_graph.check(model.graph, proto, x, run)
    (name,) = model.graph.outputs
    (got,) = onnx_graph.RUNS[run](proto, {"input": onnx_graph.nchw(x)})
    want = model.forward(x)[name]
    assert np.abs(onnx_graph.ours(got) - want).max() < 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("size", [(24, 40), None], ids=["fixed", "free"])
def test_heads_are_decoded_when_asked_for(small, size, run):
    x = np.random.default_rng(4).standard_normal((1, 24, 40, 3)).astype(np.float32)
    proto = pagnp.onnx.model(small, size=size, decode=True)
    onnx.checker.check_model(proto, full_check=True)
    rows = onnx_graph.check(small, proto, x, run)
    assert {row.name for row in rows} >= {f"outputs/{head['name']}" for head in small.heads}
    shapes = {o.name: [d.dim_value or d.dim_param for d in o.type.tensor_type.shape.dim] for o in proto.graph.output}
    assert shapes["outputs/labels"] == ([1, 1, 24, 40] if size else ["batch", 1, "", ""])


def test_a_free_batch_gives_what_single_images_give(small, run):
    x = np.random.default_rng(5).standard_normal((3, 16, 24, 3)).astype(np.float32)
    free, three = pagnp.onnx.model(small), pagnp.onnx.model(small, size=(16, 24), batch=3)
    for proto in (free, three):
        for got, name in zip(onnx_graph.RUNS[run](proto, {"input": onnx_graph.nchw(x)}), small.outputs, strict=True):
            want = pagnp.Model(small, backend="numba").forward(x)[name]
            assert np.abs(onnx_graph.ours(got) - want).max() < 1e-4


def test_onnx_runtime_fuses_norms_adds_and_relus(tmp_path):
    """A norm that stays, or an add that its conv does not take in, would make ONNX Runtime slower than it is."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = pagnp.nn.pag_resnet(depth=26, width=0.25, gated="all", heads={"depth": {"task": "depth"}})
    for form in (graph, canonical(graph)):
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        content = pagnp.onnx.model(form, size=(32, 32)).SerializeToString()
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        kept = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        assert not {"BatchNormalization", "Mul", "Sub"} & set(kept)
        assert kept.count("Greater") == kept.count("Where") == len(graph.gates())
        assert kept.count("Relu") + kept.count("Add") <= 2 * 8  # at most those of a block's end, never of a norm


def test_what_onnx_has_no_place_for_is_kept(small):
    proto = pagnp.onnx.model(small)
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(kept["pagnp.preprocess"]) == small.preprocess
    assert json.loads(kept["pagnp.heads"]) == small.heads
    assert set(json.loads(kept["pagnp.gates"])) == {n.name for n in small.nodes.values() if n.op == "gate"}
    assert kept["pagnp.model_hash"] == modelfile.model_hash(small)
    assert (proto.producer_name, proto.producer_version) == ("pagnp", pagnp.__version__)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert all((weights[key] == array).all() for key, array in small.weights.items())
    assert {node.name for node in proto.graph.node} >= set(small.nodes)


def test_inputs_and_outputs_have_their_names_and_shapes():
    proto = pagnp.onnx.model(_clashing())
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes["input"] == ["batch", 2, "height", "width"] and shapes["gate.noise"][1] == 2
    assert list(shapes)[2:] == ["b", "a", "twice", "w"]
    x = np.random.default_rng(1).standard_normal((2, 2, 3, 4)).astype(np.float32)
    outputs = onnx_graph.by_evaluator(proto, {"input": x, "gate.noise": np.zeros_like(x)})
    assert (outputs[0] == x * 2).all() and (outputs[1] == x * 2 + 1).all() and (outputs[2] == outputs[0]).all()


def _clashing():
    """Nodes, outputs, weights and noise that share names: outputs that swap two names, one node for two outputs."""
    g = pagnp.Graph(2)
    g.weights["b"] = np.ones((2, 2, 1, 1), np.float32)
    g.add("mul", "input", "a", value=2.0)
    g.add("add", "a", "b", value=1.0)
    g.add("gate", "a", "gate", mode="gumbel_hard", form="torch", temperature=1.0, gate_index=0)
    g.add("relu", "b", "gate.noise")
    g.add("select", ("gate", "gate.noise", "b"), "c")
    g.add("conv2d", "c", "d", {"weight": "b"}, stride=[1, 1], padding=[0] * 4, dilation=[1, 1], groups=1)
    g.outputs = {"b": "a", "a": "b", "twice": "a", "w": "d"}
    return g.validate()


def _unsupported():
    """Two poolings whose last window depends on the size, and an output that is called like the input."""
    g = pagnp.Graph(1)
    window = {"kernel": [2, 2], "stride": [3, 3], "padding": [0, 1, 0, 0], "ceil_mode": True}
    g.add("max_pool2d", "input", "first", dilation=[1, 1], **window)
    g.add("avg_pool2d", "first", "second", count_include_pad=True, **window)
    g.outputs = {"input": "second"}
    return g.validate()


def test_everything_that_cannot_be_expressed_is_listed_and_nothing_written(tmp_path, monkeypatch):
    with pytest.raises(ExportError) as caught:
        pagnp.onnx.export(_unsupported(), tmp_path / "out.onnx")
    assert [where for where, _ in caught.value.problems] == [
        *("output 'input'", "first (max_pool2d)", "second (avg_pool2d)")
    ]
    assert "3 things" in str(caught.value) and "give a size" in str(caught.value)
    monkeypatch.setattr(sys.modules["pagnp.onnx.export"], "MOST_BYTES", 15)
    with pytest.raises(ExportError, match="weights: are .* GiB, an ONNX file holds less than 2"):
        pagnp.onnx.export(_clashing(), tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"opset": 12}, UsageError, "opset is 12, need 13 to"),
        ({"opset": 1000}, UsageError, "opset is 1000"),
        ({"batch": 2}, UsageError, "a size beside it"),
        ({"size": (16, 16), "batch": 0}, UsageError, "batch is 0"),
        ({"size": (0, 16)}, UsageError, "need \\(h, w\\)"),
        ({"size": (1, 1)}, ShapeError, "node 'y'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        pagnp.onnx.model(ROWS[0].graph(), **options)


def test_the_same_graph_gives_the_same_bytes(small, tmp_path):
    modelfile.write(small, tmp_path / "model.h5")
    files = [tmp_path / f"{i}.onnx" for i in range(3)]
    pagnp.onnx.export(small, files[0])
    pagnp.onnx.export(small, files[1])
    pagnp.onnx.export(tmp_path / "model.h5", files[2])
    assert len({path.read_bytes() for path in files[:2]}) == 1
    onnx.checker.check_model(files[2], full_check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"model.h5", "0.onnx", "1.onnx", "2.onnx"}


def test_the_newest_operator_set_passes_the_checker(small):
    proto = pagnp.onnx.model(small, size=(16, 16), opset=onnx.defs.onnx_opset_version(), decode=True)
    onnx.checker.check_model(proto, full_check=True)


def call(capsys, *arguments):
    code = main(["export-onnx", *map(str, arguments)])
    printed = capsys.readouterr()
    assert printed.err.count("\n") <= 1 and "Traceback" not in printed.err
    return code, printed.out, printed.err


def test_the_command(tmp_path, capsys):
    out = tmp_path / "rooms.onnx"
    assert call(capsys, ROOMS, out, "--size", "32x40", "--opset", 18) == (0, f"{out}\n", "")
    proto = onnx.load(out)
    assert proto.opset_import[0].version == 18
    assert [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 32, 40]
    before = out.read_bytes()
    code, _, error = call(capsys, ROOMS, out)
    assert code == 2 and "exists already" in error and out.read_bytes() == before
    assert call(capsys, ROOMS, out, "--overwrite", "--decode")[0] == 0 and out.read_bytes() != before


def test_the_command_refuses(tmp_path, capsys):
    out = tmp_path / "out.onnx"
    modelfile.write(ROWS[0].graph(), tmp_path / "model.h5")
    modelfile.write(_unsupported(), tmp_path / "unsupported.h5")
    rows = [
        ((tmp_path / "none.h5", out), 3, "none.h5"),
        ((tmp_path / "none.h5", tmp_path / "model.h5", "--overwrite"), 3, "none.h5"),
        ((tmp_path / "model.h5", out, "--size", "16"), 2, "need height x width"),
        ((tmp_path / "model.h5", out, "--opset", "9"), 2, "opset is 9"),
        ((tmp_path / "model.h5", out, "--size", "1x1"), 2, "node 'y'"),
        ((tmp_path / "model.h5", tmp_path / "model.h5", "--overwrite"), 2, "is the input"),
        ((tmp_path / "model.h5", tmp_path / "no" / "out.onnx"), 2, "there is no folder"),
    ]
    for arguments, code, text in rows:
        got, printed, error = call(capsys, *arguments)
        assert (got, printed) == (code, "") and text in error, error
    assert main(["export-onnx", str(tmp_path / "unsupported.h5"), str(out)]) == 1
    assert "first (max_pool2d)" in capsys.readouterr().err and not out.exists()


def test_without_onnx_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name == "onnx" or name.startswith(("onnx.", "pagnp.onnx"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, error = call(capsys, ROOMS, tmp_path / "out.onnx")
    assert code == BackendError.exit_code == 5
    assert error == "pagnp: error: onnx: cannot import onnx; pip install 'pagnp[onnx]'\n"


def main_of_seeds():
    """Check the graphs of a range of seeds and print what there was."""
    first, last = map(int, sys.argv[1:3])
    for run in onnx_graph.RUNS:
        found = [check_seed(seed, run) for seed in range(first, last)]
        rows = [row for part in found for row in part]
        graphs, flips, decisions = sum(map(bool, found)), sum(r.flips for r in rows), sum(r.decisions for r in rows)
        print(
            f"{run}: {graphs} graphs, {len(rows)} layers within their bounds; {flips} of {decisions} decisions differ"
        )


if __name__ == "__main__":
    main_of_seeds()
