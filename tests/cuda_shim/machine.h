// One block of CUDA threads on one thread of the operating system.
#ifndef PAGNP_SHIM_MACHINE_H
#define PAGNP_SHIM_MACHINE_H

#include <signal.h>

#include <memory>
#include <vector>

#include "fiber.h"
#include "shim.h"

// What Python hands over: library.py has the same structure.
struct pagnp_launch_t {
    void (*kernel)(const void* slots);
    const void* slots;
    unsigned grid[3], block[3];
    unsigned shared_bytes;
    int order;  // 0 ascending, 1 descending, 2 shuffled
    unsigned long long seed;
    int deferred;  // asynchronous copies happen at the wait, or else at once
    int workers;
    char error[1024];
};

namespace shim {

constexpr unsigned WARP = 32, MOST_SHARED = 227 << 10, MARGIN = 256;
enum Status { READY, AT_BARRIER, IN_WARP, DONE };

struct Copy {
    char* to;
    const char* from;
    int bytes;
    bool wanted;
};

struct Thread {
    Status status;
    uint3 index;
    Fiber* fiber;
    // where it waits, for what
    const char* file;
    int line, operand, width;
    pagnp_together what;
    unsigned mask;
    unsigned long long value, result;
    // asynchronous copies on their way; `groups` holds where in `copies` each committed group ends
    std::vector<Copy> copies;
    std::vector<size_t> groups;
};

// The numbers 0 .. n-1 in the launch's order.
struct Order {
    int kind;
    unsigned long long state;
    void fill(std::vector<unsigned>& order);
    unsigned draw(unsigned below);
};

struct Machine {
    pagnp_place place;
    const pagnp_launch_t* launch;
    Order order;
    std::vector<Thread> threads;
    unsigned count, live, at_barrier, votes;
    int barrier_result;
    std::vector<unsigned> turn;  // threads in the order of this round
    unsigned next;               // place in `turn` of the next thread that has not begun
    Thread* current;
    Fiber* active;  // on which `current` runs; null in the scheduler
    Context scheduler;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Fiber*> idle;
    std::unique_ptr<char[]> memory;  // dynamic shared memory between two margins
    char *statics = nullptr, *dynamic = nullptr;
    size_t static_bytes = 0;
    char error[1024];
    bool failed;

    Machine();
    void prepare(const pagnp_launch_t& launch);
    void run_block(unsigned long long block);
    void begin_threads();   // on a fiber: run threads that have not begun
    void wait(Status why);  // on a fiber: let others run until this thread is READY again
    void fail(const char* format, ...) __attribute__((format(printf, 2, 3)));  // on a fiber it does not return
    bool is_shared(const void* address, size_t bytes) const;
    void name(char* text, size_t size, const Thread& thread) const;

   private:
    void poison();
    void rounds();
    void release_barrier();
    void resume(Thread& thread);
    void enter(Fiber* fiber);
    void tell_stuck();
    void check_margins();
};

extern __thread Machine* running;  // on this thread of the operating system

void catch_faults();
struct SignalStack {
    std::unique_ptr<char[]> memory;
    stack_t before;
    SignalStack();
    ~SignalStack();
};

}  // namespace shim

#endif
