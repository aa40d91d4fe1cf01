// Some ops of `pagnp-bits/1` in plain C, written from docs/NUMERICS.md.
// Tensors are float32 (n, h, w, c) in C order; ky, kx, ci, co, oy, ox, iy, ix as there.
#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>

typedef struct {
    int n, h_in, w_in, c_in, h_out, w_out, c_out, k_h, k_w;
    int stride[2], padding[4], dilation[2], groups;  // (y, x); (top, bottom, left, right)
} Window;

// What follows the sum of a convolution; NULL where a step is left out.
typedef struct {
    const float *scale, *shift, *bias, *residual;
    int relu;
} Epilogue;

// The pixels that are computed: flat (n*h_out + oy)*w_out + ox, ascending; NULL: all of them.
// compact: row i of out (and of the residual) belongs to sites[i]. Otherwise out is the whole map.
typedef struct {
    const int32_t *sites;
    int count, compact;
} Sites;

void conv2d(Window v, const float *x, const float *weight, Epilogue e, Sites at, float *out);
void max_pool2d(Window v, const float *x, float *out);
void bilinear(Window v, const float *x, int align_corners, float *out);
void exp_f32(int count, const float *x, float *out);
void softmax(int pixels, int k, const float *x, float *out);

typedef struct {
    int soft, gumbel, torch, index;  // index: a hard gate gives the branch as int32, else two branches as a byte
    float temperature;
    const float *noise, *threshold;  // NULL if absent
    int noise_pixels;                // pixels of the noise: those of one image, or of the whole batch
} Gate;

void gate(Gate g, int pixels, int k, const float *z, void *out);

#endif
