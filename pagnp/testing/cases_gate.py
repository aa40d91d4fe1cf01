"""Rows of the gates, of what they steer, and of the random numbers."""

import numpy as np

from pagnp.shapes import conv2d_size
from pagnp.testing import fills
from pagnp.testing.case import Arrangement, Case, pair, sides

MODES = ("hard", "soft", "gumbel_hard", "gumbel_soft")
FORMS = ("kong2018", "torch")
MASKS = ("none", "one", "all", "random", "blobby")


def _x(case, role=0, shape=None):
    return fills.fill(case.get("fill"), case.get("seed"), role, shape or case.x_shape)


def _control(case, shape):
    """Return a mask (`control` names its kind) or an index of `branches`; with `whole_map` of shape (n, 1, 1)."""
    shape = (shape[0], 1, 1) if case.get("whole_map") else shape
    kind = case.get("control")
    if kind == "index":
        return fills.whole(case.get("seed"), 80, shape, case.get("branches")).astype(np.int32)
    return fills.mask(kind, case.get("seed"), shape)


def arrange_gate(case):
    """Return the arrays of a gate row; c_in is the number of channels of z; with `index` the answer is int32."""
    n, h, w, k_channels = case.x_shape
    mode, noise = case.get("mode"), None
    z = _x(case)
    if mode.startswith("gumbel"):
        noise = fills.fill(
            "normal", case.get("seed"), 1, (n, h, w, k_channels)[0 if case.get("noise_per_image") else 1 :]
        )
    threshold = case.get("threshold")
    args = {
        **{"z": z, "mode": mode, "form": case.get("form") or "kong2018"},
        **{"temperature": np.float32(case.get("temperature", 1.0)), "noise": noise},
        "threshold": None if threshold is None else np.float32(threshold),
    }
    if mode.endswith("soft"):
        return Arrangement(args, case.x_shape)
    return Arrangement(args, (n, h, w), bool if k_channels == 2 and not case.get("index") else np.int32)


def _branches(case):
    return [_x(case, role) for role in range(case.get("branches"))]


def arrange_select(case):
    """Return the arrays of a select row."""
    return Arrangement({"control": _control(case, case.x_shape[:3]), "branches": _branches(case)}, case.x_shape)


def arrange_blend(case):
    """Return the arrays of a blend row."""
    n, h, w, _ = case.x_shape
    shape = (n, 1, 1, case.get("branches")) if case.get("whole_map") else (n, h, w, case.get("branches"))
    return Arrangement({"p": _x(case, 40, shape), "branches": _branches(case)}, case.x_shape)


def arrange_masked(case):
    """Return the arrays of a masked row."""
    return Arrangement({"x": _x(case), "mask": _control(case, case.x_shape[:3])}, case.x_shape)


def arrange_mask_to_sites(case):
    """Return the arrays of a mask_to_sites row."""
    mask = _control(case, case.x_shape[:3])
    return Arrangement({"mask": mask}, (int(np.count_nonzero(mask)),), np.int32, returns=True)


def arrange_grow_mask(case):
    """Return the arrays of a grow_mask row: the mask lives on the conv's output, the result on its input."""
    kernel, stride, dilation = pair(case.get("k")), pair(case.get("stride")), pair(case.get("dilation"))
    n, h_in, w_in, _ = case.x_shape
    padding = sides(case.get("padding"))
    mask = _control(case, (n, *conv2d_size(h_in, w_in, kernel, stride, padding, dilation)))
    args = {"mask": mask, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return Arrangement(args, (n, h_in, w_in), bool)


def arrange_gather(case):
    """Return the arrays of a gather row."""
    sites = fills.sites(case.get("sites"), case.get("seed"), case.x_shape[:3])
    return Arrangement({"x": _x(case), "sites": sites}, (len(sites), case.get("c_in")))


def arrange_scatter(case):
    """Return the arrays of a scatter row; the pixels outside the sites stay as they were."""
    sites = fills.sites(case.get("sites"), case.get("seed"), case.x_shape[:3])
    return Arrangement({"values": _x(case, 0, (len(sites), case.get("c_in"))), "sites": sites}, case.x_shape)


def arrange_gumbel_noise(case):
    """Return the arguments of a gumbel_noise row; c_in is K."""
    y0, x0 = case.get("origin", (0, 0))
    args = {
        "seed": case.get("key"),
        "gate_index": case.get("gate_index", 0),
        "form": case.get("form"),
        "y0": y0,
        "x0": x0,
    }
    return Arrangement(args, case.x_shape[1:])


def arrange_philox4x32(case):
    """Return the arrays of a philox4x32 row; `counters` of them."""
    counter = fills.whole(case.get("seed"), 0, (case.get("counters"), 4), 1 << 32).astype(np.uint32)
    key = fills.whole(case.get("seed"), 1, (2,), 1 << 32).astype(np.uint32)
    return Arrangement({"counter": counter, "key": key}, counter.shape, np.uint32)


def _row(op, c_in, h_in, w_in, fill="normal", seed=21, **more):
    return Case(op, c_in=c_in, h_in=h_in, w_in=w_in, **more, fill=fill, seed=seed)


def _gate_rows():
    """All modes and forms, two and K channels, thresholds, ties, special values."""
    for mode in MODES:
        for form in FORMS if mode.startswith("gumbel") else (None,):
            yield from (_row("gate", k, 4, 7, seed=81, mode=mode, form=form) for k in (2, 3, 7, 16))
            yield from (_row("gate", 2, 3, 5, fill, 82, mode=mode, form=form) for fill in (*fills.FILLS, "wide"))
            yield from (
                _row("gate", 5, 3, 5, fill, 83, mode=mode, form=form) for fill in ("integers", "inf_nan", "wide")
            )
            yield from (_row("gate", 2, 1, w, "integers", 84, n=2, mode=mode, form=form) for w in (1, 7, 15, 65))
        if mode.startswith("gumbel"):
            for form in FORMS:
                yield _row("gate", 3, 4, 5, n=2, mode=mode, form=form, noise_per_image=True, seed=85)
                yield from (
                    _row("gate", 2, 3, 4, mode=mode, form=form, temperature=t, seed=86) for t in (0.97, 0.5, 0.001)
                )
    for mode in ("hard", "gumbel_hard"):  # a MultiPool of two branches: an index, not a mask
        for form in FORMS:
            yield _row("gate", 2, 3, 7, "integers", 90, mode=mode, form=form, index=True)
    for threshold in (0.0, 0.5, -0.5, 1.0, -8.0, 8.0, 0.0625):
        yield _row("gate", 2, 4, 7, "normal", 87, mode="hard", threshold=threshold)
        yield _row("gate", 2, 4, 7, "integers", 88, mode="hard", threshold=threshold)
    yield _row("gate", 2, 4, 7, "inf_nan", 89, mode="hard", threshold=0.0)
    yield _row("gate", 2, 4, 7, "signed_zeros", 89, mode="hard", threshold=0.0)


def _choice_rows():
    """select, blend, masked: masks and indices, whole maps, special values."""
    for control in MASKS:
        yield _row("select", 5, 6, 7, seed=91, branches=2, control=control)
        yield _row("masked", 5, 6, 7, seed=92, control=control)
    for k in (2, 3, 7):
        yield _row("select", 5, 4, 5, seed=93, branches=k, control="index", n=2)
        yield _row("select", 5, 4, 5, seed=94, branches=k, control="index", n=3, whole_map=True)
        yield _row("blend", 5, 4, 5, seed=95, branches=k)
        yield _row("blend", 5, 4, 5, seed=96, branches=k, n=3, whole_map=True)
    yield _row("select", 5, 4, 5, seed=97, branches=2, control="random", n=5, whole_map=True)
    yield _row("masked", 5, 4, 5, seed=97, control="random", n=5, whole_map=True)
    for fill in fills.FILLS:
        yield _row("select", 3, 3, 4, fill, 98, branches=2, control="random")
        yield _row("blend", 3, 3, 4, fill, 98, branches=3)
        yield _row("masked", 3, 3, 4, fill, 98, control="random")
    for c in (1, 2, 15, 16, 17, 33, 65):
        yield _row("select", c, 2, 3, seed=99, branches=2, control="random")
        yield _row("blend", c, 2, 3, seed=99, branches=2)
        yield _row("masked", c, 2, 3, seed=99, control="random")


def _site_rows():
    """Masks to sites and back; what a conv's sites read."""
    for control in MASKS:
        yield _row("mask_to_sites", 1, 9, 11, None, 31, n=2, control=control)
        yield _row("grow_mask", 1, 9, 11, None, 32, n=2, k=3, padding=1, control=control)
        yield _row("gather", 5, 6, 7, seed=33, n=2, sites=control)
        yield _row("scatter", 5, 6, 7, seed=34, n=2, sites=control)
    yield from (_row("mask_to_sites", 1, 1, w, None, 35, control="random") for w in (1, 7, 8, 9, 63, 64, 65))
    yield from (_row(op, c, 3, 4, seed=36, sites="random") for op in ("gather", "scatter") for c in (1, 2, 16, 17, 33))
    yield from (_row("gather", 3, 3, 4, fill, 37, sites="random") for fill in fills.FILLS)
    yield from (_row("scatter", 3, 3, 4, fill, 37, sites="random") for fill in fills.FILLS)
    windows = (
        {"k": 1},
        {"k": 3, "stride": 2, "padding": 1},
        {"k": 3, "dilation": 2, "padding": 2},
        {"k": 3, "dilation": (1, 3), "stride": (2, 1), "padding": (1, 0, 3, 2)},
        {"k": (1, 5), "padding": (0, 0, 2, 2)},
        {"k": 7, "stride": 2, "padding": 3},
        {"k": 1, "stride": 2},
        {"k": 2, "stride": 3},
        {"k": 3, "padding": (4, 4, 4, 4)},
    )
    for window in windows:
        yield from (_row("grow_mask", 1, 9, 11, None, 38, control=c, **window) for c in ("one", "random"))


def _random_rows():
    """Philox words and both forms of the Gumbel noise."""
    yield from (Case("philox4x32", counters=m, seed=s) for m, s in ((1, 41), (5, 42), (16, 43), (33, 44)))
    for form in FORMS:
        for k in (1, 2, 4, 5, 7, 8):
            yield _row("gumbel_noise", k, 3, 5, None, 45, form=form, key=7)
        yield _row("gumbel_noise", 2, 4, 6, None, 46, form=form, key=0, gate_index=3)
        yield _row("gumbel_noise", 2, 4, 6, None, 46, form=form, key=2**64 - 1, gate_index=15)
        yield _row("gumbel_noise", 2, 4, 6, None, 46, form=form, key=2**40 + 5, gate_index=1, origin=(13, 640))


def _sharp_rows():
    """Small rows where each mistake of rounding, each tie and each lost special value shows."""
    for fill in fills.SHARP:
        yield from (_row("gate", k, 4, 9, fill, 49, n=2, mode=mode) for mode in ("hard", "soft") for k in (2, 5))
        yield from (_row("gate", 2, 8, 9, fill, 49, n=2, mode="hard", threshold=t) for t in (0.0, 2.0, -2.5))
        yield _row("select", 3, 3, 9, fill, 49, n=2, branches=2, control="random")
        yield _row("select", 3, 3, 9, fill, 49, n=2, branches=3, control="index")
        yield _row("blend", 3, 3, 9, fill, 49, n=2, branches=2)
        yield _row("masked", 3, 3, 9, fill, 49, n=2, control="random")
        yield from (_row(op, 3, 5, 9, fill, 49, n=2, sites="random") for op in ("gather", "scatter"))
    for fill, temperature in (("huge", 0.001), ("ties", 3.0)):  # quotients that overflow, or round together
        yield _row("gate", 2, 5, 9, fill, 50, n=2, mode="gumbel_hard", form="torch", temperature=temperature)


def _quad_rows():
    """Channels that loads of four take; masks as long as the blocks of threads that list them, and longer than that."""
    for fill in ("specials", "subnormal"):
        for c in (4, 20):
            for whole_map in (False, True):
                more = {"n": 3, "whole_map": whole_map}
                yield _row("select", c, 3, 5, fill, 39, branches=2, control="random", **more)
                yield _row("select", c, 3, 5, fill, 39, branches=3, control="index", **more)
                yield from (_row("blend", c, 3, 5, fill, 39, branches=k, **more) for k in (2, 3))
                yield _row("masked", c, 3, 5, fill, 39, control="random", **more)
            yield from (_row(op, c, 5, 9, fill, 39, n=2, sites="random") for op in ("gather", "scatter"))
    for control in ("random", "all", "one"):
        yield from (
            _row("mask_to_sites", 1, 1, w, None, 39, control=control) for w in (255, 256, 257, 1023, 1024, 1025)
        )
        yield _row("mask_to_sites", 1, 257, 271, None, 39, control=control, n=2)


def _large_rows():
    """Large enough for several threads."""
    for mode in MODES:
        for k in (2, 7):
            yield _row("gate", k, 101, 103, seed=47, mode=mode, form="kong2018")
    yield _row("select", 33, 41, 53, seed=48, branches=2, control="blobby")
    yield _row("select", 33, 41, 53, seed=48, branches=7, control="index")
    yield _row("blend", 33, 41, 53, seed=48, branches=3)
    yield _row("masked", 33, 41, 53, seed=48, control="blobby")
    yield _row("mask_to_sites", 1, 241, 253, None, 48, control="random")
    yield _row("grow_mask", 1, 241, 253, None, 48, k=3, padding=1, control="random")
    yield _row("gather", 33, 61, 67, seed=48, sites="random")
    yield _row("scatter", 33, 61, 67, seed=48, sites="random")
    yield _row("gumbel_noise", 3, 61, 67, None, 48, form="kong2018", key=11)
    yield Case("philox4x32", counters=20011, seed=48)


ARRANGE = {
    "gate": arrange_gate,
    "select": arrange_select,
    "blend": arrange_blend,
    "masked": arrange_masked,
    "mask_to_sites": arrange_mask_to_sites,
    "grow_mask": arrange_grow_mask,
    "gather": arrange_gather,
    "scatter": arrange_scatter,
    "gumbel_noise": arrange_gumbel_noise,
    "philox4x32": arrange_philox4x32,
}
ROWS = [*_gate_rows(), *_choice_rows(), *_site_rows(), *_random_rows(), *_sharp_rows(), *_quad_rows(), *_large_rows()]
