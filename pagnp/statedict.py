"""Plain state_dicts (HDF5, NPZ, safetensors) as anyone would write them, and the models made of them.

The formats are in docs/MODEL_FORMAT.md. `arch` knows which network the entries belong to.
"""

import os
from collections.abc import Mapping

import numpy as np

from pagnp import h5dataset, h5guard, modelfile, npzfile
from pagnp.arch import plan
from pagnp.errors import ModelFileError, UsageError
from pagnp.graph import Graph
from pagnp.types import FilePath, Tensor

MAX_BYTES = 4 << 30
WRAPPERS = ("state_dict.", "model.", "module.")  # checkpoints, Lightning, DataParallel
FLOATS = tuple(np.dtype(order + kind) for order in "<>" for kind in ("f4", "f8", "f2"))
INTEGERS = tuple(np.dtype(order + kind) for order in "<>" for kind in ("i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"))


def read_state_dict(path: FilePath, notices: list[str] | None = None) -> dict[str, Tensor]:
    """Return dict key -> float32 array from a plain HDF5, NPZ or safetensors file; found out by content.

    notices   a list that gets one line for every wrapper removed and for the integer entries ignored
    Numerics: float16 is widened; float64 must be float32 numbers already, to the last bit.
    Raises:   ModelFileError with one line `FILE: ENTRY is X, need Y; fix`.
    """
    notices = [] if notices is None else notices
    state, ignored = _reader(path)(path)
    if ignored:
        notices.append(f"ignored {len(ignored)} integer entries: {modelfile.listed(sorted(ignored), 3)}")
    if not state:
        h5guard.refuse(path, "", "has no float32 entries, need a state_dict; save one dataset per key")
    return _unwrap(path, state, notices)


def _reader(path):
    """Return the function that reads the file, by its first bytes."""
    if not os.path.isfile(path):
        h5guard.refuse(path, "", "does not exist or is no file; check the path")
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ModelFileError(f"{h5guard.shown(path)}: cannot be read ({error.strerror})") from error
    if start.startswith(b"PK"):
        return _read_npz
    if start[8:9] == b"{":
        return _read_safetensors
    if start.startswith(b"\x80"):
        npzfile.refuse_pickle(path)
    return _read_hdf5


def _read_hdf5(path):
    with h5guard.opened(path) as root:
        if h5guard.has_attribute(path, root, "format"):
            fix = "it names its own network, use it without --arch and without convert"
            h5guard.refuse(path, "", f"has a root attribute 'format' like a pagnp model file; {fix}")
        entries, ignored, names = [], [], {}
        for name, dataset in h5guard.walk(path, root).items():
            key = name.replace("/", ".")
            if names.setdefault(key, name) != name:
                h5guard.refuse(path, name, f"is the same key as {names[key]}, need one of them; save again")
            entry = h5dataset.inspect(path, name, dataset, FLOATS + INTEGERS, fix="save again as float32")
            if entry.dtype.kind == "f":
                entries.append((key, entry))
            else:
                ignored.append(key)
        h5dataset.check_total(path, [entry for _, entry in entries], MAX_BYTES)
        return {key: _to_float32(path, key, h5dataset.read(path, entry)) for key, entry in entries}, ignored


def _read_npz(path):
    arrays, ignored = npzfile.read(path, FLOATS, _check_total)
    keys = {}
    for name in arrays:
        key = name.replace("/", ".")
        if keys.setdefault(key, name) != name:
            h5guard.refuse(path, name, f"is the same key as {keys[key]}, need one of them; save again")
    return {key: _to_float32(path, key, arrays[name]) for key, name in keys.items()}, ignored


def _read_safetensors(path):
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        fix = "pip install safetensors, or save as HDF5 or NPZ"
        raise ModelFileError(f"{h5guard.shown(path)}: is a safetensors file, which needs a package; {fix}") from error
    _check_total(path, [os.path.getsize(path)])
    state, ignored = {}, []
    try:
        with safe_open(path, framework="np") as file:
            for key in sorted(file.keys()):  # the library has checked sizes and offsets against the file
                kind = file.get_slice(key).get_dtype()
                if kind in ("F32", "F64", "F16"):
                    state[key] = _to_float32(path, key, file.get_tensor(key))
                elif kind.startswith(("I", "U", "BOOL")):
                    ignored.append(key)
                else:
                    h5guard.refuse(path, key, f"is {kind}, need float32; save again as float32")
    except (SafetensorError, OSError, ValueError) as error:
        detail = h5guard.shown(str(error))
        raise ModelFileError(f"{h5guard.shown(path)}: is a damaged safetensors file ({detail})") from error
    return state, ignored


def _check_total(path, sizes):
    total = sum(sizes)
    if total > MAX_BYTES:
        h5guard.refuse(path, "", f"has {total} bytes of weights, need at most {MAX_BYTES}")


def _to_float32(path, key, array):
    """Return `array` as native float32; refuse values that would change."""
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    if array.dtype.itemsize > 4 and not np.array_equal(narrow.astype(np.float64), array, equal_nan=True):
        fix = "its values are no float32 numbers; save again with .float() (or .astype('float32'))"
        h5guard.refuse(path, key, f"is float64, need float32; {fix}")
    return np.ascontiguousarray(narrow).reshape(array.shape)


def _unwrap(path, state, notices):
    """Remove the prefixes that checkpoints and wrappers put in front of every key."""
    for _ in range(len(WRAPPERS)):
        for prefix in WRAPPERS:
            inside = {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
            outside = [key for key in state if not key.startswith(prefix)]
            if not inside or (outside and prefix != "state_dict."):
                continue
            notices.append(f"removed the prefix '{prefix}' from {len(inside)} keys")
            if outside:
                notices.append(f"ignored {len(outside)} entries outside '{prefix}': {modelfile.listed(outside, 3)}")
            state = inside
    return state


def build(
    arch: FilePath,
    state: Mapping[str, Tensor],
    *,
    label: str = "weights",
    notices: list[str] | None = None,
    allow_nonfinite: bool = False,
) -> Graph:
    """Return the Graph of architecture `arch` filled with `state`.

    arch     a name in `arch.NAMES` or the path of a config.json (docs/MODEL_FORMAT.md)
    state    dict key -> float32 array in PyTorch's shapes
    label    what messages call the state_dict; the file's name
    notices  a list that gets one line for everything that was inferred rather than said
    Raises:  UsageError for an unknown arch; ModelFileError for a bad config.json, and for missing,
             unexpected and misshapen entries, all in one message.
    """
    notices = [] if notices is None else notices
    network = plan(arch, state, label, notices)
    graph = network.build()
    entries = {network.renamed.get(key, key): key for key in state}
    in_file = {name: key for key, name in network.renamed.items()}
    absent = [key for key in graph.weights if key not in entries and not network.is_constant(key)]
    missing = sorted(in_file.get(key, key) for key in absent)
    unexpected = sorted(key for name, key in entries.items() if name not in graph.weights)
    misshapen = []
    for name, key in sorted(entries.items()):
        if name in graph.weights:
            shape, need = state[key].shape, graph.weights[name].shape
            if shape != need and (*shape, 1, 1) != need:  # a Linear is a 1x1 conv
                misshapen.append(f"{key} {shape} need {need}")
            else:
                graph.weights[name] = np.ascontiguousarray(state[key], np.float32).reshape(need)
    faults = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    if any(found for _, found in faults):
        text = "; ".join(f"{len(found)} {word}: {modelfile.listed(found)}" for word, found in faults if found)
        raise ModelFileError(f"{h5guard.shown(label)}: does not fit {arch}: {text}")
    graph.producer = f"pagnp convert --arch {os.path.basename(arch)}"
    graph.validate()
    if not modelfile.check_values(h5guard.shown(label), graph, allow_nonfinite):
        graph.producer += modelfile.OUTSIDE
    return graph


def load(path: FilePath, arch: FilePath, notices: list[str] | None = None, *, allow_nonfinite: bool = False) -> Graph:
    """Return the Graph of a plain state_dict file; `read_state_dict`, then `build`, which see."""
    notices = [] if notices is None else notices
    state = read_state_dict(path, notices)
    return build(arch, state, label=os.fspath(path), notices=notices, allow_nonfinite=allow_nonfinite)


def convert(weights_path: FilePath, arch: FilePath, out_path: FilePath, overwrite: bool = False) -> list[str]:
    """Write a self-contained model file from a plain state_dict; return the notices, a list of lines.

    Raises: as `read_state_dict`, `build` and `modelfile.write`; UsageError if both paths are one file.
    """
    if os.path.exists(out_path) and os.path.exists(weights_path) and os.path.samefile(weights_path, out_path):
        raise UsageError(f"convert: {h5guard.shown(out_path)} is the input; give another name for the output")
    notices: list[str] = []
    modelfile.write(load(weights_path, arch, notices), out_path, overwrite=overwrite)
    return notices
