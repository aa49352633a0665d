/* What functions find out of this CPU, once. Whoever includes this defines NET_API. */

/* what `find` says, or from the second time on `found`, which was -1 before; threads that ask at the same time find the
   same */
static int net_find_once(int *found, int (*find)(void)) {
    int known = __atomic_load_n(found, __ATOMIC_RELAXED);
    if (known < 0) __atomic_store_n(found, known = find(), __ATOMIC_RELAXED);
    return known;
}

#if defined(__x86_64__)
#include <cpuid.h>

enum { NET_OSXSAVE = 1 << 27 }; /* leaf 1, ecx */

/* Bits of XCR0: the registers that the system saves when it switches threads. Instructions on others stop the program,
   though the CPU has them. */
static unsigned net_saved(void) {
    unsigned a, b, c, d, saved;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !(c & NET_OSXSAVE)) return 0;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    return saved;
}
#endif
