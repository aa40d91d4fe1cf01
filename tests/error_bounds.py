"""How far two honest float32 computations of an op may lie apart, computed from the data in float64.

u = 2^-24 is the unit roundoff, gamma(n) = n*u / (1 - n*u) bounds n roundings in any order (Higham 2002, section 3.1).
A bound counts both sides: ours and PyTorch's. No number here is fitted to what was seen.
"""

import numpy as np

U = 2.0**-24
TINY = 2.0**-148  # two roundings among subnormals


def gamma(n):
    """Return the relative error of n roundings."""
    return n * U / (1 - n * U)


def conv64(x, weight, stride, padding, dilation, groups):
    """Return the convolution in float64, (n, h_out, w_out, c_out)."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    k_h, k_w, c_group, c_out = weight.shape
    padded = np.pad(x, ((0, 0), padding[:2], padding[2:], (0, 0)))
    h_out = (padded.shape[1] - dilation[0] * (k_h - 1) - 1) // stride[0] + 1
    w_out = (padded.shape[2] - dilation[1] * (k_w - 1) - 1) // stride[1] + 1
    out = np.zeros((x.shape[0], h_out, w_out, c_out))
    per_group = c_out // groups
    for ky in range(k_h):
        for kx in range(k_w):
            rows = padded[:, ky * dilation[0] :][:, : (h_out - 1) * stride[0] + 1 : stride[0]]
            taps = rows[:, :, kx * dilation[1] :][:, :, : (w_out - 1) * stride[1] + 1 : stride[1]]
            for g in range(groups):
                part = weight[ky, kx, :, g * per_group : (g + 1) * per_group]
                out[..., g * per_group : (g + 1) * per_group] += taps[..., g * c_group : (g + 1) * c_group] @ part
    return out


def deconv64(x, weight, stride, padding, dilation, groups, shape):
    """Return the transposed convolution in float64, in scatter form, of the given output shape."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    k_h, k_w, c_in, per_group = weight.shape
    n, h_in, w_in, _ = x.shape
    top, _, left, _ = padding
    full_h = max((h_in - 1) * stride[0] + dilation[0] * (k_h - 1) + 1, top + shape[1])
    full_w = max((w_in - 1) * stride[1] + dilation[1] * (k_w - 1) + 1, left + shape[2])
    full = np.zeros((n, full_h, full_w, shape[3]))
    c_group = c_in // groups
    for ky in range(k_h):
        for kx in range(k_w):
            y0, x0 = ky * dilation[0], kx * dilation[1]
            for g in range(groups):
                channels = slice(g * c_group, (g + 1) * c_group)
                target = full[..., g * per_group : (g + 1) * per_group]
                rows = slice(y0, y0 + (h_in - 1) * stride[0] + 1, stride[0])
                columns = slice(x0, x0 + (w_in - 1) * stride[1] + 1, stride[1])
                target[:, rows, columns] += x[..., channels] @ weight[ky, kx, channels]
    return full[:, top : top + shape[1], left : left + shape[2]]


def after_epilogue(value, error, args):
    """Return the error after scale and shift or bias, residual and relu; `value` is the sum in float64."""
    sites = args.get("sites")
    if sites is not None:
        value, error = (part.reshape(-1, part.shape[-1])[sites] for part in (value, error))
    size = np.abs(value) + error
    if args["scale"] is not None:
        scale, shift = (np.abs(args[name].astype(np.float64)) for name in ("scale", "shift"))
        size, error = size * scale + shift, error * scale + 3 * U * (size * scale + shift)
    elif args["bias"] is not None:
        size = size + np.abs(args["bias"].astype(np.float64))
        error = error + 2 * U * size
    if args["residual"] is not None:
        size = size + np.abs(args["residual"].astype(np.float64))
        error = error + 2 * U * (size + error)
    return error


def conv2d(args, shape):
    """2 gamma_K sum |w||x|, then the epilogue."""
    window = [args[name] for name in ("stride", "padding", "dilation", "groups")]
    terms = args["weight"][..., 0].size
    spread = conv64(np.abs(args["x"]), np.abs(args["weight"]), *window)
    value = conv64(args["x"], args["weight"], *window)
    return after_epilogue(value, 2 * gamma(terms) * spread + TINY, args)


def conv_transpose2d(args, shape):
    """2 gamma_K sum |w||x|, then the epilogue."""
    window = [args[name] for name in ("stride", "padding", "dilation", "groups")]
    terms = args["weight"][..., 0].size // args["groups"]
    spread = deconv64(np.abs(args["x"]), np.abs(args["weight"]), *window, shape)
    value = deconv64(args["x"], args["weight"], *window, shape)
    return after_epilogue(value, 2 * gamma(terms) * spread + TINY, args)


def bilinear_deconv(args, shape):
    """At most four taps of a phase; the weights are the same on both sides."""
    factor = args["factor"]
    w = 1 - np.abs((np.arange(2 * factor) + 0.5) / factor - 1)
    weight = np.broadcast_to((w[:, None] * w)[:, :, None, None], (2 * factor, 2 * factor, shape[3], 1))
    crop = (factor // 2,) * 4
    spread = deconv64(np.abs(args["x"]), weight, (factor,) * 2, crop, (1, 1), shape[3], shape)
    return 2 * gamma(4 * factor * factor) * spread + TINY


def avg_pool2d(args, shape):
    """Sums of |x| over the window; the smallest count that any window has is 1."""
    k_h, k_w = args["kernel"]
    spread = np.zeros(shape)
    top, _, left, _ = args["padding"]
    for n, oy, ox, c in np.ndindex(*shape):
        y0, x0 = oy * args["stride"][0] - top, ox * args["stride"][1] - left
        inside = args["x"][n, max(y0, 0) : y0 + k_h, max(x0, 0) : x0 + k_w, c]
        spread[n, oy, ox, c] = np.abs(inside.astype(np.float64)).mean()
    return 2 * gamma(k_h * k_w + 1) * spread + TINY


def _positions(size_in, size_out, align_corners):
    """Return the exact source positions and how far PyTorch's float32 index arithmetic may be off."""
    o = np.arange(size_out, dtype=np.float64)
    if align_corners:
        exact = o * (size_in - 1) / max(size_out - 1, 1)
    else:
        exact = np.maximum((o + 0.5) * size_in / size_out - 0.5, 0)
    return exact, gamma(4) * (exact + 1)  # scale, (o + .5), product, - .5: four roundings, and our weight's one


def _along(x, axis, size_out, align_corners):
    """Return (largest |x|, largest step) in the neighbourhood of each source position along an axis, and the shift."""
    size_in = x.shape[axis]
    exact, off = _positions(size_in, size_out, align_corners)
    low = np.clip(np.floor(exact).astype(int) - 1, 0, size_in - 1)
    near = [np.take(x, np.clip(low + k, 0, size_in - 1), axis=axis) for k in range(4)]
    size = np.max([np.abs(part) for part in near], axis=0)
    step = np.max([np.abs(near[k + 1] - near[k]) for k in range(3)], axis=0)
    form = [1, 1, 1, 1]
    form[axis] = size_out
    return size, step, off.reshape(form)


def bilinear(args, shape):
    """The shift of each position times the steepest step around it, and eight roundings of the largest neighbour."""
    x, align_corners = args["x"].astype(np.float64), args["align_corners"]
    size_x, step_x, off_x = _along(x, 2, shape[2], align_corners)
    size_y, _, _ = _along(size_x, 1, shape[1], align_corners)
    error_x, _, _ = _along(step_x * off_x, 1, shape[1], align_corners)
    _, step_y, off_y = _along(x, 1, shape[1], align_corners)
    error_y, _, _ = _along(step_y * off_y, 2, shape[2], align_corners)
    return error_x + error_y + 2 * gamma(8) * size_y + TINY


def global_mean(args, shape):
    """2 gamma_n mean |x|."""
    x = np.abs(args["x"].astype(np.float64))
    return 2 * gamma(x.shape[1] * x.shape[2] + 1) * x.mean(axis=(1, 2), keepdims=True) + TINY


def softmax_of(x):
    """exp's argument is off by u|z - m|, exp by an ULP, the sum by gamma_K, the quotient by one rounding."""
    x = x.astype(np.float64)
    distance = x.max(axis=-1, keepdims=True) - x
    e = np.exp(-distance)
    s = e.sum(axis=-1, keepdims=True)
    p = e / s
    relative = gamma(1) * distance + gamma(2)
    of_sum = (e * relative).sum(axis=-1, keepdims=True) / s + gamma(x.shape[-1])
    return 2 * p * (relative + of_sum + gamma(1)) + TINY


def softmax(args, shape):
    """As softmax_of."""
    return softmax_of(args["x"])


def gate(args, shape):
    """Hard gates compare the same numbers; soft ones are a softmax of the same numbers."""
    if args["mode"].endswith("hard"):
        return np.zeros(shape)
    if args["mode"] == "soft":
        return softmax_of(args["z"])
    return softmax_of((args["z"] + args["noise"]) / args["temperature"])


def _curve(function, units):
    """Bound by units in the last place: ours .5, PyTorch's vector library documents 1."""

    def bound(args, shape):
        with np.errstate(all="ignore"):
            y = function(args["x"].astype(np.float64))
        return units * 2 * U * np.abs(np.where(np.abs(y) > 3.5e38, 0, y)) + TINY

    return bound


exp = _curve(np.exp, 1.5)
exp10 = _curve(lambda x: 10.0**x, 1.5)
log = _curve(np.log, 1.5)


def sigmoid(args, shape):
    """PyTorch takes exp, a sum and a quotient in float32; where its exp overflows it gives 0, we a subnormal."""
    x = args["x"].astype(np.float64)
    y = 1 / (1 + np.exp(-x))
    return np.where(np.exp(-x) >= 2.0**128, y, 0) + 3.5 * 2 * U * y + TINY


def l2_normalize(args, shape):
    """Half of gamma_K from the root, and the roundings of root, sum and quotient, on both sides."""
    x = args["x"].astype(np.float64)
    y = np.abs(x) / (np.sqrt((x * x).sum(axis=-1, keepdims=True)) + 1e-5)
    return 2 * (gamma(x.shape[-1]) + gamma(4)) * y + TINY


def blend(args, shape):
    """2 gamma_K sum |p_k||branch_k|."""
    p = np.abs(args["p"].astype(np.float64))
    spread = sum(p[..., k : k + 1] * np.abs(b.astype(np.float64)) for k, b in enumerate(args["branches"]))
    return 2 * gamma(len(args["branches"])) * spread + TINY


def batch_norm(value, error, part):
    """Error of a norm on `value`, itself known up to `error`: PyTorch's eight float32 steps and our two."""
    scale = np.abs(part["gamma"]) / np.sqrt(part["var"] + 1e-5)
    size = (np.abs(value) + error + np.abs(part["mean"])) * scale + np.abs(part["beta"])
    return error * scale + gamma(10) * size


def none(args, shape):
    """One IEEE operation or none at all: both sides must agree to the bit."""
    return np.zeros(shape)
