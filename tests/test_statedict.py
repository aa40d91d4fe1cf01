"""Plain state_dicts: every format gives the same model, and what does not fit is listed."""

import inspect
import json
import pickle
import re
import sys
import warnings
import zipfile

import h5py
import numpy as np
import pytest

from pagnp import arch, contract, graphjson, modelfile, statedict
from pagnp.errors import ModelFileError, UsageError
from pagnp.nn import pag_resnet, resnet_spec

TINY = {"depth": 26, "width": 0.125, "heads": {"labels": {"task": "segmentation", "classes": 5}}}


def tiny(**options):
    """Return the weights of a small pag_resnet26 whose values are float16 numbers, so that every format holds them."""
    graph = pag_resnet(**{**TINY, "seed": 3, **options})
    return {key: array.astype(np.float16).astype(np.float32) for key, array in graph.weights.items()}


@pytest.fixture(scope="module")
def state():
    return tiny()


def as_hdf5(path, state, separator=".", dtype=np.float32, **options):
    with h5py.File(path, "w") as file:
        for key, array in state.items():
            file.create_dataset(key.replace(".", separator), data=array.astype(dtype), **options)


def as_npz(path, state, save=np.savez, dtype=np.float32):
    with open(path, "wb") as file:
        save(file, **{key: array.astype(dtype) for key, array in state.items()})


def as_safetensors(path, state, dtype=np.float32):
    numpy_format = pytest.importorskip("safetensors.numpy", reason="the optional package safetensors is missing")
    numpy_format.save_file({key: array.astype(dtype) for key, array in state.items()}, path)


FORMATS = {
    "hdf5-flat": as_hdf5,
    "hdf5-nested": lambda path, state: as_hdf5(path, state, "/"),
    "hdf5-gzip": lambda path, state: as_hdf5(path, state, compression="gzip", shuffle=True, fletcher32=True),
    "hdf5-float64": lambda path, state: as_hdf5(path, state, dtype=np.float64),
    "hdf5-float16": lambda path, state: as_hdf5(path, state, dtype=np.float16),
    "hdf5-big-endian": lambda path, state: as_hdf5(path, state, dtype=">f4"),
    "npz": as_npz,
    "npz-compressed": lambda path, state: as_npz(path, state, np.savez_compressed),
    "npz-float64": lambda path, state: as_npz(path, state, dtype=np.float64),
    "safetensors": as_safetensors,
    "safetensors-float16": lambda path, state: as_safetensors(path, state, np.float16),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_entries(tmp_path, state, form):
    path = tmp_path / "weights.bin"  # found out by content, not by name
    FORMATS[form](path, state)
    back = statedict.read_state_dict(path)
    assert back.keys() == state.keys()
    for key, array in state.items():
        assert not contract.compare(back[key], array), key


def test_arrays_in_fortran_order(tmp_path):
    want = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.savez(tmp_path / "w.npz", a=np.asfortranarray(want), b=np.float32(3), c=np.zeros((0, 2), np.float32))
    back = statedict.read_state_dict(tmp_path / "w.npz")
    assert back["a"].flags.c_contiguous and not contract.compare(back["a"], want)
    assert back["b"].shape == () and back["b"] == 3 and back["c"].shape == (0, 2)


@pytest.mark.parametrize("prefix", ["module.", "model.", "state_dict.", "model.module.", "state_dict.module."])
def test_wrappers_are_removed_with_a_notice(tmp_path, state, prefix):
    as_hdf5(tmp_path / "w.h5", {prefix + key: array for key, array in state.items()})
    notices = []
    assert statedict.read_state_dict(tmp_path / "w.h5", notices).keys() == state.keys()
    assert any(f"removed the prefix '{prefix.split('.')[0]}.'" in line for line in notices)


def test_integers_and_entries_beside_a_state_dict_are_ignored_with_a_notice(tmp_path, state):
    entries = {f"state_dict.{key}": array for key, array in state.items()}
    as_hdf5(tmp_path / "w.h5", {**entries, "optimizer.momentum": np.zeros(3)})
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        file["state_dict.bn1.num_batches_tracked"] = np.int64(7)
    notices = []
    assert statedict.read_state_dict(tmp_path / "w.h5", notices).keys() == state.keys()
    assert "ignored 1 integer entries: state_dict.bn1.num_batches_tracked" in notices
    assert "ignored 1 entries outside 'state_dict.': optimizer.momentum" in notices


def test_nonfinite_and_signed_zero_survive_float64(tmp_path):
    values = np.array([np.nan, np.inf, -0.0, 2.0**-149])
    as_hdf5(tmp_path / "w.h5", {"a": values}, dtype=np.float64)
    back = statedict.read_state_dict(tmp_path / "w.h5")["a"]
    assert not contract.compare(back, values.astype(np.float32))


def test_without_the_safetensors_package(tmp_path, state, monkeypatch):
    as_safetensors(tmp_path / "w.safetensors", state)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ModelFileError, match="needs a package; pip install safetensors"):
        statedict.read_state_dict(tmp_path / "w.safetensors")


# Files that are refused


def object_array(path):
    np.savez(path, a=np.array([{}, None], dtype=object))


def torch_checkpoint(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


def npz_member(name, raw, **options):
    def write(path):
        with zipfile.ZipFile(path, "w", **options) as archive:
            archive.writestr(name, raw)

    return write


def npy(shape, dtype, body):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body


def hdf5(change):
    def write(path):
        with h5py.File(path, "w") as file:
            change(file)

    return write


def dataset(name, *args, **kwargs):
    return hdf5(lambda file: file.create_dataset(name, *args, **kwargs))


def linked(target):
    def change(file):
        file["a"] = target

    return hdf5(change)


def twice(file):
    file["a.b"] = np.zeros(2, np.float32)
    file["a/b"] = np.zeros(2, np.float32)


def marked(file):
    file.attrs["format"] = "pagnp-model"


def damaged_zip(path):
    as_npz(path, {"a": np.arange(1000)}, np.savez_compressed)
    raw = bytearray(path.read_bytes())
    raw[120:140] = bytes(20)
    path.write_bytes(raw)


def damaged_safetensors(path):
    pytest.importorskip("safetensors", reason="the optional package safetensors is missing")
    path.write_bytes((50).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,')


def bfloat16(path):
    pytest.importorskip("safetensors", reason="the optional package safetensors is missing")
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def same_name_twice(path):
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("a.npy", npy((2,), "<f4", bytes(8)))


def overlapping(path):
    """Two members that are the same bytes: thousands of them would be a bomb."""
    npz_member("a.npy", npy((25_000,), "<f4", np.arange(25_000, dtype="<f4").tobytes()))(path)
    raw = path.read_bytes()
    start, end = raw.index(b"PK\1\2"), raw.index(b"PK\5\6")
    directory = raw[start:end]
    tail = bytearray(raw[end:])
    tail[8:12] = (2).to_bytes(2, "little") * 2
    tail[12:16] = (2 * len(directory)).to_bytes(4, "little")
    path.write_bytes(raw[:start] + directory + directory.replace(b"a.npy", b"b.npy") + bytes(tail))


def header(text):
    return npz_member("a.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + bytes(8))


def two_names(path):
    as_hdf5(path, {"a": np.zeros(2), "b": np.zeros(2)})
    with h5py.File(path, "r+") as file:
        file["c"] = file["a"]


def in_heaps(path):
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(20):
            file[f"a{i}"] = np.zeros(2, np.float32)


REFUSED = [
    (same_name_twice, "a.npy is there twice, need each name once"),
    (overlapping, "but its entries say that they store"),
    (
        npz_member("a.npy", npy((2,), "<f4", bytes(8)), compression=zipfile.ZIP_LZMA),
        "compressed by a method other than",
    ),
    (header("-" * 3000 + "1"), "a.npy has a header that is no plain array's"),
    (header("(" * 3000), "a.npy has a header that is no plain array's"),
    (header("x" * 5000), "a.npy is no npy array of version 1.0 or 2.0"),
    (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        "a.npy has a header that is no plain array's",
    ),
    (header("{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }"), "a.npy has a header that is no plain array's"),
    (header("{'descr': '<q9', 'fortran_order': False, 'shape': (2,), }"), "a.npy is of the unknown type <q9"),
    (npz_member("a.npy", npy((1,) * 9, "<f4", bytes(4))), "a.npy has 9 axes, need at most 8"),
    (two_names, "c is another name of a (or a loop)"),
    (in_heaps, "keeps links or attributes in a heap of HDF5 1.8"),
    (lambda path: None, "does not exist"),
    (lambda path: path.write_text("hello, world"), "is not an HDF5 file"),
    (lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=2)), "is a torch checkpoint (a pickle"),
    (torch_checkpoint, "is a torch checkpoint (a pickle"),
    (object_array, "a.npy is Python objects, need float32"),
    (npz_member("a.txt", b"x"), "a.txt is no .npy array"),
    (npz_member("a.npy", b"no header"), "a.npy has no npy header (a damaged NPZ file?)"),
    (npz_member("a.npy", npy((1 << 40,), "<f4", bytes(8))), "a.npy declares 4398046511104 bytes but has 8"),
    (
        npz_member("a.npy", npy((1 << 22,), "<f4", bytes(1 << 24)), compression=zipfile.ZIP_DEFLATED),
        "need at most 256:1",
    ),
    (npz_member("a.npy", npy((2,), "<c8", bytes(16))), "a.npy is complex64, need float32"),
    (damaged_zip, "is a damaged NPZ file"),
    (damaged_safetensors, "is a damaged safetensors file"),
    (bfloat16, "a is BF16, need float32"),
    (hdf5(marked), "use it without --arch"),
    (hdf5(twice), "is the same key as"),
    (hdf5(lambda file: None), "has no float32 entries"),
    (dataset("a", data=np.array([1, 0.1])), "a is float64, need float32; its values are no float32 numbers"),
    (dataset("a", data=np.array([1, 1e300])), "a is float64, need float32; its values are no float32 numbers"),
    (dataset("a", data="text"), "a is a string, need float32; save again as float32"),
    (dataset("a", data=np.zeros(2, [("x", "<f4")])), "a is a compound type"),
    (dataset("a", shape=(1 << 40,), dtype="<f4"), "a declares 4398046511104 bytes but 0 are stored"),
    (linked(h5py.SoftLink("/b")), "a is a soft link"),
    (linked(h5py.ExternalLink("/etc/passwd", "/")), "a is an external link"),
]


@pytest.mark.parametrize(("write", "fragment"), REFUSED, ids=[f"{i:02}-{f[-24:]}" for i, (_, f) in enumerate(REFUSED)])
def test_refused_files(tmp_path, write, fragment):
    path = tmp_path / "w.npz"
    write(path)
    with pytest.raises(ModelFileError) as caught:
        statedict.read_state_dict(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and fragment in message and "\n" not in message, message


def test_too_many_bytes(tmp_path, state, monkeypatch):
    monkeypatch.setattr(statedict, "MAX_BYTES", 1000)
    for write in (as_hdf5, as_npz, as_safetensors):
        write(tmp_path / "w", state)
        with pytest.raises(ModelFileError, match="bytes of weights, need at most 1000"):
            statedict.read_state_dict(tmp_path / "w")


# Architectures

MULTIPOOL = {"block": "layer4.1"}
VARIANTS = {
    "all gated": {},
    "some gated": {"gated": ["layer1.1", "layer3.0"]},
    "not gated": {"gated": None},
    "multipool": {"multipool": MULTIPOOL},
    "tied multipool": {"multipool": {**MULTIPOOL, "tied": True, "hidden": [16, 24]}},
    "blur, res6": {"gate_blur": True, "res6": 24},
    "narrow": {"width": 0.3},
    "one channel": {"in_channels": 1},
    "hidden": {"heads": {"labels": {"task": "segmentation", "classes": 4, "hidden": [8, 16, 8]}}},
    "four heads": {
        "heads": {
            "boundary": {"task": "boundary"},
            "depth": {"task": "depth"},
            "labels": {"task": "segmentation", "classes": 2},
            "normals": {"task": "normals"},
        }
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_named_architecture_is_read_off_the_entries(variant):
    want = pag_resnet(**{**TINY, "seed": 5, **VARIANTS[variant]})
    graph = statedict.build("pag_resnet26", want.weights)
    assert modelfile.model_hash(graph) == modelfile.model_hash(want)


def torchvision_resnet50(mid=8, classes=10):
    """Return a state_dict with the names and shapes of torchvision.models.resnet50, `mid` in place of 64."""
    random, shapes = np.random.default_rng(1), {"conv1.weight": (mid, 3, 7, 7)}

    def norm(name, count):
        shapes.update({f"{name}.{part}": (count,) for part in ("weight", "bias", "running_mean", "running_var")})

    norm("bn1", mid)
    c_in = mid
    for layer, count in enumerate((3, 4, 6, 3)):
        width = mid * 2**layer
        for i in range(count):
            block = f"layer{layer + 1}.{i}"
            shapes[f"{block}.conv1.weight"] = (width, c_in, 1, 1)
            shapes[f"{block}.conv2.weight"] = (width, width, 3, 3)
            shapes[f"{block}.conv3.weight"] = (4 * width, width, 1, 1)
            for part, channels in (("bn1", width), ("bn2", width), ("bn3", 4 * width)):
                norm(f"{block}.{part}", channels)
            if i == 0:
                shapes[f"{block}.downsample.0.weight"] = (4 * width, c_in, 1, 1)
                norm(f"{block}.downsample.1", 4 * width)
            c_in = 4 * width
    shapes.update({"fc.weight": (classes, c_in), "fc.bias": (classes,)})
    return {key: random.uniform(0.1, 1, shape).astype(np.float32) for key, shape in shapes.items()}


def test_torchvision_resnet50():
    state, notices = torchvision_resnet50(), []
    graph = statedict.build("resnet50", state, notices=notices)
    assert len(state) == 267  # torchvision 0.15's resnet50 has 320 entries, 53 of them num_batches_tracked
    assert notices == ["fc becomes a classifier of every pixel with 10 classes"]
    assert graph.nodes["layer2.0.conv1"].attrs["stride"] == [1, 1]
    assert graph.nodes["layer2.0.conv2"].attrs["stride"] == [2, 2]
    assert graph.nodes["layer4.0.conv2"].attrs["dilation"] == [1, 1]
    last = graph.nodes[graph.outputs["labels"]]
    assert np.array_equal(graph.weights[last.weights["weight"]][:, :, 0, 0], state["fc.weight"])
    assert np.array_equal(graph.weights[last.weights["bias"]], state["fc.bias"])
    statedict.build("pag_resnet50", state, notices=notices)
    assert notices[-1].endswith("output stride 8; torchvision's network is --arch resnet50")


def test_faults_of_torchvisions_resnet50_are_listed_by_the_files_own_names():
    state = {**torchvision_resnet50(), "more": np.zeros(1, np.float32), "bn1.bias": np.zeros(3, np.float32)}
    del state["fc.bias"], state["layer2.0.downsample.0.weight"]
    with pytest.raises(ModelFileError) as caught:
        statedict.build("resnet50", state, label="w.h5")
    assert str(caught.value) == (
        "w.h5: does not fit resnet50: 2 missing: fc.bias, layer2.0.downsample.0.weight; 1 unexpected: more; "
        "1 misshapen: bn1.bias (3,) need (8,)"
    )


def test_a_config_json(tmp_path):
    head = {"task": "segmentation", "classes": ["wall", "floor"], "palette": [[0, 0, 0], [9, 9, 9]], "hidden": []}
    options = {**TINY, "multipool": {"block": "layer4.1", "rates": [2, 0, 1]}, "heads": {"rooms": head}}
    caffe = {"kind": "caffe", "mean": [123.68, 116.779, 103.939], "pad_multiple": 8}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**options, "preprocess": caffe}))
    want = pag_resnet(**options)
    want.preprocess = caffe
    assert modelfile.model_hash(statedict.build(config, want.weights)) == modelfile.model_hash(want)
    config.write_text(
        json.dumps(
            {
                "depth": 50,
                "width": 0.125,
                "gated": None,
                "stride_on": "conv2",
                "heads": {"x": {**head, "classes": 10, "palette": None}},
            }
        )
    )
    graph = statedict.build(config, torchvision_resnet50())
    assert graph.outputs == {"x": "heads.x.conv1"} and graph.nodes["layer4.0.conv2"].attrs["dilation"] == [4, 4]


def test_a_blur_weight_may_be_absent(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**TINY, "gate_blur": True}))
    want = pag_resnet(**TINY, gate_blur=True)
    state = {key: array for key, array in want.weights.items() if "blur" not in key}
    assert modelfile.model_hash(statedict.build(config, state)) == modelfile.model_hash(want)


def test_config_json_knows_every_option_of_pag_resnet():
    options = set(graphjson.schema()["$defs"]["config"]["properties"]) - {"preprocess"}
    assert options == set(inspect.signature(resnet_spec).parameters)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "is not valid JSON"),
        ("[]", "$: [] is not of type 'object'"),
        ('{"depth": 26}', "$: 'heads' is a required property"),
        ('{"heads": {}, "depth": 26}', "$.heads"),
        ('{"heads": {"a": {"task": "depth"}}, "colour": 1}', "$: Additional properties are not allowed ('colour'"),
        ('{"heads": {"a": {"task": "depth"}}, "depth": 51}', "pag_resnet: depth 51 is unknown; choose one of 26"),
        ('{"heads": {"a": {"task": "flow"}}}', "head 'a': task 'flow' is unknown"),
        ('{"heads": {"a/b": {"task": "depth"}}}', "$.heads: 'a/b' does not match"),
        ('{"heads": {"a": {"task": "depth"}}, "width": 1e9}', "$.width: 1000000000.0 is greater than the maximum"),
        ('{"heads": {"a": {"task": "depth"}}, "gated": ["layer9.0"]}', "gated block 'layer9.0' does not exist"),
        ('{"heads": {"a": {"task": "depth"}}, "preprocess": {"kind": "caffe"}}', "$.preprocess: 'mean' is a required"),
    ],
)
def test_bad_config_json(tmp_path, state, text, fragment):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelFileError) as caught:
        statedict.build(path, state)
    message = str(caught.value)
    assert message.startswith(f"{path}") and fragment in message and "\n" not in message, message


def test_missing_unexpected_and_misshapen_entries_are_listed_together(state):
    state = dict(state)
    for name in ("bn1.bias", "bn1.weight"):
        del state[name]
    state["layer1.0.bn1.weight"] = np.zeros(7, np.float32)
    state.update({f"extra{i:02}": np.zeros(1, np.float32) for i in range(12)})
    with pytest.raises(ModelFileError) as caught:
        statedict.build("pag_resnet26", state, label="w.h5")
    message = str(caught.value)
    assert message.startswith("w.h5: does not fit pag_resnet26: 2 missing: bn1.bias, bn1.weight; 12 unexpected: ")
    assert "extra09 and 2 more; 1 misshapen: layer1.0.bn1.weight (7,) need (8,)" in message


def _without(state, part):
    return {key: array for key, array in state.items() if part not in key}


@pytest.mark.parametrize(
    ("name", "change", "error", "fragment"),
    [
        ("resnet18", dict, UsageError, "arch 'resnet18' is unknown; choose one of pag_resnet26"),
        ("none.json", dict, ModelFileError, "none.json: cannot be read"),
        ("pag_resnet50", dict, ModelFileError, "missing: layer1.2.bn1.bias"),
        ("pag_resnet26", lambda s: {"a": s["conv1.weight"]}, ModelFileError, "; 1 unexpected: a"),
        ("pag_resnet26", lambda s: {"a": s["conv1.weight"]}, ModelFileError, "missing: bn1.bias, bn1.running_mean, "),
        ("pag_resnet26", lambda s: dict(list(s.items())[1:]), ModelFileError, "resnet26: 1 missing: conv1.weight"),
        ("pag_resnet26", lambda s: _without(s, "layer4.0.conv1"), ModelFileError, "1 missing: layer4.0.conv1.weight"),
        ("pag_resnet26", lambda s: _without(s, "layer4.0.conv3"), ModelFileError, "1 missing: layer4.0.conv3.weight"),
        (  # a width that nothing confirms is not built
            "pag_resnet26",
            lambda s: {"layer4.0.conv1.weight": np.zeros((1 << 20, 1, 1, 1), np.float32)},
            ModelFileError,
            "conv1.weight is missing; check --arch",
        ),
        ("pag_resnet26", lambda s: _without(s, "heads."), ModelFileError, "has neither heads.* nor fc.*"),
        (
            "pag_resnet26",
            lambda s: {**s, "conv1.weight": np.zeros((8, 3, 3, 3), np.float32)},
            ModelFileError,
            "conv1.weight has shape (8, 3, 3, 3), need (c_out, c_in, 7, 7)",
        ),
        (
            "pag_resnet26",
            lambda s: {**s, "layer4.0.conv1.weight": np.zeros((1 << 20, 1, 1, 1), np.float32)},
            ModelFileError,
            "layer4.0.conv3.weight has shape (256, 64, 1, 1), need (c_out, 1048576, 1, 1)",
        ),
        (
            "pag_resnet26",
            lambda s: {**s, "heads.strange.conv1.weight": np.zeros((2, 256, 1, 1), np.float32)},
            ModelFileError,
            "head 'strange' with 2 channels could be several tasks; name its task in a config.json",
        ),
        (
            "pag_resnet26",
            lambda s: tiny(multipool={"block": "layer4.1", "rates": [0, 1, 2]}),
            ModelFileError,
            "layer4.1.multipool has 3 branches whose dilation rates are not in the weights",
        ),
    ],
)
def test_refused_architectures(state, name, change, error, fragment):
    with pytest.raises(error) as caught:
        statedict.build(name, change(state))
    assert fragment in str(caught.value) and "\n" not in str(caught.value), caught.value


# convert


@pytest.mark.parametrize(
    ("key", "value", "fragment"),
    [
        ("bn1.weight", np.nan, "bn1.weight is not finite"),
        ("bn1.running_var", -1.0, "running_var + eps is not positive"),
    ],
)
def test_weights_that_no_network_has_are_refused(state, key, value, fragment):
    spoilt = {**state, key: np.full_like(state[key], value)}
    with pytest.raises(ModelFileError, match=re.escape(fragment)):
        statedict.build("pag_resnet26", spoilt)
    if np.isnan(value):
        graph = statedict.build("pag_resnet26", spoilt, allow_nonfinite=True)
        assert graph.producer.endswith(modelfile.OUTSIDE)


def test_convert(tmp_path, state):
    source, target = tmp_path / "w.npz", tmp_path / "m.h5"
    as_npz(source, state)
    notices = statedict.convert(source, "pag_resnet26", target)
    assert any("head 'labels': taken for segmentation with 5 channels" in line for line in notices)
    graph = modelfile.read(target)
    assert graph.producer == "pagnp convert --arch pag_resnet26"
    assert all(not contract.compare(graph.weights[key], array) for key, array in state.items())
    with pytest.raises(ModelFileError, match="exists already"):
        statedict.convert(source, "pag_resnet26", target)
    before = target.read_bytes()
    statedict.convert(source, "pag_resnet26", target, overwrite=True)
    assert target.read_bytes() == before
    with pytest.raises(UsageError, match="is the input"):
        statedict.convert(source, "pag_resnet26", source, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.h5", "w.npz"]


def test_named_architectures_are_all_in_the_message():
    assert arch.NAMES == ("pag_resnet26", "pag_resnet50", "pag_resnet101", "resnet50", "resnet101")
