// What a CUDA thread knows of itself and does together with others. The work is done in machine.cpp.
#ifndef PAGNP_SHIM_THREADS_H
#define PAGNP_SHIM_THREADS_H

struct pagnp_place {
    uint3 thread, block;
    dim3 block_size, grid_size;
    void* dynamic_shared;
};
enum pagnp_together { PAGNP_SYNC, PAGNP_SHFL, PAGNP_UP, PAGNP_DOWN, PAGNP_XOR, PAGNP_BALLOT, PAGNP_ALL, PAGNP_ANY };

#pragma GCC visibility push(default)
extern "C" {
// initial-exec: a load, not a call. The block's thread of the operating system has one.
extern __thread pagnp_place* pagnp_here __attribute__((tls_model("initial-exec")));
int pagnp_barrier(const char* file, int line, int predicate);  // returns for how many threads it holds
unsigned long long pagnp_warp(pagnp_together what, const char* file, int line, unsigned mask, unsigned long long value,
                              int operand, int width);
void pagnp_copy(void* shared, const void* global, int bytes, bool wanted);
void pagnp_commit();
void pagnp_wait(int groups);
}
#pragma GCC visibility pop

#define threadIdx (pagnp_here->thread)
#define blockIdx (pagnp_here->block)
#define blockDim (pagnp_here->block_size)
#define gridDim (pagnp_here->grid_size)
#define warpSize 32
#define DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(pagnp_here->dynamic_shared)

#define __syncthreads() ((void)pagnp_barrier(__FILE__, __LINE__, 0))
#define __syncthreads_count(p) pagnp_barrier(__FILE__, __LINE__, (p) != 0)
#define __syncthreads_or(p) int(pagnp_barrier(__FILE__, __LINE__, (p) != 0) != 0)
#define __syncthreads_and(p) int(pagnp_barrier(__FILE__, __LINE__, (p) == 0) == 0)

template <class T>
static inline T pagnp_shuffle(pagnp_together what, const char* file, int line, unsigned mask, T value, int operand,
                              int width = 32) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "4 or 8 bytes");
    unsigned long long bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = pagnp_warp(what, file, line, mask, bits, operand, width);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static inline unsigned pagnp_vote(pagnp_together what, const char* file, int line, unsigned mask, bool predicate) {
    return (unsigned)pagnp_warp(what, file, line, mask, predicate, 0, 32);
}
static inline void pagnp_syncwarp(const char* file, int line, unsigned mask = 0xFFFFFFFFu) {
    pagnp_warp(PAGNP_SYNC, file, line, mask, 0, 0, 32);
}

#define __syncwarp(...) pagnp_syncwarp(__FILE__, __LINE__, ##__VA_ARGS__)
#define __shfl_sync(mask, ...) pagnp_shuffle(PAGNP_SHFL, __FILE__, __LINE__, mask, __VA_ARGS__)
#define __shfl_up_sync(mask, ...) pagnp_shuffle(PAGNP_UP, __FILE__, __LINE__, mask, __VA_ARGS__)
#define __shfl_down_sync(mask, ...) pagnp_shuffle(PAGNP_DOWN, __FILE__, __LINE__, mask, __VA_ARGS__)
#define __shfl_xor_sync(mask, ...) pagnp_shuffle(PAGNP_XOR, __FILE__, __LINE__, mask, __VA_ARGS__)
#define __ballot_sync(mask, p) pagnp_vote(PAGNP_BALLOT, __FILE__, __LINE__, mask, (p) != 0)
#define __all_sync(mask, p) int(pagnp_vote(PAGNP_ALL, __FILE__, __LINE__, mask, (p) != 0))
#define __any_sync(mask, p) int(pagnp_vote(PAGNP_ANY, __FILE__, __LINE__, mask, (p) != 0))

static inline void async_copy_16(void* shared, const void* global, bool wanted) {
    pagnp_copy(shared, global, 16, wanted);
}
static inline void async_copy_4(void* shared, const void* global, bool wanted) {
    pagnp_copy(shared, global, 4, wanted);
}
static inline void async_commit() { pagnp_commit(); }
template <int groups>
static inline void async_wait() {
    pagnp_wait(groups);
}

#endif
