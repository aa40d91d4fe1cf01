/* Calls the kernels of emit.py on request, in memory that it shares with the process that asks.
 *
 *     kernels_server FILE ADDRESS BYTES
 *
 * FILE is mapped at ADDRESS, where the asking process has it, too: so addresses mean the same on both sides.
 * A request on stdin is int64 values: the kernel's place in `kernels`, then ARGUMENTS of them. The answer is one byte.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { ARGUMENTS = 17 };

extern void (*kernels[])(int64_t arguments);

static int read_all(void *to, size_t bytes) {
    for (size_t got = 0; got < bytes;) {
        ssize_t more = read(0, (char *)to + got, bytes - got);
        if (more <= 0) return 0;
        got += (size_t)more;
    }
    return 1;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    void *wanted = (void *)strtoull(words[2], NULL, 0);
    int file = open(words[1], O_RDWR);
    int flags = MAP_SHARED | MAP_FIXED_NOREPLACE;
    if (file < 0) return 3;
    if (mmap(wanted, strtoull(words[3], NULL, 0), PROT_READ | PROT_WRITE, flags, file, 0) != wanted) return 4;
    int64_t request[1 + ARGUMENTS];
    while (read_all(request, sizeof request)) {
        kernels[request[0]]((int64_t)(intptr_t)(request + 1));
        if (write(1, "", 1) != 1) return 5;
    }
    return 0;
}
