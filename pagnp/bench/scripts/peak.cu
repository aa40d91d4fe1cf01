// fma_peak_f32: what the GPU's float32 units do at most. A program of the benchmark, no op.
// A thread holds 32 chains in registers, a tile of 8 x 4 as in a convolution: 32 fmas for 12 operands, and no memory.
// inputs (48) any numbers   out (threads) a sum, so that nothing can be left out
extern "C" __global__ void __launch_bounds__(256) fma_peak_f32(const float* inputs, float* out, int steps) {
    float x[8], weight[4], s[8][4];
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = inputs[(threadIdx.x + i) % 32];
#pragma unroll
    for (int j = 0; j < 4; ++j) weight[j] = inputs[32 + (threadIdx.x + j) % 16];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) s[i][j] = x[i] - weight[j];
    }
    for (int step = 0; step < steps; ++step) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) s[i][j] = __fmaf_rn(weight[j], x[i], s[i][j]);
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum += s[i][j];
    }
    out[(long long)blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
