"""The convolutions of ResNet-50 on a GPU: which there are, and one of them ready to be launched."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.backends.base import Backend
from pagnp.bench.gpu_launches import launches
from pagnp.graph import Graph
from pagnp.nn import pag_resnet
from pagnp.shapes import conv2d_size

SIZE = (480, 640)
FLOAT = 4


@dataclass(frozen=True)
class Layer:
    """A convolution with its norm and relu; count: how often the network has it."""

    h: int
    w: int
    c_in: int
    c_out: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    count: int = 1

    @property
    def name(self) -> str:
        """Such as "3x3 256-256 60x80 d2"."""
        marks = "".join(
            f" {letter}{value}" for letter, value in (("s", self.stride), ("d", self.dilation)) if value > 1
        )
        return f"{self.kernel}x{self.kernel} {self.c_in}-{self.c_out} {self.h}x{self.w}{''.join(marks)}"

    @property
    def size(self) -> tuple[int, int]:
        """(h_out, w_out)."""
        kernel, stride, dilation = ((value, value) for value in (self.kernel, self.stride, self.dilation))
        return conv2d_size(self.h, self.w, kernel, stride, (self.padding,) * 4, dilation)

    @property
    def macs(self) -> int:
        """Of one image."""
        return self.size[0] * self.size[1] * self.c_out * self.terms

    @property
    def terms(self) -> int:
        """Of the sum of one output."""
        return self.kernel**2 * self.c_in

    def bytes(self, n: int) -> int:
        """Return the bytes of n images: each input, weight and output once."""
        maps = self.h * self.w * self.c_in + self.size[0] * self.size[1] * self.c_out
        return FLOAT * (n * maps + self.terms * self.c_out)


def resnet50() -> Graph:
    """Return ResNet-50 at output stride 8, without gates."""
    return pag_resnet(depth=50, gated=[], heads={"labels": {"task": "segmentation", "classes": 19}})


def layers_of(graph: Graph, size: tuple[int, int] = SIZE) -> list[Layer]:
    """Return the different convolutions of a ResNet's trunk on an image of `size`, most work first."""
    values, found = graph.infer(*size), Counter[Layer]()
    for node in graph.nodes.values():
        if node.op != "conv2d" or not node.name.startswith(("conv1", "layer")):
            continue
        x, a = values[node.inputs[0]], node.attrs
        shape = graph.weights[node.weights["weight"]].shape
        found[Layer(x.h, x.w, x.c, shape[0], shape[2], a["stride"][0], a["padding"][0], a["dilation"][0])] += 1
    layers = [Layer(**{**vars(layer), "count": count}) for layer, count in found.items()]
    return sorted(layers, key=lambda layer: -layer.macs * layer.count)


class Prepared:
    """A layer on a backend with its arrays: x (n, h, w, c_in), n times the same random image."""

    def __init__(self, layer: Layer, n: int, backend: Backend, x: Any = None) -> None:
        self.layer, self.n, self.backend = layer, n, backend
        device, rng = backend.arrays, np.random.Generator(np.random.PCG64(layer.c_out))
        image = rng.standard_normal((1, layer.h, layer.w, layer.c_in), np.float32)
        self.weight = rng.standard_normal((layer.kernel, layer.kernel, layer.c_in, layer.c_out), np.float32)
        self.weight *= np.float32(layer.terms**-0.5)
        scale, shift = rng.standard_normal((2, layer.c_out), np.float32)
        self.x = _batch(device, image, n) if x is None else x
        self.out = device.allocate((n, *layer.size, layer.c_out), np.dtype(np.float32))
        self._packed = backend.pack_conv2d(self.weight, 1)
        self._vectors = device.to_device(scale), device.to_device(shift)

    def launch(self) -> None:
        """Convolve, with norm and relu."""
        layer = self.layer
        place = (layer.stride,) * 2, (layer.padding,) * 4, (layer.dilation,) * 2, 1
        self.backend.conv2d(self.x, self._packed, *self._vectors, None, None, True, None, *place, self.out)

    def image(self, i: int) -> np.ndarray[Any, Any]:
        """Return the output of image `i`, on the host."""
        return np.asarray(self.backend.arrays.to_host(self.out[i : i + 1]))

    def kernels(self) -> list[str]:
        """Return the names of the kernels that `launch` launches."""
        with launches(self.backend.arrays) as counts:
            self.launch()
        return list(counts)


def _batch(device, image, n):
    """Return n copies of an image on the device."""
    x, first = device.allocate((n, *image.shape[1:]), np.dtype(np.float32)), device.to_device(image)
    for i in range(n):
        device.copy(first, x[i : i + 1])
    return x
