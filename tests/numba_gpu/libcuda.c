// A libcuda.so.1 for tests: one GPU, whose memory is the host's and whose kernels do not run. So all of the backend but
// the GPU itself is at work: Numba compiles, loads and launches. Only what Numba-CUDA 0.30 asks for is here.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef CUDA // -D gives other drivers and GPUs
#define CUDA 13000
#endif
#ifndef CAPABILITY
#define CAPABILITY 9
#endif
#define API __attribute__((visibility("default")))
typedef int Result;
typedef unsigned long long Pointer;
enum { OK = 0, OUT_OF_MEMORY = 2, NO_CONTEXT = 201, NOT_FOUND = 500 };

// The tests set how many bytes are free, how many parameters a kernel has, and what waiting returns; they read the last
// launch: blocks and threads (x, y, z each), the first 8 bytes of every parameter; and the last stream that was named.
API long long stub_free = 1LL << 30;
API int stub_parameters = 0, stub_status = OK;
API unsigned stub_grid[6];
API Pointer stub_values[256], stub_stream = 0;

static _Thread_local void* current;
static char context[64], function[64];

API Result cuGetProcAddress_v2(const char* name, void** found, int version, uint64_t flags, int* status) {
    static const char* const endings[] = {"_v3", "_v2", ""};
    Dl_info info;
    dladdr((void*)cuGetProcAddress_v2, &info);
    void* self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *found = NULL;
    for (int i = 0; i < 3 && !*found; ++i) {
        char whole[256];
        snprintf(whole, sizeof whole, "%s%s", name, endings[i]);
        *found = dlsym(self, whole);
    }
    if (status) *status = *found ? 0 : 1;
    return *found ? OK : NOT_FOUND;
}

// The driver and the GPU: a Hopper with 132 multiprocessors and 1 GiB.
API Result cuInit(unsigned flags) { return OK; }
API Result cuDriverGetVersion(int* version) { return *version = CUDA, OK; }
API Result cuGetErrorName(Result error, const char** text) { return *text = "CUDA_ERROR_OF_THE_STUB", OK; }
API Result cuGetErrorString(Result error, const char** text) { return *text = "an error of the stub", OK; }
API Result cuDeviceGetCount(int* count) { return *count = 1, OK; }
API Result cuDeviceGet(int* device, int ordinal) { return *device = ordinal, OK; }
API Result cuDeviceGetName(char* name, int size, int device) { return snprintf(name, size, "Stub"), OK; }
API Result cuDeviceTotalMem_v2(size_t* bytes, int device) { return *bytes = 1LL << 30, OK; }
API Result cuDeviceGetUuid_v2(void* uuid, int device) { return memset(uuid, 7, 16), OK; }
API Result cuDeviceGetAttribute(int* value, int attribute, int device) {
    switch (attribute) {
        case 16: return *value = 132, OK;  // multiprocessors
        case 75: return *value = CAPABILITY, OK;  // compute capability
        case 76: return *value = 0, OK;
        default: return *value = 1024, OK;
    }
}

// The context, which each thread has to make its own.
API Result cuDevicePrimaryCtxRetain(void** to, int device) { return *to = context, OK; }
API Result cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
API Result cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) { return *flags = 0, *active = 1, OK; }
API Result cuCtxGetCurrent(void** to) { return *to = current, OK; }
API Result cuCtxSetCurrent(void* to) { return current = to, OK; }
API Result cuCtxPushCurrent_v2(void* to) { return current = to, OK; }
API Result cuCtxPopCurrent_v2(void** to) { return *to = current, current = NULL, OK; }
API Result cuCtxGetDevice(int* device) { return *device = 0, current ? OK : NO_CONTEXT; }
API Result cuCtxGetId(void* of, Pointer* id) { return *id = 1, OK; }
API Result cuCtxSynchronize(void) { return stub_status; }

// Memory.
API Result cuMemGetInfo_v2(size_t* left, size_t* total) { return *left = stub_free, *total = 1LL << 30, OK; }
API Result cuMemAlloc_v2(Pointer* to, size_t size) {
    void* at = NULL;
    if ((long long)size > stub_free || posix_memalign(&at, 256, size + 1)) return OUT_OF_MEMORY;
    return *to = (Pointer)memset(at, 0xFF, size), OK;
}
API Result cuMemFree_v2(Pointer at) { return free((void*)at), OK; }
API Result cuMemcpyHtoD_v2(Pointer to, const void* from, size_t n) { return memcpy((void*)to, from, n), OK; }
API Result cuMemcpyDtoH_v2(void* to, Pointer from, size_t n) { return memcpy(to, (void*)from, n), stub_status; }
API Result cuMemcpyDtoD_v2(Pointer to, Pointer from, size_t n) { return memmove((void*)to, (void*)from, n), OK; }
API Result cuMemsetD8_v2(Pointer to, unsigned char value, size_t n) { return memset((void*)to, value, n), OK; }
API Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t n, Pointer stream) {
    return stub_stream = stream, cuMemcpyHtoD_v2(to, from, n);
}
API Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t n, Pointer stream) {
    return stub_stream = stream, memcpy(to, (void*)from, n), OK;
}
API Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t n, Pointer stream) {
    return stub_stream = stream, cuMemcpyDtoD_v2(to, from, n);
}
API Result cuMemsetD8Async(Pointer to, unsigned char value, size_t n, Pointer stream) {
    return stub_stream = stream, cuMemsetD8_v2(to, value, n);
}
API Result cuPointerGetAttributes(unsigned count, int* which, void** to, Pointer at) {
    for (unsigned i = 0; i < count; ++i) {
        switch (which[i]) {
            case 1: *(void**)to[i] = context; break;
            case 2: *(int*)to[i] = 2; break;  // the kind of memory: a device's
            case 3: *(Pointer*)to[i] = at; break;
            default: *(int*)to[i] = 0;  // not managed; ordinal 0
        }
    }
    return OK;
}
API Result cuPointerGetAttribute(void* to, int which, Pointer at) { return cuPointerGetAttributes(1, &which, &to, at); }

// Streams and events.
API Result cuStreamSynchronize(Pointer stream) { return stub_stream = stream, stub_status; }
API Result cuStreamWaitEvent(Pointer stream, void* event, unsigned flags) { return stub_stream = stream, OK; }
API Result cuStreamGetCtx(Pointer stream, void** to) { return *to = context, OK; }
API Result cuEventCreate(void** event, unsigned flags) { return *event = malloc(8), OK; }
API Result cuEventRecord(void* event, Pointer stream) { return stub_stream = stream, OK; }
API Result cuEventDestroy_v2(void* event) { return free(event), OK; }

// Kernels.
API Result cuLibraryLoadData(void** library, const void* code, int* options, void** values, unsigned count,
                             int* library_options, void** library_values, unsigned library_count) {
    return *library = malloc(8), OK;
}
API Result cuLibraryUnload(void* library) { return OK; }
API Result cuLibraryGetKernel(void** kernel, void* library, const char* name) { return *kernel = function, OK; }
API Result cuLibraryGetModule(void** module, void* library) { return *module = library, OK; }
API Result cuKernelGetFunction(void** to, void* kernel) { return *to = kernel, OK; }
API Result cuKernelGetAttribute(int* value, int which, void* kernel, int device) { return *value = 0, OK; }
API Result cuFuncGetAttribute(int* value, int which, void* of) { return *value = 0, OK; }
API Result cuFuncSetAttribute(void* of, int which, int value) { return OK; }

struct Launch {
    unsigned grid[6], shared;
    Pointer stream;
};
API Result cuLaunchKernelEx(const struct Launch* launch, void* of, void** parameters, void** extra) {
    memcpy(stub_grid, launch->grid, sizeof stub_grid);
    for (int i = 0; i < stub_parameters; ++i) memcpy(&stub_values[i], parameters[i], 8);
    return stub_stream = launch->stream, OK;
}
API Result cuLaunchKernel(void* of, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, Pointer stream, void** parameters, void** extra) {
    const struct Launch launch = {{gx, gy, gz, bx, by, bz}, shared, stream};
    return cuLaunchKernelEx(&launch, of, parameters, extra);
}
