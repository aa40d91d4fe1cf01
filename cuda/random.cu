// Counter-based random numbers: Philox4x32-10 and the Gumbel noise made from it. Numerics: EXACT.
#include "contract.cuh"
#include "threads.cuh"

// gumbel_noise_f32: one thread for the up to four channels that take the words of one counter.  out (h, w, k_channels)
// Pixel (y0 + oy, x0 + ox), channel k takes word k & 3 of counter (ox, oy, k >> 2, gate_index).
// form: 0 kong2018, 1 torch
extern "C" __global__ void gumbel_noise_f32(float* out, long long h, long long w, long long k_channels,
                                            unsigned seed_low, unsigned seed_high, unsigned gate_index, long long y0,
                                            long long x0, int form) {
    const long long groups = (k_channels + 3) / 4;
    const long long group = element_index() % groups, pixel = element_index() / groups;
    if (pixel >= h * w) return;
    const unsigned counter[4] = {(unsigned)(x0 + pixel % w), (unsigned)(y0 + pixel / w), (unsigned)group, gate_index};
    const unsigned key[2] = {seed_low, seed_high};
    unsigned words[4];
    philox4x32(counter, key, words);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        if (4 * group + k < k_channels) out[pixel * k_channels + 4 * group + k] = gumbel_step(words[k], form);
    }
}

// One thread a block.  counter (m, 4)  key (2)  ->  out (m, 4)
extern "C" __global__ void philox4x32_u32(const unsigned* counter, const unsigned* key, unsigned* out, long long m) {
    const long long i = element_index();
    if (i >= m) return;
    unsigned words[4];
    philox4x32(counter + 4 * i, key, words);
#pragma unroll
    for (int k = 0; k < 4; ++k) out[4 * i + k] = words[k];
}
