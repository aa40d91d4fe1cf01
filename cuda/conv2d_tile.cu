// The tile kernels of conv2d: conv2d_f32_tile<ROWS>x<COLUMNS>; `scalar` reads x 4 bytes at a time.
#include "conv2d_tile.cuh"

#define CONV2D_TILE(name, blocks, ...)                                                                              \
    extern "C" __global__ void __launch_bounds__(ConvShape<__VA_ARGS__>::BLOCK, blocks)                             \
        name(const float* x, const float* weight, const float* scale, const float* shift, const float* bias,        \
             const float* residual, float* out, const int* sites, const int* count, long long rows, int flags,      \
             int h_in, int w_in, int c_in, int h_out, int w_out, int c_out, int k_h, int k_w, int stride_y,         \
             int stride_x, int top, int left, int dilation_y, int dilation_x, int groups, int width) {              \
        conv2d_tile<ConvShape<__VA_ARGS__>>({x,     weight, scale, shift, bias,  residual, out,      sites,         \
                                             count, rows,   flags, h_in,  w_in,  c_in,     h_out,    w_out,         \
                                             c_out, k_h,    k_w,   stride_y, stride_x, top, left, dilation_y,       \
                                             dilation_x, groups, width});                                           \
    }

// All have at least 4 warps, so that the 4 schedulers of a multiprocessor get the same work.
// name, blocks of a multiprocessor; rows, columns; pixels, channels of a thread; threads down in a warp; slices; vector
CONV2D_TILE(conv2d_f32_tile128x128, 2, 128, 128, 16, 8, 8, 1, 4)
CONV2D_TILE(conv2d_f32_tile128x64, 3, 128, 64, 8, 8, 8, 1, 4)
CONV2D_TILE(conv2d_f32_tile64x64x2, 3, 64, 64, 8, 8, 8, 2, 4)
CONV2D_TILE(conv2d_f32_tile64x64x4, 2, 64, 64, 16, 8, 4, 4, 4)
CONV2D_TILE(conv2d_f32_tile64x32x4, 3, 64, 32, 8, 8, 8, 4, 4)
CONV2D_TILE(conv2d_f32_tile32x32x4, 4, 32, 32, 4, 8, 8, 4, 4)
CONV2D_TILE(conv2d_f32_tile32x16x8, 2, 32, 16, 4, 4, 8, 8, 4)
CONV2D_TILE(conv2d_f32_tile128x64_scalar, 2, 128, 64, 8, 8, 8, 1, 1)
CONV2D_TILE(conv2d_f32_tile64x64x2_scalar, 2, 64, 64, 8, 8, 8, 2, 1)
