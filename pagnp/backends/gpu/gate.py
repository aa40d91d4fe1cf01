"""Launches of the gates and of what they steer; the lists of sites are in sites.py."""

import numpy as np

from pagnp.backends.gpu import reduce
from pagnp.backends.gpu.random import FORMS
from pagnp.backends.gpu.rows import launch_rows, rows_of
from pagnp.backends.gpu.signature import CUPY, signatures

_MASK = "(u8* control, f32* zero, f32* one, f32* out, i64 pixels, i64 c, i64 per)"
_INDEX = "(i32* control, i32 slot, f32* branch, f32* out, i64 pixels, i64 c, i64 per)"
_BLEND = "(f32* p, f32* branch, f32* out, i64 pixels, i64 c, i64 per, i64 k_channels, i64 k)"
_PAIR = "(f32* p, f32* zero, f32* one, f32* out, i64 pixels, i64 c, i64 per)"
_MASKED = "(f32* x, u8* mask, f32* out, i64 pixels, i64 c, i64 per)"

# gate: z is pixels of 2 (hard, gumbel_mask) or k_channels logits, noise those of noise_pixels pixels, used again for
# each image where they are fewer. form: its place in FORMS. gumbel_soft puts y / temperature into out, then softmax.
# per: how many pixels share one element of a control, mask or p: 1, or h*w where it is one decision an image.
# select_f32_index writes where control is slot; blend_f32 goes on from out where k > 0: one launch a branch.
KERNELS = {
    **signatures(
        "gate",
        f"""
        gate_f32_hard(f32* z, u8* out, i64 pixels, f32 threshold, i32 has_threshold)
        gate_f32_gumbel_mask(f32* z, f32* noise, u8* out, i64 pixels, i64 noise_pixels, i32 form, f32 threshold,
                             i32 has_threshold)
        gate_f32_gumbel_index(f32* z, f32* noise, i32* out, i64 pixels, i64 k_channels, i64 noise_pixels, i32 form)
        gate_f32_gumbel_soft(f32* z, f32* noise, f32* out, i64 pixels, i64 k_channels, i64 noise_pixels, i32 form,
                             f32 temperature)
        select_f32_mask{_MASK} select_f32_index{_INDEX} blend_f32{_BLEND} blend_f32_pair{_PAIR} masked_f32{_MASKED}
        """,
    ),
    **signatures(
        "gate",
        f"""
        select_f32_mask_v4{_MASK} select_f32_index_v4{_INDEX} blend_f32_v4{_BLEND} blend_f32_pair_v4{_PAIR}
        masked_f32_v4{_MASKED}
        """,
        (CUPY,),
    ),
}


def gate(device, z, mode, form, temperature, noise, threshold, out):
    """Decide per pixel from the logits z (n, h, w, K): as numpy_ref.gate, of which the modes are kernels here."""
    pixels, channels = rows_of(z)
    limit = np.float32(0 if threshold is None else threshold), threshold is not None
    if mode == "soft":
        reduce.softmax(device, z, out)
    elif mode == "hard" and out.dtype == np.int32:
        reduce.argmax(device, z, out)
    elif mode == "hard":
        device.launch_elements("gate_f32_hard", pixels, (z, out, pixels, *limit))
    else:
        noisy, number = noise.size // channels, FORMS.index(form)
        if mode == "gumbel_soft":
            args = z, noise, out, pixels, channels, noisy, number, np.float32(temperature)
            device.launch_elements("gate_f32_gumbel_soft", pixels, args)
        elif out.dtype == np.int32:
            device.launch_elements("gate_f32_gumbel_index", pixels, (z, noise, out, pixels, channels, noisy, number))
        else:
            device.launch_elements("gate_f32_gumbel_mask", pixels, (z, noise, out, pixels, noisy, number, *limit))


def select(device, control, branches, out):
    """out = branches[control] per pixel; a mask takes [0] where False, [1] where True; (n, 1, 1) broadcasts."""
    pixels, c = rows_of(out)
    place = out, pixels, c, shared_by(control.size, pixels)
    if control.dtype != np.int32:
        launch_rows(device, "select_f32_mask", out.size, c, (*branches, out), (control, *branches, *place))
        return
    for slot, branch in enumerate(branches):
        launch_rows(device, "select_f32_index", out.size, c, (branch, out), (control, slot, branch, *place))


def blend(device, p, branches, out):
    """out = sum over k of p_k * branch_k: acc = fma(p_k, branch_k, acc) from +0, k ascending."""
    pixels, c = rows_of(out)
    place = out, pixels, c, shared_by(rows_of(p)[0], pixels)
    if len(branches) == 2:
        launch_rows(device, "blend_f32_pair", out.size, c, (*branches, out), (p, *branches, *place))
        return
    for k, branch in enumerate(branches):
        launch_rows(device, "blend_f32", out.size, c, (branch, out), (p, branch, *place, len(branches), k))


def masked(device, x, mask, out):
    """out = x where mask, else +0."""
    pixels, c = rows_of(out)
    launch_rows(device, "masked_f32", out.size, c, (x, out), (x, mask, out, pixels, c, shared_by(mask.size, pixels)))


def shared_by(decisions, pixels):
    """Return how many pixels share one element of a control that has `decisions` of them."""
    return max(1, pixels // max(1, decisions))
