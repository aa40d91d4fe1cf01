"""Launches of conv2d and conv_transpose2d."""

from pagnp.backends.gpu.conv_tiles import CUDA, Tile, choose
from pagnp.backends.gpu.conv_weights import NARROW, PackedWeight, pack
from pagnp.backends.gpu.device import Sites
from pagnp.backends.gpu.signature import CUPY, signatures

# Bits of `flags`; cuda/conv2d.cuh has the same numbers. What they do not name is not read, and may be null.
SCALE, BIAS, RESIDUAL, RELU = 1, 2, 4, 8
SITES, SCATTERED, COUNTED = 16, 32, 64  # output pixels sites[:rows]; into rows sites[i]; only the first *count of them
ALIGNED = 128  # four channels of out and residual can be moved at once

# weight  PackedWeight.matrix, of `width` columns a group;  rows  output pixels: n*h_out*w_out, or the sites' capacity
_CONV2D = """
    (f32* x, f32* weight, f32* scale, f32* shift, f32* bias, f32* residual, f32* out, i32* sites, i32* count,
    i64 rows, i32 flags, i32 h_in, i32 w_in, i32 c_in, i32 h_out, i32 w_out, i32 c_out, i32 k_h, i32 k_w,
    i32 stride_y, i32 stride_x, i32 top, i32 left, i32 dilation_y, i32 dilation_x, i32 groups, i32 width)
"""
KERNELS = {
    **signatures("conv2d", f"conv2d_f32_plain{_CONV2D.strip()}"),
    **signatures("conv2d_tile", "".join(f"{tile.kernel}{_CONV2D.strip()}" for tile in CUDA), (CUPY,)),
    **signatures(
        "conv_transpose2d",
        """
        conv_transpose2d_f32_plain(f32* x, f32* weight, f32* scale, f32* shift, f32* bias, f32* residual, f32* out,
            i64 rows, i32 flags, i32 h_in, i32 w_in, i32 c_in, i32 h_out, i32 w_out, i32 c_out, i32 k_h, i32 k_w,
            i32 stride_y, i32 stride_x, i32 top, i32 left, i32 dilation_y, i32 dilation_x, i32 groups)
        """,
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
    flags = _epilogue_flags(scale, bias, residual, relu)
    if places is not None:
        flags |= SITES | (SCATTERED if out.ndim == 4 else 0) | (0 if count is None else COUNTED)
    if _aligned(device, packed.shape[3] // groups, out, residual):
        flags |= ALIGNED
    arrays = (x, packed.matrix, scale, shift, bias, residual, out, places, count)
    geometry = _geometry(x, size, packed.shape, stride, padding, dilation, groups)
    args = (*arrays, rows, flags, *geometry, packed.width)
    tile = _tile(device, x, packed, rows if count is None else max(1, rows // 2))
    if tile is None:
        device.launch_elements("conv2d_f32_plain", rows * packed.shape[3], args)
        return
    c_group = packed.shape[3] // groups
    grid = (-(-rows // tile.rows) * -(-c_group // tile.columns), 1, groups)
    device.launch(tile.kernel, grid, tile.threads, args, tile.shared)


def conv_transpose2d(device, x, weight, scale, shift, bias, residual, relu, stride, padding, dilation, groups, out):
    """Fill `out` (n, h_out, w_out, c_out) with the gather form; weight (k_h, k_w, c_in, c_out/groups).

    Numerics: EXACT; terms are the ky (kx) ascending with (oy + top - ky*dilation) % stride == 0, then ci.
    """
    shape = (*weight.shape[:2], weight.shape[2], out.shape[3])
    rows = out.shape[0] * out.shape[1] * out.shape[2]
    flags = _epilogue_flags(scale, bias, residual, relu)
    geometry = _geometry(x, out.shape[1:3], shape, stride, padding, dilation, groups)
    args = (x, weight, scale, shift, bias, residual, out, rows, flags, *geometry)
    device.launch_elements("conv_transpose2d_f32_plain", rows * out.shape[3], args)


def _tile(device, x, packed: PackedWeight, rows) -> Tile | None:
    """Return the tile kernel to take for about so many output pixels, or None for the plain one."""
    c_group = packed.shape[3] // packed.groups
    if packed.groups > 1 and c_group < NARROW:
        return None
    wide = packed.shape[2] % 4 == 0 and device.pointer(x) % 16 == 0
    tiles = tuple(tile for tile in device.conv_tiles if wide or tile.vector == 1)
    terms = packed.shape[0] * packed.shape[1] * packed.shape[2]
    return choose(tiles, rows, c_group, packed.groups, terms, device.multiprocessors) if tiles else None


def _aligned(device, c_group, out, residual):
    """Tell whether four channels of a group lie at addresses that are multiples of 16."""
    return c_group % 4 == 0 and not any(device.pointer(array) % 16 for array in (out, residual) if array is not None)


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
