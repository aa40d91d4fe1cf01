"""Files for `pagnp compare --reference`: layouts, names, and what is refused, with file and key in one line."""

import io
import json
import zipfile

import numpy as np
import pytest
from reference_network import MAKER, compare, golden, graph, model  # noqa: F401

import pagnp
from pagnp.backends.base import get_backend
from pagnp.cli.main import main
from pagnp.errorbound import network
from pagnp.errorbound.reference import ReferenceFile
from pagnp.errors import UsageError
from pagnp.testing.interpret import interpret

# ruff: noqa: F811


def test_layouts(compare, golden):
    x, y = golden["input"], golden["layer1.0.relu1"]
    for array in (y, y[0], y.transpose(0, 2, 3, 1), y[0].transpose(1, 2, 0), y.astype(np.float64)):
        code, out, err = compare({"input": x, "layer1.0.relu1": array, "maxpool": golden["maxpool"]})
        assert code == 0 and "all 2 layers within" in out, out + err
    for array in (x[0], x.transpose(0, 2, 3, 1), x[0].transpose(1, 2, 0)):
        assert compare({"input": array, "maxpool": golden["maxpool"]})[0] == 0
    mask = golden["layer1.0.gate.unit"]
    for array in (mask[0], mask[0, 0], mask[0, 0][..., None], mask.astype(np.uint8), mask.astype(np.int64)):
        assert compare({"input": x, "layer1.0.gate": array})[0] == 0


def test_ambiguous_layouts(tmp_path):
    """Eight channels at 8x8: only a suffix, or the file's other arrays, can tell."""
    graph = pagnp.nn.GraphBuilder(3, seed=1)
    y = graph.conv("input", 8, kernel=1, name="conv")
    graph = graph.finish({"y": graph.conv(y, 4, kernel=1, name="last")})
    x = np.random.default_rng(2).standard_normal((1, 8, 8, 3)).astype(np.float32)
    values, answers = interpret(graph, x), {}
    for name, arrays in {
        "alone": {"conv": values["conv"]},
        "nhwc": {"conv@nhwc": values["conv"]},
        "nchw": {"conv@nchw": values["conv"].transpose(0, 3, 1, 2)},
        "wrong": {"conv@nchw": values["conv"]},
        "told by another": {"conv": values["conv"].transpose(0, 3, 1, 2), "last": values["last"].transpose(0, 3, 1, 2)},
    }.items():
        answers[name] = _check(tmp_path, graph, {"input@nhwc": x, **arrays})
    assert answers == {
        "alone": "conv (1, 8, 8, 8) may be (h, w, c) or (c, h, w); call it conv@nchw or conv@nhwc",
        **{"nhwc": True, "nchw": True, "wrong": False, "told by another": True},
    }


def _check(folder, graph, arrays):
    """Return whether all is in bound, or the message of the error."""
    path = folder / "x.npz"
    np.savez(path, **arrays)
    try:
        with ReferenceFile(path, graph) as file:
            file.fit(file.input_size(), file.input_size())
            return network.check(graph, file.input(), file, get_backend("numpy")).first is None
    except UsageError as error:
        return str(error).removeprefix(f"{path}: ")


def _npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _zip(name, data):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return content.getvalue()


def _npy(shape, dtype="<f4", data=b"", version=1):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2, "little") + header.encode() + data


F32 = np.zeros((1, 3, 17, 27), np.float32)
MAP = np.zeros((1, 8, 5, 7), np.float32)
BAD_FILES = {
    "text": (b"no archive", 3, "is a damaged NPZ file (File is not a zip file)"),
    "npy": (_npy((1,), data=b"\0" * 4), 3, "is a damaged NPZ file"),
    "empty": (_npz(), 2, "has no key 'input'"),
    "truncated": (_npz(input=F32)[:-30], 3, "is a damaged NPZ file"),
    "pickle": (_npz(input=F32, relu=np.array([{}], object)), 3, "relu.npy is Python objects, need float32"),
    "checkpoint": (_zip("archive/data.pkl", b"\x80\x02"), 3, "is a torch checkpoint (a pickle"),
    "no npy": (_zip("relu.txt", b"1 2 3"), 3, "relu.txt is no .npy array"),
    "bad header": (
        _zip("relu.npy", b"\x93NUMPY\x01\x00\x05\x00(((\n"),
        3,
        "relu.npy has a header that is no plain array's",
    ),
    "new npy": (_zip("relu.npy", _npy((1,), version=3)), 3, "relu.npy is no npy array of version 1.0 or 2.0"),
    "header bomb": (
        _zip("relu.npy", b"\x93NUMPY\x02\x00\0\0\0\x04" + bytes(1 << 26)),  # 64 MiB in 64 KiB
        3,
        "relu.npy is no npy array of version 1.0 or 2.0",
    ),
    "lying header": (
        _zip("relu.npy", _npy((9, 9, 9, 9), data=b"\0" * 64)),
        3,
        "relu.npy declares 26244 bytes but has 64",
    ),
    "bomb": (_npz(input=F32, relu=np.zeros((1, 8, 3000, 3000), np.float32)), 2, "relu has shape (1, 8, 3000, 3000)"),
    "big input": (_zip("input.npy", _npy((1, 3, 90000, 90000))), 3, "input.npy declares 97200000000 bytes but has 0"),
    "unknown": (_npz(input=F32, rélu=MAP, fc=MAP), 2, "the model has no rélu, fc; `pagnp info --json` lists"),
    "only input": (_npz(input=F32), 2, "holds no array of this model's layers"),
    "no input": (_npz(relu=MAP), 2, "has no key 'input'; give an image"),
    "wrong shape": (_npz(input=F32, relu=MAP), 2, "relu has shape (1, 8, 5, 7), 'relu' is (9, 14, 8) or (8, 9, 14)"),
    "batch": (_npz(input=F32, relu=np.zeros((2, 8, 9, 14), np.float32)), 2, "save one image"),
    "input batch": (_npz(input=np.zeros((2, 3, 17, 27), np.float32), relu=MAP), 2, "input is a batch of 2"),
    "input channels": (_npz(input=MAP, relu=MAP), 2, "need float32 (1, h, w, 3) or (1, 3, h, w)"),
    "input float64": (_npz(input=F32.astype(float), relu=MAP), 2, "input is float64"),
    "half": (_npz(input=F32, relu=MAP.astype(np.float16)), 2, "relu is float16, the value is a tensor: need float32"),
    "twice": (_npz(input=F32, **{"relu": MAP, "layers/relu": MAP}), 2, "layers/relu is the same value as relu"),
    "float mask": (_npz(input=F32, **{"layer1.0.gate": MAP}), 2, "is float32, the value is a mask: need bool"),
    "mask of twos": (
        _npz(input=F32, **{"layer1.0.gate": np.full((1, 1, 5, 7), 2)}),
        2,
        "layer1.0.gate has values outside of 0 to 1",
    ),
    "no branch": (
        _npz(input=F32, **{"layer4.1.multipool": np.full((1, 1, 3, 4), 3)}),
        2,
        "layer4.1.multipool has values outside of 0 to 2",
    ),
}


@pytest.mark.parametrize("name", list(BAD_FILES))
def test_bad_files(name, compare, tmp_path):
    content, code, message = BAD_FILES[name]
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    found, out, err = compare(path, "--backend", "numpy")
    assert (found, out) == (code, ""), err
    assert message in err and str(path) in err and err.count("\n") == 1


def test_damaged_data(compare, golden, tmp_path):
    raw = bytearray(_npz(input=golden["input"], maxpool=golden["maxpool"]))
    raw[len(raw) // 2] ^= 0xFF
    (tmp_path / "bad.npz").write_bytes(raw)
    code, _, err = compare(tmp_path / "bad.npz", "--backend", "numpy")
    assert code == 3 and "damaged" in err and err.count("\n") == 1


USAGE = [
    (["--backends", "numpy,numba"], 2, "--backends does not go with --reference"),
    (["--dense"], 2, "--dense does not go with --reference"),
    (["--backend", "abacus"], 2, "Invalid value for '--backend'"),
    (["no.png", "--random-image", "8x8"], 2, "either an image or --random-image"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), USAGE)
def test_usage(arguments, code, message, compare):
    found, out, err = compare(MAKER.PATH, *arguments)
    assert (found, out) == (code, "") and message in err


def test_options_of_a_reference_need_one(model, capsys):
    for option in (["--skip-unknown"], ["--backend", "numpy"]):
        assert main(["compare", "--weights", str(model), "--random-image", "8x8", *option]) == 2
        assert "goes with --reference alone" in capsys.readouterr().err


def test_unknown_names_can_be_skipped(compare, golden):
    arrays = {"input": golden["input"], "maxpool": golden["maxpool"], "dropout": golden["maxpool"]}
    code, out, _ = compare(arrays, "--skip-unknown", "--json")
    found = json.loads(out)
    assert code == 0 and found["skipped"] == ["dropout"] and [row["name"] for row in found["layers"]] == ["maxpool"]


def test_a_file_that_is_not_there(compare, tmp_path):
    code, _, err = compare(tmp_path / "none.npz")
    assert code == 3 and "none.npz: does not exist" in err
