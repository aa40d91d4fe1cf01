"""Launches of the lists of sites, and of what is moved by them."""

import numpy as np

from pagnp.backends.gpu.device import BLOCK, Sites
from pagnp.backends.gpu.rows import launch_rows, rows_of
from pagnp.backends.gpu.signature import CUPY, NUMBA, signatures

SCAN = 1024  # threads at most of the one block of list_sites_i32_scan, and of a block of list_sites_i32_once
WARP = 32
SMALL = 1 << 16  # pixels of a mask up to which one launch is faster than three

_GATHER = "(f32* x, i32* sites, f32* out, i64 m, i64 c, i32* count, i32 has_count)"
_SCATTER = "(f32* values, i32* sites, f32* out, i64 m, i64 c, i32* count, i32 has_count)"

# list_sites: *_count counts the True of every BLOCK elements, *_scan (one block) replaces each of these
# counts by the sum of those before it and writes the total, *_write fills sites. *_once does all of it.
KERNELS = {
    **signatures(
        "sites",
        f"""
        list_sites_i32_count(u8* mask, i32* sums, i64 size)
        list_sites_i32_scan(i32* sums, i32* count, i64 blocks)
        list_sites_i32_write(u8* mask, i32* sums, i32* sites, i64 size)
        grow_mask_u8(u8* mask, u8* out, i64 size, i64 h_out, i64 w_out, i64 h_in, i64 w_in, i64 k_h, i64 k_w,
                     i64 stride_y, i64 stride_x, i64 top, i64 left, i64 dilation_y, i64 dilation_x)
        gather_f32{_GATHER} scatter_f32{_SCATTER}
        """,
    ),
    **signatures(
        "sites",
        f"""
        list_sites_i32_once(u8* mask, i32* sites, i32* count, i64 size)
        gather_f32_v4{_GATHER} scatter_f32_v4{_SCATTER}
        """,
        (CUPY,),
    ),
}


def list_sites(device, mask):
    """Return Sites of the flat indices of True, ascending; their number stays on the device."""
    size = mask.size
    sites, count = device.empty(size, np.int32), device.empty(1, np.int32)
    if 0 < size <= SMALL and device.name != NUMBA:
        device.launch("list_sites_i32_once", -(-size // SCAN), SCAN, (mask, sites, count, size))
        return Sites(sites, count)
    blocks = -(-size // BLOCK)
    sums = device.empty(max(1, blocks), np.int32)
    device.launch_elements("list_sites_i32_count", size, (mask, sums, size))
    threads = min(SCAN, max(1, -(-blocks // WARP)) * WARP)
    device.launch("list_sites_i32_scan", 1, threads, (sums, count, blocks))
    device.launch_elements("list_sites_i32_write", size, (mask, sums, sites, size))
    return Sites(sites, count)


def mask_to_sites(device, mask):
    """Return int32 (m,): the flat indices of True, ascending; waits to know m."""
    sites = list_sites(device, mask)
    return sites.indices[: int(device.to_host(sites.count)[0])]


def grow_mask(device, mask, kernel, stride, padding, dilation, out):
    """Fill `out` (n, h_in, w_in): True where a tap of an output site in `mask` (n, h_out, w_out) reads."""
    window = *kernel, *stride, padding[0], padding[2], *dilation
    device.launch_elements("grow_mask_u8", out.size, (mask, out, out.size, *mask.shape[1:], *out.shape[1:], *window))


def gather(device, x, sites, out):
    """Fill `out` (m, c) with the pixels of x at `sites`, an array or Sites."""
    m, c = rows_of(out)
    indices, *count = _listed(sites)
    launch_rows(device, "gather_f32", m * c, c, (x, out), (x, indices, out, m, c, *count))


def scatter(device, values, sites, out):
    """Write the rows of `values` (m, c) to the pixels of `out` at `sites`; the others stay."""
    m, c = rows_of(values)
    indices, *count = _listed(sites)
    launch_rows(device, "scatter_f32", m * c, c, (values, out), (values, indices, out, m, c, *count))


def _listed(sites):
    """Return (indices, count, has_count) of an array or Sites."""
    listed = sites if isinstance(sites, Sites) else Sites(sites)
    return listed.indices, listed.count, listed.count is not None
