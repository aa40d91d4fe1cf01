"""The public API is typed: no signature has a gap, and a strict type checker understands a program that uses it."""

import dataclasses
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pagnp

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    *("pagnp", "pagnp.ops", "pagnp.ops.checks", "pagnp.ops.call", "pagnp.nn", "pagnp.nn.builder", "pagnp.nn.spec"),
    *("pagnp.model", "pagnp.result", "pagnp.graph", "pagnp.lower", "pagnp.runner", "pagnp.heads", "pagnp.shapes"),
    *("pagnp.contract", "pagnp.errors", "pagnp.backends.base", "pagnp.image", "pagnp.modelfile", "pagnp.statedict"),
    *("pagnp.gpuarrays",),
    *("pagnp.evaluate.evaluation", "pagnp.evaluate.boundaries", "pagnp.evaluate.humans", "pagnp.evaluate.matching"),
    *("pagnp.evaluate.segmentation", "pagnp.evaluate.depth", "pagnp.evaluate.normals", "pagnp.evaluate.work"),
    *("pagnp.evaluate.thinning", "pagnp.evaluate.nms", "pagnp.evaluate.groundtruth", "pagnp.evaluate.layouts"),
    *("pagnp.errorbound", "pagnp.errorbound.network", "pagnp.errorbound.reference", "pagnp.errorbound.rows"),
    *("pagnp.testing.case", "pagnp.testing.cases", "pagnp.testing.interpret", "pagnp.testing.oracle"),
)
TORCH_MODULES = ("pagnp.torch", "pagnp.torch.nn", "pagnp.torch.losses", "pagnp.torch.export", "pagnp.torch.module")
ONNX_MODULES = ("pagnp.onnx", "pagnp.onnx.export", "pagnp.onnx.emitter", "pagnp.onnx.nodes", "pagnp.onnx.decode")
BARE = (dict, list, tuple, set)
SPECIAL = ("__init__", "__call__", "__str__", "__bool__", "__getattr__")


def signature_gaps(name, function):
    """The parameters of a function that have no type, and its result if that has none."""
    signature = inspect.signature(function)
    missing = [
        p.name
        for i, p in enumerate(signature.parameters.values())
        if p.annotation is p.empty and not (i == 0 and p.name in ("self", "cls"))
    ]
    missing += ["result"] if signature.return_annotation is signature.empty else []
    return [f"{name}: {part}" for part in missing]


def class_gaps(name, cls):
    """The gaps of a class's own public methods and properties, and dataclass fields without their items' types."""
    found = []
    for key, member in vars(cls).items():
        member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        generated = dataclasses.is_dataclass(cls) and key == "__init__"
        if inspect.isfunction(member) and not generated and (not key.startswith("_") or key in SPECIAL):
            found += signature_gaps(f"{name}.{key}", member)
    if dataclasses.is_dataclass(cls):
        found += [f"{name}.{field.name}: bare" for field in dataclasses.fields(cls) if field.type in BARE]
    return found


def public(module):
    """(name, object) of a module's public functions and classes: those of __all__, or those it defines."""
    own = vars(module)
    for name in getattr(module, "__all__", [n for n in own if not n.startswith("_")]):
        value = getattr(module, name)
        if hasattr(module, "__all__") or getattr(value, "__module__", None) == module.__name__:
            yield f"{module.__name__}.{name}", value


def gaps(module):
    found = []
    for name, value in public(module):
        if inspect.isclass(value):
            found += class_gaps(name, value)
        elif inspect.isfunction(value):
            found += signature_gaps(name, value)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_signatures_are_complete(name):
    module = importlib.import_module(name)
    assert list(public(module)), "no public names found"
    assert gaps(module) == []


@pytest.mark.parametrize("name", TORCH_MODULES)
def test_torch_signatures_are_complete(name):
    pytest.importorskip("torch", reason="torch is not installed")
    assert gaps(importlib.import_module(name)) == []


@pytest.mark.parametrize("name", ONNX_MODULES)
def test_onnx_signatures_are_complete(name):
    pytest.importorskip("onnx", reason="onnx is not installed")
    assert gaps(importlib.import_module(name)) == []


def test_a_gap_is_found():
    def half(x, y: int):
        return x * y

    @dataclasses.dataclass
    class Loose:
        items: list
        count: int

        def first(self):
            return self.items[0]

    assert signature_gaps("half", half) == ["half: x", "half: result"]
    assert class_gaps("Loose", Loose) == ["Loose.first: result", "Loose.items: bare"]


# A line with `type: ignore` is wrong on purpose: strict mypy complains of one that hides nothing.
CONSUMER = """
from pathlib import Path
from typing import assert_type

import numpy as np

import pagnp
from pagnp import ops
from pagnp.types import Index, Mask, Tensor

model = pagnp.load(Path("model.h5"), backend="numpy", threads=2)
photo = np.zeros((48, 64, 3), np.uint8)
result = model(photo, budget=0.5, trace=True)
assert_type(result, pagnp.Result)
assert_type(model("image.png"), pagnp.Result)
assert_type(model(["a.png", "b.png"], gate_mode="soft"), list[pagnp.Result])
assert_type(model(np.zeros((2, 48, 64, 3), np.uint8)), list[pagnp.Result])
assert_type(result.masks["layer1.0.gate"], Mask)
assert_type(result.ponder, Index)
assert_type(result.macs["layers"]["conv1"]["executed"], int)
assert_type(result.digest, str)
assert_type(model.forward(np.zeros((1, 8, 8, 3), np.float32))["labels"], Tensor)
assert_type(model.plan((48, 64)).bytes, int)

x, weight = np.zeros((1, 8, 8, 3), np.float32), np.zeros((3, 3, 3, 4), np.float32)
y = ops.conv2d(x, weight, padding=1, stride=(2, 2), relu=True, backend="numba")
assert_type(y, Tensor)
assert_type(ops.mask_to_sites(ops.compare(y, 0.5, "gt")[..., 0]), Index)

class OnGpu:
    # as arrays of CuPy, Numba and torch are seen

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {}


ops.conv2d(OnGpu(), weight, residual=OnGpu(), backend="cupy")
ops.select(OnGpu(), [OnGpu(), x], backend="numba-cuda")
ops.add(OnGpu(), 1.0)
assert_type(pagnp.contract.digest(OnGpu()), str)

graph = pagnp.nn.pag_resnet(depth=26, heads={"labels": {"task": "segmentation", "classes": 5}}, seed=1)
assert_type(graph, pagnp.Graph)
try:
    pagnp.Model(graph, backend="numpy")
except pagnp.errors.PagnpError as error:
    assert_type(error.exit_code, int)

model(photo, budgett=0.5)  # type: ignore[call-overload]
model(photo, gate_mode="firm")  # type: ignore[call-overload]
double = x.astype(np.float64)
ops.conv2d(double, weight)  # type: ignore[arg-type]
ops.conv2d(x, weight, padding=(1, 1))  # type: ignore[arg-type]
ops.compare(x, x, ">")  # type: ignore[arg-type]
ops.relu(Path("x.npy"))  # type: ignore[arg-type]
pagnp.nn.pag_resnet(dpth=26)  # type: ignore[call-arg]
pagnp.modle  # type: ignore[attr-defined]
"""


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed (pip install mypy)")
def test_a_program_that_uses_pagnp_type_checks_strictly(tmp_path):
    (tmp_path / "consumer.py").write_text(CONSUMER)
    # As of an installed package, only what concerns the program is reported.
    flags = ["--strict", "--follow-imports=silent", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *flags, "consumer.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_lazy_names_are_the_declared_ones():
    assert all(hasattr(pagnp, name) for name in pagnp.__all__)
    with pytest.raises(AttributeError, match="module 'pagnp' has no attribute 'modle'"):
        pagnp.modle  # noqa: B018
