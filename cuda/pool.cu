// Max and average pooling: one thread an output (in *_v4 four channels of one), which reads its window in scan order.
// Numerics: EXACT.
// x (n, h_in, w_in, c)  ->  out (n, h_out, w_out, c) of `size` elements
#include "contract.cuh"
#include "threads.cuh"
#include "float4.cuh"

// A NaN replaces what is there, and is replaced by the next NaN only.
__device__ __forceinline__ float max_step(float v, float best) { return v > best || v != v ? v : best; }

// The divisor's factor along one axis by PyTorch's rule: a window ends at input + padding at the latest.
__device__ __forceinline__ long long window_count(long long start, long long k, long long length_in, long long after,
                                                  int count_include_pad) {
    long long end = start + k < length_in + after ? start + k : length_in + after;
    if (!count_include_pad) {
        start = start > 0 ? start : 0;
        end = end < length_in ? end : length_in;
    }
    return end - start;
}

extern "C" __global__ void max_pool2d_f32(const float* x, float* out, long long size, long long h_in, long long w_in,
                                          long long c, long long h_out, long long w_out, long long k_h, long long k_w,
                                          long long stride_y, long long stride_x, long long top, long long left,
                                          long long dilation_y, long long dilation_x) {
    const long long i = element_index();
    if (i >= size) return;
    const long long channel = i % c, pixel = i / c;
    const long long ox = pixel % w_out, oy = pixel / w_out % h_out, image = pixel / w_out / h_out;
    float best = __int_as_float(0xFF800000);  // -inf
    for (long long ky = 0; ky < k_h; ++ky) {
        const long long iy = oy * stride_y - top + ky * dilation_y;
        if (iy < 0 || iy >= h_in) continue;
        for (long long kx = 0; kx < k_w; ++kx) {
            const long long ix = ox * stride_x - left + kx * dilation_x;
            if (ix < 0 || ix >= w_in) continue;
            best = max_step(x[((image * h_in + iy) * w_in + ix) * c + channel], best);
        }
    }
    out[i] = best;
}

extern "C" __global__ void max_pool2d_f32_v4(const float* x, float* out, long long size, long long h_in,
                                             long long w_in, long long c, long long h_out, long long w_out,
                                             long long k_h, long long k_w, long long stride_y, long long stride_x,
                                             long long top, long long left, long long dilation_y,
                                             long long dilation_x) {
    const long long i = quad_index();
    if (i >= size) return;
    const long long channel = i % c, pixel = i / c;
    const long long ox = pixel % w_out, oy = pixel / w_out % h_out, image = pixel / w_out / h_out;
    const float lowest = __int_as_float(0xFF800000);  // -inf
    float4 best = make_float4(lowest, lowest, lowest, lowest);
    for (long long ky = 0; ky < k_h; ++ky) {
        const long long iy = oy * stride_y - top + ky * dilation_y;
        if (iy < 0 || iy >= h_in) continue;
        for (long long kx = 0; kx < k_w; ++kx) {
            const long long ix = ox * stride_x - left + kx * dilation_x;
            if (ix < 0 || ix >= w_in) continue;
            const float4 v = load_4(x + ((image * h_in + iy) * w_in + ix) * c + channel);
            best = make_float4(max_step(v.x, best.x), max_step(v.y, best.y), max_step(v.z, best.z),
                               max_step(v.w, best.w));
        }
    }
    store_4(out + i, best);
}

// Padding would add +0 to a sum that starts at +0 and so never is -0: it is left out.
extern "C" __global__ void avg_pool2d_f32(const float* x, float* out, long long size, long long h_in, long long w_in,
                                          long long c, long long h_out, long long w_out, long long k_h, long long k_w,
                                          long long stride_y, long long stride_x, long long top, long long bottom,
                                          long long left, long long right, int count_include_pad) {
    const long long i = element_index();
    if (i >= size) return;
    const long long channel = i % c, pixel = i / c;
    const long long ox = pixel % w_out, oy = pixel / w_out % h_out, image = pixel / w_out / h_out;
    const long long y = oy * stride_y - top, x0 = ox * stride_x - left;
    float acc = 0.0f;
    for (long long iy = y; iy < y + k_h; ++iy) {
        if (iy < 0 || iy >= h_in) continue;
        for (long long ix = x0; ix < x0 + k_w; ++ix) {
            if (ix < 0 || ix >= w_in) continue;
            acc = __fadd_rn(acc, x[((image * h_in + iy) * w_in + ix) * c + channel]);
        }
    }
    const long long count = window_count(y, k_h, h_in, bottom, count_include_pad) *
                            window_count(x0, k_w, w_in, right, count_include_pad);
    out[i] = __fdiv_rn(acc, (float)count);
}

extern "C" __global__ void avg_pool2d_f32_v4(const float* x, float* out, long long size, long long h_in,
                                             long long w_in, long long c, long long h_out, long long w_out,
                                             long long k_h, long long k_w, long long stride_y, long long stride_x,
                                             long long top, long long bottom, long long left, long long right,
                                             int count_include_pad) {
    const long long i = quad_index();
    if (i >= size) return;
    const long long channel = i % c, pixel = i / c;
    const long long ox = pixel % w_out, oy = pixel / w_out % h_out, image = pixel / w_out / h_out;
    const long long y = oy * stride_y - top, x0 = ox * stride_x - left;
    float4 acc = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (long long iy = y; iy < y + k_h; ++iy) {
        if (iy < 0 || iy >= h_in) continue;
        for (long long ix = x0; ix < x0 + k_w; ++ix) {
            if (ix < 0 || ix >= w_in) continue;
            const float4 v = load_4(x + ((image * h_in + iy) * w_in + ix) * c + channel);
            acc = make_float4(__fadd_rn(acc.x, v.x), __fadd_rn(acc.y, v.y), __fadd_rn(acc.z, v.z),
                              __fadd_rn(acc.w, v.w));
        }
    }
    const float count = (float)(window_count(y, k_h, h_in, bottom, count_include_pad) *
                                window_count(x0, k_w, w_in, right, count_include_pad));
    store_4(out + i, make_float4(__fdiv_rn(acc.x, count), __fdiv_rn(acc.y, count), __fdiv_rn(acc.z, count),
                                 __fdiv_rn(acc.w, count)));
}
