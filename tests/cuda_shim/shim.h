// Enough of CUDA C to compile and run cuda/*.cu on a CPU: g++ -O2 -std=c++17 -ffp-contract=off -DPAGNP_SHIM.
// Words of the language and vector types; arithmetic.h: the intrinsics; threads.h: what the threads of a block share.
#ifndef PAGNP_SHIM_H
#define PAGNP_SHIM_H

#include <math.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// All threads of a block run on one thread of the operating system, which fills this memory with NaN before each block.
#define __shared__ static thread_local

#define PAGNP_VECTOR(kind, name)                                                                                   \
    struct alignas(2 * sizeof(kind)) name##2 { kind x, y; };                                                       \
    struct name##3 { kind x, y, z; };                                                                              \
    struct alignas(4 * sizeof(kind) > 16 ? 16 : 4 * sizeof(kind)) name##4 { kind x, y, z, w; };                    \
    static inline name##2 make_##name##2(kind x, kind y) { return {x, y}; }                                        \
    static inline name##3 make_##name##3(kind x, kind y, kind z) { return {x, y, z}; }                             \
    static inline name##4 make_##name##4(kind x, kind y, kind z, kind w) { return {x, y, z, w}; }

PAGNP_VECTOR(float, float)
PAGNP_VECTOR(double, double)
PAGNP_VECTOR(int, int)
PAGNP_VECTOR(unsigned, uint)
PAGNP_VECTOR(long long, longlong)
PAGNP_VECTOR(unsigned char, uchar)
#undef PAGNP_VECTOR
typedef uint3 dim3;

#include "arithmetic.h"
#include "threads.h"

#endif
