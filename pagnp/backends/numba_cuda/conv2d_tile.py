"""conv2d as an implicit matrix product: a block computes `rows_of_tile` output pixels by `columns` channels of a group.

It goes through the terms (ky, kx, ci) in steps of 8. While a step is computed from shared memory, the next one is on
its way from x and weight to registers. A thread has pixels x channels chains in registers: with 8 x 8 a term is 16
values loaded, 16 bytes at a time, and 64 fma. After 128 terms the chains are added to totals in local memory.

Numerics: EXACT, as conv2d_f32_plain. No term is added or left out: the last step is as short as it is.
"""

import numpy as np
from numba import cuda, float32, int32, int64

from pagnp.backends.numba_cuda.arithmetic import WIDE, ZERO, add, fma
from pagnp.backends.numba_cuda.compile import device_function, kernel
from pagnp.backends.numba_cuda.conv_steps import conv_epilogue, conv_place, conv_rows
from pagnp.contract import BLOCK

STEP = 8
# Indices of the tiles are unsigned, and all of them have a constant in them: negative ones would count from the end in
# Numba, and a first element without an offset of its own is left out where NVVM joins four loads into one.
LEAD = np.uint32(4)
_STEP, _QUAD, _ONE = np.uint32(STEP), np.uint32(4), np.uint32(1)
_NOWHERE = np.int64(-(1 << 62))  # stays negative, whatever number of terms is added


@device_function
def tap_of(ci, kx, ky, c_in_group, k_w):
    """Return (ci, kx, ky) of a channel that may have run beyond its tap; in 32 bits, which saves registers."""
    while ci >= c_in_group:
        ci = np.int32(ci - c_in_group)
        kx = np.int32(kx + 1)
        if kx == k_w:
            kx = np.int32(0)
            ky = np.int32(ky + 1)
    return ci, kx, ky


@device_function
def offset_in_x(first, iy, ix, ci, h_in, w_in, c_in):
    """Return where channel ci of (iy, ix) is in x, whose image begins with pixel `first`; _NOWHERE outside the map."""
    inside = 0 <= iy and iy < h_in and 0 <= ix and ix < w_in
    return (first + iy * w_in + ix) * c_in + ci if inside else _NOWHERE


def _multiply(pixels, channels, x_pitch, x_half, weight_pitch, weight_half):
    """Return the device function of one term: s[i, j] = fma(weight[j], x[i], s[i, j]), all chains of a thread.

    It has four neighbours from `ty` (rows) and `tx` (columns), and the next four half a tile further.
    """

    @device_function
    def multiply(x_tile, weight_tile, k, ty, tx, s):
        x = cuda.local.array(pixels, float32)
        weight = cuda.local.array(channels, float32)
        for i in range(pixels):
            x[i] = x_tile[k * x_pitch + ty + LEAD + np.uint32(i // 4) * x_half + np.uint32(i % 4)]
        for j in range(channels):
            weight[j] = weight_tile[k * weight_pitch + tx + LEAD + np.uint32(j // 4) * weight_half + np.uint32(j % 4)]
        for i in range(pixels):
            for j in range(channels):
                s[i * channels + j] = fma(weight[j], x[i], s[i * channels + j])

    return multiply


def _close_chains(chains):
    """Return the device function that adds the chains to the totals, and begins new ones."""

    @device_function
    def close_chains(s, total, slot, is_first):
        if is_first:
            for i in range(chains):
                total[slot + np.uint32(i)] = s[i]
        else:
            for i in range(chains):
                total[slot + np.uint32(i)] = add(total[slot + np.uint32(i)], s[i])
        for i in range(chains):
            s[i] = ZERO

    return close_chains


def _tile(name, rows_of_tile, columns, pixels, channels, blocks):
    """Return the kernel `name` for `blocks` blocks on a multiprocessor; parameters as conv2d_f32_plain."""
    across = columns // channels
    threads = rows_of_tile // pixels * across
    x_pitch = np.uint32(rows_of_tile + 4)  # of a term; + 4: the stores of a warp fall into all 32 banks
    weight_pitch = np.uint32(columns)
    x_half, weight_half = np.uint32(4 * rows_of_tile // pixels), np.uint32(4 * across)
    x_size, weight_size = int(LEAD + 2 * STEP * x_pitch), int(LEAD + 2 * STEP * weight_pitch)
    chains, x_loads, weight_loads = pixels * channels, rows_of_tile * STEP // threads, columns * STEP // threads
    x_gap, weight_gap = threads // STEP, threads // columns  # rows, and terms, between two loads of a thread
    multiply = _multiply(pixels, channels, x_pitch, x_half, weight_pitch, weight_half)
    close_chains = _close_chains(chains)

    # fmt: off
    @kernel(name=name, threads=threads, blocks=blocks)
    def conv2d_tile(
        x, weight, scale, shift, bias, residual, out, sites, count, rows, flags, h_in, w_in, c_in, h_out, w_out, c_out,
        k_h, k_w, stride_y, stride_x, top, left, dilation_y, dilation_x, groups, width,
    ):
        # fmt: on
        x_tile = cuda.shared.array(x_size, float32, alignment=WIDE)  # [this step or the next, term, row]
        weight_tile = cuda.shared.array(weight_size, float32, alignment=WIDE)  # [this step or the next, term, column]
        target = cuda.shared.array(rows_of_tile, int64)  # where a row of the tile goes in out
        first = cuda.shared.array(rows_of_tile, int64)  # the first pixel of its image in x
        start_y = cuda.shared.array(rows_of_tile, int32)  # iy and ix of its first tap
        start_x = cuda.shared.array(rows_of_tile, int32)
        s = cuda.local.array(chains, float32)
        total = cuda.local.array(chains, float32)
        offset = cuda.local.array(x_loads, int64)
        next_x = cuda.local.array(x_loads, float32)
        next_weight = cuda.local.array(weight_loads, float32)

        c_in_group = np.int32(c_in // groups)
        c_out_group = c_out // groups
        group = np.int32(cuda.blockIdx.z)
        tiles_across = (c_out_group + columns - 1) // columns
        m0 = cuda.blockIdx.x // tiles_across * rows_of_tile
        co0 = cuda.blockIdx.x % tiles_across * columns
        wanted = conv_rows(rows, count, flags)
        if m0 >= wanted:
            return
        t = np.uint32(cuda.threadIdx.x)
        if t < np.uint32(rows_of_tile):
            m = m0 + np.int64(t)
            image, oy, ox, row = conv_place(min(m, wanted - 1), sites, flags, h_out, w_out)
            target[t] = row if m < wanted else _NOWHERE
            first[t] = image * h_in * w_in
            start_y[t] = oy * stride_y - top
            start_x[t] = ox * stride_x - left
        for i in range(chains):
            s[i] = ZERO
        cuda.syncthreads()

        # Of a step this thread loads one term of the rows x_row, x_row + x_gap, ... of x, and one column of the terms
        # w_term, w_term + weight_gap, ... of the weight. It computes the rows from ty, the columns from tx.
        slot = np.uint32(cuda.threadIdx.y)  # 0, which the compiler does not know: so the totals stay out of registers
        x_term, x_row, w_term = t % _STEP, t // _STEP, t // weight_pitch
        x_place = x_term * x_pitch + x_row + LEAD
        column = group * width + min(co0 + np.int64(t % weight_pitch), width - 1)
        ty, tx = t // np.uint32(across) * _QUAD, t % np.uint32(across) * _QUAD
        terms = np.int32(k_h * k_w * c_in_group)
        ci, kx, ky = np.int32(np.int64(x_term) - STEP), np.int32(0), np.int32(0)
        for begin in range(-STEP, terms, STEP):
            following = begin + STEP
            if following < terms:
                ci = np.int32(ci + STEP)
                if begin < 0 or ci >= c_in_group:
                    ci, kx, ky = tap_of(ci, kx, ky, c_in_group, k_w)
                    for j in range(x_loads):
                        r = t // _STEP + np.uint32(j * x_gap)
                        iy = start_y[r] + ky * dilation_y if ky < k_h else -1
                        ix = start_x[r] + kx * dilation_x
                        offset[j] = offset_in_x(first[r], iy, ix, group * c_in_group + ci, h_in, w_in, c_in)
                else:
                    for j in range(x_loads):
                        offset[j] += STEP
                for j in range(x_loads):
                    next_x[j] = x[np.uint64(offset[j])] if offset[j] >= 0 else ZERO
                for j in range(weight_loads):  # behind the last term it is loaded again, and not used
                    term = min(following + np.int64(w_term) + j * weight_gap, terms - 1)
                    next_weight[j] = weight[np.uint64(term * groups * width + column)]
            k = np.uint32(begin // STEP & 1) * _STEP  # steps take turns with two places
            steps = min(STEP, terms - begin) if begin >= 0 else 0
            for _ in range(steps // 2):
                multiply(x_tile, weight_tile, k, ty, tx, s)
                multiply(x_tile, weight_tile, k + _ONE, ty, tx, s)
                k += _ONE + _ONE
            if steps % 2:
                multiply(x_tile, weight_tile, k, ty, tx, s)
            if begin >= 0 and (following % BLOCK == 0 or following >= terms):
                close_chains(s, total, slot, following <= BLOCK)
            if following < terms:
                k = np.uint32(following // STEP & 1) * _STEP
                for j in range(x_loads):
                    x_tile[k * x_pitch + x_place + np.uint32(j * x_gap)] = next_x[j]
                for j in range(weight_loads):
                    weight_tile[(k + np.uint32(j * weight_gap)) * weight_pitch + LEAD + t] = next_weight[j]
            cuda.syncthreads()

        for i in range(pixels):
            row = target[ty + np.uint32(i // 4) * x_half + np.uint32(i % 4)]
            for j in range(channels):
                co = co0 + np.int64(tx + np.uint32(j // 4) * weight_half + np.uint32(j % 4))
                if row >= 0 and co < c_out_group:
                    co += group * c_out_group
                    acc = total[slot + np.uint32(i * channels + j)]
                    acc = conv_epilogue(acc, scale, shift, bias, residual, flags, co, row * c_out)
                    out[np.uint64(row * c_out + co)] = acc

    return conv2d_tile


conv2d_f32_tile128x128 = _tile("conv2d_f32_tile128x128", 128, 128, 8, 8, 2)
conv2d_f32_tile64x64 = _tile("conv2d_f32_tile64x64", 64, 64, 8, 4, 4)
conv2d_f32_tile32x32 = _tile("conv2d_f32_tile32x32", 32, 32, 4, 4, 10)
