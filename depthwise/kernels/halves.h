/* Whether this CPU computes in float16, and the system lets programs use the registers for it: AVX512-FP16 on x86, the
   arithmetic of ARMv8.2 elsewhere. Whoever includes this defines NET_API. */

#include "cpu.h"

#if defined(__x86_64__)
enum { NET_VECTORS_SAVED = 0xe6, NET_HALVES = 1 << 23 }; /* XCR0; leaf 7, edx */
#define NET_AVX512 (1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) /* F, DQ, CD, BW, VL: leaf 7, ebx */

static int net_find_halves(void) {
    unsigned a, b, c, d;
    if ((net_saved() & NET_VECTORS_SAVED) != NET_VECTORS_SAVED) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & NET_HALVES) && (b & NET_AVX512) == NET_AVX512;
}
#elif defined(__linux__)
#include <sys/auxv.h>

static int net_find_halves(void) { return (int)(getauxval(AT_HWCAP) >> 10 & 1); } /* HWCAP_ASIMDHP */
#else
static int net_find_halves(void) { return 1; } /* every ARM of macOS and Windows that can run the rest */
#endif

/* 1 where the network can run, else 0 */
NET_API int net_halves(void);
int net_halves(void) {
    static int found = -1;
    return net_find_once(&found, net_find_halves);
}
