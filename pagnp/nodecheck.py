"""Is a node well formed: its attributes, weight roles, number and kinds of inputs, against its row of opset.OPS."""

from pagnp.opset import OPS, fail


def check_attrs(node):
    """Raise GraphError if `node` has missing, unknown or wrong attributes or weight roles."""
    spec = OPS[node.op]
    known = {name.rstrip("?"): check for name, check in spec.attrs.items()}
    for name in spec.attrs:
        if not name.endswith("?") and name not in node.attrs:
            fail(node, f"attribute '{name}' is missing")
    for name, value in node.attrs.items():
        if name not in known:
            fail(node, f"unknown attribute '{name}'; it knows {', '.join(known) or 'none'}")
        if not known[name](value):
            fail(node, f"attribute '{name}' cannot be {value!r}")
    roles = {role.rstrip("?") for role in spec.roles}
    for role in spec.roles:
        if not role.endswith("?") and role not in node.weights:
            fail(node, f"weight '{role}' is missing")
    for role in node.weights:
        if role not in roles:
            fail(node, f"unknown weight role '{role}'; it knows {', '.join(sorted(roles)) or 'none'}")
    _check_operands(node, spec)


def _check_operands(node, spec):
    """Check the number of inputs, and the attributes that depend on it."""
    least, most = spec.inputs
    if not least <= len(node.inputs) <= most:
        fail(node, f"has {len(node.inputs)} inputs, need {least} to {most}")
    if "value?" in spec.attrs and (len(node.inputs) == 1) != ("value" in node.attrs):
        fail(node, "needs a second input or the attribute 'value', not both")
    sources = (len(node.inputs) == 2) + ("scale" in node.attrs) + ("size" in node.attrs)
    if node.op in ("bilinear", "nearest") and sources != 1:
        fail(node, "needs exactly one of a second input, 'scale' and 'size'")
    if "padding" in node.attrs and "kernel" in node.attrs:
        _check_pool_padding(node)
    if ("scale" in node.weights) != ("shift" in node.weights) or ("scale" in node.weights and "bias" in node.weights):
        fail(node, "scale and shift come together and without bias")


def _check_pool_padding(node):
    """Refuse paddings as wide as the window: a window could lie wholly in them."""
    dilation = node.attrs.get("dilation", (1, 1))
    for axis, sides in ((0, node.attrs["padding"][:2]), (1, node.attrs["padding"][2:])):
        if max(sides) >= dilation[axis] * (node.attrs["kernel"][axis] - 1) + 1:
            fail(node, f"padding {list(node.attrs['padding'])} is as wide as the window: no real pixel in it")


def check_kinds(node, kinds):
    """Raise GraphError if the inputs' `kinds` do not fit `node`."""
    spec = OPS[node.op]
    for place, kind in enumerate(kinds):
        need = spec.kinds[min(place, len(spec.kinds) - 1)]
        if need == "control":
            if kind == "tensor":
                fail(node, f"input '{node.inputs[place]}' is a tensor; a select is steered by a mask or an index")
            if kind == "mask" and len(kinds) != 3:
                fail(node, f"a mask chooses between 2 branches, there are {len(kinds) - 1}")
        elif need != "any" and kind != need:
            fail(node, f"input '{node.inputs[place]}' is a {kind}, need a {need}")
    if node.op == "compare":
        _check_compared(node, kinds)


def _check_compared(node, kinds):
    if "mask" in kinds or len(set(kinds)) > 1:
        fail(node, f"compares a {' with a '.join(kinds)}; need tensors or indices")
    value = node.attrs.get("value", 0)
    if kinds[0] == "index" and (value % 1 or not -(2**31) <= value < 2**31):
        fail(node, f"an index is compared with a whole number of 32 bits, not {value}")
