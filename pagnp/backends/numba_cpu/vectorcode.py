"""Emit float32 vector code with llvmlite: what the microkernel and `fma32` are written in.

Addresses are int64 values plus constant byte offsets. Nothing here carries a fast-math flag.
"""

import contextlib

from llvmlite import ir

from pagnp.backends.numba_cpu.compile import cpu_features, cpu_triple

F32, F64, I1, I8, I32, I64 = ir.FloatType(), ir.DoubleType(), *(ir.IntType(bits) for bits in (1, 8, 32, 64))


def has_fma_unit():
    """Return whether this CPU fuses in hardware; elsewhere `llvm.fma` would call the C library."""
    if cpu_triple().startswith(("x86", "i386", "i686")):
        return not cpu_features().isdisjoint({"fma", "fma4", "avx512f"})
    return is_aarch64() or cpu_triple().startswith(("powerpc64", "ppc64", "s390x"))


def is_aarch64():
    """Return whether this CPU is a 64-bit ARM: 32 vector registers of four floats."""
    return cpu_triple().startswith(("aarch64", "arm64"))


class VectorCode:
    """A builder and a vector length: the operations that the kernels are made of. `lanes` 1 means scalars."""

    def __init__(self, builder, lanes):
        self.builder = builder
        self.lanes = lanes
        self.vector = self.of(F32)

    def of(self, element):
        """Return the type of a vector of `element`."""
        return element if self.lanes == 1 else ir.VectorType(element, self.lanes)

    def constant(self, value, element=F32):
        """Return `value` in every lane."""
        return ir.Constant(element, value) if self.lanes == 1 else ir.Constant(self.of(element), [value] * self.lanes)

    def smaller(self, a, b):
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def _pointer(self, address, byte, kind):
        # A getelementptr with a constant offset becomes the displacement of the load itself.
        base = self.builder.inttoptr(address, I8.as_pointer())
        place = self.builder.gep(base, [I64(byte)]) if byte else base
        return self.builder.bitcast(place, kind.as_pointer())

    def load(self, address, byte=0, align=4):
        return self.builder.load(self._pointer(address, byte, self.vector), align=align)

    def store(self, value, address, byte=0):
        self.builder.store(value, self._pointer(address, byte, self.vector), align=4)

    def load_float(self, address, byte=0):
        return self.builder.load(self._pointer(address, byte, F32), align=4)

    def load_int(self, address, byte=0):
        return self.builder.load(self._pointer(address, byte, I64), align=8)

    def broadcast(self, value):
        """Return the scalar `value` in every lane."""
        if self.lanes == 1:
            return value
        undefined = ir.Constant(self.vector, ir.Undefined)
        single = self.builder.insert_element(undefined, value, I32(0))
        lanes = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, lanes)

    def prefetch(self, address, byte, level=1, write=False):
        """Ask for the line at `address` + `byte` into the cache of `level`; harmless beyond the end of an array."""
        pointer = self._pointer(address, byte, I8)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
        prefetch = self.builder.module.declare_intrinsic("llvm.prefetch", (pointer.type,), kind)
        self.builder.call(prefetch, [pointer, I32(int(write)), I32(4 - level), I32(1)])

    def relu(self, x):
        """Return +0 where x < 0, else x: NaN stays NaN, -0 stays -0."""
        zero = self.constant(0.0)
        return self.builder.select(self.builder.fcmp_ordered("<", x, zero), zero, x)

    def fma(self, a, b, c):
        """Return a * b + c with one rounding."""
        if not has_fma_unit():
            return self._fma_emulated(a, b, c)
        name = "llvm.fma.f32" if self.lanes == 1 else f"llvm.fma.v{self.lanes}f32"
        module, kind = self.builder.module, ir.FunctionType(self.vector, [self.vector] * 3)
        function = module.globals.get(name) or ir.Function(module, kind, name)
        return self.builder.call(function, [a, b, c])

    def _fma_emulated(self, a, b, c):
        """The product is exact in float64. Its sum with c is rounded to odd there, so only the last rounding counts.

        Source: Boldo and Melquiond, Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to
        odd, 2008; the error of the sum by Knuth's TwoSum.
        """
        builder, wide, integers = self.builder, self.of(F64), self.of(I64)
        product = builder.fmul(builder.fpext(a, wide), builder.fpext(b, wide))
        c = builder.fpext(c, wide)
        total = builder.fadd(product, c)
        share = builder.fsub(total, product)
        error = builder.fadd(builder.fsub(product, builder.fsub(total, share)), builder.fsub(c, share))
        bits = builder.bitcast(total, integers)
        zero = self.constant(0.0, F64)
        inexact = builder.fcmp_ordered("!=", error, zero)  # false for NaN: Inf and NaN pass through
        is_even = builder.icmp_signed("==", builder.and_(bits, self.constant(1, I64)), self.constant(0, I64))
        outwards = builder.icmp_signed(
            "==",
            builder.zext(builder.fcmp_ordered(">", error, zero), integers),
            builder.zext(builder.fcmp_ordered(">", total, zero), integers),
        )
        step = builder.select(outwards, self.constant(1, I64), self.constant(-1, I64))
        step = builder.select(builder.and_(inexact, is_even), step, self.constant(0, I64))
        return builder.fptrunc(builder.bitcast(builder.add(bits, step), wide), self.vector)

    @contextlib.contextmanager
    def repeat(self, *values):
        """Emit a loop over `values`, as long as the first is above 0; yields a Loop, to call `again` on."""
        builder = self.builder
        loop = Loop(builder, values)
        yield loop
        builder.branch(loop.head)
        builder.position_at_end(loop.done)

    def when(self, condition, values, change):
        """Return change(values) where the scalar `condition` holds, else `values`."""
        before = self.builder.block
        with self.builder.if_then(condition):
            changed = change(values)
            inside = self.builder.block
        return [
            _joined(self.builder, (value, before), (new, inside)) for value, new in zip(values, changed, strict=True)
        ]


class Loop:
    """A loop being emitted. `values` inside: this round's; `again(...)` ends the round; `after`: those at the end."""

    def __init__(self, builder, values):
        self.builder = builder
        before = builder.block
        self.head, body, self.done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.values = [_joined(builder, (value, before)) for value in values]
        self.after = self.values
        builder.cbranch(builder.icmp_signed(">", self.values[0], I64(0)), body, self.done)
        builder.position_at_end(body)

    def again(self, *values):
        """Set the next round's values."""
        for phi, value in zip(self.values, values, strict=True):
            phi.add_incoming(value, self.builder.block)


def _joined(builder, *edges):
    """Return the phi of (value, block) edges."""
    phi = builder.phi(edges[0][0].type)
    for value, block in edges:
        phi.add_incoming(value, block)
    return phi
