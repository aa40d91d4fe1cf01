"""Non-maximum suppression of soft boundary maps: only ridges stay, across which a map is highest.

Source: edgesNms of Dollar, Zitnick 2015 (Structured Edges), with which maps of networks are usually brought to the
benchmark (Xie, Tu 2015). Elementwise IEEE arithmetic alone, so the same on every machine.
"""

import numpy as np
import numpy.typing as npt

from pagnp.types import Array, Tensor

Doubles = npt.NDArray[np.float64]

SMOOTHING = 1, 4  # radii of the triangle filters: of the map, of what its orientation comes from
TOLERANCE = 1.01  # how much higher a neighbour must be to suppress a pixel
BORDER = 5  # pixels along which the map fades to 0: estimates there are noisy


def suppress(strength: Tensor) -> Tensor:
    """Return the float32 (h, w) map `strength`, slightly smoothed, with 0 where it is lower than beside it.

    Orientation: across the ridge, from second derivatives of the smoothed map. Unlike in edgesNms the sign of a mixed
    derivative of 0 is taken as positive: exactly horizontal lines would not be thinned at all.
    """
    if min(strength.shape) < 2:
        return strength
    known = np.where(np.isnan(strength), 0, strength).astype(np.float64)  # NaN marks nothing, here as at a threshold
    smooth = _triangle(known, SMOOTHING[0])
    gy, gx = np.gradient(_triangle(smooth, SMOOTHING[1]))
    gxy, gxx = np.gradient(gx)
    gyy = np.gradient(gy, axis=0)
    slope = np.where(gxy > 0, -gyy, gyy) / (gxx + 1e-5)  # 1e-5 as in edgesNms
    dx = 1 / np.sqrt(1 + slope * slope)
    dy = slope * dx
    beside = np.maximum(_moved(smooth, dy, dx), _moved(smooth, -dy, -dx))
    return (np.where(smooth * TOLERANCE < beside, 0, smooth) * _fading(*strength.shape)).astype(np.float32)


def _triangle(x: Doubles, radius: int) -> Doubles:
    """Filter x (h, w) with the weights 1 .. radius + 1 .. 1 along both axes; beyond its border x is mirrored."""
    weight = (radius + 1 - np.abs(np.arange(-radius, radius + 1))) / (radius + 1) ** 2
    for axis in (0, 1):
        padding = [(radius, radius) if axis == k else (0, 0) for k in (0, 1)]
        padded, length = np.pad(x, padding, mode="symmetric"), x.shape[axis]
        total = np.zeros_like(x)
        for k in range(2 * radius + 1):
            total += weight[k] * padded.take(range(k, k + length), axis)
        x = total
    return x


def _moved(x: Doubles, dy: Doubles, dx: Doubles) -> Doubles:
    """Return the values of x (h, w) at (y + dy, x + dx), bilinear, not beyond its border."""
    h, w = x.shape
    oy = np.clip(np.arange(h)[:, None] + dy, 0, h - 1.001)  # 1.001 as in edgesNms
    ox = np.clip(np.arange(w) + dx, 0, w - 1.001)
    y0, x0 = oy.astype(np.intp), ox.astype(np.intp)
    fy, fx = oy - y0, ox - x0
    above = x[y0, x0] * (1 - fx) + x[y0, x0 + 1] * fx
    below = x[y0 + 1, x0] * (1 - fx) + x[y0 + 1, x0 + 1] * fx
    moved: Doubles = above * (1 - fy) + below * fy
    return moved


def _fading(h: int, w: int) -> Array:
    """Return (h, w): 0 at the border, growing to 1 over BORDER pixels."""
    band = max(1, min(BORDER, h // 2, w // 2))
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]).clip(max=band) / band for n in (h, w))
    return np.outer(rows, columns)
