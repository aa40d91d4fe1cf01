"""What NVRTC makes of the CUDA sources, looked at without a GPU. Registers and spills of all kernels as a table:

python tests/cuda_ptx.py [sm_90 ...]
"""

import functools
import re
import sys
from dataclasses import dataclass

from pagnp.backends.cupy_raw import nvrtc
from pagnp.backends.gpu import SIGNATURES
from pagnp.backends.gpu.device import BLOCK
from pagnp.backends.gpu.signature import CUPY

ARCHS = ("sm_80", "sm_90", "sm_100")  # Ampere, Hopper, Blackwell
SOURCES = tuple(dict.fromkeys(signature.source for signature in SIGNATURES.values() if CUPY in signature.backends))
FUSED = re.compile(r"conv2d_|conv_transpose2d_|norm_f32|normalize_u8|bilinear_|blend_|l2_normalize_")  # fma is meant
REGISTERS, REGISTER_FILE, WARP = 255, 65536, 32  # of a thread, of a multiprocessor (CUDA C programming guide)

# Instructions that no kernel may have. Without a rounding mode (.rn) ptxas may fuse a product and a sum all the same.
FORBIDDEN = {
    r"\.ftz\b": "flushes subnormal numbers to zero",
    r"\.approx\b|\.full\.": "is approximate",
    r"(?<![.\w])(add|sub|mul|div|fma|mad|sqrt|rcp)\.(sat\.)?f(32|64)": "has no rounding mode, so it may be fused",
    r"(?<![.\w])(add|sub|mul|div|fma|sqrt|rcp)\.r[zmp]\.": "does not round to nearest",
    r"(?<![.\w])(fma|mad)\.[\w.]*f64": "fuses in float64, where the contract rounds twice",
    r"(?<![.\w])(min|max)\.[\w.]*f32": "loses NaN and the sign of zero",
    r"(?<![.\w])(atom|red)\.": "is atomic: the order of a sum is not written",
    r"(?<![.\w])w?g?mma": "is a tensor core's, whose sums are not specified",
    r"\.f16\b|\.bf16\b|\.tf32\b": "is in lower precision",
}


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel. threads: of a block at most; stack, spilled, shared: bytes."""

    source: str
    name: str
    ptx: str
    threads: int
    registers: int
    stack: int
    spilled: int
    shared: int

    @property
    def blocks(self):
        """How many blocks of `threads` a multiprocessor has registers for."""
        per_warp = -(-self.registers // 8) * 8 * WARP
        return REGISTER_FILE // (per_warp * -(-self.threads // WARP))


@functools.cache
def kernels(source, arch):
    """Return name -> Kernel of cuda/<source>.cu, compiled as the backend does."""
    return compiled(source, nvrtc.read_sources(source), arch)


def compiled(source, sources, arch, options=nvrtc.OPTIONS):
    """Return name -> Kernel of the first of `sources`, name -> content."""
    made = nvrtc.compile_sources(sources, arch, (*options, "--ptxas-options=-v"))
    parts, said = entries(made.ptx), _told(made.log)
    return {name: Kernel(source, name, part, _threads(part), **said[name]) for name, part in parts.items()}


def entries(ptx):
    """Return name -> PTX of each kernel."""
    parts = re.split(r"\.visible \.entry (\w+)", ptx)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def problems(kernel, parameters=None):
    """Return what is wrong with a Kernel, in words; parameters: ((type, name), ...) of its signature."""
    found = forbidden(kernel.ptx)
    has, meant = bool(_lines(r"(?<![.\w])fma\.rn\.f32", kernel.ptx)), bool(FUSED.match(kernel.name))
    if has != meant:
        found.append("no fma.rn.f32, which is meant" if meant else "fma.rn.f32, where none is meant")
    if ".func" in kernel.ptx:
        found.append("calls a function, whose code is not looked at")
    if kernel.registers > REGISTERS or not kernel.blocks:
        found.append(f"{kernel.registers} registers with blocks of {kernel.threads} threads")
    if kernel.spilled:
        found.append(f"spills {kernel.spilled} bytes of registers to memory")
    if parameters is not None and _widths(kernel.ptx) != [_bits(kind) for kind, _ in parameters]:
        found.append(f"parameters of {_widths(kernel.ptx)} bits, {[_bits(kind) for kind, _ in parameters]} in gpu/")
    return [f"{kernel.name}: {problem}" for problem in found]


def forbidden(ptx):
    """Return the instructions that no kernel may have, with what is wrong with them."""
    return [f"'{line}' {why}" for rule, why in FORBIDDEN.items() for line in _lines(rule, ptx)[:2]]


def fusing_changes(sources, unfused):
    """Return the kernels whose PTX for sm_90 depends on --fmad: a product and a sum that are no explicit instructions.

    unfused  name -> Kernel, compiled as the backend does
    """
    options = [option for option in nvrtc.OPTIONS if not option.startswith("--fmad")]
    fused = entries(nvrtc.compile_sources(sources, "compute_90", options).ptx)
    return [name for name, kernel in unfused.items() if kernel.ptx != fused[name]]


def _lines(rule, ptx):
    return [line.strip() for line in ptx.splitlines() if re.search(rule, line)]


def _widths(ptx):
    """Return the bits of each parameter of a kernel's PTX, which begins with the list of them."""
    return [int(bits) for bits in re.findall(r"\.param\s+\.[a-z](\d+)", ptx[: ptx.index(")")])]


def _bits(kind):
    return 64 if kind.endswith("*") else int(kind[1:])


def _threads(ptx):
    """Return the greatest number of threads that a kernel says it is launched with, else that of all others."""
    said = re.search(r"\.maxntid\s+(\d+)", ptx)
    return int(said[1]) if said else BLOCK


def _told(log):
    """Return name -> registers, stack, spilled and shared bytes, as ptxas -v says."""
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        number = {
            "registers": r"Used (\d+) registers",
            "stack": r"(\d+) bytes stack frame",
            "spilled": r"(\d+) bytes spill (?:stores|loads)",
            "shared": r"(\d+) bytes smem",
        }
        found[part[: part.index("'")]] = {
            name: sum(int(value) for value in re.findall(pattern, part)) for name, pattern in number.items()
        }
    return found


def main(archs):
    """Print the table."""
    columns = ("threads", "registers", "blocks", "shared", "stack", "spilled")
    print(f"{'arch':<7} {'kernel':<32}" + "".join(f"{column:>10}" for column in columns))
    for arch in archs or ARCHS:
        for source in SOURCES:
            for k in kernels(source, arch).values():
                numbers = "".join(f"{getattr(k, column):>10}" for column in columns)
                print(f"{arch:<7} {k.name:<32}{numbers}  {'; '.join(problems(k))}".rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
