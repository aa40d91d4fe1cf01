"""The kernels that a CUDA source declares, held against their signatures; functions through which they are called."""

import re

KINDS = {
    **{"float": "f32", "double": "f64", "int": "i32", "long long": "i64"},
    **{"unsigned": "u32", "unsigned int": "u32", "unsigned long long": "u64", "unsigned char": "u8"},
}
C_TYPES = {kind: name for name, kind in KINDS.items() if name != "unsigned int"}
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)')


class SignatureError(Exception):
    """A kernel's declaration and its signature disagree."""


def kernels_declared(text):
    """Return name -> ((type, name), ...) of the kernels in a preprocessed source."""
    return {name: tuple(_parameter(name, part) for part in inside.split(",")) for name, inside in _KERNEL.findall(text)}


def _parameter(kernel, text):
    """Return ("f32*", "x") of "const float* __restrict__ x"."""
    words = re.sub(r"\b(const|__restrict__|__restrict)\b", " ", text.replace("*", " * ")).split()
    kind, name = " ".join(word for word in words[:-1] if word != "*"), words[-1]
    if kind not in KINDS or words.count("*") > 1:
        raise SignatureError(f"kernel {kernel}: parameter '{text.strip()}' is of no type of signature.py")
    return KINDS[kind] + "*" * words.count("*"), name


def mismatches(source, declared, signatures):
    """Return what is wrong with the kernels that are declared: no signature, or another one than name -> Signature."""
    problems = [f"{source}: kernel {name} has no signature" for name in sorted(declared.keys() - signatures.keys())]
    for name in sorted(declared.keys() & signatures.keys()):
        if declared[name] != tuple(signatures[name].parameters):
            here, there = (", ".join(map(" ".join, side)) for side in (declared[name], signatures[name].parameters))
            problems.append(f"{source}: kernel {name}({here}), but its signature says ({there})")
    return problems


def missing(source, declared, signatures):
    """Return a line for each signature without a kernel."""
    absent = sorted(signatures.keys() - declared.keys())
    return [f"{source}: no kernel {name}, which has a signature" for name in absent]


def entries(signatures):
    """Return C++ with one function a kernel: `entry_<name>(slots)`, each argument in a slot of 8 bytes."""
    lines = []
    for name, signature in signatures.items():
        arguments = ", ".join(
            f"pagnp_slot<{C_TYPES[kind.rstrip('*')]}{'*' if kind.endswith('*') else ''}>(slots, {i})"
            for i, (kind, _) in enumerate(signature.parameters)
        )
        lines.append(f"PAGNP_ENTRY void entry_{name}(const void* slots) {{ {name}({arguments}); }}")
    return "\n".join(lines) + "\n"
