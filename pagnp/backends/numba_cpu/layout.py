"""concat, pad and slice_channels: they only move values."""

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import SIMPLE, grain
from pagnp.backends.numba_cpu.rowarith import copy_rows
from pagnp.backends.numba_cpu.strips import address
from pagnp.backends.numba_cpu.threads import parallel


@jit
def copy_channels(start, stop, source, source_first, target, target_first, count):
    """Copy `count` channels of rows [start, stop); source, target (rows, channels of their own) float32."""
    source_row, target_row = source.shape[1] * 4, target.shape[1] * 4
    x = address(source) + start * source_row + source_first * 4
    copy_rows(x, source_row, address(target) + start * target_row + target_first * 4, target_row, stop - start, count)


def concat(xs, out, threads=1):
    """out = the tensors `xs` one after another along the channels."""
    first = 0
    for x in xs:
        _copy(x, 0, out, first, x.shape[-1], threads)
        first += x.shape[-1]


def slice_channels(x, start, stop, out, threads=1):
    """out = channels [start, stop) of x."""
    _copy(x, start, out, 0, stop - start, threads)


def pad(x, padding, out, threads=1):
    """out = x with borders of +0; padding (top, bottom, left, right). NumPy copies whole image rows: no kernel pays."""
    top, _, left, _ = padding
    _, h, w, _ = x.shape
    out[:, :top] = 0
    out[:, top + h :] = 0
    out[:, top : top + h, :left] = 0
    out[:, top : top + h, left + w :] = 0
    out[:, top : top + h, left : left + w] = x


def _copy(source, source_first, target, target_first, count, threads):
    """Copy `count` channels of every pixel."""
    source, target = source.reshape(-1, source.shape[-1]), target.reshape(-1, target.shape[-1])
    chunk = grain(len(source), threads, SIMPLE, width=count)
    arguments = (source, source_first, target, target_first, count)
    parallel(copy_channels, len(source), threads, *arguments, chunk=chunk)
