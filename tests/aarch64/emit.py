"""The vector code of the Numba backend as an AArch64 object file, made on any machine whose llvmlite knows the target.

Importing this module makes the kernel modules believe in an AArch64 CPU, so it must come before them, in a process of
its own. The kernels are what Numba would make there: the same intrinsics, through the same optimiser.

    python tests/aarch64/emit.py FOLDER

writes <cpu>.s for each of CPUS, "tile too large.s", <mistake>.o for each of MISTAKES, and shapes.json: the
(pixels, width, lanes) of the tiles by function.
"""

import json
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core.codegen import CPUCodegen

CPUS = ("generic", "cortex-a76", "neoverse-n1")  # LLVM's models order the instructions differently: registers run out
TRIPLE = "aarch64-unknown-linux-gnu"
CPUCodegen.magic_tuple = lambda self: (TRIPLE, "generic", "+fp-armv8,+neon")
numba.config.DISABLE_JIT = 1  # the drivers stay Python functions: `emulate` runs them here

from pagnp.backends.numba_cpu import microkernel, narrowkernel, rowkernel, scalar_fma, vectorcode  # noqa: E402

numba.config.DISABLE_JIT = 0  # or the backend refuses to be made

F32, I64 = vectorcode.F32, vectorcode.I64
LANES = microkernel.TILES[0][2]
TILE_KERNELS = {
    **{f"tile_steps_{i}": kernel for i, kernel in enumerate(microkernel.tile_steps)},
    "tile_epilogue": microkernel.tile_epilogue,
    **{f"narrow_steps_{i}": kernel for i, kernel in enumerate(narrowkernel.narrow_steps)},
    "row_steps": rowkernel.row_steps,
}


def _fused(code, a, b, c):
    return code.fma(a, b, c)


def _unfused(code, a, b, c):
    return code.builder.fadd(code.builder.fmul(a, b), c)


def _emulated(code, a, b, c):
    return code._fma_emulated(a, b, c)


def _scalar(code, a, b, c):
    """The fma of jitted code."""
    assert scalar_fma.fma32 is scalar_fma.fma32_hardware
    return _generate(scalar_fma.fma32, code.builder, (a, b, c))


# name of a loop over arrays: lanes, the operation
FMA_KERNELS = {
    "fma_jitted": (1, _scalar),
    "fma_1": (1, _fused),
    f"fma_{LANES}": (LANES, _fused),
    "fma_emulated_1": (1, _emulated),
    f"fma_emulated_{LANES}": (LANES, _emulated),
}
NAMES = (*TILE_KERNELS, *FMA_KERNELS)  # a kernel's number in `kernels` is its place here

# The code as it is, and with one mistake planted that shows in the bits: [(object, attribute, value)]
_WITH_BLOCKS = (microkernel, narrowkernel, rowkernel)
MISTAKES = {
    "none": [],
    "unfused": [(vectorcode.VectorCode, "fma", _unfused)],
    "chains of 129": [(module, "BLOCK", 129) for module in _WITH_BLOCKS],
}
TOO_LARGE = [(rowkernel, "ROW_TILE", (16, 8, 4))]  # 32 accumulators: of 32 registers none is left


class _Context:
    """What the intrinsics ask of Numba's target context."""

    def get_dummy_value(self):
        return ir.Constant(I64, 0)


def _generate(intrinsic, builder, arguments):
    """Emit a call of a Numba intrinsic as Numba would; return its result."""
    signature, generate = intrinsic._defn(None, *[None] * len(arguments))
    return generate(_Context(), builder, signature, arguments)


def arity(intrinsic):
    """Return how many int64 arguments an intrinsic of the kernels takes."""
    return intrinsic._defn.__code__.co_argcount - 1


def build_module():
    """Return an ir.Module whose array `kernels` has, in the order of NAMES, functions of the address of their int64."""
    module = ir.Module("kernels")
    module.triple = TRIPLE
    kind = ir.FunctionType(ir.VoidType(), [I64])
    functions = []
    for name in NAMES:
        function = ir.Function(module, kind, f"call_{name}")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        count = arity(TILE_KERNELS[name]) if name in TILE_KERNELS else 5
        code = vectorcode.VectorCode(builder, 1)
        arguments = [code.load_int(function.args[0], 8 * i) for i in range(count)]
        if name in TILE_KERNELS:
            _generate(TILE_KERNELS[name], builder, arguments)
        else:
            _emit_fma_loop(builder, arguments, *FMA_KERNELS[name])
        builder.ret_void()
        functions.append(function)
    table = ir.GlobalVariable(module, ir.ArrayType(kind.as_pointer(), len(NAMES)), "kernels")
    table.initializer = ir.Constant(table.value_type, functions)
    return module


def _emit_fma_loop(builder, arguments, lanes, operation):
    """Emit out[i] = a[i] * b[i] + c[i] for (count, a, b, c, out); count is a multiple of `lanes`."""
    code = vectorcode.VectorCode(builder, lanes)
    with code.repeat(*arguments) as loop:
        left, *inputs, out = loop.values
        code.store(operation(code, *(code.load(address) for address in inputs)), out)
        after = (builder.add(address, I64(4 * lanes)) for address in (*inputs, out))
        loop.again(builder.sub(left, I64(lanes)), *after)


def compiled(module, cpu, kind):
    """Return the assembly (str) or the object file (bytes) of an ir.Module for `cpu`, optimised as by Numba."""
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, opt=3, reloc="pic")
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed) if kind == "assembly" else machine.emit_object(parsed)


def module_with(changes):
    """Return the module of kernels made with `changes`, of which nothing remains."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    module = build_module()
    for owner, name, value in before:
        setattr(owner, name, value)
    return module


def shapes():
    """Return {function: (pixels, width, lanes)} of the functions with an inner loop over steps."""
    found = {f"pagnp_tile_steps_{s[0]}x{s[1]}": s for s in microkernel.TILES}
    found |= {f"pagnp_narrow_steps_{s[0]}x{s[1]}": s for s in narrowkernel.NARROW_TILES}
    return found | {"pagnp_row_steps": rowkernel.ROW_TILE}


def main(folder):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    (folder / "shapes.json").write_text(json.dumps(shapes()))
    for cpu in CPUS:
        (folder / f"{cpu}.s").write_text(compiled(build_module(), cpu, "assembly"))
    (folder / "tile too large.s").write_text(compiled(module_with(TOO_LARGE), "generic", "assembly"))
    for mistake, changes in MISTAKES.items():
        (folder / f"{mistake}.o").write_bytes(compiled(module_with(changes), "generic", "object"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
