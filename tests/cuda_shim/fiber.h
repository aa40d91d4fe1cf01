// A stack of its own for a CUDA thread that waits, and the switch between two stacks.
#ifndef PAGNP_SHIM_FIBER_H
#define PAGNP_SHIM_FIBER_H

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#if defined(__x86_64__) && !defined(PAGNP_UCONTEXT)
#define PAGNP_SWITCH  // a dozen instructions in place of a call of the system
#else
#include <ucontext.h>
#endif

namespace shim {

constexpr size_t STACK = 256 << 10, PAGE = 4096;

#ifdef PAGNP_SWITCH

// Saves what a called function must keep, and the stack pointer to *from; goes on where `to` was saved.
extern "C" void pagnp_switch(void** from, void* to);
asm(R"(
.text
.type pagnp_switch, @function
pagnp_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size pagnp_switch, .-pagnp_switch
)");

struct Context {
    void* top = nullptr;
    void start(char* stack, void (*body)()) {
        uintptr_t* place = reinterpret_cast<uintptr_t*>(stack + STACK) - 1;  // after `ret` 8 bytes off 16, as after a call
        *--place = reinterpret_cast<uintptr_t>(body);
        top = place - 6;
    }
    void go(Context& to) { pagnp_switch(&top, to.top); }
};

#else

struct Context {
    ucontext_t context;
    void start(char* stack, void (*body)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, body, 0);
    }
    void go(Context& to) { swapcontext(&context, &to.context); }
};

#endif

struct Fiber {
    Context context;
    char* stack;
    explicit Fiber(void (*body)()) {
        void* memory = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        mprotect(memory, PAGE, PROT_NONE);  // a stack that is too small is a fault and not another's data
        stack = static_cast<char*>(memory) + PAGE;
        context.start(stack, body);
    }
    Fiber(const Fiber&) = delete;
};

}  // namespace shim

#endif
