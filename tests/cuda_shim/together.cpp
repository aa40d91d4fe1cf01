// Barriers, shuffles, votes and asynchronous copies: what a thread does with others.
//
// Stricter than the hardware: a barrier must be reached by all threads of the block, also where some could have
// returned before; a mask names only threads that are there. Then the kernel is right on every GPU.
#include "machine.h"

using namespace shim;

int pagnp_barrier(const char* file, int line, int predicate) {
    Machine& machine = *running;
    machine.current->file = file;
    machine.current->line = line;
    machine.at_barrier += 1;
    machine.votes += predicate;
    machine.wait(AT_BARRIER);
    return machine.barrier_result;
}

// The lane whose value `lane` gets, or -1 where it keeps its own.
static int source_lane(const Thread& thread, int lane) {
    const int first = lane & ~(thread.width - 1), last = first + thread.width - 1;
    int source = lane;
    if (thread.what == PAGNP_SHFL) source = first | (thread.operand & (thread.width - 1));
    if (thread.what == PAGNP_UP) source = lane - thread.operand;
    if (thread.what == PAGNP_DOWN) source = lane + thread.operand;
    if (thread.what == PAGNP_XOR) source = lane ^ thread.operand;
    const bool outside = thread.what == PAGNP_UP ? source < first : source > last;
    return outside ? -1 : source;
}

static unsigned long long outcome(Machine& machine, const Thread& thread, const Thread* warp, int lane, unsigned votes) {
    switch (thread.what) {
        case PAGNP_SYNC: return 0;
        case PAGNP_BALLOT: return votes;
        case PAGNP_ALL: return votes == thread.mask;
        case PAGNP_ANY: return votes != 0;
        default: break;
    }
    const int source = source_lane(thread, lane);
    if (source < 0) return thread.value;
    if (!(thread.mask >> source & 1))
        machine.fail("shuffle at %s:%d: lane %d reads lane %d, which is not in the mask 0x%08X", thread.file,
                     thread.line, lane, source, thread.mask);
    return warp[source].value;
}

unsigned long long pagnp_warp(pagnp_together what, const char* file, int line, unsigned mask, unsigned long long value,
                              int operand, int width) {
    Machine& machine = *running;
    Thread& self = *machine.current;
    const unsigned number = unsigned(&self - machine.threads.data()), start = number / WARP * WARP;
    Thread* warp = &machine.threads[start];
    if (!(mask >> (number - start) & 1)) machine.fail("%s:%d: the mask 0x%08X lacks the caller", file, line, mask);
    if (width < 1 || width > 32 || (width & (width - 1))) machine.fail("%s:%d: width %d", file, line, width);
    self.what = what, self.file = file, self.line = line, self.mask = mask;
    self.value = value, self.operand = operand, self.width = width;
    self.status = IN_WARP;
    bool complete = true;
    unsigned votes = 0;
    for (unsigned lane = 0; lane < WARP && complete; ++lane) {
        if (!(mask >> lane & 1)) continue;
        const bool exists = start + lane < machine.count;
        if (!exists || warp[lane].status == DONE)
            machine.fail("%s:%d: the mask 0x%08X names lane %u, which %s", file, line, mask, lane,
                         exists ? "has returned" : "is beyond the block");
        const Thread& other = warp[lane];
        complete = other.status == IN_WARP && other.what == what && other.line == line && other.file == file &&
                   other.mask == mask;
        votes |= unsigned(other.value != 0) << lane;
    }
    if (complete) {
        for (unsigned lane = 0; lane < WARP; ++lane)
            if (mask >> lane & 1) warp[lane].result = outcome(machine, warp[lane], warp, int(lane), votes);
        for (unsigned lane = 0; lane < WARP; ++lane)
            if (mask >> lane & 1) warp[lane].status = READY;
    }
    machine.wait(complete ? READY : IN_WARP);
    return self.result;
}

static void perform(const Copy& copy) {
    if (copy.wanted)
        std::memcpy(copy.to, copy.from, size_t(copy.bytes));
    else
        std::memset(copy.to, 0, size_t(copy.bytes));
}

void pagnp_copy(void* shared, const void* global, int bytes, bool wanted) {
    Machine& machine = *running;
    const Copy copy = {static_cast<char*>(shared), static_cast<const char*>(global), bytes, wanted};
    if (reinterpret_cast<uintptr_t>(shared) % unsigned(bytes) || reinterpret_cast<uintptr_t>(global) % unsigned(bytes))
        machine.fail("asynchronous copy of %d bytes: an address is not a multiple of %d", bytes, bytes);
    if (!machine.is_shared(shared, size_t(bytes))) machine.fail("asynchronous copy: not to shared memory");
    if (machine.launch->deferred)
        machine.current->copies.push_back(copy);
    else
        perform(copy);
}

void pagnp_commit() { running->current->groups.push_back(running->current->copies.size()); }

void pagnp_wait(int groups) {
    Thread& self = *running->current;
    if (self.groups.size() <= size_t(groups)) return;
    const size_t finished = self.groups.size() - size_t(groups), copies = self.groups[finished - 1];
    for (size_t i = 0; i < copies; ++i) perform(self.copies[i]);
    self.copies.erase(self.copies.begin(), self.copies.begin() + long(copies));
    self.groups.erase(self.groups.begin(), self.groups.begin() + long(finished));
    for (size_t& end : self.groups) end -= copies;
}

bool Machine::is_shared(const void* address, size_t bytes) const {
    const char* at = static_cast<const char*>(address);
    const bool in_statics = at >= statics && at + bytes <= statics + static_bytes;
    return in_statics || (at >= dynamic && at + bytes <= dynamic + launch->shared_bytes);
}
