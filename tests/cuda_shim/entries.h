// How an argument comes out of its slot of 8 bytes.
#ifndef PAGNP_SHIM_ENTRIES_H
#define PAGNP_SHIM_ENTRIES_H

#include <cstring>

#define PAGNP_ENTRY extern "C" __attribute__((visibility("default")))

template <class T>
static inline T pagnp_slot(const void* slots, int i) {
    T value;
    std::memcpy(&value, static_cast<const char*>(slots) + 8 * i, sizeof value);
    return value;
}

#endif
