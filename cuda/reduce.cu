// Reductions over channels or over the map, each sum in the written order. Numerics: EXACT.
// *_warp are for many channels: a warp a row reads neighbours together; its lanes hand each other the terms of a sum in
// their order, so that every lane has the whole sum.
#include "contract.cuh"
#include "threads.cuh"
#include "softmax.cuh"
#include "warp.cuh"

#define L2_EPSILON 0x1.4f8b58p-17f  // f32(1e-5), outside the root

// global_mean_f32_rows: one thread per (row, channel).  x (rows, w, c)  ->  row_sum (rows, c)
extern "C" __global__ void global_mean_f32_rows(const float* x, float* row_sum, long long rows, long long w,
                                                long long c) {
    const long long i = element_index();
    if (i >= rows * c) return;
    const float* first = x + i / c * w * c + i % c;
    float s = 0.0f;
    for (long long ox = 0; ox < w; ++ox) s = __fadd_rn(s, first[ox * c]);
    row_sum[i] = s;
}

// global_mean_f32: one thread per (image, channel).  row_sum (n, h, c)  ->  out (n, c)
extern "C" __global__ void global_mean_f32(const float* row_sum, float* out, long long n, long long h, long long c,
                                           float count) {
    const long long i = element_index();
    if (i >= n * c) return;
    const float* first = row_sum + i / c * h * c + i % c;
    float total = 0.0f;
    for (long long oy = 0; oy < h; ++oy) total = __fadd_rn(total, first[oy * c]);
    out[i] = __fdiv_rn(total, count);
}

// One thread a row.  x, out (rows, c); with has_count, only the first *count rows are wanted
extern "C" __global__ void softmax_f32(const float* x, float* out, long long rows, long long c, const int* count,
                                       int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count)) softmax_pixel(x + i * c, out + i * c, c);
}

// One thread a row.  x (rows, c)  ->  out (rows)
extern "C" __global__ void argmax_f32(const float* x, int* out, long long rows, long long c) {
    const long long i = element_index();
    if (i >= rows) return;
    float best = x[i * c];
    int index = 0;
    for (long long k = 1; k < c; ++k) {
        if (x[i * c + k] > best) {
            best = x[i * c + k];
            index = (int)k;
        }
    }
    out[i] = index;
}

// One thread a row; the sum of squares by the dot-product rule: chains of 128 terms, their sums added in order.
// x, out (rows, c); with has_count, only the first *count rows are wanted
extern "C" __global__ void l2_normalize_f32(const float* x, float* out, long long rows, long long c, const int* count,
                                            int has_count) {
    const long long i = element_index();
    if (i >= wanted_rows(rows, count, has_count)) return;
    const float* pixel = x + i * c;
    float total = 0.0f;
    for (long long start = 0; start < c; start += PAGNP_BLOCK) {
        const long long stop = start + PAGNP_BLOCK < c ? start + PAGNP_BLOCK : c;
        float s = 0.0f;
        for (long long k = start; k < stop; ++k) s = fma_step(pixel[k], pixel[k], s);
        total = start ? __fadd_rn(total, s) : s;
    }
    const float r = __fadd_rn(__fsqrt_rn(total), L2_EPSILON);
    for (long long k = 0; k < c; ++k) out[i * c + k] = __fdiv_rn(pixel[k], r);
}

extern "C" __global__ void softmax_f32_warp(const float* x, float* out, long long rows, long long c, const int* count,
                                            int has_count) {
    const long long row = element_index() / WARP;
    const int lane = threadIdx.x % WARP;
    if (row >= wanted_rows(rows, count, has_count)) return;
    x += row * c;
    out += row * c;
    // From x[0] on every lane: where that is NaN nothing is greater. Which of +0 and -0 is found, no exp can tell.
    float m = x[0];
    for (long long k = lane; k < c; k += WARP) m = x[k] > m ? x[k] : m;
    for (int distance = WARP / 2; distance; distance /= 2) {
        const float other = __shfl_xor_sync(ALL_LANES, m, distance);
        m = other > m ? other : m;
    }
    float s = 0.0f;
    for (long long start = 0; start < c; start += WARP) {
        const long long k = start + lane;
        const float e = k < c ? exp_step(__fsub_rn(x[k], m)) : 0.0f;
        if (k < c) out[k] = e;
        const int terms = c - start < WARP ? (int)(c - start) : WARP;
        for (int j = 0; j < terms; ++j) s = __fadd_rn(s, __shfl_sync(ALL_LANES, e, j));
    }
    for (long long k = lane; k < c; k += WARP) out[k] = __fdiv_rn(out[k], s);
}

extern "C" __global__ void argmax_f32_warp(const float* x, int* out, long long rows, long long c) {
    const long long row = element_index() / WARP;
    const int lane = threadIdx.x % WARP;
    if (row >= rows) return;
    x += row * c;
    float best = x[0];
    int index = 0;
    for (long long k = lane; k < c; k += WARP) {
        if (x[k] > best) {
            best = x[k];
            index = (int)k;
        }
    }
    for (int distance = WARP / 2; distance; distance /= 2) {
        const float other = __shfl_xor_sync(ALL_LANES, best, distance);
        const int place = __shfl_xor_sync(ALL_LANES, index, distance);
        if (other > best || (other == best && place < index)) {  // of equal ones the first
            best = other;
            index = place;
        }
    }
    if (lane == 0) out[row] = index;
}

extern "C" __global__ void l2_normalize_f32_warp(const float* x, float* out, long long rows, long long c,
                                                 const int* count, int has_count) {
    const long long row = element_index() / WARP;
    const int lane = threadIdx.x % WARP;
    if (row >= wanted_rows(rows, count, has_count)) return;
    x += row * c;
    out += row * c;
    float total = 0.0f, s = 0.0f;
    for (long long start = 0; start < c; start += WARP) {
        const float own = start + lane < c ? x[start + lane] : 0.0f;
        const int terms = c - start < WARP ? (int)(c - start) : WARP;
        for (int j = 0; j < terms; ++j) {
            const float v = __shfl_sync(ALL_LANES, own, j);
            s = fma_step(v, v, s);
        }
        if ((start + WARP) % PAGNP_BLOCK == 0 || start + WARP >= c) {
            total = start < PAGNP_BLOCK ? s : __fadd_rn(total, s);
            s = 0.0f;
        }
    }
    const float r = __fadd_rn(__fsqrt_rn(total), L2_EPSILON);
    for (long long k = lane; k < c; k += WARP) out[k] = __fdiv_rn(x[k], r);
}
