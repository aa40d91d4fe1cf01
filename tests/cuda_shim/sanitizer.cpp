// What g++ -fsanitize=undefined calls where a kernel does something undefined. Its own library would only print.
#include "machine.h"

namespace shim {

struct Place {  // with which the compiler's description of every check begins
    const char* file;
    unsigned line, column;
};

static void tell(const void* data, const char* what) {
    const Place& place = *static_cast<const Place*>(data);
    if (running && running->active)
        running->fail("%s at %s:%u:%u", what, place.file, place.line, place.column);
}

struct Mismatch {
    Place place;
    const void* type;
    unsigned char log_alignment, kind;
};

}  // namespace shim

using namespace shim;

#pragma GCC visibility push(default)
extern "C" {

void __ubsan_handle_type_mismatch_v1(Mismatch* data, uintptr_t address) {
    const bool misaligned = address && (address & ((uintptr_t(1) << data->log_alignment) - 1));
    tell(data, !address ? "null pointer" : misaligned ? "misaligned address" : "object smaller than its type");
}

#define CHECK(name, what) \
    void __ubsan_handle_##name(void* data) { tell(data, what); }
CHECK(add_overflow, "overflow of +")
CHECK(sub_overflow, "overflow of -")
CHECK(mul_overflow, "overflow of *")
CHECK(negate_overflow, "overflow of unary -")
CHECK(divrem_overflow, "division by zero or overflow of /")
CHECK(shift_out_of_bounds, "shift by too much, or of a negative number")
CHECK(out_of_bounds, "index beyond its array")
CHECK(pointer_overflow, "overflow of a pointer")
CHECK(load_invalid_value, "a bool or enum of a value that it cannot have")
CHECK(float_cast_overflow, "a number too large for its integer type")
CHECK(vla_bound_not_positive, "array of no size")
CHECK(nonnull_arg, "null argument")
CHECK(invalid_builtin, "argument that a builtin does not take")
CHECK(builtin_unreachable, "unreachable code")
CHECK(missing_return, "function without a result")
#undef CHECK
}
