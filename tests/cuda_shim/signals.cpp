// A kernel that touches memory which is not there ends with a message, and not the whole process with it.
#include <signal.h>

#include <mutex>

#include "machine.h"

namespace shim {

static struct sigaction before[2];
static const int caught[2] = {SIGSEGV, SIGBUS};

static void on_fault(int number, siginfo_t* info, void*) {
    Machine* machine = running;
    if (!machine || !machine->active) {  // not in a kernel: let the fault happen again under the former handler
        sigaction(number, &before[number == SIGBUS], nullptr);
        return;
    }
    const char* place = static_cast<const char*>(info->si_addr);
    const char* stack = machine->active->stack;
    if (info->si_code == SI_KERNEL)  // x86: no address
        machine->fail("a wide load or store from a misaligned address, or no address at all");
    if (place >= stack - PAGE && place < stack) machine->fail("the stack of a thread (%zu bytes) is full", STACK);
    machine->fail("no memory at address %p", static_cast<const void*>(place));
}

void catch_faults() {
    static std::mutex mutex;
    std::lock_guard<std::mutex> lock(mutex);
    for (int i = 0; i < 2; ++i) {
        struct sigaction now;
        sigaction(caught[i], nullptr, &now);
        if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault) continue;
        before[i] = now;
        struct sigaction ours = {};
        ours.sa_sigaction = on_fault;
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler never returns: it leaves by a switch
        sigaction(caught[i], &ours, nullptr);
    }
}

// For the calling thread of the operating system: a kernel's stack may be full when the handler starts.
SignalStack::SignalStack() : memory(new char[64 << 10]) {
    stack_t wanted = {};
    wanted.ss_sp = memory.get();
    wanted.ss_size = 64 << 10;
    sigaltstack(&wanted, &before);
}

SignalStack::~SignalStack() { sigaltstack(&before, nullptr); }

}  // namespace shim
