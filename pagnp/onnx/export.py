"""Write a graph as an ONNX model: every branch dense, a select as Where. docs/ONNX.md says what the model holds."""

import os
from dataclasses import replace
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from pagnp import __version__, graphjson
from pagnp.canonical import reachable
from pagnp.errors import ExportError, UsageError
from pagnp.files import write_atomic
from pagnp.graph import INPUT, Graph
from pagnp.onnx.decode import with_answers
from pagnp.onnx.emitter import NOISE, Emitter, UnsupportedError
from pagnp.onnx.nodes import OPS
from pagnp.types import FilePath, Size

OLDEST = 13  # ONNX's operator set in which Softmax, Pad, Split and Resize have the form that is written here
MOST_BYTES = (1 << 31) - (1 << 24)  # of weights: a protocol buffer ends at 2 GiB, and nodes take some
KINDS = {"tensor": TensorProto.FLOAT, "mask": TensorProto.BOOL, "index": TensorProto.INT64}


def export(
    graph_or_path: Graph | FilePath,
    path: FilePath,
    *,
    size: Size | None = None,
    batch: int = 1,
    opset: int = 17,
    decode: bool = False,
    overwrite: bool = True,
) -> None:
    """Write the network to the ONNX file `path`, checked by ONNX's own checker; the same graph gives the same bytes.

    Arguments as `model`; overwrite: replace a file that exists.
    Raises: as `model`; UsageError if the file exists and must not be replaced, or cannot be written. Then `path` is
            as it was.
    """
    if not isinstance(graph_or_path, Graph) and os.path.exists(graph_or_path) and os.path.exists(path):
        if os.path.samefile(graph_or_path, path):
            raise UsageError(f"export: {os.fspath(path)} is the input; give another name for the output")
    proto = model(graph_or_path, size=size, batch=batch, opset=opset, decode=decode)
    onnx.checker.check_model(proto, full_check=True)
    write_atomic(path, proto.SerializeToString(deterministic=True), overwrite=overwrite)


def model(
    graph_or_path: Graph | FilePath,
    *,
    size: Size | None = None,
    batch: int = 1,
    opset: int = 17,
    decode: bool = False,
) -> onnx.ModelProto:
    """Return the network as an ONNX model.

    graph_or_path  a Graph, as loaded or canonical, or the path of a model file
    size           (h, w) of the input; None: batch, height and width are free
    batch          how many images, with `size`
    opset          ONNX's operator set, from 13
    decode         add an output `outputs/<head>` for what each head makes of its logits
    Numerics:      none of pagnp's: each runtime sums and rounds in its own way.
    Raises:        ExportError listing everything that ONNX cannot express; UsageError; ModelFileError for a bad file,
                   GraphError for a bad graph, ShapeError for a size that does not go through it.
    """
    _check_arguments(size, batch, opset)
    graph = _graph(graph_or_path)
    kept = reachable(graph)
    whole = replace(graph, nodes={name: node for name, node in graph.nodes.items() if name in kept})
    whole = with_answers(whole) if decode else whole
    values = whole.infer(*(size or (None, None)))
    e = Emitter(whole, values, None if size is None else batch)
    _emit(e)
    proto = helper.make_model(
        _graph_proto(e),
        producer_name="pagnp",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", opset)],
    )
    # The oldest that knows the operator set: runtimes refuse files whose version they do not know yet.
    proto.ir_version = helper.find_min_ir_version_for(list(proto.opset_import))
    helper.set_model_props(proto, _metadata(graph))
    return proto


def _check_arguments(size, batch, opset):
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise UsageError(f"export: opset is {opset}, need {OLDEST} to {newest} (the newest of onnx {onnx.__version__})")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UsageError(f"export: size is {size}, need (h, w) from 1 on")
    if batch < 1 or (size is None and batch != 1):
        raise UsageError(f"export: batch is {batch}, need at least 1, and a size beside it; without one it is free")


def _graph(graph_or_path):
    if isinstance(graph_or_path, Graph):
        return graph_or_path.validate()
    from pagnp import modelfile

    return modelfile.read(graph_or_path)


def _emit(e):
    """Add the ONNX nodes of all nodes. Raises ExportError that lists what cannot be expressed."""
    problems = [
        (f"output '{name}'", "is the name of an input; call it otherwise")
        for name in e.graph.outputs
        if name in (INPUT, *(gate + NOISE for gate in e.noises))
    ]
    for node in e.graph.nodes.values():
        try:
            OPS[node.op](e, node)
        except UnsupportedError as error:
            problems.append((f"{node.name} ({node.op})", str(error)))
    total = sum(array.nbytes for array in e.initializers.values())
    if total > MOST_BYTES:
        problems.append(("weights", f"are {total / 2**30:.1f} GiB, an ONNX file holds less than 2"))
    if problems:
        lines = [f"  {where}: {what}" for where, what in problems]
        count = "one thing" if len(lines) == 1 else f"{len(lines)} things"
        raise ExportError("\n".join([f"export: ONNX cannot express {count} of the network:", *lines]), problems)


def _graph_proto(e):
    """Return the GraphProto of what was emitted, with its inputs and outputs."""
    inputs = [_value_info(e, INPUT, INPUT, ("batch", "height", "width"))]
    inputs += [_value_info(e, name + NOISE, e.graph.nodes[name].inputs[0]) for name in e.noises]
    outputs = []
    for output, name in e.graph.outputs.items():
        if e.names[name] != output:  # one value, two outputs
            e.nodes.append(helper.make_node("Identity", [e.names[name]], [output], f"{output}/Identity"))
        outputs.append(_value_info(e, output, name))
    tensors = [numpy_helper.from_array(array, name) for name, array in e.initializers.items()]
    return helper.make_graph(e.nodes, "pagnp", inputs, outputs, tensors)


def _value_info(e, name, source, free=("batch", None, None)):
    """Return the ValueInfo `name` with the type and shape of the graph's value `source`."""
    value = e.values[source]
    n, h, w = free if e.batch is None else (e.batch, value.h, value.w)
    return helper.make_tensor_value_info(name, KINDS[value.kind], (n, value.c, h, w))


def _metadata(graph: Graph) -> dict[str, str]:
    """Return what ONNX has no place for: how pixels become the input, what the outputs mean, and which model it is."""
    from pagnp.modelfile import model_hash

    gates = {node.name: node.attrs for node in graph.nodes.values() if node.op == "gate"}
    parts: dict[str, Any] = {"preprocess": graph.preprocess, "heads": graph.heads, "gates": gates}
    texts = {f"pagnp.{key}": graphjson.canonical(part).decode() for key, part in parts.items()}
    return texts | {"pagnp.model_hash": model_hash(graph)}
