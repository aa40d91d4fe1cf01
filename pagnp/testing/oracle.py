"""The independent oracle of `pagnp-bits/1`: scalar, slow, exact, written from the rules; it imports no backend.

`element(op, index, shape, args)` computes one output element of any op. Sums and single operations are exact
rationals rounded once a step (oracle_scalar.py), so they must agree with a backend to the bit. exp, exp10, log and
sigmoid (`MEASURED`) are the true values correctly rounded: the engine's routines may be one ULP off there, never more,
and never farther from the true value than `contract.CONTRACT` says. The Gumbel noise of the engine is correctly rounded
for every word that there is (tools/check_noise.py), so it must agree to the bit. Ops that use exp or log inside take
the engine's own routine, so that everything around it is held to the bit.
"""

from pagnp.testing import oracle_conv, oracle_gate, oracle_pointwise, oracle_spatial

MEASURED = ("exp", "exp10", "log", "sigmoid")  # one ULP from the correctly rounded value
ROUTINES = {"softmax": ("exp",), "gate": ("exp", "log")}  # what an op takes from the engine

ORACLE = {
    **{op: getattr(oracle_conv, op) for op in ("conv2d", "conv_transpose2d", "bilinear_deconv")},
    **{
        op: getattr(oracle_spatial, op)
        for op in ("max_pool2d", "avg_pool2d", "bilinear", "nearest", "concat", "pad", "slice_channels")
    },
    **{
        op: getattr(oracle_pointwise, op)
        for op in (
            *("add", "sub", "mul", "div", "relu", "sigmoid", "exp", "exp10", "log", "norm", "compare"),
            *("softmax", "argmax", "l2_normalize", "global_mean"),
        )
    },
    **{
        op: getattr(oracle_gate, op)
        for op in (
            *("gate", "select", "blend", "masked", "mask_to_sites", "grow_mask", "gather", "scatter"),
            *("gumbel_noise", "philox4x32"),
        )
    },
}


def element(
    op: str,
    index: tuple[int, ...],
    shape: tuple[int, ...],
    args: dict,
    routines: dict | None = None,
) -> object:
    """Return one element of the output of `op`, or None where the op does not write it.

    index     place in the output
    shape     the output's shape
    args      the kernel's arguments by name, without `out`
    routines  {"exp": float -> float, "log": float -> float}: the engine's, for ops that use them inside
    """
    own = {name: routines[name] for name in ROUTINES.get(op, ()) if routines}
    return ORACLE[op](index, shape, **args, **own)
