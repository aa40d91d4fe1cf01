"""The weights of a graph whose convolutions live in the kernels' order alone: half the memory of a loaded model."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from pagnp.graph import Graph
from pagnp.parameters import Parameters, packed_key
from pagnp.types import Tensor


class SharedWeights(MutableMapping[str, Tensor]):
    """Key -> float32 array in PyTorch's shape, like a dict; those in `packed` are brought into it at each
    look, as read-only copies.

    arrays  key -> array that is kept as it is
    packed  key -> what Backend.pack_conv2d gave: an array (k_h, k_w, c_in/groups, c_out), or what has `unpacked()`
    """

    def __init__(self, arrays: Mapping[str, Tensor], packed: Mapping[str, Any]) -> None:
        self._arrays, self._packed = dict(arrays), dict(packed)

    def __getitem__(self, key: str) -> Tensor:
        if key in self._arrays:
            return self._arrays[key]
        packed = self._packed[key]
        weight = packed if isinstance(packed, np.ndarray) else packed.unpacked()
        array = np.array(weight.transpose(3, 2, 0, 1), order="C")
        array.flags.writeable = False  # a copy: what is written to it would be lost
        return array

    def __setitem__(self, key: str, array: Tensor) -> None:
        self._packed.pop(key, None)
        self._arrays[key] = array

    def __delitem__(self, key: str) -> None:
        del (self._arrays if key in self._arrays else self._packed)[key]

    def __iter__(self) -> Iterator[str]:
        yield from (*self._arrays, *self._packed)

    def __len__(self) -> int:
        return len(self._arrays) + len(self._packed)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a weight without bringing it into it."""
        if key in self._arrays:
            return self._arrays[key].shape
        k_h, k_w, c_in, c_out = self._packed[key].shape
        return c_out, c_in, k_h, k_w

    def copy(self) -> "SharedWeights":
        """Return another mapping with the same arrays."""
        return SharedWeights(self._arrays, self._packed)

    __copy__ = copy

    def __reduce__(self) -> tuple[type[dict[str, Tensor]], tuple[dict[str, Tensor]]]:
        """Pickle as a dict: what is packed belongs to a backend."""
        return dict, (dict(self),)


def share(graph: Graph, canonical: Graph, parameters: Parameters) -> None:
    """Replace the weights of `graph` and of its canonical form, so that the packed ones are there once."""
    packed = {}
    for node in canonical.nodes.values():
        if node.op == "conv2d":
            packed[node.weights["weight"]] = parameters.packed[packed_key(node)]
    for owner in (graph, canonical):
        own = {key: packed[key] for key in owner.weights if key in packed}
        kept = {key: array for key, array in owner.weights.items() if key not in packed}
        owner.weights = SharedWeights(kept, own)
