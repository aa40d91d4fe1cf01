// Sites: lists of the pixels that a mask picks, and rows of channels moved by such lists. Numerics: EXACT.
// A list has room for all pixels; how many it holds is *count, in the device's memory.
#include "threads.cuh"
#include "float4.cuh"
#include "scan.cuh"

// The sites of a mask, ascending, in three launches with the same result in any order of threads and blocks.
// 1. sums[b] = how many of the blockDim.x elements of block b are set.  mask (size)  ->  sums (blocks)
extern "C" __global__ void list_sites_i32_count(const unsigned char* mask, int* sums, long long size) {
    __shared__ int warps[WARP];
    const long long i = element_index();
    int total;
    count_before(i < size && mask[i], warps, &total);
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// 2. By one block: sums[b] = the sum of those before it; *count = the sum of all.
extern "C" __global__ void list_sites_i32_scan(int* sums, int* count, long long blocks) {
    __shared__ int warps[WARP];
    int before = 0, total;
    for (long long start = 0; start < blocks; start += blockDim.x) {
        const long long i = start + threadIdx.x;
        const int value = i < blocks ? sums[i] : 0;
        const int within = sum_before(value, warps, &total);
        if (i < blocks) sums[i] = before + within;
        before += total;
        __syncthreads();  // warps is written again
    }
    if (threadIdx.x == 0) *count = before;
}

// 3. mask (size), sums (blocks)  ->  sites (*count)
extern "C" __global__ void list_sites_i32_write(const unsigned char* mask, const int* sums, int* sites,
                                                long long size) {
    __shared__ int warps[WARP];
    const long long i = element_index();
    const bool set = i < size && mask[i];
    int total;
    const int before = count_before(set, warps, &total);
    if (set) sites[sums[blockIdx.x] + before] = (int)i;
}

// The same in one launch: every block counts for itself what is set before it. For small masks, where the launches
// would take longer than the reading.
extern "C" __global__ void list_sites_i32_once(const unsigned char* mask, int* sites, int* count, long long size) {
    __shared__ int warps[WARP];
    const long long start = (long long)blockIdx.x * blockDim.x, i = start + threadIdx.x;
    int mine = 0, earlier, total;
    for (long long k = threadIdx.x; k < start; k += blockDim.x) mine += mask[k] != 0;
    sum_before(mine, warps, &earlier);
    __syncthreads();  // warps is written again
    const bool set = i < size && mask[i];
    const int before = count_before(set, warps, &total);
    if (set) sites[earlier + before] = (int)i;
    if (threadIdx.x == 0 && start + blockDim.x >= size) *count = earlier + total;
}

// One thread per input pixel: is there a set output pixel, a tap of which reads it?
// mask (n, h_out, w_out)  ->  out (n, h_in, w_in) of `size` elements
extern "C" __global__ void grow_mask_u8(const unsigned char* mask, unsigned char* out, long long size,
                                        long long h_out, long long w_out, long long h_in, long long w_in,
                                        long long k_h, long long k_w, long long stride_y, long long stride_x,
                                        long long top, long long left, long long dilation_y, long long dilation_x) {
    const long long i = element_index();
    if (i >= size) return;
    const long long ix = i % w_in, iy = i / w_in % h_in, image = i / w_in / h_in;
    unsigned char found = 0;
    for (long long ky = 0; ky < k_h && !found; ++ky) {
        const long long y = iy + top - ky * dilation_y;
        if (y < 0 || y % stride_y || y / stride_y >= h_out) continue;
        const unsigned char* row = mask + (image * h_out + y / stride_y) * w_out;
        for (long long kx = 0; kx < k_w && !found; ++kx) {
            const long long x = ix + left - kx * dilation_x;
            if (x >= 0 && x % stride_x == 0 && x / stride_x < w_out) found = row[x / stride_x] != 0;
        }
    }
    out[i] = found;
}

// rows `sites` of x  ->  out (m, c); with has_count, only the first *count rows are wanted
extern "C" __global__ void gather_f32(const float* x, const int* sites, float* out, long long m, long long c,
                                      const int* count, int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(m, count, has_count) * c) out[i] = x[sites[i / c] * c + i % c];
}

extern "C" __global__ void gather_f32_v4(const float* x, const int* sites, float* out, long long m, long long c,
                                         const int* count, int has_count) {
    const long long i = quad_index();
    if (i < wanted_rows(m, count, has_count) * c) store_4(out + i, load_4(x + sites[i / c] * c + i % c));
}

// values (m, c)  ->  rows `sites` of out; the others stay
extern "C" __global__ void scatter_f32(const float* values, const int* sites, float* out, long long m, long long c,
                                       const int* count, int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(m, count, has_count) * c) out[sites[i / c] * c + i % c] = values[i];
}

extern "C" __global__ void scatter_f32_v4(const float* values, const int* sites, float* out, long long m, long long c,
                                          const int* count, int has_count) {
    const long long i = quad_index();
    if (i < wanted_rows(m, count, has_count) * c) store_4(out + sites[i / c] * c + i % c, load_4(values + i));
}
