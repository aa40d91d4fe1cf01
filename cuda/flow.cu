// What a run does between its ops (pagnp/backends/numpy_ref/flow.py): one thread an element of out.
// Numerics: EXACT. Masks hold 0 and 1. size: elements of out
#include "contract.cuh"
#include "threads.cuh"
#include "nearest.cuh"

// Where a control, of which `per` neighbours share an element, picks branch `slot`.  control (size/per)  ->  out (size)
extern "C" __global__ void picked_u8(const unsigned char* control, int slot, unsigned char* out, long long size,
                                     long long per) {
    const long long i = element_index();
    if (i < size) out[i] = (control[i / per] != 0) == (slot != 0);
}

extern "C" __global__ void picked_i32(const int* control, int slot, unsigned char* out, long long size,
                                      long long per) {
    const long long i = element_index();
    if (i < size) out[i] = control[i / per] == slot;
}

extern "C" __global__ void unite_u8(const unsigned char* mask, unsigned char* out, long long size) {
    const long long i = element_index();
    if (i < size && mask[i]) out[i] = 1;
}

extern "C" __global__ void logical_not_u8(const unsigned char* mask, unsigned char* out, long long size) {
    const long long i = element_index();
    if (i < size) out[i] = !mask[i];
}

extern "C" __global__ void to_float_f32(const unsigned char* mask, float* out, long long size) {
    const long long i = element_index();
    if (i < size) out[i] = mask[i] ? 1.0f : 0.0f;
}

// pixels (h_in, w_in, c)  scale, shift (c)  ->  out (size/w_out/c, w_out, c), +0 below the pixels and to their right
extern "C" __global__ void normalize_u8(const unsigned char* pixels, const float* scale, const float* shift,
                                        float* out, long long size, long long h_in, long long w_in, long long w_out,
                                        long long c) {
    const long long i = element_index();
    if (i >= size) return;
    const long long channel = i % c, ox = i / c % w_out, oy = i / c / w_out;
    const bool inside = oy < h_in && ox < w_in;
    out[i] = inside ? __fmaf_rn((float)pixels[(oy * w_in + ox) * c + channel], scale[channel], shift[channel]) : 0.0f;
}

// x (n, h_in, row_in)  ->  out (n, h_out, row_out): the upper left part
#define CROP(NAME, TYPE)                                                                                              \
    extern "C" __global__ void NAME(const TYPE* x, TYPE* out, long long size, long long h_in, long long row_in,      \
                                    long long h_out, long long row_out) {                                            \
        const long long i = element_index();                                                                         \
        if (i >= size) return;                                                                                       \
        const long long place = i % row_out, oy = i / row_out % h_out, image = i / row_out / h_out;                  \
        out[i] = x[(image * h_in + oy) * row_in + place];                                                            \
    }

CROP(crop_u8, unsigned char)
CROP(crop_i32, int)

// The place in x of element i of its mirror image: rows of w pixels of c elements.
__device__ __forceinline__ long long mirrored(long long i, long long w, long long c) {
    const long long ox = i / c % w;
    return i + (w - 1 - 2 * ox) * c;
}

extern "C" __global__ void mirror_u8(const unsigned char* x, unsigned char* out, long long size, long long w,
                                     long long c) {
    const long long i = element_index();
    if (i < size) out[i] = x[mirrored(i, w, c)];
}

extern "C" __global__ void mirror_i32(const int* x, int* out, long long size, long long w, long long c) {
    const long long i = element_index();
    if (i < size) out[i] = x[mirrored(i, w, c)];
}

// The same, channel 0 with its sign changed.
extern "C" __global__ void mirror_f32_negated(const float* x, float* out, long long size, long long w, long long c) {
    const long long i = element_index();
    if (i >= size) return;
    const float v = x[mirrored(i, w, c)];
    out[i] = i % c ? v : -v;
}

extern "C" __global__ void lookup_i32(const int* table, const int* index, int* out, long long size) {
    const long long i = element_index();
    if (i < size) out[i] = table[index[i]];
}

extern "C" __global__ void narrow_u8(const int* index, unsigned char* out, long long size) {
    const long long i = element_index();
    if (i < size) out[i] = (unsigned char)index[i];
}

// out (h_out, w_out) += 1 where mask (h_in, w_in), enlarged by the rule of `nearest`, is set; steps as in resample.cu
extern "C" __global__ void ponder_i32(const unsigned char* mask, int* out, long long h_in, long long w_in,
                                      long long h_out, long long w_out, float step_y, float step_x) {
    const long long i = element_index();
    if (i >= h_out * w_out) return;
    const long long iy = nearest_index(i / w_out, step_y, h_in), ix = nearest_index(i % w_out, step_x, w_in);
    if (mask[iy * w_in + ix]) out[i] += 1;
}
