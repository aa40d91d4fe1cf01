// Moving values without arithmetic: one thread an element (in *_v4 four of them). Numerics: EXACT, every bit is kept.
// rows: of channels; with has_count, only the first *count rows are wanted.
#include "threads.cuh"
#include "float4.cuh"

// One of concat's inputs.  x (rows, c)  ->  channels start .. start+c-1 of out (rows, c_out)
extern "C" __global__ void concat_f32(const float* x, float* out, long long rows, long long c, long long start,
                                      long long c_out, const int* count, int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i / c * c_out + start + i % c] = x[i];
}

extern "C" __global__ void concat_f32_v4(const float* x, float* out, long long rows, long long c, long long start,
                                         long long c_out, const int* count, int has_count) {
    const long long i = quad_index();
    if (i < wanted_rows(rows, count, has_count) * c) store_4(out + i / c * c_out + start + i % c, load_4(x + i));
}

// channels start .. start+c-1 of x (rows, c_in)  ->  out (rows, c)
extern "C" __global__ void slice_channels_f32(const float* x, float* out, long long rows, long long c_in,
                                              long long start, long long c, const int* count, int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i] = x[i / c * c_in + start + i % c];
}

extern "C" __global__ void slice_channels_f32_v4(const float* x, float* out, long long rows, long long c_in,
                                                 long long start, long long c, const int* count, int has_count) {
    const long long i = quad_index();
    if (i < wanted_rows(rows, count, has_count) * c) store_4(out + i, load_4(x + i / c * c_in + start + i % c));
}

// x (n, h_in, w_in, c)  ->  out (n, h_out, w_out, c) of `size` elements: x from (top, left), +0 around it
extern "C" __global__ void pad_f32(const float* x, float* out, long long size, long long h_in, long long w_in,
                                   long long c, long long h_out, long long w_out, long long top, long long left) {
    const long long i = element_index();
    if (i >= size) return;
    const long long pixel = i / c;
    const long long ix = pixel % w_out - left, iy = pixel / w_out % h_out - top, image = pixel / w_out / h_out;
    const bool inside = 0 <= iy && iy < h_in && 0 <= ix && ix < w_in;
    out[i] = inside ? x[((image * h_in + iy) * w_in + ix) * c + i % c] : 0.0f;
}

extern "C" __global__ void pad_f32_v4(const float* x, float* out, long long size, long long h_in, long long w_in,
                                      long long c, long long h_out, long long w_out, long long top, long long left) {
    const long long i = quad_index();
    if (i >= size) return;
    const long long pixel = i / c;
    const long long ix = pixel % w_out - left, iy = pixel / w_out % h_out - top, image = pixel / w_out / h_out;
    const bool inside = 0 <= iy && iy < h_in && 0 <= ix && ix < w_in;
    store_4(out + i, inside ? load_4(x + ((image * h_in + iy) * w_in + ix) * c + i % c)
                            : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
}
