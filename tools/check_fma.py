"""Hold every fma of the engine against the processor's fma and the C library's, on millions of triples.

    python tools/check_fma.py [--count 100000000] [--seed N] [--jobs N] [--classes midpoints specials ...]

Judged: NumPy's `fma_f32` and `Chain.step`; what Numba runs without an FMA unit, `fma32_round_to_odd` and the
convolution's `VectorCode._fma_emulated`. By: the instruction (llvm.fma through Numba) and libm's fmaf, which with glibc
on x86 runs in software here (GLIBC_TUNABLES switches its FMA unit off), so the two share nothing. A CPU without FMA is
judged by libm alone. The classes are those of fma_triples.py. The exit status is 1 if a bit differs; NaN is one class.
"""

import argparse
import ctypes
import ctypes.util
import multiprocessing
import os
import secrets
import sys
import time

import numpy as np
from fma_triples import BATCH, CLASSES, draw
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.scalar_fma import fma32_hardware, fma32_round_to_odd
from pagnp.backends.numba_cpu.vectorcode import VectorCode, has_fma_unit
from pagnp.backends.numpy_ref.fma import Chain, fma_f32, products_may_underflow

SOFTWARE_LIBM = "glibc.cpu.hwcaps=-FMA,-FMA4"  # glibc then picks its fmaf without the instruction
LANES = 4  # the vectors of a CPU without FMA


def numpy_fma(a, b, c):
    """NumPy's fma of two arrays and an addend."""
    return fma_f32(a, b, c)


def numpy_chain(a, b, c):
    """One step of the dot-product rule in NumPy, from c."""
    chain = Chain(c.size, products_may_underflow(a, b))
    chain.restart(c.shape)
    chain.value[...] = c
    with np.errstate(all="ignore"):
        chain.step(a.astype(np.float64), b.astype(np.float64))
    return chain.value


@njit(error_model="numpy")
def _scalar_loop(a, b, c, out):
    for i in range(out.size):
        out[i] = fma32_round_to_odd(a[i], b[i], c[i])


@njit(error_model="numpy")
def _hardware_loop(a, b, c, out):
    for i in range(out.size):
        out[i] = fma32_hardware(a[i], b[i], c[i])


@intrinsic
def _vector_step(typingctx, a, b, c, out):
    """out = fma(a, b, c) for LANES floats at four addresses, by the emulation of VectorCode."""

    def generate(context, builder, signature, arguments):
        code = VectorCode(builder, LANES)
        code.store(code._fma_emulated(*(code.load(address) for address in arguments[:3])), arguments[3])
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(*[types.int64] * 4), generate


@njit(error_model="numpy")
def _vector_loop(a, b, c, out):
    for byte in range(0, 4 * out.size, 4 * LANES):
        _vector_step(a.ctypes.data + byte, b.ctypes.data + byte, c.ctypes.data + byte, out.ctypes.data + byte)


def _libm_fmaf():
    """Return (fmaf as a ctypes function, its place relative to nextafterf in the library), or (None, None)."""
    name = ctypes.util.find_library("m")
    library = ctypes.CDLL(name) if name else None
    if library is None or not hasattr(library, "fmaf"):
        return None, None
    library.fmaf.restype, library.fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    places = [ctypes.cast(function, ctypes.c_void_p).value for function in (library.fmaf, library.nextafterf)]
    return library.fmaf, places[0] - places[1]


def _libm_loop():
    """Return a compiled loop over libm's fmaf, or None where there is none."""
    fmaf, _ = _libm_fmaf()
    if fmaf is None:
        return None

    @njit(error_model="numpy")
    def loop(a, b, c, out):
        for i in range(out.size):
            out[i] = fmaf(a[i], b[i], c[i])

    return loop


def _looped(loop):
    def whole(a, b, c):
        out = np.empty_like(c)
        loop(a, b, c, out)
        return out

    return whole


def judges():
    """Return {name: fma of three arrays} of what the engine is held against."""
    libm = _libm_loop()
    found = {"instruction": _looped(_hardware_loop)} if has_fma_unit() else {}
    return {**found, "libm": _looped(libm)} if libm else found


CANDIDATES = {
    "numpy": numpy_fma,
    "chain": numpy_chain,
    "numba scalar": _looped(_scalar_loop),
    "numba vector": _looped(_vector_loop),
}


def _ties_away(a, b, c):
    exact_on_ties = a.astype(np.float64) * b + c
    return np.nextafter(exact_on_ties, np.copysign(np.inf, exact_on_ties)).astype(np.float32)


WRONG = {  # not judged: their counts show that the triples tell a wrong fma
    "two steps": lambda a, b, c: a * b + c,
    "float64": lambda a, b, c: (a.astype(np.float64) * b + c).astype(np.float32),
    "ties away": _ties_away,
}


def difference(got, want):
    """Return (number of results that differ, number of bits that differ, place of the first or None)."""
    differs = (got.view(np.uint32) != want.view(np.uint32)) & ~(np.isnan(got) & np.isnan(want))
    if not differs.any():
        return 0, 0, None
    bits = (got.view(np.uint32) ^ want.view(np.uint32))[differs]
    return int(differs.sum()), int(np.unpackbits(bits.view(np.uint8)).sum()), int(np.flatnonzero(differs)[0])


def check(triple, candidates, references):
    """Return ({name: results that differ}, bits that differ, lines about the first of each) for one triple of arrays.

    All candidates, and the references among each other, are held against the first of `references`.
    """
    (first, reference), *others = references.items()
    want = reference(*triple)
    counts, all_bits, lines = {}, 0, []
    for name, function in (*others, *candidates.items()):
        with np.errstate(all="ignore"):
            got = function(*triple)
        counts[name], bits, place = difference(got, want)
        all_bits += bits
        if place is not None:
            shown = [f"{int(v.view(np.uint32)[place]):08X}" for v in (*triple, got, want)]
            lines.append("fma({}, {}, {}) is {} by {}, {} by {}".format(*shown[:4], name, shown[4], first))
    return counts, all_bits, lines


_prepared = {}


def _work(task):
    name, seed, batch = task
    references = _prepared.setdefault("judges", judges())
    triple = draw(name, seed, batch)
    counts, bits, lines = check(triple, CANDIDATES, references)
    caught, _, _ = check(triple, WRONG, dict([next(iter(references.items()))]))
    return name, counts, bits, caught, lines


def _libm_place():
    return _libm_fmaf()[1]


def describe_judges(pool):
    """Return in words what judges in the worker processes of `pool`."""
    words = []
    if has_fma_unit():
        signature = (types.Array(types.float32, 1, "C"),) * 4
        _hardware_loop.compile(signature)
        found = sorted({word for word in next(iter(_hardware_loop.inspect_asm().values())).split() if "fmadd" in word})
        words.append(f"the instruction ({', '.join(found)})")
    here, there = _libm_place(), pool.apply(_libm_place)
    if here is not None:
        words.append("libm's fmaf" + (" (software, its FMA unit off)" if here != there else " (as it comes)"))
    return " and ".join(words)


def run(pool, names, seed, batches):
    """Check `batches` batches of each class; print a line a class; return the number of results that differ."""
    total_wrong, total_bits, total, start = 0, 0, 0, time.monotonic()
    for name in names:
        counts, caught, bits, lines = {}, {}, 0, []
        for _, more, more_bits, more_caught, more_lines in pool.imap_unordered(
            _work, [(name, seed, batch) for batch in range(batches)]
        ):
            counts = {key: counts.get(key, 0) + value for key, value in more.items()}
            caught = {key: caught.get(key, 0) + value for key, value in more_caught.items()}
            bits, lines = bits + more_bits, lines + more_lines
        size = batches * BATCH
        total, total_bits, total_wrong = total + size, total_bits + bits, total_wrong + sum(counts.values())
        differing = ", ".join(f"{key} {value}" for key, value in counts.items())
        wrong = ", ".join(f"{key} {value / size:.2%}" for key, value in caught.items())
        print(f"{name:18s}{size:>12,d} triples  differ: {differing}; {bits} bits  (wrong ones: {wrong})", flush=True)
        for line in lines[:3]:
            print("  " + line)
    seconds = time.monotonic() - start
    print(f"{total:,d} triples, {total_wrong} results and {total_bits} bits differ ({seconds:.0f} s, seed {seed})")
    return total_wrong


def main(arguments=None):
    """Run the check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=100_000_000, help="triples of all classes together, at least")
    parser.add_argument("--seed", type=int, help="a number; without it one is drawn and printed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--classes", nargs="+", choices=tuple(CLASSES), default=tuple(CLASSES))
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    batches = max(1, -(-options.count // (len(options.classes) * BATCH)))
    os.environ["GLIBC_TUNABLES"] = SOFTWARE_LIBM  # read when a process starts: for the workers
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        print(f"seed {seed}; judged by {describe_judges(pool)}", flush=True)
        return 1 if run(pool, options.classes, seed, batches) else 0


if __name__ == "__main__":
    sys.exit(main())
