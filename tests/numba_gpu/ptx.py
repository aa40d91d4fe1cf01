"""What Numba and NVVM make of the backend's kernels, looked at without a GPU. Registers and spills as a table:

python tests/numba_gpu/ptx.py [9.0 ...]
"""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cuda_ptx  # noqa: E402
from numba import types  # noqa: E402
from numba.cuda import compiler  # noqa: E402

from pagnp.backends.gpu import SIGNATURES, kernels_of  # noqa: E402
from pagnp.backends.gpu.device import BLOCK  # noqa: E402
from pagnp.backends.gpu.signature import NUMBA  # noqa: E402
from pagnp.backends.numba_cuda.launching import DTYPES, function_of  # noqa: E402

CAPABILITIES = ((8, 0), (9, 0), (10, 0))  # Ampere, Hopper, Blackwell
KERNELS = kernels_of(NUMBA)
ARRAY = 7  # parameters of an array: two owners, elements, bytes of one, address, shape, strides


def types_of(parameters):
    """Return Numba's types of ((type, name), ...)."""
    scalars = [getattr(types, DTYPES[kind.rstrip("*")].name) for kind, _ in parameters]
    return tuple(
        types.Array(scalar, 1, "C") if kind.endswith("*") else scalar
        for scalar, (kind, _) in zip(scalars, parameters, strict=True)
    )


def library(function, parameters):
    """Return what Numba makes of a function decorated by @kernel: what cuda.compile_ptx has before there is PTX."""
    return compiler._compile_pyfunc_with_fixup(
        function.py_func,
        types_of(parameters),
        device=False,
        abi="numba",
        cc=CAPABILITIES[0],
        fastmath=function.targetoptions["fastmath"],
        launch_bounds=function.targetoptions.get("launch_bounds"),
    )[0]


@functools.cache
def kernel_library(name):
    """Return the library of one of the backend's kernels."""
    return library(function_of(name), SIGNATURES[name].parameters)


def text_of(made, capability):
    """Return the PTX of a library."""
    return "\n".join(made.get_asm_strs(cc=capability))


def fusing_changes(made, capability=(9, 0)):
    """Return whether the PTX depends on NVVM's leave to fuse: on a product and a sum that are no explicit calls."""
    fused, options = text_of(made, capability), made._nvvm_options
    made._ptx_cache.clear()
    made._nvvm_options = {**options, "fma": False}
    unfused = text_of(made, capability)
    made._ptx_cache.clear()
    made._nvvm_options = options
    return fused != unfused


def assembled(name, ptx, capability):
    """Return the cuda_ptx.Kernel of some PTX; without ptxas its registers and spills are unknown, and count as none."""
    entry = re.search(r"\.visible \.entry (\w+)", ptx)[1]
    body = ptx[ptx.index(entry) :].replace(entry, name)
    threads = re.search(r"\.maxntid\s+(\d+)", body)
    said = {"registers": 1, "stack": 0, "spilled": 0, "shared": 0}
    if shutil.which("ptxas"):
        command = ["ptxas", "-v", f"-arch=sm_{capability[0]}{capability[1]}", "-o", "/dev/null", "-"]
        done = subprocess.run(command, input=ptx, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr}")
        said = cuda_ptx._told(done.stderr)[entry]
    return cuda_ptx.Kernel(
        SIGNATURES[name].source if name in SIGNATURES else "bad",
        name,
        body,
        int(threads[1]) if threads else BLOCK,
        **said,
    )


def problems(kernel, parameters):
    """Return what is wrong with a Kernel, in words."""
    found = cuda_ptx.problems(kernel)
    wanted = sum(ARRAY if kind.endswith("*") else 1 for kind, _ in parameters)
    if len(cuda_ptx._widths(kernel.ptx)) != wanted:
        found.append(f"{kernel.name}: {len(cuda_ptx._widths(kernel.ptx))} parameters, want {wanted}")
    return found


def inner_loop(ptx):
    """Return the lines of the basic block with the most fma."""
    return max(re.split(r"\n(?=\$L__BB)", ptx), key=lambda block: block.count("fma.rn.f32")).splitlines()


def main(wanted):
    """Print the table."""
    columns = ("threads", "registers", "blocks", "shared", "stack", "spilled")
    print(f"{'cc':<5} {'kernel':<28}" + "".join(f"{column:>10}" for column in columns))
    for name in KERNELS:
        for capability in CAPABILITIES:
            listed = ".".join(map(str, capability))
            if not wanted or listed in wanted:
                k = assembled(name, text_of(kernel_library(name), capability), capability)
                numbers = "".join(f"{getattr(k, column):>10}" for column in columns)
                wrong = "; ".join(problems(k, SIGNATURES[name].parameters))
                print(f"{listed:<5} {name:<28}{numbers}  {wrong}".rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
