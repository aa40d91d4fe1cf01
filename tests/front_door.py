"""A row of the conformance table through the public functions of `pagnp.ops`."""

from pagnp import ops


def _window(case, args):
    names = [name for name in ("stride", "padding", "dilation", "groups") if name in args]
    return {name: args[name] for name in names}


def _conv(args):
    return {name: args[name] for name in ("scale", "shift", "bias", "residual", "relu")}


def _ceil(case):
    return {"ceil_mode": bool(case.get("ceil_mode"))}


FRONT_DOOR = {
    "conv2d": lambda case, a, shape: (
        (a["x"], a["weight"]),
        {**_conv(a), **_window(case, a), "sites": a["sites"]},
    ),
    "conv_transpose2d": lambda case, a, shape: (
        (a["x"], a["weight"]),
        {**_conv(a), **_window(case, a), "output_padding": case.get("output_padding", 0)},
    ),
    "max_pool2d": lambda case, a, shape: ((a["x"], a["kernel"]), {**_window(case, a), **_ceil(case)}),
    "avg_pool2d": lambda case, a, shape: (
        (a["x"], a["kernel"]),
        {**_window(case, a), **_ceil(case), "count_include_pad": a["count_include_pad"]},
    ),
    "bilinear": lambda case, a, shape: ((a["x"],), {"size": shape[1:3], "align_corners": a["align_corners"]}),
    "nearest": lambda case, a, shape: ((a["x"],), {"size": shape[1:3]}),
    "gate": lambda case, a, shape: (
        (a["z"],),
        {**{name: value for name, value in a.items() if name != "z"}, "index": case.get("index")},
    ),
    "grow_mask": lambda case, a, shape: ((a["mask"], shape[1:], a["kernel"]), _window(case, a)),
    "gumbel_noise": lambda case, a, shape: (shape, a),
}


def call_front_door(case, arrangement, backend):
    """Return the public function's answer to the row's arrays."""
    args = arrangement.args
    positional, named = FRONT_DOOR.get(case.op, lambda case, a, shape: (tuple(a.values()), {}))(
        case, args, arrangement.shape
    )
    return getattr(ops, case.op)(*positional, **named, backend=backend)
