"""Receipts: what was computed from what, as digests. Written whole or not at all, read without trusting the file.

`pagnp run --receipt` writes one, `pagnp verify` replays it. The format is in docs/NUMERICS.md, "Receipts".
"""

import functools
import json
import os
import platform
import stat
from collections.abc import Iterable, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from pagnp import __version__, contract, graphjson, probes
from pagnp.canonical import canonical
from pagnp.errors import ModelFileError, UsageError
from pagnp.files import make_folder, write_atomic
from pagnp.fuse import fuse
from pagnp.gating import with_gate_mode
from pagnp.graph import Graph, Value
from pagnp.model import Model
from pagnp.opset import LIMIT
from pagnp.result import Result
from pagnp.types import Array, FilePath, Json

FORMAT = "pagnp-receipt"
VERSION = 1
MAX_BYTES = 64 << 20  # of the file: 600 images with 250 layers
LINE = 420  # bytes of a layer or value, beside its name, at most
PACKAGES = ("numpy", "numba", "llvmlite", "h5py", "pillow")
# What an image was computed with, and what each option is where a call leaves it out.
OPTIONS: dict[str, Any] = {
    **{"budget": None, "threshold": None, "seed": 0, "gate_mode": None},
    **{"dense": False, "flip": False, "tile": None},
}
_DTYPES = {"tensor": "<f4", "mask": "|b1", "index": "<i4"}


class Recorder:
    """Collects the entries of a receipt while a model runs over images, and writes it."""

    def __init__(self, model: Model, weights: FilePath, arch: str | None = None) -> None:
        """Begin a receipt of `model`, read from the file `weights` (with `arch` where that was a plain state_dict)."""
        from pagnp.modelfile import model_hash

        self.graph = canonical(model.graph)
        self.model = {"path": os.fspath(weights), "hash": model_hash(model.graph)}
        if arch is not None:
            self.model["arch"] = arch
        self.machine = machine(model)
        self.images: list[Json] = []

    def require_room(self, paths: Iterable[FilePath]) -> None:
        """Raise UsageError, before anything runs, if the receipt of so many images would be too large to be read."""
        layers = sum(len(name) + LINE for name in [*fuse(self.graph), *self.graph.outputs, *self.graph.gates()])
        sizes = [len(os.fspath(path)) + layers + LINE * (2 + len(self.graph.heads)) for path in paths]
        if sum(sizes) > MAX_BYTES:
            most = int(MAX_BYTES / (sum(sizes) / len(sizes)))
            raise UsageError(f"run: --receipt: {len(sizes)} images are too many for one receipt; run {most} at a time")

    def add(self, path: FilePath, result: Result, options: Mapping[str, Any]) -> None:
        """Add the Result of Model(path, trace="digests", **options).

        Raises: UsageError if noise arrays were given: a receipt has no place for them. Other options decide no bit.
        """
        if options.get("noise"):
            raise UsageError("receipt: noise arrays cannot be in it; give a seed instead")
        used = {name: options.get(name, default) for name, default in OPTIONS.items()}
        used = {name: value.item() if isinstance(value, np.generic) else value for name, value in used.items()}
        if used["tile"] is not None:
            used["tile"] = min(used["tile"], LIMIT)  # no image has more rows: the same bands, and a number that fits
        self.images.append(image_entry(self.graph, path, result, used))

    def document(self) -> Json:
        """Return the receipt as a JSON-able dict."""
        return {
            "format": FORMAT,
            "format_version": VERSION,
            "contract": contract.CONTRACT_NAME,
            "pagnp": __version__,
            "machine": self.machine,
            "model": self.model,
            "images": self.images,
        }

    def write(self, path: FilePath, overwrite: bool = False) -> None:
        """Write the receipt to `path`, whole or not at all; its folder is made where it is missing.

        Raises: UsageError if it is there already, cannot be written or would be too large to be read.
        """
        content = _text(self.document()).encode() + b"\n"
        if len(content) > MAX_BYTES:
            raise UsageError(
                f"{path}: the receipt has {len(content)} bytes, need at most {MAX_BYTES}; run fewer images"
            )
        parse(content, str(path))
        make_folder(Path(path).parent)
        write_atomic(path, content, overwrite=overwrite)


def _text(value, indent=""):
    """Return JSON with a line for every innermost object or list: a layer is one line."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(item, (dict, list)) for item in items) or (isinstance(value, dict) and "shape" in value):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    deeper = indent + " "
    if isinstance(value, list):
        lines = [deeper + _text(item, deeper) for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    lines = [f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_text(item, deeper)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def image_entry(graph: Graph, path: FilePath, result: Result, options: Json) -> Json:
    """Return the entry of an image: what a run of the canonical `graph` with `options` (all of OPTIONS) gave."""
    digests = result.digests
    values = with_gate_mode(graph, options["gate_mode"]).infer(*graph.padded_size(result.size))
    layers, shown = result.layer_digests, result.layer_probes
    return {
        "path": os.fspath(path),
        "size": [int(side) for side in result.size],
        "pixels": result.pixels,
        "options": options,
        "thresholds": dict(result.thresholds),
        "digest": contract.combined_digest(digests),
        "digests": digests,
        "layers": [layer_entry(name, values[name], layers[name], shown[name]) for name in layers],
        "probes": {name: probes.of(array) for name, array in values_of(result).items()},
    }


def layer_entry(name: str, value: Value, digest: str, shown: str) -> Json:
    """Return the line of one layer: {"name", "shape", "dtype", "digest", "probes"}."""
    about = {"name": name, "shape": list(value.shape), "dtype": _DTYPES[value.kind]}
    return {**about, "digest": digest, "probes": shown}


def values_of(result: Result) -> dict[str, Array]:
    """Return `kind/name` -> array for everything that `Result.digests` lists."""
    kinds = {"logits": result.logits, "outputs": result.outputs, "masks": result.masks}
    return {f"{kind}/{name}": array for kind, arrays in kinds.items() for name, array in arrays.items()}


def machine(model: Model) -> Json:
    """Return what may explain a difference later, and decides nothing: backend, threads, system, CPU, packages."""
    found: Json = {
        "backend": model.backend.name,
        "threads": model.backend.threads,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "packages": {"python": platform.python_version()},
    }
    if model.backend.name == "numba":
        from pagnp.backends.numba_cpu.compile import cpu_features

        found["cpu_features"] = " ".join(sorted(cpu_features()))
    for package in PACKAGES:
        try:
            found["packages"][package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def read(path: FilePath) -> Json:
    """Read and check a receipt and return it as a dict of docs/NUMERICS.md, "Receipts".

    Raises: UsageError of one line: missing, no file, over MAX_BYTES, no strict JSON, another format, a newer version,
            or against the schema.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{path}: is no regular file; give the file that `pagnp run --receipt` wrote")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check it") from error
    return parse(content, str(path))


def parse(content: bytes, label: str) -> Json:
    """Return the receipt in `content`, checked; `label` names the file in messages. Raises UsageError as `read`."""
    fix = "write it again with pagnp run --receipt"
    if not content.lstrip().startswith(b"{"):
        raise UsageError(f"{label}: is no receipt: it holds no JSON object; give the file of pagnp run --receipt")
    try:
        document: Json = graphjson.parse(content, f"{label}: receipt", fix, max_bytes=MAX_BYTES)
    except ModelFileError as error:
        raise UsageError(str(error)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(f"{label}: is no receipt: its format is not '{FORMAT}'; {fix}")
    version = document.get("format_version")
    if isinstance(version, int) and version > VERSION:
        raise UsageError(f"{label}: format_version is {version}, need {VERSION}; it is newer than this pagnp, update")
    fault = next(_validator().iter_errors(document), None)
    if fault is not None:
        message = " ".join(fault.message.split())[:160]
        raise UsageError(f"{label}: {fault.json_path[:160]}: {message}; {fix}")
    return document


@functools.cache
def _validator():
    import jsonschema

    schema = json.loads(resources.files("pagnp").joinpath("schema/receipt.json").read_text("utf-8"))
    return jsonschema.Draft202012Validator(schema)


def check_target(path: FilePath, overwrite: bool, taken: Iterable[FilePath]) -> None:
    """Raise UsageError, before anything runs, if a receipt must not be written to `path`.

    taken   files that the run reads or writes itself
    """
    if not os.fspath(path) or os.path.isdir(path):
        raise UsageError(f"run: --receipt {os.fspath(path)!r}: is no file name; give one, such as receipt.json")
    real = os.path.realpath(path)
    clash = next((other for other in taken if os.path.realpath(other) == real), None)
    if clash is not None:
        raise UsageError(f"run: --receipt {path}: the run reads or writes {clash} too; choose another name")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"run: --receipt {path}: exists already; add --overwrite or choose another name")


def check_names(names: Iterable[str]) -> None:
    """Raise UsageError if a receipt cannot hold one of these paths: not UTF-8, or with control characters."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"run: --receipt: the name {name!a} is not UTF-8; rename the file") from error
        if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name) or len(name) > 4096:
            raise UsageError(f"run: --receipt: the name {name!a:.80} has control characters; rename the file")
