"""`pagnp verify` names what differs and why: changed receipts, kernels that are wrong here or were there."""

import numpy as np
import pytest
from conftest import BACKENDS
from receipt_files import BRANCH, SELECT, call, changed, made, network, shared, verified  # noqa: F401
from test_model_process import FLUSH, X86, in_thread, write_mxcsr

import pagnp
from pagnp import diagnose
from pagnp.backends import numba_cpu, numpy_ref
from pagnp.errors import MemoryLimitError

# ruff: noqa: F811

ZERO = "0" * 64
TAMPERED = [
    (("layers", 9, "digest"), ZERO, None, "numpy gives the same as numba here"),
    (("digests", "outputs/depth"), ZERO, "outputs/depth", "upsampling or decoding, all layers agree; numpy gives"),
    (("digests", "logits/depth"), ZERO, "logits/depth", "contradicts itself"),
    (("digests", "masks/layer1.0.gate"), ZERO, "masks/layer1.0.gate", "contradicts itself"),
    (("digest",), ZERO, "digest", "contradicts itself"),
    (("layers", 9), None, None, "the receipt does not list it"),
    (("layers", 9, "name"), "stranger", "layers/stranger", "this pagnp has no such value"),
    (("thresholds", "layer1.0.gate"), 0.5, "thresholds", "the search for the budget ended elsewhere"),
]


@pytest.mark.parametrize(("path", "value", "name", "text"), TAMPERED)
def test_a_changed_receipt_fails(call, made, path, value, name, text):
    document = made("{d}/room.png --budget 0.5")
    name = name or f"layers/{document['images'][0]['layers'][9]['name']}"
    changed(document, ("images", 0, *path), value)
    code, found = verified(call)
    [image] = found["images"]
    assert code == 1 and image["first_difference"]["name"] == name
    assert image["finding"]["cause"] == "receipt" and text in image["finding"]["text"]
    if path[-1] == "digest" and len(path) == 3:
        assert image["finding"]["places"] == ["exact arithmetic agrees with this machine at 8 of 8 elements"]
    code, out, _ = call("verify r.json --spot 1")
    cause = "receipt" if "contradicts" in text or "list it" in text or "no such" in text else "unknown"
    assert code == 1 and f"first difference: {name}" in out and f"cause ({cause})" in out


def reordered(image):
    image["layers"][3:5] = image["layers"][4:2:-1]


FORGED = {
    "size": lambda image: image.update(size=[24, 16]),
    "layers/maxpool": lambda image: image["layers"][1].update(shape=[6, 4, 8]),
    "layers/relu": lambda image: image["layers"][0].update(dtype="<i4"),
    "layers/layer1.0.select": lambda image: next(layer for layer in image["layers"] if layer["name"] == SELECT).update(
        probes="00000000"
    ),
    "order": reordered,
    "outputs/depth": lambda image: image["probes"].update({"outputs/depth": "3F800000"}),
    "logits/labels": lambda image: image["probes"].pop("logits/labels"),
    "outputs/stranger": lambda image: image["probes"].update({"outputs/stranger": "00"}),
}


@pytest.mark.parametrize(("name", "more"), [*((name, "") for name in FORGED), ("order", " --spot 1")])
def test_what_stands_beside_digests_is_checked(call, made, name, more):
    document = made()
    FORGED[name](document["images"][0])
    changed(document, ("pagnp",), pagnp.__version__)
    code, found = verified(call, "r.json" + more)
    [image] = found["images"]
    assert code == 1 and image["first_difference"]["name"] == f"beside/{name}"
    assert image["finding"]["cause"] == "receipt"


def test_a_layer_that_is_listed_twice(call, made):
    document = made()
    document["images"][0]["layers"].insert(2, {**document["images"][0]["layers"][2], "digest": ZERO})
    changed(document, ("pagnp",), pagnp.__version__)
    code, found = verified(call)
    assert code == 1 and found["images"][0]["first_difference"]["name"] == "beside/order"


def test_spot_blames_the_receipt_only_where_it_saw_all(call, made, monkeypatch):
    """One element of a layer is NaN here, nearly all are after it."""
    made("{d}/tiny.png")

    def one_nan(right):
        def kernel(*args, threads=1):
            right(*args, threads=threads)
            args[-1][0, 0, 0, 0] = np.nan

        return kernel

    with monkeypatch.context() as planted:
        plant(planted, "max_pool2d", one_nan)
        code, found = verified(call, "r.json --spot 1")
        [image] = found["images"]
        assert code == 1 and image["first_difference"]["name"] == "layers/maxpool"
        assert image["finding"]["cause"] == "unknown" and "others may not" in image["finding"]["text"]
        assert image["finding"]["places"][0].startswith("layers/maxpool[0,0,0]  here 7FC00000  receipt ")
    document = made("{d}/tiny.png")
    last = len(document["images"][0]["layers"]) - 1
    assert document["images"][0]["layers"][last]["shape"] == [1, 1, 1]
    changed(document, ("images", 0, "layers", last, "digest"), ZERO)
    [image] = verified(call, "r.json --spot 1")[1]["images"]
    assert image["finding"]["cause"] == "receipt" and "all its elements" in image["finding"]["text"]


def test_where_memory_is_short_probes_are_shown(call, made, monkeypatch):
    with monkeypatch.context() as planted:
        plant(planted, "max_pool2d", all_up)
        made()

    def refused(*_):
        raise MemoryLimitError("the run needs 9 MiB")

    monkeypatch.setattr(diagnose._Layer, "traced", refused)
    code, found = verified(call)
    finding = found["images"][0]["finding"]
    assert code == 1 and finding["cause"] == "unknown" and "needs 9 MiB" in finding["text"]
    assert finding["places"][0].startswith("layers/maxpool[0,0,0]  here ")


@pytest.mark.parametrize("flip", ("", "--flip"))
def test_an_answer_that_was_wrong_there(call, made, monkeypatch, flip):
    with monkeypatch.context() as planted:
        plant(planted, "exp", all_up)
        made(f"{{d}}/room.png {flip}")
    [image] = verified(call)[1]["images"]
    finding = image["finding"]
    assert image["first_difference"]["name"] == "outputs/depth" and finding["cause"] == "receipt"
    assert finding["text"].startswith("the mirrored pass, " * bool(flip) + "upsampling or decoding, all layers agree")
    assert finding["places"][0].startswith("outputs/depth[0,0]  here ")


def test_a_wrong_numpy_is_named_by_numba(call, made, monkeypatch):
    made()
    monkeypatch.setitem(numpy_ref._TABLE, "max_pool2d", first_element_up(numpy_ref._TABLE["max_pool2d"]))
    [image] = verified(call, "r.json --backend numpy")[1]["images"]
    assert image["first_difference"]["name"] == "layers/maxpool" and image["finding"]["cause"] == "this backend"
    assert "numba gives the receipt's bits, numpy does not: this CPU" in image["finding"]["text"]


def test_a_machine_that_was_wrong_shows_in_its_probes(call, made, monkeypatch):
    """The receipt is made with a wrong kernel, and verified with the right ones."""
    with monkeypatch.context() as planted:
        plant(planted, "max_pool2d", all_up)
        made()
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == "layers/maxpool" and image["finding"]["cause"] == "receipt"
    [first, *_] = image["finding"]["places"]  # all elements were one unit up there: the first probe shows it
    here, there = first.split("here ")[1][:8], first.split("receipt ")[1][:8]
    assert first.startswith("layers/maxpool[0,0,0]  here ") and int(there, 16) == int(here, 16) + 1
    assert image["finding"]["places"][-1] == "exact arithmetic agrees with this machine at 8 of 8 elements"


def plant(monkeypatch, op, make):
    """Put a wrong kernel into the numba backend."""
    monkeypatch.setitem(numba_cpu._TABLE, op, make(numba_cpu._TABLE[op]))


def first_element_up(right):
    """The right kernel, then the first positive element moved by one unit in the last place."""

    def kernel(*args, **threads):
        right(*args, **threads)
        out = args[-1].reshape(-1)
        if len(positive := np.flatnonzero(out > 0)):
            out[positive[0]] = np.nextafter(out[positive[0]], np.float32(np.inf))

    return kernel


def all_up(right):
    """The right kernel, then all moved by one unit in the last place."""

    def kernel(*args, threads=1):
        right(*args, threads=threads)
        args[-1][...] = np.nextafter(args[-1], np.float32(np.inf))

    return kernel


def only_at_sites(right):
    """A conv that is wrong only where a mask leaves pixels out."""

    def kernel(*args, threads=1):
        right(*args, threads=threads)
        sites, out = args[7], args[-1]
        if sites is not None and len(sites):
            flat = out.reshape(-1, out.shape[-1])
            flat[sites[0]] = np.nextafter(flat[sites[0]], np.float32(np.inf))

    return kernel


def wrong_in_bands(right):
    """A conv that is wrong where it computes a single row of a map: none of TALL's has only one."""

    def kernel(x, *args, threads=1):
        right(x, *args, threads=threads)
        if x.shape[-1] == 256 and args[-1].shape[1] == 1:
            args[-1][...] = np.nextafter(args[-1], np.float32(np.inf))

    return kernel


def test_a_wrong_kernel_here_is_named_with_place_and_bits(call, made, monkeypatch):
    document = made()
    plant(monkeypatch, "max_pool2d", first_element_up)
    [image] = verified(call)[1]["images"]
    finding = image["finding"]
    assert image["first_difference"]["name"] == "layers/maxpool" and finding["cause"] == "this backend"
    assert "numpy gives the receipt's bits, numba does not" in finding["text"]
    assert "maxpool (max_pool2d): 1 of" in finding["places"][0]
    got, want = finding["places"][1].split("got ")[1][:8], finding["places"][1].split("want ")[1][:8]
    assert int(got, 16) == int(want, 16) + 1 and finding["places"][1].endswith("1 ulp")
    assert "agrees with this machine at 0 of 1 elements" in finding["places"][2] and want in finding["places"][2]
    assert document["images"][0]["layers"][1]["name"] == "maxpool"
    code, out, _ = call("verify r.json")
    assert code == 1 and "layers/maxpool" in out and "DIFFERS" in out and f"got {got}" in out
    assert call("verify r.json --backend numpy")[0] == 0


def test_a_wrong_layer_inside_a_branch_is_named(call, made, monkeypatch):
    made()

    def wrong(right):
        def kernel(*args, threads=1):
            right(*args, threads=threads)
            weight_of_branch = args[2] is not None and args[2].shape == SCALE.shape and (args[2] == SCALE).all()
            if weight_of_branch:
                args[-1][...] = np.nextafter(args[-1], np.float32(np.inf))

        return kernel

    from pagnp.canonical import canonical
    from pagnp.fuse import fuse

    graph = canonical(network(1))
    SCALE = graph.weights[fuse(graph)[BRANCH].node.weights["scale"]]
    plant(monkeypatch, "conv2d", wrong)
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == f"layers/{SELECT}" and image["finding"]["cause"] == "this backend"
    assert f"layer {BRANCH} (conv2d), in a branch of {SELECT}" in image["finding"]["places"][0]


def test_wrong_perforation_is_named(call, made, monkeypatch):
    made("{d}/room.png --dense")
    document = made()
    assert verified(call)[0] == 0
    plant(monkeypatch, "conv2d", only_at_sites)
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == f"layers/{SELECT}"
    assert "right when computed densely: skipping pixels is what fails" in image["finding"]["places"][0]
    assert document["images"][0]["options"]["dense"] is False


def test_wrong_bands_are_named(call, made, monkeypatch):
    made("{d}/tall.png --tile 8")
    plant(monkeypatch, "conv2d", wrong_in_bands)
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == "layers/layer4.1.relu1"
    assert "right when computed whole: the bands are what fails" in image["finding"]["places"][0]


def test_wrong_decoding_is_named(call, made, monkeypatch):
    made()
    plant(monkeypatch, "argmax", lambda right: lambda x, out, threads=1: out.fill(2))
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == "outputs/labels" and image["finding"]["cause"] == "this backend"
    assert "upsampling or decoding" in image["finding"]["text"] and "got 2 (2)" in image["finding"]["places"][0]


def test_an_unsteady_machine_is_named(call, made, monkeypatch):
    made()
    calls = []

    def unsteady(right):
        def kernel(*args, threads=1):
            right(*args, threads=threads)
            calls.append(0)
            args[-1].reshape(-1)[0] += len(calls)

        return kernel

    plant(monkeypatch, "max_pool2d", unsteady)
    [image] = verified(call)[1]["images"]
    assert image["finding"]["cause"] == "unsteady" and image["first_difference"]["name"] == "layers/maxpool"


def test_spot_finds_a_wrong_kernel_alone(call, made, monkeypatch):
    """The receipt is of the same wrong machine: no digest differs, exact arithmetic does."""
    plant(monkeypatch, "max_pool2d", all_up)
    made()
    assert verified(call)[0] == 0
    code, found = verified(call, "r.json --spot 2")
    [image] = found["images"]
    assert code == 1 and image["first_difference"] is None and image["finding"]["cause"] == "this backend"
    assert "maxpool (max_pool2d) is not what exact arithmetic makes of its inputs" in image["finding"]["text"]
    assert [spot["name"] for spot in image["spots"] if spot["agree"] < spot["recomputed"]] == ["maxpool"]
    code, out, _ = call("verify r.json --spot 2")
    assert code == 1 and "DIFFERS" in out and "cause (this backend)" in out


@pytest.mark.skipif(not X86, reason="sets a register of x86")
@pytest.mark.parametrize("backend", BACKENDS)
def test_flushed_subnormals_are_named(call, made, backend):
    made()
    codes = []

    def spoilt():
        write_mxcsr(0x1F80 | FLUSH)
        codes.append(verified(call, f"r.json --backend {backend}"))

    assert in_thread(spoilt) is None
    code, found = codes[0]
    assert code == 1 and found["finding"]["cause"] == "subnormals" and "flushes" in found["finding"]["text"]


@pytest.mark.skipif(not X86, reason="sets a register of x86")
def test_subnormals_flushed_after_the_start_are_named(call, made, monkeypatch):
    """A library that is loaded between two images: here by the planted kernel, in the thread that calls."""
    made()
    codes = []

    def spoiling(right):
        def kernel(*args, threads=1):
            right(*args, threads=threads)
            write_mxcsr(0x1F80 | FLUSH)

        return kernel

    plant(monkeypatch, "max_pool2d", spoiling)
    assert in_thread(lambda: codes.append(verified(call, "r.json --threads 2"))) is None
    code, found = codes[0]
    assert code == 1 and found["images"][0]["finding"]["cause"] == "subnormals"
