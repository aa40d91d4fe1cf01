// What is wrong, in words: who waits where.
#include <cstdarg>
#include <cstdio>

#include "machine.h"

namespace shim {

void Machine::fail(const char* format, ...) {
    if (!failed) {
        char place_text[96], text[800];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        snprintf(place_text, sizeof place_text, "block (%u, %u, %u)", place.block.x, place.block.y, place.block.z);
        if (active && current) {
            char who[64];
            name(who, sizeof who, *current);
            snprintf(error, sizeof error, "%s, %s: %s", place_text, who, text);
        } else {
            snprintf(error, sizeof error, "%s: %s", place_text, text);
        }
        failed = true;
    }
    if (active) active->context.go(scheduler);
}

void Machine::name(char* text, size_t size, const Thread& thread) const {
    snprintf(text, size, "thread (%u, %u, %u)", thread.index.x, thread.index.y, thread.index.z);
}

static void describe(char* text, size_t size, const Machine& machine, const Thread& thread) {
    static const char* const calls[] = {"__syncwarp", "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                        "__shfl_xor_sync", "__ballot_sync", "__all_sync", "__any_sync"};
    char who[64];
    machine.name(who, sizeof who, thread);
    if (thread.status == DONE)
        snprintf(text, size, "%s has returned", who);
    else if (thread.status == AT_BARRIER)
        snprintf(text, size, "%s waits in __syncthreads at %s:%d", who, thread.file, thread.line);
    else
        snprintf(text, size, "%s waits in %s(0x%08X) at %s:%d", who, calls[thread.what], thread.mask, thread.file,
                 thread.line);
}

// Nobody can go on: name one thread that waits and one that does something else.
void Machine::tell_stuck() {
    const Thread *first = nullptr, *other = nullptr;
    for (unsigned i = 0; i < count && !first; ++i)
        if (threads[i].status != DONE) first = &threads[i];
    for (unsigned i = 0; i < count && !other; ++i) {
        const Thread& thread = threads[i];
        const bool same = thread.status == first->status && thread.line == first->line && thread.file == first->file;
        if (!same) other = &thread;
    }
    char one[300], two[300] = "no other thread comes";
    describe(one, sizeof one, *this, *first);
    if (other) describe(two, sizeof two, *this, *other);
    fail("%s: %s, but %s", first->status == AT_BARRIER ? "divergent barrier" : "divergent warp", one, two);
}

}  // namespace shim
