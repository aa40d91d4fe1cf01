// Element by element: one thread an element (in *_v4 four of them), one IEEE operation or one fma each.
// Numerics: EXACT.
// rows: of c channels; with has_count, only the first *count rows are wanted.
#include "contract.cuh"
#include "threads.cuh"
#include "float4.cuh"

// x, out (rows, c)
extern "C" __global__ void relu_f32(const float* x, float* out, long long rows, long long c, const int* count,
                                    int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i] = relu_step(x[i]);
}

extern "C" __global__ void relu_f32_v4(const float* x, float* out, long long rows, long long c, const int* count,
                                       int has_count) {
    const long long i = quad_index();
    if (i >= wanted_rows(rows, count, has_count) * c) return;
    const float4 v = load_4(x + i);
    store_4(out + i, make_float4(relu_step(v.x), relu_step(v.y), relu_step(v.z), relu_step(v.w)));
}

// The four curves are float64 routines of contract.cuh, rounded once.
extern "C" __global__ void sigmoid_f32(const float* x, float* out, long long rows, long long c, const int* count,
                                       int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i] = sigmoid_step(x[i]);
}

extern "C" __global__ void exp_f32(const float* x, float* out, long long rows, long long c, const int* count,
                                   int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i] = exp_step(x[i]);
}

extern "C" __global__ void exp10_f32(const float* x, float* out, long long rows, long long c, const int* count,
                                     int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i] = exp10_step(x[i]);
}

extern "C" __global__ void log_f32(const float* x, float* out, long long rows, long long c, const int* count,
                                   int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i] = log_step(x[i]);
}

// x, out (rows, c)  scale, shift (c)
extern "C" __global__ void norm_f32(const float* x, const float* scale, const float* shift, float* out, long long rows,
                                    long long c, const int* count, int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i] = __fmaf_rn(x[i], scale[i % c], shift[i % c]);
}

// NAME_f32: a, b, out (rows, c).
// NAME_f32_broadcast: out (n, h, w, c), rows = n*h*w; the strides of a and b count elements along each axis, 0 where
// one element stands for the whole axis.
#define BINARY(NAME, OPERATION)                                                                                       \
    extern "C" __global__ void NAME##_f32(const float* a, const float* b, float* out, long long rows, long long c,   \
                                          const int* count, int has_count) {                                         \
        const long long i = element_index();                                                                         \
        if (i < wanted_rows(rows, count, has_count) * c) out[i] = OPERATION(a[i], b[i]);                             \
    }                                                                                                                \
                                                                                                                     \
    extern "C" __global__ void NAME##_f32_v4(const float* a, const float* b, float* out, long long rows,             \
                                             long long c, const int* count, int has_count) {                         \
        const long long i = quad_index();                                                                            \
        if (i >= wanted_rows(rows, count, has_count) * c) return;                                                    \
        const float4 u = load_4(a + i), v = load_4(b + i);                                                           \
        store_4(out + i, make_float4(OPERATION(u.x, v.x), OPERATION(u.y, v.y), OPERATION(u.z, v.z),                  \
                                     OPERATION(u.w, v.w)));                                                          \
    }                                                                                                                \
                                                                                                                     \
    extern "C" __global__ void NAME##_f32_broadcast(                                                                 \
        const float* a, const float* b, float* out, long long rows, long long h, long long w, long long c,           \
        long long a_n, long long a_h, long long a_w, long long a_c, long long b_n, long long b_h, long long b_w,     \
        long long b_c, const int* count, int has_count) {                                                            \
        const long long i = element_index();                                                                         \
        if (i >= wanted_rows(rows, count, has_count) * c) return;                                                    \
        const long long pixel = i / c, channel = i % c;                                                              \
        const long long x = pixel % w, y = pixel / w % h, image = pixel / w / h;                                     \
        out[i] = OPERATION(a[image * a_n + y * a_h + x * a_w + channel * a_c],                                       \
                           b[image * b_n + y * b_h + x * b_w + channel * b_c]);                                      \
    }

BINARY(add, __fadd_rn)
BINARY(sub, __fsub_rn)
BINARY(mul, __fmul_rn)
BINARY(div, __fdiv_rn)

// With a NaN only `ne` is true. relation: its place in gpu/pointwise.py's RELATIONS.
template <typename T>
__device__ __forceinline__ bool compare_step(T a, T b, int relation) {
    switch (relation) {
        case 0: return a > b;
        case 1: return a >= b;
        case 2: return a < b;
        case 3: return a <= b;
        case 4: return a == b;
        default: return a != b;
    }
}

// out (n, h, w) of `size` elements; strides as in *_broadcast.
#define COMPARE(NAME, TYPE)                                                                                           \
    extern "C" __global__ void NAME(const TYPE* a, const TYPE* b, unsigned char* out, int relation, long long size,  \
                                    long long h, long long w, long long a_n, long long a_h, long long a_w,           \
                                    long long b_n, long long b_h, long long b_w) {                                   \
        const long long i = element_index();                                                                         \
        if (i >= size) return;                                                                                       \
        const long long x = i % w, y = i / w % h, image = i / w / h;                                                 \
        out[i] = compare_step(a[image * a_n + y * a_h + x * a_w], b[image * b_n + y * b_h + x * b_w], relation);     \
    }

COMPARE(compare_f32, float)
COMPARE(compare_i32, int)
