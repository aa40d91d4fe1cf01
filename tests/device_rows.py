"""Rows for what the conformance table leaves out: kernels between the ops, and ops of which the host knows only the
greatest number of rows.
"""

from dataclasses import dataclass

import numpy as np

CAPACITY, CHANNELS = 37, (1, 3, 8)  # 8: four floats at a time
COUNTS = (0, 1, 23, CAPACITY)


@dataclass(frozen=True)
class Row:
    """kernels[op](*args, out) must make of `out` on every backend what it makes of it on numpy."""

    op: str
    args: tuple
    out: np.ndarray

    @property
    def id(self):
        """The op, and shapes and dtypes of the arrays."""
        arrays = [*(arg for arg in self.args if isinstance(arg, np.ndarray)), self.out]
        return "-".join([self.op, *(f"{a.dtype}.{'x'.join(map(str, a.shape))}" for a in arrays)])


def _bits(rng, shape):
    """Return float32 of random bits, every fourth a zero of either sign."""
    bits = rng.integers(0, 1 << 32, shape, np.uint32)
    bits.reshape(-1)[::4] &= 1 << 31
    return bits.view(np.float32)


def _mask(rng, shape):
    return rng.random(shape) < 0.4


def flow_rows():
    """Return the rows of the kernels in backends/hostflow.py."""
    rng = np.random.default_rng(17)
    rows = []

    def add(op, *args, out):
        rows.append(Row(op, args, out))

    for n, h, w in ((1, 1, 1), (2, 5, 7), (1, 33, 31)):
        mask, x = _mask(rng, (n, h, w)), _bits(rng, (n, h, w, 3))
        index = rng.integers(0, 200, (n, h, w), np.int32)
        add("copy", x, out=np.zeros_like(x))
        add("copy", mask, out=~mask)
        add("zero", out=x.copy())
        add("zero", out=index.copy())
        for control in (mask, mask[:, :1, :1].copy(), index % 3, (index % 3)[:, :1, :1].copy()):
            for slot in range(2 if control.dtype == bool else 3):
                add("picked", control, slot, out=_mask(rng, (n, h, w)))
        add("unite", mask, out=_mask(rng, (n, h, w)))
        add("logical_not", mask, out=mask.copy())
        add("to_float", mask, out=x[..., :1].copy())
        pixels, parameters = rng.integers(0, 256, (h, w, 3), np.uint8), _bits(rng, (2, 3))
        for below, right in ((0, 0), (3, 5)):
            add("normalize_u8", pixels, *parameters, out=np.full((1, h + below, w + right, 3), np.nan, np.float32))
        for array in (x, mask, index, index.astype(np.uint8)):
            add("crop", array, out=np.zeros_like(array[:, : (h + 1) // 2, : (w + 1) // 2]))
            add("mirror", array, False, out=np.zeros_like(array))
        add("mirror", x, True, out=np.zeros_like(x))
        add("lookup", rng.permutation(200).astype(np.int32), index, out=np.zeros_like(index))
        add("narrow", index, out=np.zeros((n, h, w), np.uint8))
        for height, width in ((h, w), (2 * h, 2 * w), (8 * h, 3 * w)):
            start = rng.integers(0, 9, (max(1, height - 3), max(1, width - 2)), np.int32)
            add("ponder", mask[0], height, width, out=start)
    return rows


def counted_rows():
    """Return rows (op, args, out) on compact rows, of which only some are wanted: those of every array that has all."""
    rng = np.random.default_rng(18)
    rows = []
    for c in CHANNELS:
        x, y = (rng.standard_normal((1, 1, CAPACITY, c)).astype(np.float32) for _ in range(2))
        per_channel = rng.standard_normal((2, c)).astype(np.float32)
        rows += [Row(op, (x,), y) for op in ("relu", "sigmoid", "exp", "exp10", "log", "softmax", "l2_normalize")]
        rows += [Row(op, (x, y), y) for op in ("add", "sub", "mul", "div")]
        rows += [Row(op, (x, per_channel[:1].reshape(1, 1, 1, c)), y) for op in ("add", "sub", "mul", "div")]
        rows.append(Row("norm", (x, *per_channel), y))
        rows.append(Row("slice_channels", (x, c // 3, c // 3 + 1), y[..., :1].copy()))
        rows.append(Row("concat", ([x, y, x],), np.concatenate([y, y, x], axis=3)))
    return rows


def masks():
    """Return masks around the sizes at which their kernels change."""
    rng = np.random.default_rng(19)
    shapes = (
        (1, 1, 1),
        (1, 1, 1023),
        (1, 32, 32),
        (1, 41, 25),
        (2, 50, 50),
        (1, 256, 256),
        (1, 257, 256),
        (1, 600, 450),
    )
    chosen = [rng.random(shape) < keep for shape in shapes for keep in (0.03, 0.6)]
    return [*chosen, np.zeros((1, 9, 300), bool), np.ones((1, 9, 300), bool), np.ones((1, 260, 256), bool)]


def gather(kernels, arrays, sites, out):
    """Rows of x at the sites."""
    kernels["gather"](arrays["x"], sites, out)


def scatter(kernels, arrays, sites, out):
    """Rows into a map."""
    kernels["scatter"](arrays["rows"], sites, out)


def conv2d(kernels, arrays, sites, out):
    """A convolution at the sites: compact rows or rows of a map."""
    packed = kernels["pack_conv2d"](arrays["weight"], 1)
    residual = arrays["rows"] if out.ndim == 2 else arrays["map"]
    window = (1, 1), (1, 1, 1, 1), (1, 1), 1
    kernels["conv2d"](arrays["x"], packed, None, None, None, residual, True, sites, *window, out)


def sited(c):
    """Return (sites, arrays, calls): what is computed at counted sites, calls being (function, out before it)."""
    rng = np.random.default_rng(c)
    sites = np.flatnonzero(rng.random(2 * 9 * 11) < 0.3).astype(np.int32)
    shapes = {"x": (2, 9, 11, c), "map": (2, 9, 11, c), "weight": (3, 3, c, c), "rows": (len(sites), c)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    whole, compact = (np.full(shapes[name], 7, np.float32) for name in ("map", "rows"))
    return sites, arrays, [(gather, compact), (scatter, whole), (conv2d, compact), (conv2d, whole)]
