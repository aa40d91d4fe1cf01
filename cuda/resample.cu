// Bilinear and nearest-neighbour resizing: one thread an output (in *_v4 four channels of one). Numerics: EXACT.
// x (n, band_in, w_in, c) holds the rows from first_in of a map h_in rows high,
// out (n, band_out, w_out, c), of `size` elements, those from first_out of one h_out rows high.
#include "contract.cuh"
#include "threads.cuh"
#include "float4.cuh"
#include "nearest.cuh"

#define BILINEAR_ROWS 4  // pagnp/backends/gpu/resample.py has the same number

// The two source indices of an output index, and the weight of the second: from integers.
struct Position {
    long long first, second;
    float weight;
};

__device__ __forceinline__ Position position(long long o, long long length_in, long long length_out,
                                             int align_corners) {
    long long numerator = o * (length_in - 1), denominator = length_out > 1 ? length_out - 1 : 1;
    if (!align_corners) {
        numerator = (2 * o + 1) * length_in - length_out;
        numerator = numerator > 0 ? numerator : 0;
        denominator = 2 * length_out;
    }
    Position found;
    found.first = numerator / denominator;
    found.second = found.first + 1 < length_in ? found.first + 1 : length_in - 1;
    const double rest = (double)(numerator - found.first * denominator);
    found.weight = __double2float_rn(__ddiv_rn(rest, (double)denominator));
    return found;
}

// Exactly a where a == b, so that a constant map stays constant.
__device__ __forceinline__ float between(float weight, float a, float b) {
    return __fmaf_rn(weight, __fsub_rn(b, a), a);
}

__device__ __forceinline__ float4 between(float weight, float4 a, float4 b) {
    return make_float4(between(weight, a.x, b.x), between(weight, a.y, b.y), between(weight, a.z, b.z),
                       between(weight, a.w, b.w));
}

extern "C" __global__ void bilinear_f32(const float* x, float* out, long long size, long long band_in, long long w_in,
                                        long long c, long long band_out, long long w_out, long long first_in,
                                        long long h_in, long long first_out, long long h_out, int align_corners) {
    const long long i = element_index();
    if (i >= size) return;
    const long long channel = i % c, pixel = i / c;
    const long long ox = pixel % w_out, row = pixel / w_out % band_out, image = pixel / w_out / band_out;
    const Position py = position(first_out + row, h_in, h_out, align_corners);
    const Position px = position(ox, w_in, w_out, align_corners);
    const float* upper = x + (image * band_in + py.first - first_in) * w_in * c + channel;
    const float* lower = x + (image * band_in + py.second - first_in) * w_in * c + channel;
    const float t = between(px.weight, upper[px.first * c], upper[px.second * c]);
    const float u = between(px.weight, lower[px.first * c], lower[px.second * c]);
    out[i] = between(py.weight, t, u);
}

template <typename Values>
__device__ __forceinline__ Values load_values(const float* x) {
    return *reinterpret_cast<const Values*>(x);
}

// The same with a thread for one place (of one or four channels) in BILINEAR_ROWS rows, one below the other: to find the
// source of an output takes longer than to read it. A block has one group of rows and finds their sources once.
template <typename Values>
__device__ __forceinline__ void bilinear_rows(const float* x, float* out, long long size, long long band_in,
                                              long long w_in, long long c, long long band_out, long long w_out,
                                              long long first_in, long long h_in, long long first_out,
                                              long long h_out, int align_corners) {
    __shared__ Position vertical[BILINEAR_ROWS];
    const int together = sizeof(Values) / sizeof(float);
    const long long width = w_out * c, rows = size / width;
    const long long blocks = (width / together + blockDim.x - 1) / blockDim.x;  // of a group
    const long long first = blockIdx.x / blocks * BILINEAR_ROWS;
    const long long i = (blockIdx.x % blocks * blockDim.x + threadIdx.x) * together;
    if (threadIdx.x < BILINEAR_ROWS)
        vertical[threadIdx.x] = position(first_out + (first + threadIdx.x) % band_out, h_in, h_out, align_corners);
    __syncthreads();
    if (i >= width) return;
    const Position px = position(i / c, w_in, w_out, align_corners);
    const long long left = px.first * c + i % c, right = px.second * c + i % c;
    long long image = first / band_out, row = first % band_out;
    for (int k = 0; k < BILINEAR_ROWS && first + k < rows; ++k) {
        const Position py = vertical[k];
        const float* upper = x + (image * band_in + py.first - first_in) * w_in * c;
        const float* lower = x + (image * band_in + py.second - first_in) * w_in * c;
        const Values t = between(px.weight, load_values<Values>(upper + left), load_values<Values>(upper + right));
        const Values u = between(px.weight, load_values<Values>(lower + left), load_values<Values>(lower + right));
        *reinterpret_cast<Values*>(out + (first + k) * width + i) = between(py.weight, t, u);
        if (++row == band_out) {
            row = 0;
            ++image;
        }
    }
}

extern "C" __global__ void bilinear_f32_rows(const float* x, float* out, long long size, long long band_in,
                                             long long w_in, long long c, long long band_out, long long w_out,
                                             long long first_in, long long h_in, long long first_out,
                                             long long h_out, int align_corners) {
    bilinear_rows<float>(x, out, size, band_in, w_in, c, band_out, w_out, first_in, h_in, first_out, h_out,
                         align_corners);
}

extern "C" __global__ void bilinear_f32_rows_v4(const float* x, float* out, long long size, long long band_in,
                                                long long w_in, long long c, long long band_out, long long w_out,
                                                long long first_in, long long h_in, long long first_out,
                                                long long h_out, int align_corners) {
    bilinear_rows<float4>(x, out, size, band_in, w_in, c, band_out, w_out, first_in, h_in, first_out, h_out,
                          align_corners);
}

extern "C" __global__ void nearest_f32(const float* x, float* out, long long size, long long band_in, long long w_in,
                                       long long c, long long band_out, long long w_out, long long first_in,
                                       long long h_in, long long first_out, float step_y, float step_x) {
    const long long i = element_index();
    if (i >= size) return;
    const long long channel = i % c, pixel = i / c;
    const long long ox = pixel % w_out, row = pixel / w_out % band_out, image = pixel / w_out / band_out;
    const long long iy = nearest_index(first_out + row, step_y, h_in) - first_in;
    const long long ix = nearest_index(ox, step_x, w_in);
    out[i] = x[((image * band_in + iy) * w_in + ix) * c + channel];
}

extern "C" __global__ void nearest_f32_v4(const float* x, float* out, long long size, long long band_in,
                                          long long w_in, long long c, long long band_out, long long w_out,
                                          long long first_in, long long h_in, long long first_out, float step_y,
                                          float step_x) {
    const long long i = quad_index();
    if (i >= size) return;
    const long long channel = i % c, pixel = i / c;
    const long long ox = pixel % w_out, row = pixel / w_out % band_out, image = pixel / w_out / band_out;
    const long long iy = nearest_index(first_out + row, step_y, h_in) - first_in;
    const long long ix = nearest_index(ox, step_x, w_in);
    store_4(out + i, load_4(x + ((image * band_in + iy) * w_in + ix) * c + channel));
}
