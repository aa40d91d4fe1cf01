"""The CUDA sources compiled by NVRTC for real architectures, without a GPU: instructions, registers, spills."""

import struct

import cuda_ptx
import pytest
from fake_cupy import require_nvrtc

from pagnp.backends.cupy_raw import nvrtc
from pagnp.backends.gpu import SIGNATURES
from pagnp.backends.gpu.signature import CUPY

require_nvrtc()

WANTED = {name for name, signature in SIGNATURES.items() if CUPY in signature.backends}
KNOWN = [arch for arch in cuda_ptx.ARCHS if int(arch[3:]) in nvrtc.architectures()]


@pytest.mark.parametrize("arch", KNOWN)
@pytest.mark.parametrize("source", cuda_ptx.SOURCES)
def test_instructions_registers_and_spills(source, arch):
    found = [
        problem
        for kernel in cuda_ptx.kernels(source, arch).values()
        for problem in cuda_ptx.problems(kernel, SIGNATURES[kernel.name].parameters)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("arch", KNOWN)
def test_every_kernel_was_looked_at(arch, capsys):
    names = [name for source in cuda_ptx.SOURCES for name in cuda_ptx.kernels(source, arch)]
    assert sorted(names) == sorted(WANTED)
    with capsys.disabled():
        print(f"\nPTX of {len(names)} kernels of {len(cuda_ptx.SOURCES)} sources, compiled for {arch}")


@pytest.mark.parametrize("source", cuda_ptx.SOURCES)
def test_the_oldest_architecture(source):
    """No machine code: that would take as long as for the others, and no GPU of it is young."""
    ptx = nvrtc.compile_sources(nvrtc.read_sources(source), f"compute_{nvrtc.OLDEST}").ptx
    assert cuda_ptx.entries(ptx) and not cuda_ptx.forbidden(ptx)


def test_every_source_has_kernels():
    """A .cu that no signature names would be neither compiled nor looked at."""
    assert {path.stem for path in nvrtc.source_folder().glob("*.cu")} == set(cuda_ptx.SOURCES)


@pytest.mark.parametrize("source", cuda_ptx.SOURCES)
def test_no_kernel_leaves_a_product_and_a_sum_to_the_compiler(source):
    assert cuda_ptx.fusing_changes(nvrtc.read_sources(source), cuda_ptx.kernels(source, "sm_90")) == []


def test_what_ptxas_is_asked_to_tell_does_not_change_the_code():
    sources = nvrtc.read_sources("conv2d")
    told = nvrtc.compile_sources(sources, "sm_90", (*nvrtc.OPTIONS, "--ptxas-options=-v"))
    untold = nvrtc.compile_sources(sources, "sm_90")
    assert told.ptx == untold.ptx and machine_code(told.cubin) == machine_code(untold.cubin)
    assert sum(map(len, machine_code(untold.cubin))) > 1000
    assert machine_code(nvrtc.compile_sources(sources, "sm_80").cubin) != machine_code(untold.cubin)


def machine_code(cubin):
    """Return the executable sections of a 64-bit ELF file; its notes hold the compiler's options."""
    assert cubin[:5] == b"\x7fELF\x02"
    start, size, count = *struct.unpack_from("<Q", cubin, 40), *struct.unpack_from("<HH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQ", cubin, start + i * size) for i in range(count)]
    return [cubin[offset : offset + length] for _, _, flags, _, offset, length in sections if flags & 4]


# Kernels that are wrong on purpose: name, what is done with x[i] and y[i], a word of the complaint.
BAD = (
    ("blend_plain", "out[i] = x[i] * y[i] + out[i];", "no fma.rn.f32"),
    ("blend_rounded_twice", "out[i] = __fadd_rn(__fmul_rn(x[i], y[i]), out[i]);", "no fma.rn.f32"),
    ("relu_by_max", "out[i] = fmaxf(x[i], 0.0f);", "loses NaN"),
    ("add_atomic", "atomicAdd(out, x[i]);", "is atomic"),
    ("div_fast", "out[i] = __fdividef(x[i], y[i]);", "is approximate"),
    ("exp_of_the_library", "out[i] = expf(x[i]);", "is approximate"),
    ("log_fused", "out[i] = (float)__fma_rn((double)x[i], 3.0, 1.0);", "fuses in float64"),
    ("sub_down", "out[i] = __fsub_rd(x[i], y[i]);", "round to nearest"),
    ("add_fused", "out[i] = __fmaf_rn(x[i], y[i], out[i]);", "where none is meant"),
    ("mul_half", 'asm volatile("{.reg .b16 h; cvt.rn.f16.f32 h, 0f3F800000;}");', "lower precision"),
)


def bad_sources(name, body):
    text = f"""extern "C" __global__ void {name}(const float* x, const float* y, float* out) {{
        const int i = threadIdx.x;
        {body}
    }}"""
    return {"bad.cu": text.encode()}


@pytest.mark.parametrize(("name", "body", "complaint"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_kernel_is_found(name, body, complaint):
    kernel = cuda_ptx.compiled("bad", bad_sources(name, body), "sm_90")[name]
    assert any(complaint in problem for problem in cuda_ptx.problems(kernel)), cuda_ptx.problems(kernel)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("out[i] = x[i] * y[i] + out[i];", "fma.rn.f32, where none is meant"),
        ("out[i] = x[i] + y[i];", "no rounding mode"),
        ("out[i] = x[i] * y[i];", "no rounding mode"),
        ("out[i] = (float)((double)x[i] * 3.0);", "no rounding mode"),
    ],
)
def test_a_compiler_that_may_fuse_is_found(body, complaint):
    sources = bad_sources("plain", body)
    kernel = cuda_ptx.compiled("bad", sources, "sm_90", ["--std=c++17"])["plain"]
    assert any(complaint in problem for problem in cuda_ptx.problems(kernel)), cuda_ptx.problems(kernel)
    assert cuda_ptx.fusing_changes(sources, cuda_ptx.compiled("bad", sources, "sm_90")) == ["plain"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((*nvrtc.OPTIONS, "-ftz=true"), "flushes"),  # what CuPy does
        (("--use_fast_math",), "flushes"),
        ((*nvrtc.OPTIONS, "--prec-div=false"), "is approximate"),
        ((*nvrtc.OPTIONS, "--prec-sqrt=false"), "is approximate"),
    ],
)
def test_options_that_break_the_bits_are_found(options, complaint):
    """Intrinsics keep the rounding, but nothing in the source can keep subnormal numbers."""
    body = "out[i] = sqrtf(x[i] / y[i]);"
    kernel = cuda_ptx.compiled("bad", bad_sources("root", body), "sm_90", options)["root"]
    assert any(complaint in problem for problem in cuda_ptx.problems(kernel)), cuda_ptx.problems(kernel)
    if complaint == "flushes":
        conv = cuda_ptx.compiled("conv2d", nvrtc.read_sources("conv2d"), "sm_90", options)["conv2d_f32_plain"]
        assert any(complaint in problem for problem in cuda_ptx.problems(conv))


def test_spills_and_too_many_registers_are_found():
    body = "float v[64]; for (int k = 0; k < 64; ++k) v[k] = x[i + k];\n"
    body += "for (int n = 0; n < 9; ++n) for (int k = 0; k < 64; ++k) v[k] = __fadd_rn(v[k], y[(n * 64 + k) * i]);\n"
    body += "#pragma unroll\nfor (int k = 0; k < 64; ++k) out[i + k] = v[k];"
    text = bad_sources("add_many", body)["bad.cu"].replace(
        b"void add_many", b"void __launch_bounds__(1024, 2) add_many"
    )
    kernel = cuda_ptx.compiled("bad", {"bad.cu": text}, "sm_90")["add_many"]
    assert kernel.threads == 1024 and kernel.registers <= 32
    assert any("spills" in problem for problem in cuda_ptx.problems(kernel))
    wide = cuda_ptx.Kernel("bad", "add_wide", kernel.ptx, 512, 200, 0, 0, 0)
    assert any("200 registers" in problem for problem in cuda_ptx.problems(wide))


def test_other_parameters_are_found():
    kernel = cuda_ptx.compiled("bad", bad_sources("add_two", "out[i] = __fadd_rn(x[i], y[i]);"), "sm_90")["add_two"]
    pointers = (("f32*", "x"), ("f32*", "y"), ("f32*", "out"))
    assert not cuda_ptx.problems(kernel, pointers)
    for other in (pointers[:2], (*pointers[:2], ("i32", "out"))):
        assert any("parameters of" in problem for problem in cuda_ptx.problems(kernel, other))
