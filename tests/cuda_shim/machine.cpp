// Runs the threads of a block in turns. A thread that never waits is an ordinary call; one that waits keeps its stack.
#include "machine.h"

#include <utility>

__thread pagnp_place* pagnp_here;

namespace shim {

__thread Machine* running;

unsigned Order::draw(unsigned below) {  // splitmix64
    unsigned long long z = (state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return unsigned((z ^ (z >> 31)) % below);
}

void Order::fill(std::vector<unsigned>& order) {
    const unsigned n = unsigned(order.size());
    for (unsigned i = 0; i < n; ++i) order[i] = kind == 1 ? n - 1 - i : i;
    if (kind == 2)
        for (unsigned i = n; i > 1; --i) std::swap(order[i - 1], order[draw(i)]);
}

static void fiber_body() {
    for (;;) running->begin_threads();
}

Machine::Machine() : memory(new char[MOST_SHARED + 3 * MARGIN]) {
    const uintptr_t start = reinterpret_cast<uintptr_t>(memory.get()) + MARGIN;
    dynamic = reinterpret_cast<char*>((start + MARGIN - 1) / MARGIN * MARGIN);
}

void Machine::prepare(const pagnp_launch_t& wanted) {
    launch = &wanted;
    count = wanted.block[0] * wanted.block[1] * wanted.block[2];
    if (threads.size() < count) threads.resize(count);
    turn.resize(count);
    failed = false;
    place.block_size = {wanted.block[0], wanted.block[1], wanted.block[2]};
    place.grid_size = {wanted.grid[0], wanted.grid[1], wanted.grid[2]};
    place.dynamic_shared = dynamic;
    for (unsigned i = 0; i < count; ++i)
        threads[i].index = {i % wanted.block[0], i / wanted.block[0] % wanted.block[1],
                            i / (wanted.block[0] * wanted.block[1])};
    running = this;
    pagnp_here = &place;
}

void Machine::poison() {
    if (static_bytes) std::memset(statics, 0xFF, static_bytes);
    std::memset(dynamic - MARGIN, 0xFF, launch->shared_bytes + 2 * MARGIN);
}

void Machine::check_margins() {
    for (unsigned i = 0; i < MARGIN && !failed; ++i)
        if (dynamic[i - long(MARGIN)] != char(0xFF) || dynamic[launch->shared_bytes + i] != char(0xFF))
            fail("dynamic shared memory (%u bytes): written beyond its end or before its start", launch->shared_bytes);
}

void Machine::run_block(unsigned long long block) {
    const unsigned x = launch->grid[0], y = launch->grid[1];
    place.block = {unsigned(block % x), unsigned(block / x % y), unsigned(block / x / y)};
    order = {launch->order, launch->seed ^ (block * 0xD1342543DE82EF95ULL)};
    poison();
    for (unsigned i = 0; i < count; ++i) {
        threads[i].status = READY;
        threads[i].fiber = nullptr;
        threads[i].copies.clear();
        threads[i].groups.clear();
    }
    live = count;
    at_barrier = votes = 0;
    current = nullptr;
    order.fill(turn);
    for (next = 0; next < count && !failed;) {
        if (idle.empty()) {
            fibers.emplace_back(new Fiber(fiber_body));
            idle.push_back(fibers.back().get());
        }
        Fiber* fiber = idle.back();
        idle.pop_back();
        enter(fiber);
    }
    rounds();
    if (!failed) check_margins();
    if (failed) {  // threads are left in the middle: their stacks begin anew
        idle.clear();
        for (auto& fiber : fibers) {
            fiber->context.start(fiber->stack, fiber_body);
            idle.push_back(fiber.get());
        }
    }
}

void Machine::rounds() {
    while (live && !failed) {
        bool progress = false;
        if (at_barrier == count) {
            release_barrier();
            if (failed) return;
        }
        if (order.kind == 2) order.fill(turn);
        for (unsigned i = 0; i < count && !failed; ++i) {
            Thread& thread = threads[turn[i]];
            if (thread.status != READY) continue;
            progress = true;
            resume(thread);
        }
        if (!progress && !failed && at_barrier != count) tell_stuck();
    }
}

void Machine::release_barrier() {
    for (unsigned i = 0; i < count; ++i)
        if (threads[i].line != threads[0].line || threads[i].file != threads[0].file) return tell_stuck();
    for (unsigned i = 0; i < count; ++i) threads[i].status = READY;
    barrier_result = int(votes);
    at_barrier = votes = 0;
}

void Machine::enter(Fiber* fiber) {
    active = fiber;
    scheduler.go(fiber->context);
    active = nullptr;
    if (current)
        current->fiber = fiber;  // it waits on this stack
    else
        idle.push_back(fiber);
}

void Machine::resume(Thread& thread) {
    current = &thread;
    place.thread = thread.index;
    enter(std::exchange(thread.fiber, nullptr));
}

void Machine::begin_threads() {
    while (next < count) {
        Thread& thread = threads[turn[next++]];
        current = &thread;
        place.thread = thread.index;
        launch->kernel(launch->slots);
        thread.status = DONE;
        --live;
    }
    current = nullptr;
    active->context.go(scheduler);
}

void Machine::wait(Status why) {
    current->status = why;
    active->context.go(scheduler);
}

}  // namespace shim
