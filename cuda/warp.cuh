// warp.cuh: the 32 threads that run together.
#ifndef PAGNP_WARP_CUH
#define PAGNP_WARP_CUH

#define WARP 32
#define ALL_LANES 0xFFFFFFFFu

#endif
