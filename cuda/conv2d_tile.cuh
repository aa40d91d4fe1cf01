// conv2d_tile.cuh: conv2d as an implicit matrix product, tile by tile; the instances are in conv2d_tile.cu.
// Numerics: EXACT, as conv2d_f32_plain. No term of a sum is left out or added: the last step of the reduction is as
// short as it is, and the zeros that copies fill in are the padding that the contract multiplies in.
//
// A block computes ROWS output pixels by COLUMNS channels of one group. It goes through the terms (ky, kx, ci) in steps
// of STEP; x and weight of later steps are on their way to shared memory while a step is computed. A thread holds
// PIXELS x CHANNELS chains in registers. A chain that is complete is added to totals in shared memory, which leaves
// the registers to the chains. With SLICES, as many groups of threads work on as many chains of 128 terms at a time and
// add them in turn, in the order of the contract: that keeps a multiprocessor busy where there are few tiles.
#ifndef PAGNP_CONV2D_TILE_CUH
#define PAGNP_CONV2D_TILE_CUH

#include "async_copy.cuh"
#include "contract.cuh"
#include "conv2d.cuh"
#include "threads.cuh"

struct ConvArguments {
    const float *x, *weight, *scale, *shift, *bias, *residual;
    float* out;
    const int *sites, *count;
    long long rows;
    int flags, h_in, w_in, c_in, h_out, w_out, c_out, k_h, k_w;
    int stride_y, stride_x, top, left, dilation_y, dilation_x, groups, width;
    int c_in_group, c_out_group, group, terms;  // set by conv2d_tile
};

// Where the taps of an output pixel start: the offset in x of (iy, ix), which may lie outside the map.
struct __align__(16) ConvStart {
    long long offset;
    int iy, ix;
};

#define CONV_NOWHERE (-(1 << 30))  // iy of a row that is not there: outside for every tap

// VECTOR: values of x that one copy moves, 4 (c_in/groups and the address are multiples of 4 values) or 1.
// pagnp/backends/gpu/conv_tiles.py computes threads and bytes of shared memory alike.
// DOWN: a warp is so many threads high, and 32 / DOWN wide: 8 by 4, or 4 by 8.
template <int ROWS_, int COLUMNS_, int PIXELS_, int CHANNELS_, int DOWN_, int SLICES_, int VECTOR_>
struct ConvShape {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, PIXELS = PIXELS_, CHANNELS = CHANNELS_;
    static constexpr int DOWN = DOWN_, ACROSS = 32 / DOWN, SLICES = SLICES_, VECTOR = VECTOR_, STEP = 16;
    static constexpr int THREADS = (ROWS / PIXELS) * (COLUMNS / CHANNELS), BLOCK = SLICES * THREADS;  // THREADS: a slice
    static constexpr int PITCH = STEP + 4;  // of a row of x: 8 rows of 16 bytes fall into all 32 banks
    static constexpr int X_SIZE = ROWS * PITCH, STAGE = X_SIZE + STEP * COLUMNS;
    // The copies of a thread in a step lie below each other, GAP rows apart.
    static constexpr int X_LANES = STEP / VECTOR, X_GAP = THREADS / X_LANES, X_COPIES = ROWS / X_GAP;
    static constexpr int WEIGHT_LANES = COLUMNS / 4, WEIGHT_GAP = THREADS / WEIGHT_LANES;
    static constexpr int WEIGHT_COPIES = STEP / WEIGHT_GAP;
    static_assert(PAGNP_BLOCK % STEP == 0 && STEP % 8 == 0, "a chain ends with a step");
    static_assert(ROWS % X_GAP == 0 && STEP % WEIGHT_GAP == 0 && X_COPIES < 31, "copies fill the tiles");
    static_assert(ROWS % (DOWN * PIXELS) == 0 && COLUMNS % (ACROSS * CHANNELS) == 0, "warps fill the tile");
    static_assert(DOWN == 8 || DOWN == 4, "orders of lanes that meet no bank twice");
};

// The copies of one thread, from step to step of the reduction: of x at channel ci of tap (ky, kx), and of weight.
// All that changes goes from step to step by an addition: what can be computed anew from the thread's number, a
// compiler computes anew in every step.
template <class S>
struct ConvCopies {
    int term, ky, kx, ci;  // term: the first of the next step
    unsigned wanted;       // bit j: x[j] lies in the map; bit 31: the weight's columns are there
    const float *x[S::X_COPIES], *weight;
    float *x_to, *weight_to;
    int flip;  // from the place of the next step in shared memory to that of the one after it

    __device__ __forceinline__ void start(const ConvArguments& a, const ConvStart* starts, float* stages,
                                          int first_column) {
        const int thread = threadIdx.x % S::THREADS, slice = threadIdx.x / S::THREADS;
        x_to = stages + thread / S::X_LANES * S::PITCH + thread % S::X_LANES * S::VECTOR;
        weight_to = stages + S::X_SIZE + thread * 4;
        flip = S::STAGE;
        term = slice * PAGNP_BLOCK;
        const int column = first_column + thread % S::WEIGHT_LANES * 4;
        weight = a.weight + ((long long)(term + thread / S::WEIGHT_LANES) * a.groups + a.group) * a.width + column;
        wanted = column < a.width ? 1u << 31 : 0;
        ky = 0, kx = 0, ci = term + thread % S::X_LANES * S::VECTOR;
        aim(a, starts);
    }

    // Find the tap of ci, and its addresses. One that lies outside the map gives zeros; what comes behind the last tap
    // is copied, but no sum takes it.
    __device__ __forceinline__ void aim(const ConvArguments& a, const ConvStart* starts) {
        while (ci >= a.c_in_group) {
            ci -= a.c_in_group;
            if (++kx == a.k_w) kx = 0, ++ky;
        }
        const int dy = ky * a.dilation_y, dx = kx * a.dilation_x;
        const long long offset = ((long long)dy * a.w_in + dx) * a.c_in + ci;
        wanted &= 1u << 31;
#pragma unroll
        for (int j = 0; j < S::X_COPIES; ++j) {
            const ConvStart at = starts[threadIdx.x % S::THREADS / S::X_LANES + j * S::X_GAP];
            const bool inside =
                (unsigned)(at.iy + dy) < (unsigned)a.h_in && (unsigned)(at.ix + dx) < (unsigned)a.w_in;
            x[j] = a.x + (inside ? at.offset + offset : 0);
            wanted |= (unsigned)inside << j;
        }
    }

    // Start the copies of the next step. A group of them is counted even where there is none.
    __device__ __forceinline__ void next(const ConvArguments& a, const ConvStart* starts) {
        if (term < a.terms) {
#pragma unroll
            for (int j = 0; j < S::X_COPIES; ++j) {
                float* const to = x_to + j * S::X_GAP * S::PITCH;
                if (S::VECTOR == 4)
                    async_copy_16(to, x[j], wanted >> j & 1);
                else
                    async_copy_4(to, x[j], wanted >> j & 1);
                x[j] += S::STEP;
            }
            const long long gap = (long long)a.groups * a.width * S::WEIGHT_GAP;
#pragma unroll
            for (int j = 0; j < S::WEIGHT_COPIES; ++j) {
                async_copy_16(weight_to + j * S::THREADS * 4, weight, wanted >> 31);
                weight += gap;
            }
            x_to += flip, weight_to += flip, flip = -flip;
            term += S::STEP;
            ci += S::STEP;
            if (S::SLICES > 1 && term % PAGNP_BLOCK == 0) {
                const int others = (S::SLICES - 1) * PAGNP_BLOCK;
                term += others, ci += others, weight += others / S::WEIGHT_GAP * gap;
#pragma unroll
                for (int j = 0; j < S::X_COPIES; ++j) x[j] += others;
            }
            if (ci >= a.c_in_group) aim(a, starts);
        }
        async_commit();
    }
};

template <class S>
__device__ __forceinline__ void conv_start_rows(const ConvArguments& a, ConvStart* starts, long long first,
                                                long long rows) {
#pragma unroll 1
    for (int r = threadIdx.x; r < S::ROWS; r += S::BLOCK) {
        ConvStart start = {0, CONV_NOWHERE, 0};
        if (first + r < rows) {
            const ConvPlace place = conv_place(first + r, a.sites, a.flags, a.h_out, a.w_out);
            start.iy = place.oy * a.stride_y - a.top;
            start.ix = place.ox * a.stride_x - a.left;
            start.offset = ((place.image * a.h_in + start.iy) * a.w_in + start.ix) * a.c_in + a.group * a.c_in_group;
        }
        starts[r] = start;
    }
}

// One term for PIXELS x CHANNELS chains.
template <class S>
__device__ __forceinline__ void conv_term(const float (&x)[S::PIXELS], const float* weights,
                                          float (&s)[S::PIXELS][S::CHANNELS]) {
    float4 weight[S::CHANNELS / 4];
#pragma unroll
    for (int j = 0; j < S::CHANNELS / 4; ++j) weight[j] = *(const float4*)(weights + 4 * S::ACROSS * j);
#pragma unroll
    for (int i = 0; i < S::PIXELS; ++i) {
#pragma unroll
        for (int j = 0; j < S::CHANNELS / 4; ++j) {
            s[i][4 * j] = fma_step(weight[j].x, x[i], s[i][4 * j]);
            s[i][4 * j + 1] = fma_step(weight[j].y, x[i], s[i][4 * j + 1]);
            s[i][4 * j + 2] = fma_step(weight[j].z, x[i], s[i][4 * j + 2]);
            s[i][4 * j + 3] = fma_step(weight[j].w, x[i], s[i][4 * j + 3]);
        }
    }
}

// The first `terms` of a step: 8 at a time, a loop that the instruction cache of a quarter multiprocessor holds.
template <class S>
__device__ __forceinline__ void conv_step(const float* x_tile, const float* weight_tile, int terms,
                                          float (&s)[S::PIXELS][S::CHANNELS]) {
#pragma unroll 1
    for (; terms >= 8; terms -= 8, x_tile += 8, weight_tile += 8 * S::COLUMNS) {
#pragma unroll
        for (int k = 0; k < 8; k += 4) {
            float x[4][S::PIXELS];
#pragma unroll
            for (int i = 0; i < S::PIXELS; ++i) {
                const float4 four = *(const float4*)(x_tile + S::DOWN * i * S::PITCH + k);
                x[0][i] = four.x, x[1][i] = four.y, x[2][i] = four.z, x[3][i] = four.w;
            }
#pragma unroll
            for (int kk = 0; kk < 4; ++kk) conv_term<S>(x[kk], weight_tile + (k + kk) * S::COLUMNS, s);
        }
    }
#pragma unroll 1
    for (; terms > 0; --terms, ++x_tile, weight_tile += S::COLUMNS) {
        float x[S::PIXELS];
#pragma unroll
        for (int i = 0; i < S::PIXELS; ++i) x[i] = x_tile[S::DOWN * i * S::PITCH];
        conv_term<S>(x, weight_tile, s);
    }
}

__device__ __forceinline__ float4 conv_add(float4 a, float4 b) {
    return make_float4(__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w));
}

// total = s for the first chain, then total + s; the next chain starts at +0. `totals`: a float4 every THREADS.
template <class S>
__device__ __forceinline__ void conv_end_chain(bool first, float4* totals, float (&s)[S::PIXELS][S::CHANNELS]) {
#pragma unroll
    for (int i = 0; i < S::PIXELS; ++i) {
#pragma unroll
        for (int j = 0; j < S::CHANNELS; j += 4) {
            float4* const place = totals + (i * S::CHANNELS + j) / 4 * S::THREADS;
            const float4 chain = make_float4(s[i][j], s[i][j + 1], s[i][j + 2], s[i][j + 3]);
            *place = first ? chain : conv_add(*place, chain);
            s[i][j] = s[i][j + 1] = s[i][j + 2] = s[i][j + 3] = 0.0f;
        }
    }
}

// The epilogue of four channels of a row, from co on, of which `channels` exist.
__device__ __forceinline__ void conv_write(const ConvArguments& a, float4 acc, long long row, int co, int channels) {
    const long long start = row * a.c_out + co;
    if (a.flags & CONV_ALIGNED) {
        if (a.flags & CONV_SCALE) {
            acc.x = __fmaf_rn(acc.x, a.scale[co], a.shift[co]);
            acc.y = __fmaf_rn(acc.y, a.scale[co + 1], a.shift[co + 1]);
            acc.z = __fmaf_rn(acc.z, a.scale[co + 2], a.shift[co + 2]);
            acc.w = __fmaf_rn(acc.w, a.scale[co + 3], a.shift[co + 3]);
        } else if (a.flags & CONV_BIAS) {
            acc = conv_add(acc, make_float4(a.bias[co], a.bias[co + 1], a.bias[co + 2], a.bias[co + 3]));
        }
        if (a.flags & CONV_RESIDUAL) acc = conv_add(acc, *(const float4*)(a.residual + start));
        if (a.flags & CONV_RELU)
            acc = make_float4(relu_step(acc.x), relu_step(acc.y), relu_step(acc.z), relu_step(acc.w));
        *(float4*)(a.out + start) = acc;
    } else {
        const float each[4] = {acc.x, acc.y, acc.z, acc.w};
#pragma unroll
        for (int c = 0; c < 4; ++c)
            if (c < channels)
                a.out[start + c] =
                    conv_epilogue(each[c], a.scale, a.shift, a.bias, a.residual, a.flags, co + c, row * a.c_out);
    }
}

template <class S>
__device__ __forceinline__ void conv2d_tile(ConvArguments a) {
    a.c_in_group = a.c_in / a.groups, a.c_out_group = a.c_out / a.groups, a.group = blockIdx.z;
    a.terms = a.k_h * a.k_w * a.c_in_group;
    const int thread = threadIdx.x % S::THREADS, slice = threadIdx.x / S::THREADS;
    DYNAMIC_SHARED(float, shared);
    float* const stages = shared + slice * 2 * S::STAGE;
    ConvStart* const starts = (ConvStart*)(shared + S::SLICES * 2 * S::STAGE);
    float4* const totals = (float4*)(starts + S::ROWS) + thread;

    const unsigned across = (unsigned)(a.c_out_group + S::COLUMNS - 1) / S::COLUMNS;
    const long long first_row = (long long)(blockIdx.x / across) * S::ROWS;
    const int first_column = (int)(blockIdx.x % across) * S::COLUMNS;
    const long long rows = conv_rows(a.rows, a.count, a.flags);
    if (first_row >= rows) return;
    conv_start_rows<S>(a, starts, first_row, rows);
    __syncthreads();
    ConvCopies<S> copies;
    copies.start(a, starts, stages, first_column);
    copies.next(a, starts);

    // Thread (down, across) of a warp has the rows down, down + DOWN, ... and four columns at a time. In this order of
    // lanes, loads of 16 bytes by half a warp are 128 different bytes, or the same ones.
    const int lane = thread % 32, warp = thread / 32, warps = S::COLUMNS / (S::ACROSS * S::CHANNELS);
    const int outer = lane / 2 % 8, inner = lane % 2 + lane / 16 * 2;
    const int row = warp / warps * S::DOWN * S::PIXELS + (S::DOWN == 8 ? outer : inner);
    const int channel = warp % warps * S::ACROSS * S::CHANNELS + (S::DOWN == 8 ? inner : outer) * 4;
    const float* x_tile = stages + row * S::PITCH;
    const float* weight_tile = stages + S::X_SIZE + channel;
    float s[S::PIXELS][S::CHANNELS] = {};
    // All slices go in step; `term` is the one at which the first of them stands.
    for (int term = 0; term < a.terms;) {
        async_wait<0>();
        __syncthreads();
        copies.next(a, starts);
        const int left = a.terms - term - slice * PAGNP_BLOCK;
        conv_step<S>(x_tile, weight_tile, left < S::STEP ? left : S::STEP, s);
        x_tile += copies.flip, weight_tile += copies.flip;
        term += S::STEP;
        if (term % PAGNP_BLOCK != 0 && term < a.terms) continue;
        const int chain = (term - 1) / PAGNP_BLOCK + slice;
        for (int turn = 0; turn < S::SLICES; ++turn) {
            if (turn == slice && chain * PAGNP_BLOCK < a.terms) conv_end_chain<S>(chain == 0, totals, s);
            if (S::SLICES > 1) __syncthreads();
        }
        term += (S::SLICES - 1) * PAGNP_BLOCK;
    }

#pragma unroll 1
    for (int i = slice; i < S::PIXELS; i += S::SLICES) {
        const long long r = first_row + row + S::DOWN * i;
        if (r >= rows) break;
        const long long out_row = a.flags & CONV_SCATTERED ? (long long)a.sites[r] : r;
#pragma unroll
        for (int j = 0; j < S::CHANNELS; j += 4) {
            const int co = first_column + channel + S::ACROSS * j;
            const float4 acc = totals[(i * S::CHANNELS + j) / 4 * S::THREADS];
            if (co < a.c_out_group) conv_write(a, acc, out_row, a.group * a.c_out_group + co, a.c_out_group - co);
        }
    }
}

#endif
