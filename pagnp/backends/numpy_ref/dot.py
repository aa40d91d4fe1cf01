"""The dot-product rule of the contract: fma chains of 128 terms, block totals added in order."""

from pagnp.contract import BLOCK


def blocked_dot(terms, chain, shape):
    """Return the float32 sum of the products in `terms`, in their order.

    terms    iterable of (weight, x): float64 arrays holding float32 values, broadcasting to `shape`
    chain    Chain with room for `shape`
    returns  float32 array of `shape`; a buffer of `chain`, or a new array. +0 if there are no terms.
    """
    total = None
    steps = 0
    chain.restart(shape)
    for weight, x in terms:
        if steps == BLOCK:
            total = chain.value.copy() if total is None else total + chain.value
            chain.restart(shape)
            steps = 0
        chain.step(weight, x)
        steps += 1
    return chain.value if total is None else total + chain.value
