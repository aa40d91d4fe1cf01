// conv_transpose2d_f32_depthwise: conv_transpose2d with one input and one output channel a group, as bilinear_deconv
// has it; one thread a channel of an output pixel, in *_v4 four of them. Only the taps of the pixel's phase are visited.
// Numerics: EXACT, as conv_transpose2d_f32_plain.
//
// weight (k_h, k_w, c);  rows = n*h_out*w_out;  blocks of grid.y go along the lines of out, those of grid.x along one
#include "conv_lanes.cuh"

// The first tap k >= 0 with (o - k * dilation) % stride == 0, or k_end; all others follow `step` apart.
__device__ __forceinline__ int first_tap(int o, int k_end, int stride, int dilation) {
    if (dilation == 1) {
        const int rest = o % stride;  // negative above and left of the input, where a negative crop has pixels
        return rest < 0 ? rest + stride : rest;
    }
    int k = 0;
    while (k < k_end && (o - k * dilation) % stride != 0) ++k;
    return k;
}

__device__ __forceinline__ int tap_step(int stride, int dilation) {
    int a = stride, b = dilation;
    while (b) {
        const int rest = a % b;
        a = b, b = rest;
    }
    return stride / a;
}

template <int LANES>
__device__ __forceinline__ void conv_transpose2d_depthwise(const float* x, const float* weight, const float* scale,
                                                           const float* shift, const float* bias,
                                                           const float* residual, float* out, long long rows,
                                                           int flags, int h_in, int w_in, int h_out, int w_out, int c,
                                                           int k_h, int k_w, int stride_y, int stride_x, int top,
                                                           int left, int dilation_y, int dilation_x) {
    const long long along = (long long)element_index() * LANES, lines = rows / w_out;
    const int ox = (int)conv_quotient(along, c), channel = (int)(along - (long long)ox * c);
    if (ox >= w_out) return;
    const int step_y = tap_step(stride_y, dilation_y), step_x = tap_step(stride_x, dilation_x);
    const int first_x = first_tap(ox + left, k_w, stride_x, dilation_x);
    for (long long line = blockIdx.y; line < lines; line += gridDim.y) {
        const long long image = conv_quotient(line, h_out);
        const int y = (int)(line - image * h_out) + top;
        ConvSum<LANES> sum;
        for (int ky = first_tap(y, k_h, stride_y, dilation_y); ky < k_h; ky += step_y) {
            const int iy = (y - ky * dilation_y) / stride_y;
            for (int kx = first_x; kx < k_w; kx += step_x) {
                const int ix = (ox + left - kx * dilation_x) / stride_x;
                const bool inside = 0 <= iy && iy < h_in && 0 <= ix && ix < w_in;
                const long long pixel = inside ? (image * h_in + iy) * w_in + ix : 0;
                sum.add(weight + (long long)(ky * k_w + kx) * c + channel, inside ? x + pixel * c + channel : nullptr);
            }
        }
        sum.write(scale, shift, bias, residual, out, flags, channel, (line * w_out + ox) * c);
    }
}

#define CONV_TRANSPOSE2D_DEPTHWISE(name, lanes)                                                                      \
    extern "C" __global__ void name(const float* x, const float* weight, const float* scale, const float* shift,     \
                                    const float* bias, const float* residual, float* out, long long rows, int flags, \
                                    int h_in, int w_in, int c_in, int h_out, int w_out, int c_out, int k_h, int k_w, \
                                    int stride_y, int stride_x, int top, int left, int dilation_y, int dilation_x,   \
                                    int groups) {                                                                    \
        conv_transpose2d_depthwise<lanes>(x, weight, scale, shift, bias, residual, out, rows, flags, h_in, w_in,     \
                                          h_out, w_out, c_out, k_h, k_w, stride_y, stride_x, top, left, dilation_y,  \
                                          dilation_x);                                                               \
    }

CONV_TRANSPOSE2D_DEPTHWISE(conv_transpose2d_f32_depthwise, 1)
CONV_TRANSPOSE2D_DEPTHWISE(conv_transpose2d_f32_depthwise_v4, 4)
