"""Arrays as rows of channels: which of them a kernel has to compute, and whether it may move four floats at once."""

from pagnp.backends.gpu.signature import NUMBA

QUAD = 4  # floats of a 16-byte access


def rows_of(array):
    """Return (rows, channels) of an array of any shape."""
    c = array.shape[-1] if array.ndim else 1
    return array.size // max(c, 1), c


def wanted(device):
    """Return (count, has_count): where there is a count, only the first *count rows are to be computed.

    So it is for compact rows, of which the host does not know the number.
    """
    return device.row_count, device.row_count is not None


def launch_rows(device, kernel, size, c, floats, args):
    """Launch `kernel` with one thread an element; or `<kernel>_v4` with one for four of them, where that can be.

    c       how many neighbouring floats stay together: a multiple of 4 in the wide variant
    floats  the arrays that it reads and writes 16 bytes at a time, from an address that is a multiple of 16
    """
    wide = is_wide(device, c, *floats)
    device.launch_elements(f"{kernel}_v4" if wide else kernel, size // QUAD if wide else size, args)


def is_wide(device, c, *floats):
    """Tell whether kernels may move four floats of `floats` at once."""
    return device.name != NUMBA and c % QUAD == 0 and all(device.pointer(array) % 16 == 0 for array in floats)
