"""Bad calls of the public ops: the type of the error and its message; and what good calls promise about memory."""

import numpy as np
import pytest

from pagnp import ops
from pagnp.backends.base import KERNELS, get_backend
from pagnp.errors import BackendError, DtypeError, ShapeError, SiteError, UsageError


def _zeros(*shape):
    return np.zeros(shape, np.float32)


def _mask(*shape):
    return np.zeros(shape, np.bool_)


def _sites(*values):
    return np.array(values, np.int32)


X, W, MAP = _zeros(1, 6, 5, 4), _zeros(3, 3, 4, 8), _zeros(1, 4, 3, 8)
V8, V4 = _zeros(8), _zeros(4)

# error, words of its message, call
BAD = [
    (DtypeError, "conv2d: x is float64, need float32; convert it with x.astype", lambda: ops.conv2d(X.astype("f8"), W)),
    (DtypeError, "conv2d: x is a list, need a float32 array (n, h, w, c)", lambda: ops.conv2d([1.0], W)),
    (DtypeError, "conv2d: weight is float16", lambda: ops.conv2d(X, W.astype("f2"))),
    (ShapeError, "conv2d: x has shape (6, 5, 4), need (n, h, w, c); add the batch axis", lambda: ops.conv2d(X[0], W)),
    (ShapeError, "conv2d: x has shape (0, 6, 5, 4), every size must be at least 1", lambda: ops.conv2d(X[:0], W)),
    (
        ShapeError,
        "conv2d: weight expects 3 input channels, x has 4 (x (1, 6, 5, 4), weight (3, 3, 3, 8))",
        lambda: ops.conv2d(X, _zeros(3, 3, 3, 8)),
    ),
    (ShapeError, "weight expects 8 input channels in 2 groups", lambda: ops.conv2d(X, W, groups=2)),
    (ShapeError, "7 output channels cannot be cut into 2", lambda: ops.conv2d(X, _zeros(1, 1, 2, 7), groups=2)),
    (UsageError, "conv2d: groups is 0, need an integer of at least 1", lambda: ops.conv2d(X, W, groups=0)),
    (UsageError, "conv2d: stride is 2147483648, need an integer of at most", lambda: ops.conv2d(X, W, stride=2**31)),
    (UsageError, "conv2d: threads is -5", lambda: ops.conv2d(X, W, backend=get_backend("numpy"), threads=-5)),
    (UsageError, "gate: temperature is 1e-60, need a positive", lambda: ops.gate(X[..., :2], temperature=1e-60)),
    (UsageError, "gate: temperature must be a number, not '1'", lambda: ops.gate(X[..., :2], temperature="1")),
    (UsageError, "gate: threshold must be a number, not '0.5'", lambda: ops.gate(X[..., :2], threshold="0.5")),
    (UsageError, "gate: threshold must be a number, not", lambda: ops.gate(X[..., :2], threshold=np.array([0.5, 0.6]))),
    (DtypeError, "compare: b is nan; an index", lambda: ops.compare(_sites(1), float("nan"), "gt")),
    (DtypeError, "compare: b is 3000000000; an index", lambda: ops.compare(_sites(1), 3000000000, "gt")),
    (DtypeError, "compare: b is 1.5; an index", lambda: ops.compare(_sites(1), 1.5, "gt")),
    (UsageError, "add: b is 1000", lambda: ops.add(X, 10**400)),
    (DtypeError, "add: b is a complex64, need a float32 array or a number", lambda: ops.add(X, np.complex64(1 + 1j))),
    (UsageError, "multipool: rates is int, need a list", lambda: ops.multipool(X, MAP, 3, [W, W])),
    (UsageError, "multipool: scales is ndarray", lambda: ops.multipool(X, MAP, [1, 2], [W, W], scales=_zeros(2, 3))),
    (ShapeError, "the kernel spans 9 pixels, the padded input has 8", lambda: ops.conv2d(X, W, padding=1, dilation=4)),
    (UsageError, "conv2d: scale without shift", lambda: ops.conv2d(X, W, scale=V8)),
    (UsageError, "conv2d: shift without scale", lambda: ops.conv2d(X, W, shift=V8)),
    (UsageError, "conv2d: bias together with scale", lambda: ops.conv2d(X, W, scale=V8, shift=V8, bias=V8)),
    (ShapeError, "conv2d: scale has shape (4,), need (8,)", lambda: ops.conv2d(X, W, scale=V4, shift=V8)),
    (DtypeError, "conv2d: bias is float64", lambda: ops.conv2d(X, W, bias=V8.astype("f8"))),
    (
        ShapeError,
        "residual has shape (1, 6, 5, 8), the output has",
        lambda: ops.conv2d(X, W, residual=_zeros(1, 6, 5, 8)),
    ),
    (
        ShapeError,
        "residual has shape (3, 8), need (2, 8) or the full map",
        lambda: ops.conv2d(X, W, sites=_sites(1, 2), residual=_zeros(3, 8)),
    ),
    (DtypeError, "conv2d: sites is int64, need int32", lambda: ops.conv2d(X, W, sites=np.arange(3))),
    (SiteError, "conv2d: sites[2] = 4 follows 4, need strictly", lambda: ops.conv2d(X, W, sites=_sites(1, 4, 4))),
    (
        SiteError,
        "sites run from 3 to 12, the map has 12 pixels, 0 to 11",
        lambda: ops.conv2d(X, W, sites=_sites(3, 12)),
    ),
    (SiteError, "sites run from -1 to 2", lambda: ops.conv2d(X, W, sites=_sites(-1, 2))),
    (UsageError, "conv2d: stride is 0", lambda: ops.conv2d(X, W, stride=0)),
    (UsageError, "conv2d: stride is (1, 2, 3), need an int or a pair", lambda: ops.conv2d(X, W, stride=(1, 2, 3))),
    (UsageError, "conv2d: dilation is 1.5", lambda: ops.conv2d(X, W, dilation=1.5)),
    (UsageError, "conv2d: padding is -1", lambda: ops.conv2d(X, W, padding=-1)),
    (UsageError, "padding is (1, 1), need an int or (top, bottom", lambda: ops.conv2d(X, W, padding=(1, 1))),
    (BackendError, "backend 'cuda9' is unknown; choose one of", lambda: ops.relu(X, backend="cuda9")),
    (ShapeError, "conv_transpose2d: weight expects 3", lambda: ops.conv_transpose2d(X, _zeros(3, 3, 3, 8))),
    (ShapeError, "cannot be cut into 3 groups", lambda: ops.conv_transpose2d(X, W, groups=3)),
    (ShapeError, "leaves nothing of the output", lambda: ops.conv_transpose2d(X, W, padding=5)),
    (ShapeError, "conv_transpose2d: residual", lambda: ops.conv_transpose2d(X, W, residual=MAP)),
    (UsageError, "bilinear_deconv: factor is 3, need an even", lambda: ops.bilinear_deconv(X, 3)),
    (ShapeError, "max_pool2d: the window spans 9", lambda: ops.max_pool2d(X, 9)),
    (ShapeError, "window 0 of axis h lies in the padding", lambda: ops.max_pool2d(X, 2, stride=1, padding=2)),
    (ShapeError, "window 0 of axis w", lambda: ops.max_pool2d(X[:, :, :1], (1, 2), padding=(0, 0, 2, 1), dilation=3)),
    (UsageError, "avg_pool2d: kernel is 0", lambda: ops.avg_pool2d(X, 0)),
    (UsageError, "bilinear: give size=(h, w) or scale=", lambda: ops.bilinear(X)),
    (UsageError, "nearest: give size=(h, w) or scale=", lambda: ops.nearest(X, size=(2, 2), scale=2)),
    (UsageError, "nearest: scale is 1.5", lambda: ops.nearest(X, scale=1.5)),
    (ShapeError, "add: shapes (1, 6, 5, 4), (3,) do not broadcast", lambda: ops.add(X, _zeros(3))),
    (ShapeError, "need at most 4", lambda: ops.add(X, X[None])),
    (DtypeError, "mul: b is int64", lambda: ops.mul(X, np.arange(4))),
    (DtypeError, "sub: a is a str", lambda: ops.sub("x", X)),
    (DtypeError, "fma: c is float64", lambda: ops.fma(X, X, np.zeros(4))),
    (UsageError, "compare: op is '>', choose one of gt", lambda: ops.compare(X, X, ">")),
    (DtypeError, "exp: x is int32, need float32", lambda: ops.exp(np.zeros(3, np.int32))),
    (ShapeError, "norm: scale has shape (8,), need (4,)", lambda: ops.norm(X, V8, V4)),
    (DtypeError, "norm: shift is a NoneType", lambda: ops.norm(X, V4, None)),
    (DtypeError, "normalize_image: image_u8 is float32, need uint8", lambda: ops.normalize_image(X[0], V4, V4)),
    (ShapeError, "softmax: x has shape (4,)", lambda: ops.softmax(V4)),
    (UsageError, "concat: xs is ndarray, need a list", lambda: ops.concat(X)),
    (ShapeError, "concat: xs[1] has shape", lambda: ops.concat([X, MAP])),
    (UsageError, "pad: padding is -1", lambda: ops.pad(X, (0, 0, -1, 0))),
    (ShapeError, "slice_channels: channels 2:5 of x with 4", lambda: ops.slice_channels(X, 2, 5)),
    (UsageError, "gate: mode is 'argmax', choose one of hard", lambda: ops.gate(X, mode="argmax")),
    (ShapeError, "gate: z has 1 channel", lambda: ops.gate(X[..., :1].copy())),
    (UsageError, "mode 'gumbel_soft' needs noise", lambda: ops.gate(X, mode="gumbel_soft")),
    (UsageError, "mode 'hard' takes none", lambda: ops.gate(X, noise=X)),
    (ShapeError, "gate: noise has shape (6, 5, 3)", lambda: ops.gate(X, mode="gumbel_hard", noise=_zeros(6, 5, 3))),
    (UsageError, "a threshold belongs to the hard two-way gate", lambda: ops.gate(X, threshold=0.5)),
    (UsageError, "temperature is 0", lambda: ops.gate(X, mode="gumbel_soft", noise=X, temperature=0)),
    (UsageError, "gate: a mask decides between 2 branches", lambda: ops.gate(X, index=False)),
    (DtypeError, "select: control is float32, need bool or int32", lambda: ops.select(X[..., 0], [X, X])),
    (ShapeError, "select: control has shape (1, 5, 6)", lambda: ops.select(_mask(1, 5, 6), [X, X])),
    (UsageError, "a mask chooses between 2 branches, 3 given", lambda: ops.select(_mask(1, 6, 5), [X, X, X])),
    (UsageError, "control runs from 2 to 2", lambda: ops.select(np.full((1, 6, 5), 2, np.int32), [X, X])),
    (ShapeError, "select: branches[1] has shape", lambda: ops.select(_mask(1, 6, 5), [X, MAP])),
    (ShapeError, "blend: p has shape (1, 6, 5, 4)", lambda: ops.blend(X, [X, X])),
    (ShapeError, "masked: mask has shape (1, 6, 1)", lambda: ops.masked(X, _mask(1, 6, 1))),
    (DtypeError, "mask_to_sites: mask is float32, need bool", lambda: ops.mask_to_sites(X[..., 0])),
    (ShapeError, "grow_mask: mask has shape", lambda: ops.grow_mask(_mask(1, 3, 3), (6, 5), 3)),
    (SiteError, "gather: sites run from 0 to 30", lambda: ops.gather(X, _sites(0, 30))),
    (ShapeError, "scatter: values has shape", lambda: ops.scatter(_zeros(2, 3), _sites(0, 3), X)),
    (UsageError, "gumbel_noise: seed is -1", lambda: ops.gumbel_noise(2, 2, 2, seed=-1)),
    (UsageError, "needs 64 bits at most", lambda: ops.gumbel_noise(2, 2, 2, seed=1 << 64)),
    (UsageError, "gumbel_noise: form is 'kong'", lambda: ops.gumbel_noise(2, 2, 2, seed=0, form="kong")),
    (DtypeError, "philox4x32: key is int64", lambda: ops.philox4x32(np.zeros((1, 4), np.uint32), np.zeros(2, int))),
    (ShapeError, "need (m, 4) and (2,)", lambda: ops.philox4x32(np.zeros((1, 3), np.uint32), np.zeros(2, np.uint32))),
]


@pytest.mark.parametrize(("error", "words", "call"), BAD, ids=[words[:50] for _, words, _ in BAD])
def test_bad_call(error, words, call):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_kernel_has_a_public_op():
    missing = [name for name in KERNELS if name != "pack_conv2d" and not hasattr(ops, name)]
    assert missing == []
    assert sorted(ops.__all__) == ops.__all__
    assert {"bilinear_deconv", "fma", "normalize_image"} <= set(ops.__all__)


def test_strided_and_broadcast_inputs_are_copied(backend_name):
    rng = np.random.default_rng(21)
    x, weight = rng.standard_normal((1, 6, 10, 4), np.float32), rng.standard_normal((3, 3, 4, 8), np.float32)
    want = ops.conv2d(x[:, :, ::2].copy(), weight, backend=backend_name)
    got = ops.conv2d(x[:, :, ::2], np.asfortranarray(weight), backend=backend_name)
    assert got.tobytes() == want.tobytes()
    wide = np.broadcast_to(x[:, :1], (1, 5, 10, 4))
    assert ops.relu(wide, backend=backend_name).tobytes() == ops.relu(wide.copy(), backend=backend_name).tobytes()


def test_results_are_new_arrays_and_inputs_stay(backend_name):
    x = np.random.default_rng(22).standard_normal((1, 4, 3, 2), np.float32)
    before, everywhere, call = x.tobytes(), np.ones((1, 4, 3), np.bool_), {"backend": backend_name}
    results = [
        ops.pad(x, 0, **call),
        ops.slice_channels(x, 0, 2, **call),
        ops.concat([x], **call),
        ops.masked(x, everywhere, **call),
        ops.nearest(x, scale=1, **call),
        ops.scatter(_zeros(1, 2), _sites(0), x, **call),
        ops.relu(x, **call),
        ops.add(x, 0.0, **call),
        ops.max_pool2d(x, 1, **call),
    ]
    for result in results:
        assert not np.shares_memory(result, x)
        result.fill(7)
    assert x.tobytes() == before


def test_sites_take_the_rows_of_a_full_residual(backend_name):
    rng = np.random.default_rng(23)
    x, weight = rng.standard_normal((2, 5, 4, 3), np.float32), rng.standard_normal((3, 3, 3, 6), np.float32)
    residual, sites = rng.standard_normal((2, 5, 4, 6), np.float32), _sites(0, 7, 19, 20, 39)
    options = {"padding": 1, "relu": True, "backend": backend_name}
    dense = ops.conv2d(x, weight, residual=residual, **options).reshape(-1, 6)[sites]
    rows = residual.reshape(-1, 6)[sites]
    for given in (residual, rows):
        got = ops.conv2d(x, weight, residual=given, sites=sites, **options)
        assert got.tobytes() == dense.tobytes()
    assert ops.conv2d(x, weight, sites=_sites(), **options).shape == (0, 6)


def test_elementwise_ops_take_any_shape(backend_name):
    for shape in ((), (3,), (2, 3), (1, 2, 3, 4, 5)):
        x = np.full(shape, -1.0, np.float32)
        assert ops.relu(x, backend=backend_name).shape == shape
        assert ops.exp(x, backend=backend_name).shape == shape
    assert ops.add(2, 3, backend=backend_name) == np.float32(5)
    assert ops.compare(_zeros(3), 0, "le", backend=backend_name).tolist() == [True] * 3


def test_a_select_may_have_one_branch(backend_name):
    x = np.random.default_rng(24).standard_normal((1, 3, 4, 5), np.float32)
    assert ops.select(np.zeros((1, 3, 4), np.int32), [x], backend=backend_name).tobytes() == x.tobytes()


def test_a_backend_object_is_taken():
    assert ops.relu(X, backend=get_backend("numpy")).shape == X.shape


def test_normalize_image():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    scale, shift = np.array([1, 0.5, 2], np.float32), np.array([-1, 0, 3], np.float32)
    assert ops.normalize_image(image, scale, shift).tobytes() == (image * scale + shift).tobytes()
