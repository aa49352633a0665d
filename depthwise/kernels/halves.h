/* Whether this CPU computes in float16, and the system lets programs use the registers for it: AVX512-FP16 on x86, the
   arithmetic of ARMv8.2 elsewhere. Whoever includes this defines NET_API. */

#if defined(__x86_64__)
#include <cpuid.h>

enum { NET_SAVES = 1 << 27, NET_VECTORS_SAVED = 0xe6, NET_HALVES = 1 << 23 }; /* leaf 7, edx */
#define NET_AVX512 (1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) /* F, DQ, CD, BW, VL: leaf 7, ebx */

static int net_find_halves(void) {
    unsigned a, b, c, d, saved;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !(c & NET_SAVES)) return 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || !(d & NET_HALVES) || (b & NET_AVX512) != NET_AVX512) return 0;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    return (saved & NET_VECTORS_SAVED) == NET_VECTORS_SAVED;
}
#elif defined(__linux__)
#include <sys/auxv.h>

static int net_find_halves(void) { return (int)(getauxval(AT_HWCAP) >> 10 & 1); } /* HWCAP_ASIMDHP */
#else
static int net_find_halves(void) { return 1; } /* every ARM of macOS and Windows that can run the rest */
#endif

/* 1 where the network can run, found once, else 0. Threads that ask at the same time find the same. */
NET_API int net_halves(void);
int net_halves(void) {
    static int found = -1;
    int allowed = __atomic_load_n(&found, __ATOMIC_RELAXED);
    if (allowed < 0) __atomic_store_n(&found, allowed = net_find_halves(), __ATOMIC_RELAXED);
    return allowed;
}
