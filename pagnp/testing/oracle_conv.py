"""Oracle of the convolutions: one output element at a time, from the dot-product rule.

Every function takes the place `index` of the element and the `shape` of the output, then the kernel's arguments.
A result of None means: this element is not written.
"""

from fractions import Fraction

from pagnp.testing.oracle_scalar import add, fma, relu, round_to_f32

BLOCK = 128  # repeated here, not imported: the oracle stands on the written rule alone


def dot(terms):
    """Return the sum of `terms`, pairs (weight, x): fma chains of 128, block totals added in order."""
    terms = list(terms)
    total = 0.0
    for start in range(0, len(terms), BLOCK):
        s = 0.0
        for weight, x in terms[start : start + BLOCK]:
            s = fma(weight, x, s)
        total = s if start == 0 else add(total, s)
    return total


def epilogue(acc, index, scale, shift, bias, residual, with_relu):
    """Return what follows the sum: norm or bias, then the residual at `index`, then relu."""
    co = index[-1]
    if scale is not None:
        acc = fma(acc, float(scale[co]), float(shift[co]))
    elif bias is not None:
        acc = add(acc, float(bias[co]))
    if residual is not None:
        acc = add(acc, float(residual[index]))
    return relu(acc) if with_relu else acc


def pixel(x, n, iy, ix, c):
    """Return x[n, iy, ix, c], or +0 outside the map."""
    inside = 0 <= iy < x.shape[1] and 0 <= ix < x.shape[2]
    return float(x[n, iy, ix, c]) if inside else 0.0


def output_size(size, kernel, stride, before, after, dilation):
    """Return the length of a convolution's output along one axis."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def output_place(index, x, weight, sites, stride, padding, dilation):
    """Return (n, oy, ox, co) of the element, or None where `sites` leave it out."""
    h_out = output_size(x.shape[1], weight.shape[0], stride[0], padding[0], padding[1], dilation[0])
    w_out = output_size(x.shape[2], weight.shape[1], stride[1], padding[2], padding[3], dilation[1])
    if sites is None:
        return index
    if len(index) == 2:
        row, ox = divmod(int(sites[index[0]]), w_out)
        n, oy = divmod(row, h_out)
        return n, oy, ox, index[1]
    n, oy, ox, co = index
    return index if (n * h_out + oy) * w_out + ox in sites else None


def conv2d(index, shape, x, weight, scale, shift, bias, residual, relu, sites, stride, padding, dilation, groups):
    """out[n, oy, ox, co] = epilogue(sum over ky, kx, ci of weight[ky, kx, ci, co] * x[n, iy, ix, ci])."""
    place = output_place(index, x, weight, sites, stride, padding, dilation)
    if place is None:
        return None
    n, oy, ox, co = place
    k_h, k_w, c_in_group, c_out = weight.shape
    first = co // (c_out // groups) * c_in_group
    terms = (
        (
            float(weight[ky, kx, ci, co]),
            pixel(
                x,
                n,
                oy * stride[0] - padding[0] + ky * dilation[0],
                ox * stride[1] - padding[2] + kx * dilation[1],
                first + ci,
            ),
        )
        for ky in range(k_h)
        for kx in range(k_w)
        for ci in range(c_in_group)
    )
    return epilogue(dot(terms), index, scale, shift, bias, residual, relu)


def phase_taps(place, kernel, stride, before, dilation):
    """Return (tap, source) of one axis of a transposed conv: ascending taps that meet this output position."""
    taps = []
    for k in range(kernel):
        source, phase = divmod(place + before - k * dilation, stride)
        if phase == 0:
            taps.append((k, source))
    return taps


def conv_transpose2d(index, shape, x, weight, scale, shift, bias, residual, relu, stride, padding, dilation, groups):
    """Gather form: the taps of the output's phase, ky then kx then ci; sources outside the map are +0."""
    n, oy, ox, co = index
    k_h, k_w, c_in, c_out_group = weight.shape
    group, co_group = divmod(co, c_out_group)
    c_in_group = c_in // groups
    terms = (
        (float(weight[ky, kx, ci, co_group]), pixel(x, n, iy, ix, ci))
        for ky, iy in phase_taps(oy, k_h, stride[0], padding[0], dilation[0])
        for kx, ix in phase_taps(ox, k_w, stride[1], padding[2], dilation[1])
        for ci in range(group * c_in_group, (group + 1) * c_in_group)
    )
    return epilogue(dot(terms), index, scale, shift, bias, residual, relu)


def deconv_weight(k, factor):
    """Return the exact 1-D bilinear weight 1 - abs((k + .5)/f - 1) as a Fraction."""
    return 1 - abs((Fraction(k) + Fraction(1, 2)) / factor - 1)


def bilinear_deconv(index, shape, x, factor):
    """Depthwise transposed conv: kernel 2f, stride f, crop f/2; the 2-D weight is the product, rounded once."""
    n, oy, ox, c = index
    taps_y = phase_taps(oy, 2 * factor, factor, factor // 2, 1)
    taps_x = phase_taps(ox, 2 * factor, factor, factor // 2, 1)
    return dot(
        (round_to_f32(deconv_weight(ky, factor) * deconv_weight(kx, factor)), pixel(x, n, iy, ix, c))
        for ky, iy in taps_y
        for kx, ix in taps_x
    )
