"""The model file: a Graph as HDF5, written to the same bytes each time and read without trusting it.

The layout is in docs/MODEL_FORMAT.md. `h5guard` and `h5dataset` look at the file, `graphjson` at the JSON text in it.
"""

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Sequence

import numpy as np

from pagnp import graphjson, h5dataset, h5guard
from pagnp.canonical import canonical
from pagnp.contract import CONTRACT_NAME
from pagnp.errors import GraphError, ModelFileError, ShapeError
from pagnp.graph import Graph
from pagnp.types import FilePath

FORMAT = "pagnp-model"
VERSION = 1
MAX_BYTES = 4 << 30  # of all weights; ResNet-101 with gates has 0.2e9
FLOAT32_MAX = float(np.finfo(np.float32).max)
OUTSIDE = " (outside the contract: non-finite weights)"


def write(graph: Graph, path: FilePath, *, overwrite: bool = True, allow_nonfinite: bool = False) -> None:
    """Write `graph` to `path` whole or not at all; the same graph gives the same bytes.

    Only the weights that nodes read are written.
    Raises: GraphError if the graph is not valid; ModelFileError if a weight is not finite (unless
            `allow_nonfinite`), if the file exists and `overwrite` is false, or if it cannot be written.
    """
    graph.validate()
    document, weights = _document(graph)
    label = h5guard.shown(path)
    check_values(label, graph, allow_nonfinite)
    graphjson.check_schema(document, f"{label}: graph")
    _check_preprocess(label, graph.preprocess)
    text = _text_of(document, label)
    if len(graph.producer.encode("utf-8", "replace")) > h5guard.MAX_TEXT:
        raise ModelFileError(f"{label}: producer is longer than {h5guard.MAX_TEXT} bytes; shorten it")
    if not overwrite and os.path.lexists(path):
        raise ModelFileError(f"{label}: exists already; give another name or --overwrite")
    try:
        content = _hdf5(text, weights, graph.producer)
        with _whole(path) as temporary, open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ModelFileError(f"{label}: cannot be written ({error.strerror or error})") from error


def _text_of(document, label):
    """Return the graph's JSON as it is stored. Raises ModelFileError where `read` would refuse it."""
    try:
        text = graphjson.canonical(document)
    except ValueError as error:  # a lone surrogate has no UTF-8 form
        raise ModelFileError(f"{label}: graph: a name is no text ({error}); give another") from error
    graphjson.parse(text, f"{label}: graph", fix="give other names or a smaller graph")
    return text


def _document(graph):
    """Return the JSON document of `graph` and its used weights in sorted order, float32 C-contiguous."""
    used = sorted({key for node in graph.nodes.values() for key in node.weights.values()})
    weights = {key: np.ascontiguousarray(graph.weights[key], dtype="<f4") for key in used}
    document = graph.to_json()
    document["weights"] = {key: list(array.shape) for key, array in weights.items()}
    return document, weights


@contextlib.contextmanager
def _whole(path):
    """Yield a temporary name beside `path` that becomes `path` at the end, or vanishes on any exception."""
    folder = os.path.dirname(os.path.abspath(path))
    temporary = os.path.join(folder, f".pagnp-{os.getpid()}-{threading.get_ident():x}.part")  # no longer than any name
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too must leave nothing half-written
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _hdf5(text, weights, producer):
    """Return the bytes of the model file. Made in memory: on a full disk the HDF5 library can end the process."""
    import h5py

    # The oldest layout is what most readers in other languages know; no times, so that the bytes repeat.
    in_memory = {"driver": "core", "backing_store": False}
    with h5py.File("model.h5", "w", libver=("earliest", "v108"), track_order=False, **in_memory) as file:
        _set_text(file, "format", FORMAT)
        file.attrs.create("format_version", VERSION, dtype="<i4")
        _set_text(file, "contract", CONTRACT_NAME)
        _set_text(file, "producer", producer)
        _write_dataset(file, "graph", np.frombuffer(text, dtype=np.uint8))
        group = file.create_group("weights", track_order=False)
        for key, array in weights.items():
            _write_dataset(group, key, array)
        file.flush()
        return file.id.get_file_image()


def _write_dataset(group, name, array):
    dataset = group.create_dataset(name, data=array, track_times=False)
    _set_text(dataset, "sha256", _sha256(array))


def _set_text(owner, name, text):
    import h5py

    raw = text.encode("utf-8")
    owner.attrs.create(name, np.array(raw), dtype=h5py.string_dtype("utf-8", max(len(raw), 1)))


def _sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def read(path: FilePath, *, allow_nonfinite: bool = False, max_bytes: int = MAX_BYTES) -> Graph:
    """Read and check a model file; return its Graph, validated.

    Links, types, layouts and shapes are checked against the graph before a weight is read; then each SHA-256.
    allow_nonfinite   let NaN and Inf weights through; the graph's `producer` then says "outside the contract"
    max_bytes         of all weights together
    Raises: ModelFileError with one line `FILE: ENTRY is X, need Y; fix`.
    """
    label = h5guard.shown(path)
    with h5guard.opened(path) as root:
        producer = _check_root(path, root)
        datasets = h5guard.walk(path, root)
        document = _read_document(path, label, datasets)
        shapes = document.pop("weights")
        entries = _inspect_weights(path, datasets, shapes, max_bytes)
        # Arrays of the right shape and no memory: channels and roles are checked before weights are read.
        graph = _graph(label, document, {key: np.broadcast_to(np.float32(0), s) for key, s in shapes.items()})
        graph.weights.update({key: _read_checked(path, entry) for key, entry in entries.items()})
    graph.producer = producer
    if not check_values(label, graph, allow_nonfinite):
        graph.producer += OUTSIDE
    return graph


def _check_root(path, root):
    """Check the root attributes and return the producer."""
    if not h5guard.has_attribute(path, root, "format"):
        fix = "a plain state_dict needs --arch, or pagnp convert"
        h5guard.refuse(path, "attribute format", f"is missing, need '{FORMAT}'; {fix}")
    form = h5guard.text_attribute(path, root, "", "format")
    if form != FORMAT:
        h5guard.refuse(path, "attribute format", f"is '{h5guard.shown(form)}', need '{FORMAT}'; this is another file")
    version = h5guard.integer_attribute(path, root, "", "format_version")
    if version != VERSION:
        fix = "it is newer than this pagnp; update pagnp" if version > VERSION else "export again"
        h5guard.refuse(path, "attribute format_version", f"is {version}, need {VERSION}; {fix}")
    contract = h5guard.text_attribute(path, root, "", "contract")
    if contract != CONTRACT_NAME:
        fix = "use the pagnp it was made for or export again"
        h5guard.refuse(path, "attribute contract", f"is '{h5guard.shown(contract)}', need '{CONTRACT_NAME}'; {fix}")
    return h5guard.text_attribute(path, root, "", "producer")


def _read_document(path, label, datasets):
    """Return the parsed and schema-checked graph JSON."""
    if "graph" not in datasets:
        h5guard.refuse(path, "graph", "is missing, need the graph's JSON; export again with pagnp.torch.export")
    entry = h5dataset.inspect(path, "graph", datasets["graph"], [np.uint8])
    if len(entry.shape) != 1 or entry.nbytes > graphjson.MAX_BYTES:
        need = f"need one axis of at most {graphjson.MAX_BYTES}"
        h5guard.refuse(path, "graph", f"has shape {entry.shape}, {need}; export again")
    document = graphjson.parse(_read_checked(path, entry).tobytes(), f"{label}: graph")
    graphjson.check_schema(document, f"{label}: graph")
    _check_preprocess(label, document["preprocess"])
    return document


def _check_preprocess(label, preprocess):
    """Refuse means and deviations whose scale or shift (docs/MODEL_FORMAT.md) is no finite float32."""
    if preprocess is None:
        return
    factors = [1.0 / (255.0 * std) for std in preprocess.get("std", ())]
    factors += [mean / std for mean, std in zip(preprocess["mean"], preprocess.get("std", (1, 1, 1)), strict=True)]
    if not all(abs(factor) <= FLOAT32_MAX for factor in factors):
        raise ModelFileError(f"{label}: graph: preprocess: std is too small for mean and float32; export again")


def _inspect_weights(path, datasets, shapes, max_bytes):
    """Return dict key -> Entry; missing, unexpected, misshapen and too many bytes are refused."""
    found = {name.removeprefix("weights/"): name for name in datasets if name != "graph"}
    strangers = [name for key, name in found.items() if key not in shapes or not name.startswith("weights/")]
    if strangers:
        h5guard.refuse(path, "", f"has datasets that the graph does not know: {listed(strangers)}; export again")
    missing = [f"weights/{key}" for key in shapes if key not in found]
    if missing:
        h5guard.refuse(path, "", f"lacks datasets that the graph needs: {listed(missing)}; export again")
    total = sum(4 * math.prod(shape) for shape in shapes.values())
    if total > max_bytes:
        h5guard.refuse(path, "weights", f"is {total} bytes, need at most {max_bytes}; raise max_bytes if that is right")
    entries = {}
    for key in sorted(shapes):
        entries[key] = h5dataset.inspect(path, f"weights/{key}", datasets[f"weights/{key}"], [np.dtype("<f4")])
        if entries[key].shape != tuple(shapes[key]):
            need = tuple(shapes[key])
            h5guard.refuse(path, f"weights/{key}", f"has shape {entries[key].shape}, need {need}; export again")
    h5dataset.check_total(path, entries.values(), max_bytes)
    return entries


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return `names` as text for a message, cut after `most` with a count."""
    shown = ", ".join(h5guard.shown(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _graph(label, document, weights):
    """Return the validated Graph; errors name the file, and weights nobody reads are refused."""
    try:
        graph = Graph.from_json(document, weights).validate()
    except (GraphError, ShapeError) as error:
        raise ModelFileError(f"{label}: graph: {error}; export again") from error
    read = {key for node in graph.nodes.values() for key in node.weights.values()}
    unread = [f"weights/{key}" for key in weights if key not in read]
    if unread:
        raise ModelFileError(f"{label}: graph has weights that no node reads: {listed(unread)}; export again")
    return graph


def _read_checked(path, entry):
    """Return the array of `entry` after comparing its SHA-256."""
    want = h5guard.text_attribute(path, entry.dataset, entry.name, "sha256")
    array = h5dataset.read(path, entry)
    have = _sha256(array.astype(entry.dtype, copy=False))
    if have != want:
        fix = "the file is damaged, copy or export it again"
        h5guard.refuse(path, entry.name, f"has sha256 {have[:12]}..., need {h5guard.shown(want[:12])}...; {fix}")
    return array


def check_values(label: str, graph: Graph, allow_nonfinite: bool) -> bool:
    """Refuse weights that are not finite, variances that are not positive and norms whose scale or shift is not finite.

    Returns whether all weights are finite.
    """
    used = {key for node in graph.nodes.values() for key in node.weights.values()}
    strange = [key for key in sorted(used) if not np.isfinite(graph.weights[key]).all()]
    if strange and not allow_nonfinite:
        fix = "train again, or allow_nonfinite=True (outside the contract)"
        raise ModelFileError(f"{label}: weights/{listed(strange)} is not finite, need finite numbers; {fix}")
    for node in graph.nodes.values():
        if node.op == "norm":
            variance = graph.weights[node.weights["var"]].astype(np.float64)
            if (variance + node.attrs["eps"] <= 0).any():  # NaN passes only where allow_nonfinite let it
                entry = f"weights/{node.weights['var']}"
                raise ModelFileError(f"{label}: {entry} + eps is not positive, need var > -eps; train again")
    try:
        canonical(graph)
    except GraphError as error:
        raise ModelFileError(f"{label}: graph: {error}; train again") from error
    return not strange


def model_hash(graph: Graph) -> str:
    """Return the model's hash (hex): SHA-256 of canonical graph JSON and sorted tensor hashes, not of the file.

    Numerics: tensors by their little-endian C-order bytes; the producer does not count.
    """
    document, weights = _document(graph)
    sha = hashlib.sha256(f"{FORMAT}/{VERSION}\0{CONTRACT_NAME}\0".encode())
    sha.update(graphjson.canonical(document) + b"\n")
    for key, array in weights.items():
        sha.update(f"{key} {_sha256(array)}\n".encode())
    return sha.hexdigest()
