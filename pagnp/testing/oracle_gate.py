"""Oracle of the gates, of what they steer, and of their random numbers, from the written rules.

Every function takes the place `index` of the element and the `shape` of the output, then the kernel's arguments.
A result of None means: this element is not written. `gate` takes the engine's exp and log as arguments.
"""

from fractions import Fraction

from pagnp.testing import oracle_scalar as scalar
from pagnp.testing.oracle_pointwise import channels, first_maximum, softmax_of
from pagnp.testing.oracle_scalar import round_to_f32

_P_OFFSET = round_to_f32(Fraction(1, 1000))  # c = (p + 1e-3) / 1.001, Kong and Fowlkes 2018
_P_DIVISOR = round_to_f32(Fraction(1001, 1000))


def gumbel_logits(z, noise, form, exp, log):
    """Return y of one pixel: log((softmax(z) + 1e-3) / 1.001) + g in the 2018 form, z + g in PyTorch's."""
    if form == "kong2018":
        z = [log(scalar.div(scalar.add(p, _P_OFFSET), _P_DIVISOR)) for p in softmax_of(z, exp)]
    return [scalar.add(value, g) for value, g in zip(z, noise, strict=True)]


def noise_at(noise, index, k_channels):
    """Return the noise of a pixel; noise is (h, w, K) or (n, h, w, K)."""
    place = index[1:3] if noise.ndim == 3 else index[:3]
    return [float(noise[(*place, k)]) for k in range(k_channels)]


def gate(index, shape, z, mode, form, temperature, noise, threshold, exp=scalar.exp, log=scalar.log):
    """Hard: z[1] > z[0], or z[1] - z[0] > t, or the first maximum of K. Soft: softmax; gumbel: of y / temperature."""
    values = channels(z, index)
    if mode.startswith("gumbel"):
        values = gumbel_logits(values, noise_at(noise, index, len(values)), form, exp, log)
    if mode == "gumbel_soft":
        values = [scalar.div(value, scalar.f32(float(temperature))) for value in values]
    if mode.endswith("soft"):
        return softmax_of(values, exp)[index[3]]
    if len(values) > 2:
        return first_maximum(values)
    if threshold is not None:
        return scalar.sub(values[1], values[0]) > float(threshold)
    return values[1] > values[0]


def spread(array, index):
    """Return the entry of a mask, index or map of probabilities at a pixel; (n, 1, 1) stands for the whole map."""
    whole = array.shape[1:3] == (1, 1)
    return array[(index[0], 0, 0) if whole else tuple(index[:3])]


def select(index, shape, control, branches):
    """branches[k] where the control is k; a mask counts as 0 and 1."""
    return float(branches[int(spread(control, index))][index])


def blend(index, shape, p, branches):
    """acc = +0; acc = fma(p_k, branch_k, acc), k ascending."""
    acc = 0.0
    for p_k, branch in zip(spread(p, index), branches, strict=True):
        acc = scalar.fma(float(p_k), float(branch[index]), acc)
    return acc


def masked(index, shape, x, mask):
    """m ? x : +0."""
    return float(x[index]) if spread(mask, index) else 0.0


def mask_to_sites(index, shape, mask):
    """The position of the index-th True, counted over (n, y, x)."""
    n, h, w = mask.shape
    flat = [site for site in range(n * h * w) if mask[site // (h * w), site // w % h, site % w]]
    return flat[index[0]]


def grow_mask(index, shape, mask, kernel, stride, padding, dilation):
    """True where a tap of a site of the conv's output reads."""
    n, iy, ix = index
    _, h_out, w_out = mask.shape
    for ky in range(kernel[0]):
        oy, phase_y = divmod(iy + padding[0] - ky * dilation[0], stride[0])
        for kx in range(kernel[1]):
            ox, phase_x = divmod(ix + padding[2] - kx * dilation[1], stride[1])
            meets = phase_y == 0 and phase_x == 0 and 0 <= oy < h_out and 0 <= ox < w_out
            if meets and mask[n, oy, ox]:
                return True
    return False


def site_place(site, h, w):
    """Return (n, y, x) of a flat site."""
    return site // (h * w), site // w % h, site % w


def gather(index, shape, x, sites):
    """The pixel at the site of this row."""
    return float(x[(*site_place(int(sites[index[0]]), x.shape[1], x.shape[2]), index[1])])


def scatter(index, shape, values, sites):
    """The row of this site; a pixel that is no site is not written."""
    n, y, x, c = index
    flat = (n * shape[1] + y) * shape[2] + x
    rows = [row for row, site in enumerate(sites) if int(site) == flat]
    return float(values[rows[0], c]) if rows else None


_PHILOX_M = (0xD2511F53, 0xCD9E8D57)  # Salmon et al. 2011, Philox4x32
_PHILOX_W = (0x9E3779B9, 0xBB67AE85)


def philox_words(counter, key):
    """Return the four words of Philox4x32-10 for four counter words and two key words (Python ints)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(_PHILOX_M[0] * c0, 1 << 32)
        high1, low1 = divmod(_PHILOX_M[1] * c2, 1 << 32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _PHILOX_W[0]) % (1 << 32), (k1 + _PHILOX_W[1]) % (1 << 32)
    return c0, c1, c2, c3


def philox4x32(index, shape, counter, key):
    """One word of one counter."""
    words = philox_words([int(word) for word in counter[index[0]]], [int(word) for word in key])
    return words[index[1]]


def gumbel_uniform(index, seed, gate_index, form, y0, x0):
    """Return u of one place, as the float64 that the rule computes."""
    oy, ox, k = index
    key = (seed % (1 << 32), seed >> 32)
    word = philox_words((x0 + ox, y0 + oy, k >> 2, gate_index), key)[k & 3]
    if form == "torch":
        return ((word >> 9) * 2 + 1) * 2.0**-24
    rand = (word >> 8) * 2.0**-24
    return (rand + 1e-5) / 1.001  # IEEE double: Python's own float, one rounding an operation


def gumbel_noise(index, shape, seed, gate_index, form, y0, x0):
    """g = -log(-log(u)), correctly rounded from u; so is the engine's, for every u there is (tools/check_noise.py)."""
    u = gumbel_uniform(index, seed, gate_index, form, y0, x0)
    return round_to_f32(-scalar.true_log(-scalar.true_log(u)))
