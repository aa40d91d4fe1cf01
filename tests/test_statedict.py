"""Plain state_dicts: every format gives the same weights; conversion to a model file."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import re
import sys

import h5py
import numpy as np
import pytest
from state_dict_files import as_hdf5, as_npz, as_safetensors, state  # noqa: F401

from pagnp import arch, contract, modelfile, statedict
from pagnp.errors import ModelFileError, UsageError

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
