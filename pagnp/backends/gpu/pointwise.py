"""Launches of the element-by-element kernels."""

import numpy as np

from pagnp.backends.gpu.rows import launch_rows, rows_of, wanted
from pagnp.backends.gpu.signature import CUPY, signatures

RELATIONS = ("gt", "ge", "lt", "le", "eq", "ne")  # their numbers in compare_*

# rows: how many rows of c channels; where there is a count, only the first *count of them are wanted (rows.wanted).
# The strides of a and b count elements along (n, h, w, c), 0 where there is one element for the whole axis.
KERNELS = {
    **signatures(
        "pointwise",
        """
        relu_f32(f32* x, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        sigmoid_f32(f32* x, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        exp_f32(f32* x, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        exp10_f32(f32* x, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        log_f32(f32* x, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        norm_f32(f32* x, f32* scale, f32* shift, f32* out, i64 rows, i64 c, i32* count, i32 has_count)

        add_f32(f32* a, f32* b, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        sub_f32(f32* a, f32* b, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        mul_f32(f32* a, f32* b, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        div_f32(f32* a, f32* b, f32* out, i64 rows, i64 c, i32* count, i32 has_count)

        add_f32_broadcast(f32* a, f32* b, f32* out, i64 rows, i64 h, i64 w, i64 c, i64 a_n, i64 a_h, i64 a_w, i64 a_c,
                          i64 b_n, i64 b_h, i64 b_w, i64 b_c, i32* count, i32 has_count)
        sub_f32_broadcast(f32* a, f32* b, f32* out, i64 rows, i64 h, i64 w, i64 c, i64 a_n, i64 a_h, i64 a_w, i64 a_c,
                          i64 b_n, i64 b_h, i64 b_w, i64 b_c, i32* count, i32 has_count)
        mul_f32_broadcast(f32* a, f32* b, f32* out, i64 rows, i64 h, i64 w, i64 c, i64 a_n, i64 a_h, i64 a_w, i64 a_c,
                          i64 b_n, i64 b_h, i64 b_w, i64 b_c, i32* count, i32 has_count)
        div_f32_broadcast(f32* a, f32* b, f32* out, i64 rows, i64 h, i64 w, i64 c, i64 a_n, i64 a_h, i64 a_w, i64 a_c,
                          i64 b_n, i64 b_h, i64 b_w, i64 b_c, i32* count, i32 has_count)

        compare_f32(f32* a, f32* b, u8* out, i32 relation, i64 size, i64 h, i64 w, i64 a_n, i64 a_h, i64 a_w,
                    i64 b_n, i64 b_h, i64 b_w)
        compare_i32(i32* a, i32* b, u8* out, i32 relation, i64 size, i64 h, i64 w, i64 a_n, i64 a_h, i64 a_w,
                    i64 b_n, i64 b_h, i64 b_w)
        """,
    ),
    **signatures(
        "pointwise",
        """
        relu_f32_v4(f32* x, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        add_f32_v4(f32* a, f32* b, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        sub_f32_v4(f32* a, f32* b, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        mul_f32_v4(f32* a, f32* b, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        div_f32_v4(f32* a, f32* b, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
        """,
        (CUPY,),
    ),
}


def relu(device, x, out):
    """out = +0 if x < 0 else x."""
    rows, c = rows_of(out)
    launch_rows(device, "relu_f32", rows * c, c, (x, out), (x, out, rows, c, *wanted(device)))


def sigmoid(device, x, out):
    """out = 1 / (1 + e^-x)."""
    _unary(device, "sigmoid_f32", x, out)


def exp(device, x, out):
    """out = e^x."""
    _unary(device, "exp_f32", x, out)


def exp10(device, x, out):
    """out = 10^x."""
    _unary(device, "exp10_f32", x, out)


def log(device, x, out):
    """out = ln x."""
    _unary(device, "log_f32", x, out)


def _unary(device, kernel, x, out):
    rows, c = rows_of(out)
    device.launch_elements(kernel, rows * c, (x, out, rows, c, *wanted(device)))


def norm(device, x, scale, shift, out):
    """out = fma(x, scale, shift), scale and shift one value a channel."""
    rows, c = rows_of(out)
    device.launch_elements("norm_f32", rows * c, (x, scale, shift, out, rows, c, *wanted(device)))


def add(device, a, b, out):
    """out = a + b."""
    _binary(device, "add_f32", a, b, out)


def sub(device, a, b, out):
    """out = a - b."""
    _binary(device, "sub_f32", a, b, out)


def mul(device, a, b, out):
    """out = a * b."""
    _binary(device, "mul_f32", a, b, out)


def div(device, a, b, out):
    """out = a / b."""
    _binary(device, "div_f32", a, b, out)


def _binary(device, kernel, a, b, out):
    rows, c = rows_of(out)
    if a.shape == b.shape:
        launch_rows(device, kernel, rows * c, c, (a, b, out), (a, b, out, rows, c, *wanted(device)))
        return
    _, h, w, _ = out.shape
    steps = *_steps(a.shape, 4), *_steps(b.shape, 4)
    device.launch_elements(f"{kernel}_broadcast", rows * c, (a, b, out, rows, h, w, c, *steps, *wanted(device)))


def _steps(shape, axes):
    """Return the stride of each of `axes` axes in elements, 0 where the one element is taken for all."""
    steps, step = [], 1
    for side in reversed(shape):
        steps.append(0 if side == 1 else step)
        step *= side
    return [*[0] * (axes - len(steps)), *reversed(steps)]


def _image(array, image):
    """Return (h, w, c) of one image, or of the only one, which is taken for all."""
    return (array[image : image + 1] if array.shape[0] > 1 else array).reshape(array.shape[1:])


def compare(device, a, b, op, out):
    """out = a op b; op is gt, ge, lt, le, eq or ne."""
    if not out.size:
        return
    if out.ndim == 4 and out.shape[3] > 1:  # no gate's comparison: the kernel knows three axes, so image by image
        for image in range(out.shape[0]):
            compare(device, *(_image(array, image) for array in (a, b)), op, _image(out, image))
        return
    kernel = "compare_i32" if a.dtype == np.int32 else "compare_f32"
    h, w = out.shape[1:3]
    steps = *_steps(a.shape[:3], 3), *_steps(b.shape[:3], 3)
    device.launch_elements(kernel, out.size, (a, b, out, RELATIONS.index(op), out.size, h, w, *steps))
