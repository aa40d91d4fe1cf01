// Races and accesses beyond arrays. g++ -fsanitize=thread puts a call before every access to memory that others may see;
// the functions called are not those of its own library but the ones here.
#include "shadow.h"

#include "machine.h"

namespace shim {

void Region::cover(const pagnp_extent_t& extent, bool is_shared) {
    name = extent.name, start = extent.start, bytes = extent.bytes, grain = extent.grain, of_block = is_shared;
    cells.assign((bytes + grain - 1) / grain, Cell());
}

// Nothing puts `before` in front of `now`: neither a barrier nor, within a warp, a __syncwarp.
static bool apart(const Moment& before, const Moment& now) {
    if (before.block != now.block) return true;
    if (before.time != now.time || before.thread == now.thread) return false;
    return before.thread / WARP != now.thread / WARP || before.warp_time == now.warp_time;
}

static Readers together(const Cell& cell, const Moment& now) {
    const Moment& read = cell.read;
    if (cell.readers == NOBODY) return ONE;
    if (cell.readers == OF_BLOCKS || read.block != now.block) return OF_BLOCKS;
    if (read.time != now.time) return ONE;
    if (cell.readers == OF_ONE_BLOCK || read.thread / WARP != now.thread / WARP) return OF_ONE_BLOCK;
    if (read.warp_time != now.warp_time) return ONE;
    return cell.readers == ONE && read.thread == now.thread ? ONE : OF_ONE_WARP;
}

static bool read_apart(const Cell& cell, const Moment& now) {
    if (cell.readers == NOBODY) return false;
    if (cell.readers == OF_BLOCKS) return true;
    if (cell.readers == OF_ONE_BLOCK && cell.read.block == now.block) return cell.read.time == now.time;
    Moment read = cell.read;
    if (cell.readers == OF_ONE_WARP && read.thread == now.thread) read.thread ^= 1;  // another of the warp did, too
    return apart(read, now);
}

const char* Region::touch(const char* address, size_t size, bool write, const Moment& now, Moment* other) {
    const char* conflict = nullptr;
    for (size_t i = size_t(address - start) / grain; i <= size_t(address - start + size - 1) / grain; ++i) {
        Cell& cell = cells[i];
        if (of_block && cell.write.block != now.block) cell.written = cell.on_its_way = false;
        if (of_block && cell.read.block != now.block) cell.readers = NOBODY;
        if (cell.written && apart(cell.write, now)) conflict = "wrote", *other = cell.write;
        if (cell.on_its_way) conflict = "copies to without having waited", *other = cell.write;
        if (write && read_apart(cell, now)) conflict = "read", *other = cell.read;
        if (conflict) return conflict;
        if (write) {
            cell.write = now, cell.written = true;
        } else {
            cell.readers = together(cell, now);
            cell.read = now;
        }
    }
    return conflict;
}

void Region::expect(const char* address, size_t size, bool on_its_way) {
    for (size_t i = 0; i < size; ++i) cells[size_t(address - start) + i].on_its_way = on_its_way;
}

void Machine::expect(const Copy& copy, bool on_its_way) {
    if (Region* found = launch->extents ? region(copy.to, size_t(copy.bytes)) : nullptr)
        found->expect(copy.to, size_t(copy.bytes), on_its_way);
}

void Machine::cover() {
    arrays.resize(launch->extent_count);
    for (size_t i = 0; i < arrays.size(); ++i) arrays[i].cover(launch->extents[i], false);
    shared[0].cover({"the __shared__ variables", library.statics, library.static_bytes, 1}, true);
    shared[1].cover({"dynamic shared memory", dynamic, launch->shared_bytes, 1}, true);
}

// Arrays that overlap have each their cells: the first that holds the address is asked.
Region* Machine::region(const char* address, size_t size) {
    for (Region& region : shared)
        if (region.holds(address, size)) return &region;
    for (Region& region : arrays)
        if (region.holds(address, size)) return &region;
    return nullptr;
}

void Machine::outside(const char* address, size_t size, bool write, const char* code) {
    const long offset = code - library.start;
    const Region* nearest = nullptr;
    long distance = 0;
    for (const Region& region : arrays) {
        const long here = address >= region.start ? address + size - (region.start + region.bytes) : address - region.start;
        if (!nearest || std::abs(here) < std::abs(distance)) nearest = &region, distance = here;
    }
    const char* what = write ? "writes" : "reads";
    if (!nearest || std::abs(distance) > (1 << 20)) return fail("%s memory that is no array [+0x%lx]", what, offset);
    fail("%s %zu bytes, %ld bytes %s %s [+0x%lx]", what, size, std::abs(distance),
         distance > 0 ? "beyond the end of" : "before the start of", nearest->name, offset);
}

void Machine::touch(const void* pointer, size_t size, bool write, const void* return_address) {
    const char* code = static_cast<const char*>(return_address);
    const char* address = static_cast<const char*>(pointer);
    if (!launch->extents || !active || (address >= active->stack && address < active->stack + STACK)) return;
    Region* found = region(address, size);
    if (!found) {
        const bool own = pointer == &pagnp_here || (pointer >= &place && pointer < &place + 1);
        const bool constant = address >= library.start && address < library.end && !write;
        if (!own && !constant) outside(address, size, write, code);
        return;
    }
    const unsigned number = unsigned(current - threads.data());
    const Moment now = {block_number, time, threads[number / WARP * WARP].warp_time, (unsigned short)number};
    Moment other;
    if (const char* before = found->touch(address, size, write, now, &other)) {
        char who[64];
        name(who, sizeof who, threads[other.thread]);
        fail("race: %s byte %ld of %s, which %s of block %u %s, with nothing that orders the two [+0x%lx]",
             write ? "writes" : "reads", long(address - found->start), found->name, who, other.block, before,
             code - library.start);
    }
}

}  // namespace shim

using shim::running;

#pragma GCC visibility push(default)
extern "C" {
#define ACCESS(size)                                                                                                  \
    void __tsan_read##size(void* at) { running->touch(at, size, false, __builtin_return_address(0)); }                \
    void __tsan_write##size(void* at) { running->touch(at, size, true, __builtin_return_address(0)); }                \
    void __tsan_unaligned_read##size(void* at) { running->touch(at, size, false, __builtin_return_address(0)); }      \
    void __tsan_unaligned_write##size(void* at) { running->touch(at, size, true, __builtin_return_address(0)); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
#undef ACCESS
void __tsan_read_range(void* at, size_t size) { running->touch(at, size, false, __builtin_return_address(0)); }
void __tsan_write_range(void* at, size_t size) { running->touch(at, size, true, __builtin_return_address(0)); }
void __tsan_init() {}
}
