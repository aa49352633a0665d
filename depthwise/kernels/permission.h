/* Whether this CPU has AMX with what kernels multiply in it, and the system lends its tiles to this process: Linux does
   on request, once a process, and stops one that takes them unasked. Whoever includes this defines NET_API, and NET_AMX
   as the bits of CPUID's leaf 7, edx, that have to be there. */

#include "cpu.h"

enum { NET_TILES_SAVED = 3 << 17, NET_REQUEST = 0x1023, NET_TILE_DATA = 18 };

static int net_ask_for_tiles(void) {
    unsigned a, b, c, d;
    if ((net_saved() & NET_TILES_SAVED) != NET_TILES_SAVED) return 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & NET_AMX) != NET_AMX) return 0;
#if defined(__linux__)
    long result = 158; /* arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) */
    const long request = NET_REQUEST, component = NET_TILE_DATA;
    __asm__ volatile("syscall" : "+a"(result) : "D"(request), "S"(component) : "rcx", "r11", "memory");
    return result == 0;
#else
    return 1;
#endif
}

/* 1 where the network can run, else 0 */
NET_API int net_tiles(void);
int net_tiles(void) {
    static int found = -1;
    return net_find_once(&found, net_ask_for_tiles);
}
