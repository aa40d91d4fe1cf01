"""Which rows of the conformance table PyTorch can compute, and how: used by test_torch_ops.py and its golden file."""

import numpy as np

from pagnp import errorbound
from pagnp.testing.cases import CASES, arrange

FILLS = ("normal", "relu", "integers", "cancelling", "near_ties", "wide")
LARGEST = 1300  # elements of an output, to keep the golden file small
EXACT_ON_INTEGERS = ("conv2d", "conv_transpose2d", "bilinear_deconv", "avg_pool2d", "global_mean", "blend")


def nchw(torch, array):
    """Return (n, h, w, c) as a tensor (n, c, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1)))


def nhwc(tensor):
    """Return a tensor (n, c, h, w) as (n, h, w, c)."""
    return np.ascontiguousarray(np.moveaxis(tensor.detach().numpy(), 1, -1))


def epilogue(torch, y, args):
    """Return scale and shift or bias, residual, relu of a tensor (n, c, h, w), or (m, c) of rows."""
    form = (1, -1) + (1,) * (y.ndim - 2)
    if args["scale"] is not None:
        y = y * torch.from_numpy(args["scale"]).reshape(form) + torch.from_numpy(args["shift"]).reshape(form)
    elif args["bias"] is not None:
        y = y + torch.from_numpy(args["bias"]).reshape(form)
    if args["residual"] is not None:
        y = y + (nchw(torch, args["residual"]) if y.ndim == 4 else torch.from_numpy(args["residual"]))
    return torch.relu(y) if args["relu"] else y


def conv2d(torch, case, a, shape):
    top, bottom, left, right = a["padding"]
    x = torch.nn.functional.pad(nchw(torch, a["x"]), (left, right, top, bottom))
    weight = torch.from_numpy(np.ascontiguousarray(a["weight"].transpose(3, 2, 0, 1)))
    y = torch.nn.functional.conv2d(x, weight, stride=a["stride"], dilation=a["dilation"], groups=a["groups"])
    if a["sites"] is None:
        return nhwc(epilogue(torch, y, a))
    rows = torch.from_numpy(nhwc(y).reshape(-1, shape[-1])[a["sites"]])
    return epilogue(torch, rows, a).numpy()


def conv_transpose2d(torch, case, a, shape):
    weight = torch.from_numpy(np.ascontiguousarray(a["weight"].transpose(2, 3, 0, 1)))
    window = {"stride": a["stride"], "dilation": a["dilation"], "groups": a["groups"]}
    y = torch.nn.functional.conv_transpose2d(nchw(torch, a["x"]), weight, **window)
    top, _, left, _ = a["padding"]
    before = max(0, -top), max(0, -left)  # crops may be negative
    lacking = max(0, top + shape[1] - y.shape[2]), max(0, left + shape[2] - y.shape[3])  # output_padding too
    y = torch.nn.functional.pad(y, (before[1], lacking[1], before[0], lacking[0]))
    top, left = top + before[0], left + before[1]
    return nhwc(epilogue(torch, y[:, :, top : top + shape[1], left : left + shape[2]], a))


def bilinear_deconv(torch, case, a, shape):
    factor = a["factor"]
    w = 1 - torch.abs((torch.arange(2 * factor, dtype=torch.float64) + 0.5) / factor - 1)
    weight = (w[:, None] * w).float().expand(shape[3], 1, -1, -1).contiguous()
    y = torch.nn.functional.conv_transpose2d(
        nchw(torch, a["x"]), weight, stride=factor, padding=factor // 2, groups=shape[3]
    )
    return nhwc(y)


def max_pool2d(torch, case, a, shape):
    top, _, left, _ = a["padding"]
    pool = torch.nn.functional.max_pool2d
    more = {"padding": (top, left), "dilation": a["dilation"], "ceil_mode": bool(case.get("ceil_mode"))}
    return nhwc(pool(nchw(torch, a["x"]), a["kernel"], a["stride"], **more))


def avg_pool2d(torch, case, a, shape):
    top, _, left, _ = a["padding"]
    more = {"ceil_mode": bool(case.get("ceil_mode")), "count_include_pad": a["count_include_pad"]}
    return nhwc(torch.nn.functional.avg_pool2d(nchw(torch, a["x"]), a["kernel"], a["stride"], (top, left), **more))


def bilinear(torch, case, a, shape):
    more = {"mode": "bilinear", "align_corners": a["align_corners"]}
    return nhwc(torch.nn.functional.interpolate(nchw(torch, a["x"]), size=shape[1:3], **more))


def nearest(torch, case, a, shape):
    return nhwc(torch.nn.functional.interpolate(nchw(torch, a["x"]), size=shape[1:3], mode="nearest"))


def gate(torch, case, a, shape):
    z = torch.from_numpy(a["z"])
    if a["mode"].startswith("gumbel"):
        z = z + torch.from_numpy(a["noise"])
    if a["mode"] == "gumbel_soft":
        z = z / torch.tensor(float(a["temperature"]))
    if a["mode"].endswith("soft"):
        return torch.softmax(z, dim=-1).numpy()
    if len(shape) == 3 and z.shape[-1] == 2 and not case.get("index"):
        threshold = a["threshold"]
        computes = z[..., 1] > z[..., 0] if threshold is None else z[..., 1] - z[..., 0] > float(threshold)
        return computes.numpy()
    return torch.argmax(z, dim=-1).to(torch.int32).numpy()


def select(torch, case, a, shape):
    out = torch.from_numpy(a["branches"][0])
    control = torch.from_numpy(a["control"].astype(np.int32))[..., None]
    for k, branch in enumerate(a["branches"]):
        out = torch.where(control == k, torch.from_numpy(branch), out)
    return out.numpy()


def blend(torch, case, a, shape):
    p = torch.from_numpy(a["p"])
    return sum(p[..., k : k + 1] * torch.from_numpy(branch) for k, branch in enumerate(a["branches"])).numpy()


def l2_normalize(torch, case, a, shape):
    x = torch.from_numpy(a["x"])
    return (x / (torch.sqrt((x * x).sum(dim=-1, keepdim=True)) + 1e-5)).numpy()


def _pad(torch, case, a, shape):
    top, bottom, left, right = a["padding"]
    return nhwc(torch.nn.functional.pad(nchw(torch, a["x"]), (left, right, top, bottom)))


def _of(function, *names):
    """Return an op as function(torch, *arrays as tensors)."""
    return lambda torch, case, a, shape: function(torch, *(torch.from_numpy(a[name]) for name in names)).numpy()


TORCH = {
    **{op: globals()[op] for op in ("conv2d", "conv_transpose2d", "bilinear_deconv", "max_pool2d", "avg_pool2d")},
    **{op: globals()[op] for op in ("bilinear", "nearest", "gate", "select", "blend", "l2_normalize")},
    "pad": _pad,
    "add": _of(lambda torch, a, b: a + b, "a", "b"),
    "sub": _of(lambda torch, a, b: a - b, "a", "b"),
    "mul": _of(lambda torch, a, b: a * b, "a", "b"),
    "div": _of(lambda torch, a, b: a / b, "a", "b"),
    "compare": lambda torch, case, a, shape: getattr(torch, a["op"])(
        torch.from_numpy(a["a"]), torch.from_numpy(a["b"])
    ).numpy(),
    "relu": _of(lambda torch, x: torch.relu(x), "x"),
    "exp": _of(lambda torch, x: torch.exp(x), "x"),
    "exp10": _of(lambda torch, x: torch.pow(torch.tensor(10.0), x), "x"),
    "log": _of(lambda torch, x: torch.log(x), "x"),
    "sigmoid": _of(lambda torch, x: torch.sigmoid(x), "x"),
    "softmax": _of(lambda torch, x: torch.softmax(x, dim=-1), "x"),
    "argmax": _of(lambda torch, x: torch.argmax(x, dim=-1).to(torch.int32), "x"),
    "global_mean": _of(lambda torch, x: x.mean(dim=(1, 2), keepdim=True), "x"),
    "masked": _of(lambda torch, x, m: torch.where(m[..., None], x, torch.tensor(0.0)), "x", "mask"),
    "concat": lambda torch, case, a, shape: torch.cat([torch.from_numpy(x) for x in a["xs"]], dim=3).numpy(),
    "slice_channels": lambda torch, case, a, shape: torch.from_numpy(a["x"])[..., a["start"] : a["stop"]].numpy(),
}


def symmetric(case):
    """Tell whether PyTorch's pooling can pad like this row: the same on both sides, at most half of the window."""
    padding, k = case.get("padding"), case.get("k")
    return isinstance(padding, int) and padding <= min(k if isinstance(k, tuple) else (k,)) // 2


def chosen(case):
    """Tell whether a row goes to PyTorch: it has the op, the row is finite and small."""
    if case.op not in TORCH or case.get("fill") not in FILLS or case.get("layout") == "scattered" or case.get("index"):
        return False
    if "pool" in case.op and not symmetric(case):
        return False
    if case.op == "gate" and case.get("mode").startswith("gumbel") and case.get("form") != "torch":
        return False  # PyTorch has no such gate
    if case.op in ("exp", "exp10", "sigmoid") and case.get("fill") == "cancelling":
        return False  # out of range for most values
    return 0 < np.prod(arrange(case).shape) <= LARGEST


ROWS = [case for case in CASES if chosen(case)]


def answer(torch, case):
    """Return PyTorch's output for a row, in our layout."""
    arrangement = arrange(case)
    with torch.no_grad():
        return TORCH[case.op](torch, case, arrangement.args, arrangement.shape)


def bound(case):
    """Return the greatest difference allowed at each element."""
    arrangement = arrange(case)
    return errorbound.bound(case.op, arrangement.args, arrangement.shape)
