"""Weights of convolutions in the order in which the kernels read them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.backends.gpu.device import Device, DeviceArray

STEP = 16  # rows of the matrix are a multiple of this: kernels may read, but not use, what follows the last term
NARROW = 8  # groups of fewer output channels stay as they are: no tile takes them


@dataclass(frozen=True)
class PackedWeight:
    """A conv's weight on a device.

    matrix   (terms, groups, width) float32 on the device: k_h*k_w*c_in/groups terms and some rows of zeros. A group's
             columns are padded with zeros to a multiple of 4, so that 16 bytes can be read at once.
    shape    (k_h, k_w, c_in/groups, c_out) of the weight
    """

    device: Device
    matrix: DeviceArray
    shape: tuple[int, int, int, int]

    @property
    def groups(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def width(self) -> int:
        """Columns of a group, with those of the padding."""
        return int(self.matrix.shape[2])

    def unpacked(self) -> np.ndarray:
        """Return the weight again, a NumPy array of `shape`."""
        matrix = self.device.to_host(self.matrix)
        terms = self.shape[0] * self.shape[1] * self.shape[2]
        return np.ascontiguousarray(matrix[:terms, :, : self.shape[3] // self.groups]).reshape(self.shape)


def pack(device: Device, weight: Any, groups: int) -> PackedWeight:
    """Return `weight` (k_h, k_w, c_in/groups, c_out), of NumPy or of the device, as `conv2d` takes it."""
    host = weight if device.adopt(weight) is None else device.to_host(weight)
    c_group = host.shape[3] // groups
    columns = host.reshape(-1, groups, c_group)
    matrix = np.zeros((-(-len(columns) // STEP) * STEP, groups, packed_width(c_group, groups)), np.float32)
    matrix[: len(columns), :, :c_group] = columns
    return PackedWeight(device, device.to_device(matrix), host.shape)


def packed_width(c_group: int, groups: int) -> int:
    """Return how many columns a group of `c_group` output channels has in the packed weight."""
    return c_group if groups > 1 and c_group < NARROW else -(-c_group // 4) * 4
