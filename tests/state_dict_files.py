"""A small state_dict, and writing it in the formats that are read."""

import h5py
import numpy as np
import pytest

from pagnp.nn import pag_resnet

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
