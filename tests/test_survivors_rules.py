"""Rules that are tested here because an edit of tests/mutations got past all other tests."""

import importlib.resources
import math
import threading
import time

import numpy as np
import pytest

pytest.importorskip("numba")

from pagnp import flops, heads
from pagnp.arenas import Arenas
from pagnp.backends.base import get_backend
from pagnp.backends.numba_cpu import cachefolder
from pagnp.backends.numba_cpu.conv_plain import conv2d_f32_plain
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.budget import search
from pagnp.contract import compare
from pagnp.inference import Source, input_scale_shift
from pagnp.nn import GraphBuilder


def written_search(budget, share):
    """docs/NUMERICS.md, Budgets, word by word: the threshold, and all that were tried."""
    low, high, tried = -128, 128, {}
    for _ in range(8):
        if low <= high:
            k = math.floor((low + high) / 2)
            tried[k] = share(k / 16)
            low, high = (k + 1, high) if tried[k] > budget else (low, k - 1)
    nearest = min(abs(s - budget) for s in tried.values())
    return max(k for k, s in tried.items() if abs(s - budget) == nearest) / 16, [k / 16 for k in tried]


@pytest.mark.parametrize("budget", [0.0, 0.25, 0.5, 0.5625, 0.7, 1.0])
@pytest.mark.parametrize("slope", [16, 3, -2, 0.5, 0])
def test_the_budgets_rule_is_the_written_one(budget, slope):
    def share(t):
        return min(max(0.5 - slope * t / 16, 0.0), 1.0)

    tried = []
    got = search(budget, lambda t: tried.append(float(t)) or share(float(t)))
    assert (got, tried) == written_search(budget, share)


def test_a_call_waits_for_its_workers():
    """The caller's chunk ends while a worker is still at its own."""
    caller, begun, seen = threading.get_ident(), threading.Event(), np.zeros(2)

    def kernel(start, stop):
        if threading.get_ident() == caller:
            assert begun.wait(20)
        else:
            begun.set()
            time.sleep(0.2)
        seen[start:stop] += 1

    parallel(kernel, 2, 2, chunk=1)
    assert (seen == 1).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("total", "chunk"), [(7, 3), (6, 3), (1, 5), (100, 1)])
def test_chunks_end_with_the_total(threads, total, chunk):
    """A slice may hide a chunk that runs over the end; here the numbers themselves are looked at."""
    seen = []
    parallel(lambda start, stop: seen.append((start, stop)), total, threads, chunk=chunk)
    assert sorted(seen) == [(start, min(start + chunk, total)) for start in range(0, total, chunk)]


def test_the_kernels_cache_is_named_by_every_source(tmp_path, monkeypatch):
    """One byte of one source, anywhere, and kernels are compiled anew."""
    right, copies = importlib.resources.files, {}
    for package in cachefolder._SOURCES:
        copies[package] = tmp_path / package
        copies[package].mkdir()
        for entry in right(package).iterdir():
            if entry.name.endswith(".py"):
                (copies[package] / entry.name).write_bytes(entry.read_bytes())
    key = cachefolder._version_key()
    monkeypatch.setattr(importlib.resources, "files", lambda package: copies[package])
    assert cachefolder._version_key() == key
    for path in [path for folder in copies.values() for path in folder.iterdir()]:
        before = path.read_bytes()
        path.write_bytes(before + b"#")
        assert cachefolder._version_key() != key, path.name
        path.write_bytes(before)


def test_the_plain_kernel_keeps_a_zeros_sign():
    x, weight = np.full((1, 1, 1, 1), 2.0**-149, np.float32), np.full((1, 1, 1, 1), -0.25, np.float32)
    out, none = np.empty((1, 1), np.float32), (None,) * 4
    places, pairs = np.zeros(1, np.int32), ((1, 1), (0,) * 4, (1, 1))
    conv2d_f32_plain(x, weight, *none, False, places, *pairs, 1, (1, 1), out)
    assert out[0, 0] == 0 and np.signbit(out[0, 0])


def test_the_builder_counts_gates_and_blends_soft_ones():
    g = GraphBuilder(channels=4)
    z = g.conv("input", 2, kernel=1, name="z")
    g.gate(z, name="fifth", index=5)
    soft = g.gate(z, name="next", mode="gumbel_soft")
    assert g.graph.nodes["next"].attrs["gate_index"] == 6
    assert g.graph.nodes[g.select(soft, ("input", "input"), name="mixed")].op == "blend"


def test_the_arena_starts_on_a_cache_line():
    assert all(Arenas().take(size).ctypes.data % 64 == 0 for size in (64, 100, 4096, 1 << 20))


def test_the_input_is_normalised_by_numbers_rounded_once():
    rng = np.random.default_rng(47)
    mean, std = rng.uniform(0, 1, (2, 300)).tolist()
    scale, shift = input_scale_shift({"kind": "torchvision", "mean": mean, "std": std})
    assert scale.tolist() == [float(np.float32(1 / (255 * s))) for s in std]
    assert shift.tolist() == [float(np.float32(-m / s)) for m, s in zip(mean, std, strict=True)]
    scale, shift = input_scale_shift({"kind": "caffe", "mean": mean})
    assert (scale == 1).all() and shift.tolist() == [float(np.float32(-m)) for m in mean]


def test_the_input_is_padded_at_the_bottom_and_on_the_right():
    pixels = np.random.default_rng(49).integers(1, 256, (5, 6, 3), dtype=np.uint8)
    preprocess = {"kind": "caffe", "mean": [0.0, 0.0, 0.0]}
    x = Source(pixels, preprocess, (8, 8), get_backend("numpy")).rows(0, 8)
    want = np.zeros((1, 8, 8, 3), np.float32)
    want[0, :5, :6] = pixels
    assert not compare(x, want)


def test_macs_count_every_side_of_a_kernel():
    assert flops.conv2d(3, 5, (7, 2, 11, 13)) == 3 * 5 * 7 * 2 * 11 * 13
    assert flops.conv_transpose2d(3, 5, (7, 2, 11, 13)) == 3 * 5 * 7 * 2 * 11 * 13


@pytest.mark.parametrize(("classes", "dtype"), [(255, np.uint8), (256, np.uint8), (257, np.int32)])
def test_labels_are_bytes_as_long_as_they_fit(classes, dtype):
    x = np.zeros((1, 2, 2, classes), np.float32)
    x[0, 1, 1, classes - 1] = 1
    labels = heads.decode({"decode": "argmax"}, x, get_backend("numpy"))
    assert labels.dtype == dtype and labels.tolist() == [[0, 0], [0, classes - 1]]


UPSAMPLINGS = [
    {"op": "bilinear", "align_corners": False},
    {"op": "bilinear", "align_corners": True},
    {"op": "nearest"},
    {"op": "bilinear_deconv", "factor": 4},
    {"op": "none"},
]


@pytest.mark.parametrize("how", UPSAMPLINGS, ids=lambda how: "-".join(map(str, how.values())))
@pytest.mark.parametrize("mirrored", (False, True))
def test_a_head_in_bands_answers_as_a_whole(how, mirrored, monkeypatch):
    """However few rows are upsampled at a time; cropped at the bottom and on the right."""
    rng, backend = np.random.default_rng(48), get_backend("numpy")
    logits, other = (rng.standard_normal((1, 5, 6, 3)).astype(np.float32) for _ in range(2))
    head = {"name": "n", "task": "normals", "upsample": how, "decode": "identity"}
    padded = (5, 6) if how["op"] == "none" else (20, 24)
    size = (padded[0] - 1, padded[1] - 2)
    answers = []
    for rows in (1000, 7, 3, 1):
        monkeypatch.setattr(heads, "band_rows", lambda channels, width, rows=rows: rows)
        answers.append(heads.predict(head, logits, other if mirrored else None, padded, size, backend))
    whole = answers[0]
    assert whole.shape == (*size, 3) and not any(compare(answer, whole) for answer in answers)
    if how["op"] == "none" and not mirrored:
        assert not compare(whole, np.ascontiguousarray(logits[0, : size[0], : size[1]]))
