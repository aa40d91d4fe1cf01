"""Launches of the counter-based random numbers."""

from pagnp.backends.gpu.signature import signatures

FORMS = ("kong2018", "torch")  # their numbers in the kernels

# gumbel_noise: one thread for the up to 4 channels that take the words of one counter
KERNELS = signatures(
    "random",
    """
    gumbel_noise_f32(f32* out, i64 h, i64 w, i64 k_channels, u32 seed_low, u32 seed_high, u32 gate_index, i64 y0,
                     i64 x0, i32 form)
    philox4x32_u32(u32* counter, u32* key, u32* out, i64 m)
    """,
)


def gumbel_noise(device, seed, gate_index, form, y0, x0, out):
    """Fill `out` (h, w, K): pixel (y0 + oy, x0 + ox), channel k takes word k & 3 of counter (ox, oy, k >> 2, gate)."""
    h, w, channels = out.shape
    args = out, h, w, channels, seed & 0xFFFFFFFF, seed >> 32, gate_index, y0, x0, FORMS.index(form)
    device.launch_elements("gumbel_noise_f32", h * w * -(-channels // 4), args)


def philox4x32(device, counter, key, out):
    """Fill `out` (m, 4) uint32 with the ten-round block of each `counter` (m, 4); key is (2,) uint32."""
    m = out.shape[0]
    device.launch_elements("philox4x32_u32", m, (counter, key, out, m))
