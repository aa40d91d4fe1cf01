"""What a compiler wrote for AArch64: functions, their innermost loops, and what is in them."""

import re

_LABEL = re.compile(r"(\.L\w+|\w+):")
_BRANCH = re.compile(r"\s+(?:b|b\.\w+|cbn?z|tbn?z)\s(?:.*\s)?(\.L\w+)")
_CALL = re.compile(r"\s+bl\s+(\w+)")
STACK, VECTOR_FMA = re.compile(r"\[sp\b"), re.compile(r"\s+fmla\s+v\d+\.4s")


def functions(assembly):
    """Return {name: lines} of the functions."""
    found, name = {}, None
    for line in assembly.splitlines():
        label = _LABEL.match(line)
        if line.startswith(".Lfunc_end"):
            name = None
        elif label and not line.startswith("."):
            name = label[1]
            found[name] = []
        elif name is not None:
            found[name].append(line)
    return {name: lines for name, lines in found.items() if any(line.strip() == "ret" for line in lines)}


def innermost_loops(lines):
    """Return the lines of each loop of a function in which there is no other: from a label to a branch back to it."""
    places = {label[1]: i for i, line in enumerate(lines) if (label := _LABEL.match(line))}
    jumps = [(places[jump[1]], i) for i, line in enumerate(lines) if (jump := _BRANCH.match(line))]
    loops = {(start, stop) for start, stop in jumps if start < stop}
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [lines[start : stop + 1] for start, stop in sorted(inner)]


def count(pattern, lines):
    return sum(bool(pattern.search(line)) for line in lines)


def calls(lines):
    """Return the names of the functions that are called."""
    return {call[1] for line in lines if (call := _CALL.match(line))}
