"""Random MultiPools: hard ones are every conv everywhere and a select, soft ones a blend, on every backend, to the bit.

pytest tests/test_random_multipool.py --conformance 200000   # 5000 of them, from seed 0 on
"""

import numpy as np
import pytest
from conftest import BACKENDS, TALLY, load_backend, seeds

from pagnp import ops
from pagnp.contract import compare
from pagnp.testing import fills
from pagnp.testing.random_cases_draw import FILLS, Draw, map_sizes

SHORT, AT_A_TIME, SHARE = 40, 40, 40


def pytest_generate_tests(metafunc):
    if "batch" in metafunc.fixturenames:
        batches = seeds(metafunc.config, SHORT, SHARE, AT_A_TIME)
        metafunc.parametrize("batch", batches, ids=[f"{first}..{stop - 1}" for first, stop in batches])


def random_multipool(seed):
    """Return the arguments (x, index, probabilities, rates, weights, scales, shifts, relu) of a seed."""
    draw = Draw(seed, 2)
    fill, sizes = draw.pick(FILLS), map_sizes(draw, False, (1, 2, 3, 5, 7, 15, 16, 17, 33), 1500)
    n, c, h, w = sizes.values()
    rates = [draw.pick((0, 1, 1, 2, 4, 8)) for _ in range(draw.number(2, 5))]
    k, tied, normed = draw.pick((1, 3, 3, 3, 5)), draw.one_in(2), draw.one_in(2)
    weights, scales, shifts = [], [], []
    for i, rate in enumerate(rates):
        weight = fills.fill(fill, seed, 1 if tied else 100 + i, (k, k, c, c))
        affine = [fills.fill(fill, seed, role + i, (c,)) if normed and rate else None for role in (200, 300)]
        weights.append(weight if rate else None)
        scales.append(affine[0])
        shifts.append(affine[1])
    x, p = fills.fill(fill, seed, 0, (n, h, w, c)), fills.fill("normal", seed, 40, (n, h, w, len(rates)))
    index = fills.whole(seed, 80, (n, h, w), len(rates)).astype(np.int32)
    return x, index, p, rates, weights, scales, shifts, draw.one_in(2)


def everywhere(x, rates, weights, scales, shifts, relu, backend):
    """Return every branch, computed at every pixel."""
    branches = []
    for rate, weight, scale, shift in zip(rates, weights, scales, shifts, strict=True):
        if rate:
            place = {"padding": rate * (weight.shape[0] // 2), "dilation": rate}
            branches.append(ops.conv2d(x, weight, scale=scale, shift=shift, relu=relu, **place, backend=backend))
        else:
            branches.append(x)
    return branches


def problems_of(seed):
    """Return what differs between a MultiPool and its parts, in words."""
    x, index, p, rates, weights, scales, shifts, relu = random_multipool(seed)
    branches = everywhere(x, rates, weights, scales, shifts, relu, "numpy")
    wanted, found = {"hard": ops.select(index, branches), "soft": ops.blend(p, branches)}, []
    for backend in [load_backend(name, threads) for name in BACKENDS for threads in (1, 2)]:
        norms = {"scales": scales, "shifts": shifts, "relu": relu, "backend": backend}
        for kind, control in (("hard", index), ("soft", p)):
            difference = compare(ops.multipool(x, control, rates, weights, **norms), wanted[kind])
            if difference:
                found.append(f"seed {seed}, {backend.name}, {backend.threads} threads, {kind}: {difference}")
    return found


def test_random_multipools(batch, fine_chunks):
    failures = {seed: problems for seed in range(*batch) if (problems := problems_of(seed))}
    TALLY["multipools"] += len(range(*batch))
    TALLY["failing"] += len(failures)
    if failures:
        line = f"  pytest tests/test_random_multipool.py --conformance {SHARE} --conformance-seed {min(failures)}"
        pytest.fail("\n".join([*sum(failures.values(), []), line]), pytrace=False)


def test_the_draw_covers_ties_norms_and_copies():
    drawn = [random_multipool(seed) for seed in range(60)]
    assert {len(rates) for _, _, _, rates, *_ in drawn} == {2, 3, 4, 5}
    assert any(0 in rates for _, _, _, rates, *_ in drawn)
    normed = [any(scale is not None for scale in scales) for *_, scales, _, _ in drawn]
    assert any(normed) and not all(normed)
