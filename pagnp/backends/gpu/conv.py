"""Launches of conv2d and conv_transpose2d."""

from pagnp.backends.gpu.conv_tiles import CUDA, NUMBA_CUDA, Tile, choose
from pagnp.backends.gpu.conv_weights import NARROW, PackedWeight, pack
from pagnp.backends.gpu.device import BLOCK, Sites
from pagnp.backends.gpu.signature import CUPY, NUMBA, signatures

# Bits of `flags`; cuda/conv2d.cuh has the same numbers. What they do not name is not read, and may be null.
SCALE, BIAS, RESIDUAL, RELU = 1, 2, 4, 8
SITES, SCATTERED, COUNTED = 16, 32, 64  # output pixels sites[:rows]; into rows sites[i]; only the first *count of them
ALIGNED = 128  # four channels of out and residual can be moved at once

QUAD = 4  # floats of a 16-byte access
MOST_LINES = 65535  # blocks in grid.y

# weight  PackedWeight.matrix, of `width` columns a group;  rows  output pixels: n*h_out*w_out, or the sites' capacity
_CONV2D = """(f32* x, f32* weight, f32* scale, f32* shift, f32* bias, f32* residual, f32* out, i32* sites, i32* count,
              i64 rows, i32 flags, i32 h_in, i32 w_in, i32 c_in, i32 h_out, i32 w_out, i32 c_out, i32 k_h, i32 k_w,
              i32 stride_y, i32 stride_x, i32 top, i32 left, i32 dilation_y, i32 dilation_x, i32 groups, i32 width)"""
_TRANSPOSE = """(f32* x, f32* weight, f32* scale, f32* shift, f32* bias, f32* residual, f32* out, i64 rows, i32 flags,
                 i32 h_in, i32 w_in, i32 c_in, i32 h_out, i32 w_out, i32 c_out, i32 k_h, i32 k_w, i32 stride_y,
                 i32 stride_x, i32 top, i32 left, i32 dilation_y, i32 dilation_x, i32 groups)"""
_DEPTHWISE = "conv2d_f32_depthwise"
_DEPTHWISE_TRANSPOSE = "conv_transpose2d_f32_depthwise"


def _tile_signatures():
    found = {}
    for backend, tiles in ((CUPY, CUDA), (NUMBA, NUMBA_CUDA)):
        for tile in tiles:
            others = found[tile.kernel].backends if tile.kernel in found else ()
            found |= signatures("conv2d_tile", f"{tile.kernel}{_CONV2D}", (*others, backend))
    return found


KERNELS = {
    **signatures("conv2d", f"conv2d_f32_plain{_CONV2D}"),
    **_tile_signatures(),
    **signatures("conv2d_depthwise", f"{_DEPTHWISE}{_CONV2D} {_DEPTHWISE}_v4{_CONV2D}", (CUPY,)),
    **signatures("conv_transpose2d", f"conv_transpose2d_f32_plain{_TRANSPOSE}"),
    **signatures(
        "conv_transpose2d_depthwise",
        f"{_DEPTHWISE_TRANSPOSE}{_TRANSPOSE} {_DEPTHWISE_TRANSPOSE}_v4{_TRANSPOSE}",
        (CUPY,),
    ),
}


def pack_conv2d(device, weight, groups):
    """Return the (k_h, k_w, c_in/groups, c_out) float32 `weight`, on the host or the device, as `conv2d` takes it."""
    return pack(device, weight, groups)


def conv2d(device, x, packed, scale, shift, bias, residual, relu, sites, stride, padding, dilation, groups, out):
    """Convolve `x`; with `sites`, only at those output pixels, bit for bit as the dense result.

    x        (n, h_in, w_in, c_in);  packed  PackedWeight
    sites    (m,) int32 or Sites, flat ((n*h_out) + oy)*w_out + ox; out is (m, c_out), or full size with only these rows
             written
    Numerics: EXACT; fma chains of 128 over ky, kx, ci.
    """
    places, count = (sites.indices, sites.count) if isinstance(sites, Sites) else (sites, None)
    size = _map_size(x, packed, stride, padding, dilation)
    rows = x.shape[0] * size[0] * size[1] if places is None else places.shape[0]
    if not rows:
        return
    c_out = packed.shape[3]
    flags = _epilogue_flags(scale, bias, residual, relu)
    if c_out // groups % QUAD == 0 and _aligned(device, out, residual):
        flags |= ALIGNED
    if places is not None:
        flags |= SITES | (SCATTERED if out.ndim == 4 else 0) | (0 if count is None else COUNTED)
    arrays = (x, packed.matrix, scale, shift, bias, residual, out, places, count)
    geometry = _geometry(x, size, packed.shape, stride, padding, dilation, groups)
    args = (*arrays, rows, flags, *geometry, packed.width)
    if _is_depthwise(device, x, c_out, groups):
        wide = c_out % QUAD == 0 and _aligned(device, x, packed.matrix, out)
        device.launch_elements(f"{_DEPTHWISE}_v4" if wide else _DEPTHWISE, rows * c_out // (QUAD if wide else 1), args)
        return
    tile = _tile(device, x, packed, rows if count is None else max(1, rows // 2))
    if tile is None:
        device.launch_elements("conv2d_f32_plain", rows * c_out, args)
        return
    grid = (-(-rows // tile.rows) * -(-(c_out // groups) // tile.columns), 1, groups)
    device.launch(tile.kernel, grid, tile.threads, args, tile.shared)


def conv_transpose2d(device, x, weight, scale, shift, bias, residual, relu, stride, padding, dilation, groups, out):
    """Fill `out` (n, h_out, w_out, c_out) with the gather form; weight (k_h, k_w, c_in, c_out/groups).

    Numerics: EXACT; terms are the ky (kx) ascending with (oy + top - ky*dilation) % stride == 0, then ci.
    """
    n, h_out, w_out, c_out = out.shape
    rows = n * h_out * w_out
    if not rows:
        return
    flags = _epilogue_flags(scale, bias, residual, relu)
    geometry = _geometry(x, (h_out, w_out), (*weight.shape[:3], c_out), stride, padding, dilation, groups)
    args = (x, weight, scale, shift, bias, residual, out, rows, flags, *geometry)
    if not _is_depthwise(device, x, c_out, groups):
        device.launch_elements("conv_transpose2d_f32_plain", rows * c_out, args)
        return
    wide = c_out % QUAD == 0 and _aligned(device, x, weight, out)
    along = w_out * c_out // (QUAD if wide else 1)
    grid = (-(-along // BLOCK), min(n * h_out, MOST_LINES))
    device.launch(f"{_DEPTHWISE_TRANSPOSE}_v4" if wide else _DEPTHWISE_TRANSPOSE, grid, BLOCK, args)


def _tile(device, x, packed: PackedWeight, rows) -> Tile | None:
    """Return the tile kernel to take for about so many output pixels, or None for the plain one."""
    c_group = packed.shape[3] // packed.groups
    if packed.groups > 1 and c_group < NARROW:
        return None
    wide = packed.shape[2] % QUAD == 0 and _aligned(device, x)
    tiles = tuple(tile for tile in device.conv_tiles if wide or tile.vector == 1)
    terms = packed.shape[0] * packed.shape[1] * packed.shape[2]
    return choose(tiles, rows, c_group, packed.groups, terms, device.multiprocessors) if tiles else None


def _is_depthwise(device, x, c_out, groups):
    """Tell whether each group has one channel, and the device kernels for that, and leave to use them."""
    return device.name == CUPY and device.conv_tiles and x.shape[3] == c_out == groups > 1


def _aligned(device, *arrays):
    """Tell whether all arrays start at multiples of 16 bytes; None counts as one that does."""
    return not any(device.pointer(array) % 16 for array in arrays if array is not None)


def _epilogue_flags(scale, bias, residual, relu):
    mode = SCALE if scale is not None else BIAS if bias is not None else 0
    return mode | (RESIDUAL if residual is not None else 0) | (RELU if relu else 0)


def _map_size(x, packed, stride, padding, dilation):
    """Return (h_out, w_out) of the full output map, which a compact `out` does not show."""
    top, bottom, left, right = padding
    h_out = (x.shape[1] + top + bottom - dilation[0] * (packed.shape[0] - 1) - 1) // stride[0] + 1
    w_out = (x.shape[2] + left + right - dilation[1] * (packed.shape[1] - 1) - 1) // stride[1] + 1
    return h_out, w_out


def _geometry(x, size, weight_shape, stride, padding, dilation, groups):
    """Return the numbers h_in .. groups of a signature."""
    k_h, k_w, _, c_out = weight_shape
    return (*x.shape[1:], *size, c_out, k_h, k_w, *stride, padding[0], padding[2], *dilation, groups)
