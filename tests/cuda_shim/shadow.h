// Which thread read and wrote each place of memory last: accesses that nothing puts in an order are races.
#ifndef PAGNP_SHIM_SHADOW_H
#define PAGNP_SHIM_SHADOW_H

#include <cstddef>
#include <vector>

// An array that the kernel was given. library.py has the same structure.
struct pagnp_extent_t {
    const char* name;
    const char* start;
    unsigned long long bytes;
    unsigned grain;  // bytes of an element
};

namespace shim {

// Who, and when: `time` counts the barriers of the block, `warp_time` the __syncwarp of the thread's warp.
struct Moment {
    unsigned block, time, warp_time;
    unsigned short thread;
    bool operator==(const Moment& other) const {
        return block == other.block && time == other.time && warp_time == other.warp_time && thread == other.thread;
    }
};

enum Readers : unsigned char { NOBODY, ONE, OF_ONE_WARP, OF_ONE_BLOCK, OF_BLOCKS };  // since the last barrier

struct Cell {
    Moment write, read;  // read: the last of them
    bool written = false, on_its_way = false;  // on_its_way: an asynchronous copy that nobody waited for yet
    Readers readers = NOBODY;
};

struct Region {
    const char* name;
    const char* start;
    size_t bytes;
    unsigned grain;
    bool of_block;  // shared memory: every block has its own
    std::vector<Cell> cells;
    void cover(const pagnp_extent_t& extent, bool is_shared);
    bool holds(const char* address, size_t size) const { return address >= start && address + size <= start + bytes; }
    // Notes an access; returns what it is in conflict with, or null. *other: the thread that made that.
    const char* touch(const char* address, size_t size, bool write, const Moment& now, Moment* other);
    void expect(const char* address, size_t size, bool on_its_way);
};

}  // namespace shim

#endif
