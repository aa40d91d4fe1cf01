// Gates: one thread a pixel. What they steer: one thread an element (in *_v4 four of them). Numerics: EXACT.
// The lists of sites are in sites.cu.
#include "contract.cuh"
#include "threads.cuh"
#include "softmax.cuh"
#include "float4.cuh"

// Compute iff z1 > z0, or with a threshold iff z1 - z0 > threshold: a tie skips, NaN skips.
__device__ __forceinline__ bool decide(float z0, float z1, float threshold, int has_threshold) {
    return has_threshold ? __fsub_rn(z1, z0) > threshold : z1 > z0;
}

// What the logit y_k of a Gumbel unit needs of its pixel. form: 0 kong2018, 1 torch.
struct NoisyPixel {
    const float *z, *noise;
    float m, s;  // of the softmax of z
    int form;
};

__device__ __forceinline__ NoisyPixel noisy_pixel(const float* z, const float* noise, long long k_channels, int form) {
    NoisyPixel pixel = {z, noise, 0.0f, 0.0f, form};
    if (form) return pixel;
    pixel.m = first_maximum(z, k_channels);
    for (long long k = 0; k < k_channels; ++k) pixel.s = __fadd_rn(pixel.s, exp_step(__fsub_rn(z[k], pixel.m)));
    return pixel;
}

// y_k = z_k + noise_k, or log((p_k + 1e-3) / 1.001) + noise_k with p = softmax(z).
__device__ __forceinline__ float noisy_logit(const NoisyPixel& pixel, long long k) {
    if (pixel.form) return __fadd_rn(pixel.z[k], pixel.noise[k]);
    const float p = __fdiv_rn(exp_step(__fsub_rn(pixel.z[k], pixel.m)), pixel.s);
    const float moved = __fdiv_rn(__fadd_rn(p, 0x1.0624dep-10f), 0x1.00418ap+0f);  // f32(1e-3), f32(1.001)
    return __fadd_rn(log_step(moved), pixel.noise[k]);
}

// z (pixels, 2)  ->  out (pixels)
extern "C" __global__ void gate_f32_hard(const float* z, unsigned char* out, long long pixels, float threshold,
                                         int has_threshold) {
    const long long i = element_index();
    if (i < pixels) out[i] = decide(z[2 * i], z[2 * i + 1], threshold, has_threshold);
}

// z (pixels, 2)  noise (noise_pixels, 2), again for each image where they are fewer  ->  out (pixels)
extern "C" __global__ void gate_f32_gumbel_mask(const float* z, const float* noise, unsigned char* out,
                                                long long pixels, long long noise_pixels, int form, float threshold,
                                                int has_threshold) {
    const long long i = element_index();
    if (i >= pixels) return;
    const NoisyPixel pixel = noisy_pixel(z + 2 * i, noise + i % noise_pixels * 2, 2, form);
    out[i] = decide(noisy_logit(pixel, 0), noisy_logit(pixel, 1), threshold, has_threshold);
}

// z (pixels, k_channels)  noise (noise_pixels, k_channels)  ->  out (pixels): the first greatest y
extern "C" __global__ void gate_f32_gumbel_index(const float* z, const float* noise, int* out, long long pixels,
                                                 long long k_channels, long long noise_pixels, int form) {
    const long long i = element_index();
    if (i >= pixels) return;
    const NoisyPixel pixel =
        noisy_pixel(z + i * k_channels, noise + i % noise_pixels * k_channels, k_channels, form);
    float best = noisy_logit(pixel, 0);
    int index = 0;
    for (long long k = 1; k < k_channels; ++k) {
        const float y = noisy_logit(pixel, k);
        if (y > best) {
            best = y;
            index = (int)k;
        }
    }
    out[i] = index;
}

// z (pixels, k_channels)  noise (noise_pixels, k_channels)  ->  out (pixels, k_channels): softmax(y / temperature)
extern "C" __global__ void gate_f32_gumbel_soft(const float* z, const float* noise, float* out, long long pixels,
                                                long long k_channels, long long noise_pixels, int form,
                                                float temperature) {
    const long long i = element_index();
    if (i >= pixels) return;
    const NoisyPixel pixel =
        noisy_pixel(z + i * k_channels, noise + i % noise_pixels * k_channels, k_channels, form);
    float* p = out + i * k_channels;
    for (long long k = 0; k < k_channels; ++k) p[k] = __fdiv_rn(noisy_logit(pixel, k), temperature);
    softmax_pixel(p, p, k_channels);
}

// The number of the decision that steers an element: `per` pixels of c channels share one.
__device__ __forceinline__ long long decision(long long i, long long c, long long per) {
    return per == 1 ? i / c : i / c / per;
}

// control (pixels/per)  zero, one, out (pixels, c)
extern "C" __global__ void select_f32_mask(const unsigned char* control, const float* zero, const float* one,
                                           float* out, long long pixels, long long c, long long per) {
    const long long i = element_index();
    if (i < pixels * c) out[i] = control[decision(i, c, per)] ? one[i] : zero[i];
}

extern "C" __global__ void select_f32_mask_v4(const unsigned char* control, const float* zero, const float* one,
                                              float* out, long long pixels, long long c, long long per) {
    const long long i = quad_index();
    if (i < pixels * c) store_4(out + i, load_4((control[decision(i, c, per)] ? one : zero) + i));
}

// One branch of a choice: written where control is `slot`.  control (pixels/per)  branch, out (pixels, c)
extern "C" __global__ void select_f32_index(const int* control, int slot, const float* branch, float* out,
                                            long long pixels, long long c, long long per) {
    const long long i = element_index();
    if (i < pixels * c && control[decision(i, c, per)] == slot) out[i] = branch[i];
}

extern "C" __global__ void select_f32_index_v4(const int* control, int slot, const float* branch, float* out,
                                               long long pixels, long long c, long long per) {
    const long long i = quad_index();
    if (i < pixels * c && control[decision(i, c, per)] == slot) store_4(out + i, load_4(branch + i));
}

// One step of a blend of many branches, launched for k = 0, 1, ...: out goes on where k > 0.
// p (pixels/per, k_channels)  branch, out (pixels, c)
extern "C" __global__ void blend_f32(const float* p, const float* branch, float* out, long long pixels, long long c,
                                     long long per, long long k_channels, long long k) {
    const long long i = element_index();
    if (i >= pixels * c) return;
    out[i] = __fmaf_rn(p[decision(i, c, per) * k_channels + k], branch[i], k ? out[i] : 0.0f);
}

extern "C" __global__ void blend_f32_v4(const float* p, const float* branch, float* out, long long pixels,
                                        long long c, long long per, long long k_channels, long long k) {
    const long long i = quad_index();
    if (i >= pixels * c) return;
    const float share = p[decision(i, c, per) * k_channels + k];
    const float4 v = load_4(branch + i), acc = k ? load_4(out + i) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    store_4(out + i, make_float4(__fmaf_rn(share, v.x, acc.x), __fmaf_rn(share, v.y, acc.y),
                                 __fmaf_rn(share, v.z, acc.z), __fmaf_rn(share, v.w, acc.w)));
}

// acc = fma(p0, zero, +0), then fma(p1, one, acc).
__device__ __forceinline__ float blend_step(float p0, float zero, float p1, float one) {
    return __fmaf_rn(p1, one, __fmaf_rn(p0, zero, 0.0f));
}

// Both steps of a blend of two branches.  p (pixels/per, 2)  zero, one, out (pixels, c)
extern "C" __global__ void blend_f32_pair(const float* p, const float* zero, const float* one, float* out,
                                          long long pixels, long long c, long long per) {
    const long long i = element_index();
    if (i >= pixels * c) return;
    const float* shares = p + 2 * decision(i, c, per);
    out[i] = blend_step(shares[0], zero[i], shares[1], one[i]);
}

extern "C" __global__ void blend_f32_pair_v4(const float* p, const float* zero, const float* one, float* out,
                                             long long pixels, long long c, long long per) {
    const long long i = quad_index();
    if (i >= pixels * c) return;
    const float p0 = p[2 * decision(i, c, per)], p1 = p[2 * decision(i, c, per) + 1];
    const float4 u = load_4(zero + i), v = load_4(one + i);
    store_4(out + i, make_float4(blend_step(p0, u.x, p1, v.x), blend_step(p0, u.y, p1, v.y),
                                 blend_step(p0, u.z, p1, v.z), blend_step(p0, u.w, p1, v.w)));
}

// Chosen, not multiplied: a NaN in x does not get through.  x, out (pixels, c)  mask (pixels/per)
extern "C" __global__ void masked_f32(const float* x, const unsigned char* mask, float* out, long long pixels,
                                      long long c, long long per) {
    const long long i = element_index();
    if (i < pixels * c) out[i] = mask[decision(i, c, per)] ? x[i] : 0.0f;
}

extern "C" __global__ void masked_f32_v4(const float* x, const unsigned char* mask, float* out, long long pixels,
                                         long long c, long long per) {
    const long long i = quad_index();
    if (i >= pixels * c) return;
    store_4(out + i, mask[decision(i, c, per)] ? load_4(x + i) : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
}
