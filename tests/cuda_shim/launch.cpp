// A launch: its blocks, on several threads of the operating system, and the memory of `__shared__` variables.
#include <link.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <thread>

#include "machine.h"

namespace shim {

// `__shared__` variables are the thread-local variables of the library that holds the kernel, and its only ones.
struct Library {
    uintptr_t code;
    size_t module = 0, bytes = 0;
};

static int find_library(dl_phdr_info* info, size_t, void* wanted) {
    Library& library = *static_cast<Library*>(wanted);
    bool here = false;
    size_t bytes = 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& part = info->dlpi_phdr[i];
        const uintptr_t start = info->dlpi_addr + part.p_vaddr;
        if (part.p_type == PT_LOAD && library.code >= start && library.code < start + part.p_memsz) here = true;
        if (part.p_type == PT_TLS) bytes = part.p_memsz;
    }
    if (here) library.module = info->dlpi_tls_modid, library.bytes = bytes;
    return here;
}

struct Address {
    unsigned long module, offset;
};
extern "C" void* __tls_get_addr(Address*);

struct Pool {  // machines keep their stacks from launch to launch
    std::mutex mutex;
    std::vector<std::unique_ptr<Machine>> idle;
    std::unique_ptr<Machine> take() {
        std::lock_guard<std::mutex> lock(mutex);
        if (idle.empty()) return std::unique_ptr<Machine>(new Machine);
        std::unique_ptr<Machine> machine = std::move(idle.back());
        idle.pop_back();
        return machine;
    }
    void give(std::unique_ptr<Machine> machine) {
        std::lock_guard<std::mutex> lock(mutex);
        idle.push_back(std::move(machine));
    }
};
static Pool pool;

// The i-th block in the order of the launch.
struct Blocks {
    unsigned long long count, step, start;
    int kind;
    Blocks(const pagnp_launch_t& launch, unsigned long long blocks) : count(blocks), step(1), kind(launch.order) {
        Order order = {2, launch.seed};
        start = order.draw(unsigned(std::min(count, 0xFFFFFFFFULL)));
        while (kind == 2 && count > 2 && (step < 2 || std::__gcd(step, count) != 1)) {
            step = 2 + order.draw(unsigned(std::min(count, 0x7FFFFFFFULL)));
            if (std::__gcd(step, count) != 1 && count < 7) step = 1, kind = 1;
        }
    }
    unsigned long long at(unsigned long long i) const {
        if (kind == 0) return i;
        return kind == 1 ? count - 1 - i : (unsigned long long)((unsigned __int128)i * step % count + start) % count;
    }
};

static const char* refused(const pagnp_launch_t& launch) {
    const auto& grid = launch.grid;
    const auto& block = launch.block;
    const unsigned long long threads = 1ULL * block[0] * block[1] * block[2];
    if (!grid[0] || !grid[1] || !grid[2]) return "an empty grid";
    if (!threads || threads > 1024 || block[0] > 1024 || block[1] > 1024 || block[2] > 64) return "the block's size";
    if (grid[0] > 0x7FFFFFFF || grid[1] > 65535 || grid[2] > 65535) return "the grid's size";
    return launch.shared_bytes > MOST_SHARED ? "more shared memory than an SM has" : nullptr;
}

}  // namespace shim

using namespace shim;

// Returns 0, or 1 with launch->error.
extern "C" __attribute__((visibility("default"))) int pagnp_launch(pagnp_launch_t* launch) {
    if (const char* reason = refused(*launch)) {
        snprintf(launch->error, sizeof launch->error, "launch refused: %s", reason);
        return 1;
    }
    Library library = {reinterpret_cast<uintptr_t>(launch->kernel)};
    dl_iterate_phdr(find_library, &library);
    const unsigned long long count = 1ULL * launch->grid[0] * launch->grid[1] * launch->grid[2];
    const Blocks blocks(*launch, count);
    std::atomic<unsigned long long> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    catch_faults();
    const auto work = [&] {
        const SignalStack stack;
        std::unique_ptr<Machine> machine = pool.take();
        machine->prepare(*launch);
        Address address = {library.module, 0};
        machine->static_bytes = library.bytes;
        machine->statics = library.bytes ? static_cast<char*>(__tls_get_addr(&address)) : nullptr;
        for (unsigned long long i; !failed && (i = next++) < count;) {
            machine->run_block(blocks.at(i));
            if (!machine->failed) continue;
            std::lock_guard<std::mutex> lock(mutex);
            if (!failed.exchange(true)) std::memcpy(launch->error, machine->error, sizeof machine->error);
        }
        pool.give(std::move(machine));
    };
    const unsigned long long threads = count * launch->block[0] * launch->block[1] * launch->block[2];
    const unsigned long long workers = threads < 4096 ? 1 : std::min<unsigned long long>(count, launch->workers);
    std::vector<std::thread> others;
    for (unsigned long long i = 1; i < workers; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    return failed;
}
