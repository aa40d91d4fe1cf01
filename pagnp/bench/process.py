"""Memory and start-up: whole processes that label one image, ours and the peers', and their imports, in turn."""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import pagnp
from pagnp.bench.timing import Times, ratio
from pagnp.errors import BackendError, UsageError
from pagnp.graph import Graph
from pagnp.inference import input_scale_shift
from pagnp.types import FilePath, Json, Size

SCRIPTS = Path(__file__).parent / "scripts"
PEERS = {"torch": ("torch",), "onnxruntime": ("onnxruntime", "onnx")}  # name -> packages; torch runs eager
OURS, ALL_FILES = "pagnp run --save labels", "pagnp run"
IMPORTS = {
    "python": "pass",
    "import numpy": "import numpy",
    "import numpy, pagnp": "import numpy, pagnp; pagnp.load, pagnp.ops",
    "import torch": "import torch",
}


@dataclass(frozen=True)
class Measured:
    """What one command took in each round: seconds of wall time, bytes of resident memory at the peak."""

    times: Times
    peaks: tuple[int, ...]

    def as_json(self) -> Json:
        peaks = {"median": statistics.median(self.peaks), "least": min(self.peaks), "most": max(self.peaks)}
        return {"seconds": self.times.as_json(), "peak_bytes": {**peaks, "rounds": list(self.peaks)}}


def run_rounds(
    commands: Mapping[str, list[str]], rounds: int, progress: Callable[[float], object] | None = None
) -> dict[str, Measured]:
    """Run each command as a process, in turn, `rounds` times after one that warms disk and kernel caches.

    Raises: BackendError with the end of what a command said when it failed.
    """
    found: dict[str, list[Json]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for place, (name, command) in enumerate(commands.items()):
            one = launch(command)
            if one["code"] != 0:
                last = (one["error"].strip().splitlines() or ["it said nothing"])[-1]
                raise BackendError(f"bench: '{name}' ended with exit code {one['code']}: {last}")
            if number > 0:
                found[name].append(one)
            if progress is not None:
                progress((number * len(commands) + place + 1) / ((rounds + 1) * len(commands)))
    return {
        name: Measured(Times(tuple(one["seconds"] for one in values)), tuple(one["peak"] for one in values))
        for name, values in found.items()
    }


def launch(command: Sequence[str]) -> Json:
    """Return {"code", "seconds", "peak", "error"} of a command that runs in a process of its own."""
    folder = str(Path(pagnp.__file__).parent.parent)  # so that children find this pagnp, wherever they run
    paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    full = [sys.executable, "-S", "-E", str(SCRIPTS / "launch.py"), *command]
    done = subprocess.run(full, stdout=subprocess.PIPE, env=environment, check=True)
    return json.loads(done.stdout)


def prepare(
    graph: Graph, weights: FilePath | None, image: FilePath | None, size: Size, threads: int, folder: Path
) -> tuple[str, str]:
    """Write what is not given into `folder`; return the paths of a model file and an image.

    weights, image  files to use; None: the graph is written, noise of `size` is the image
    A file task.json there tells the peers' programs how pixels become the input.
    Raises: UsageError if the graph takes no images or has no head that labels pixels.
    """
    _labelling_head(graph)
    model, picture = str(weights or folder / "model.h5"), str(image or folder / "image.png")
    if weights is None:
        from pagnp import modelfile

        modelfile.write(graph, model)
    if image is None:
        from PIL import Image

        generator = np.random.Generator(np.random.PCG64(0))
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).save(picture)
    preprocess = graph.preprocess or {}
    scale, shift = input_scale_shift(preprocess)
    task = {"scale": scale.tolist(), "shift": shift.tolist(), "multiple": preprocess.get("pad_multiple", 1)}
    (folder / "task.json").write_text(json.dumps({**task, "threads": threads, "output": "labels"}))
    return model, picture


def our_commands(model: str, picture: str, threads: int, folder: Path) -> dict[str, list[str]]:
    """Return name -> `pagnp run`, once with the label map alone as the peers write it, once with all pictures."""
    command = [sys.executable, "-m", "pagnp", "run", "--weights", model, "--out", str(folder / "out")]
    command += ["--overwrite", "--threads", str(threads), picture]
    return {OURS: [*command, "--save", "labels"], ALL_FILES: command}


def peer_command(name: str, graph: Graph, picture: str, folder: Path) -> list[str]:
    """Return the command that labels the image with a peer of PEERS, its model written before.

    Raises: BackendError if the peer is not installed.
    """
    missing = [package for package in PEERS[name] if importlib.util.find_spec(package) is None]
    if missing:
        raise BackendError(f"{', '.join(missing)} is not installed")
    from PIL import Image

    with Image.open(picture) as opened:
        size = opened.height, opened.width
    written = _WRITERS[name](with_upsampling(graph, size), size, folder)
    arguments = [written, str(folder / "task.json"), picture, str(folder / f"{name}.png")]
    return [sys.executable, "-P", str(SCRIPTS / f"run_{name}.py"), *arguments]


def _labelling_head(graph: Graph) -> Json:
    for head in graph.heads:
        if head["decode"] == "argmax" and graph.preprocess is not None and graph.channels == 3:
            return head
    raise UsageError("bench process: needs a model that takes images and has a head that labels pixels")


def with_upsampling(graph: Graph, size: Size) -> Graph:
    """Return the graph with one output "labels": a head's logits at the padded size of an image, still to decode."""
    head = _labelling_head(graph)
    node, how = graph.outputs[head["output"]], dict(head["upsample"])
    op = how.pop("op")
    result = replace(graph, nodes=dict(graph.nodes), outputs={"labels": node}, heads=[])
    if op == "none":
        return result
    if op != "bilinear_deconv":
        how["size"] = list(graph.padded_size(size))
    name = "upsampled_for_bench"
    result.add(op, node, name, **how)
    result.outputs = {"labels": name}
    return result


def _write_torch(graph: Graph, size: Size, folder: Path) -> str:
    import torch

    from pagnp.torch import to_module

    torch.save(to_module(graph), folder / "module.pt")
    return str(folder / "module.pt")


def _write_onnx(graph: Graph, size: Size, folder: Path) -> str:
    from pagnp import onnx

    (folder / "model.onnx").write_bytes(onnx.model(graph, size=graph.padded_size(size)).SerializeToString())
    return str(folder / "model.onnx")


_WRITERS = {"torch": _write_torch, "onnxruntime": _write_onnx}


def import_commands(with_torch: bool) -> dict[str, list[str]]:
    """Return name -> command that starts Python and imports something."""
    names = [name for name in IMPORTS if with_torch or name != "import torch"]
    return {name: [sys.executable, "-c", IMPORTS[name]] for name in names}


def report(measured: Mapping[str, Measured]) -> Json:
    """Return the JSON of processes that were measured in the same rounds.

    {"rows": [{"name", "seconds", "peak_bytes"}], "ratios": {peer: {"seconds", "peak"}} of OURS,
    "import_pagnp": seconds beyond NumPy's own}
    """
    found: Json = {"rows": [{"name": name, **entry.as_json()} for name, entry in measured.items()], "ratios": {}}
    ours = measured[OURS]
    for name in PEERS:
        if name in measured:
            peer = measured[name]
            peaks = [Times(tuple(float(peak) for peak in each.peaks)) for each in (ours, peer)]
            seconds = ratio(ours.times, peer.times).as_json()
            found["ratios"][name] = {"seconds": seconds, "peak": ratio(*peaks).as_json()}
    if "import numpy" in measured:
        pairs = zip(measured["import numpy, pagnp"].times.seconds, measured["import numpy"].times.seconds, strict=True)
        found["import_pagnp"] = Times(tuple(a - b for a, b in pairs)).as_json()
    return found
