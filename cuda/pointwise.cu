// Element by element: one thread an element, one IEEE operation or one fma each.
// rows: of c channels; with has_count, only the first *count rows are wanted.
#include "contract.cuh"
#include "threads.cuh"

// x, out (rows, c)
extern "C" __global__ void relu_f32(const float* x, float* out, long long rows, long long c, const int* count,
                                    int has_count) {
    const long long i = element_index();
    if (i < wanted_rows(rows, count, has_count) * c) out[i] = relu_step(x[i]);
}
