// Loops over contract.cuh's device functions, called through ctypes.
#include "shim.h"
#include "entries.h"
#include "contract.cuh"

typedef float (*Unary)(float);

PAGNP_ENTRY void map_unary(int which, long long count, const float* x, float* out) {
    const Unary functions[] = {exp_step, exp10_step, log_step, sigmoid_step, relu_step};
    for (long long i = 0; i < count; ++i) out[i] = functions[which](x[i]);
}

PAGNP_ENTRY void dot(long long rows, long long terms, const float* weight, const float* x, float* out) {
    for (long long row = 0; row < rows; ++row) {
        float total = 0.0f;
        for (long long start = 0; start < terms; start += PAGNP_BLOCK) {
            float s = 0.0f;
            for (long long k = start; k < terms && k < start + PAGNP_BLOCK; ++k)
                s = fma_step(weight[row * terms + k], x[row * terms + k], s);
            total = start ? __fadd_rn(total, s) : s;
        }
        out[row] = total;
    }
}

PAGNP_ENTRY void epilogue(long long rows, long long c_out, const float* acc, const float* scale, const float* shift,
                         const float* bias, const float* residual, int relu, float* out) {
    for (long long row = 0; row < rows; ++row)
        for (long long co = 0; co < c_out; ++co)
            out[row * c_out + co] =
                epilogue_step(acc[row * c_out + co], scale, shift, bias, residual, relu, co, row * c_out);
}

PAGNP_ENTRY void philox(long long count, const unsigned* counter, const unsigned* key, unsigned* out) {
    for (long long i = 0; i < count; ++i) philox4x32(counter + 4 * i, key, out + 4 * i);
}

PAGNP_ENTRY void gumbel(long long count, int form, const unsigned* words, float* out) {
    for (long long i = 0; i < count; ++i) out[i] = gumbel_step(words[i], form);
}
