"""Batch norms against PyTorch: alone, and after a convolution with and without bias, joined as the contract says."""

from dataclasses import dataclass

import numpy as np

from pagnp import errorbound, ops
from pagnp.canonical import norm_scale_shift
from pagnp.graph import Node
from pagnp.testing import fills
from pagnp.testing.case import Case
from pagnp.testing.cases import arrange

EPS = 1e-5


@dataclass(frozen=True)
class NormRow:
    """A norm over c channels; after a 3x3 convolution if `conv`, which has a bias if `bias`."""

    channels: int
    seed: int
    conv: bool = False
    bias: bool = False
    affine: bool = True

    @property
    def id(self):
        """The row's name in the golden file."""
        parts = ["batch_norm", f"c{self.channels}", *(n for n in ("conv", "bias", "affine") if getattr(self, n))]
        return "-".join([*parts, f"s{self.seed}"])

    def arrays(self):
        """Return x, weight, bias and the norm's four vectors, all float32."""
        c, seed = self.channels, self.seed
        case = Case("conv2d", c_in=5, h_in=6, w_in=7, c_out=c, k=3, padding=1, fill="normal", seed=seed)
        args = arrange(case).args
        vectors = {name: fills.fill("normal", seed, 20 + i, (c,)) for i, name in enumerate(("mean", "gamma", "beta"))}
        vectors["var"] = np.abs(fills.fill("normal", seed, 30, (c,))) + np.float32(0.01)
        if not self.affine:
            vectors["gamma"], vectors["beta"] = np.ones(c, dtype=np.float32), np.zeros(c, dtype=np.float32)
        x = args["x"] if self.conv else fills.fill("normal", seed, 40, (2, 5, 6, c))
        return x, args["weight"], fills.fill("normal", seed, 50, (c,)), vectors


ROWS = [
    NormRow(3, 61),
    NormRow(17, 62, affine=False),
    NormRow(16, 63, conv=True),
    NormRow(9, 64, conv=True, bias=True),
    NormRow(8, 65, conv=True, bias=True, affine=False),
]


def answer(torch, row):
    """Return PyTorch's output, in our layout."""
    x, weight, bias, vectors = row.arrays()
    functional = torch.nn.functional
    with torch.no_grad():
        y = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        if row.conv:
            kernel = torch.from_numpy(np.ascontiguousarray(weight.transpose(3, 2, 0, 1)))
            y = functional.conv2d(y, kernel, torch.from_numpy(bias) if row.bias else None, padding=1)
        mean, var, gamma, beta = (torch.from_numpy(vectors[name]) for name in ("mean", "var", "gamma", "beta"))
        y = functional.batch_norm(y, mean, var, gamma if row.affine else None, beta if row.affine else None, eps=EPS)
    return np.ascontiguousarray(y.numpy().transpose(0, 2, 3, 1))


def ours(row, backend):
    """Return our output: scale and shift folded in float64, one fma."""
    x, weight, bias, vectors = row.arrays()
    roles = ("mean", "var", "gamma", "beta") if row.affine else ("mean", "var")
    node = Node("norm", "norm", ("x",), {"eps": EPS}, {role: role for role in roles})
    scale, shift = norm_scale_shift(vectors, node, bias if row.bias else None)
    if row.conv:
        return ops.conv2d(x, weight, scale=scale, shift=shift, padding=1, backend=backend)
    return ops.norm(x, scale, shift, backend=backend)


def bound(row):
    """Return the greatest difference allowed at each element."""
    x, weight, bias, vectors = row.arrays()
    part = {**vectors, "eps": EPS, **({"bias": bias} if row.bias else {})}
    if not row.conv:
        return errorbound.bound("norm", {"x": x, "norm": part}, x.shape)
    place = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    return errorbound.bound("conv2d", {"x": x, "weight": weight, "norm": part, **place}, (*x.shape[:3], row.channels))
