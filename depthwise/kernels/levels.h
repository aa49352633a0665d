/* The level of x86-64 that this CPU has and its system lets programs use: 4 (AVX-512), 3 (AVX2), 2 (SSE4.2), else 0.
   The features of a level are those of the System V ABI, which compilers take for granted. Whoever includes this
   defines NET_API and is compiled for every x86-64. */

#include "cpu.h"

enum {
    NET_LAHF = 1 << 0, NET_LZCNT = 1 << 5, /* leaf 0x80000001, ecx */
    /* SSE3, SSSE3, CX16, SSE4.1, SSE4.2, POPCNT; FMA, MOVBE, AVX, F16C: leaf 1, ecx */
    NET_V2 = 1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23,
    NET_V3 = 1 << 12 | 1 << 22 | 1 << 28 | 1 << 29,
    NET_V3_MORE = 1 << 3 | 1 << 5 | 1 << 8, /* BMI1, AVX2, BMI2: leaf 7, ebx */
    NET_AVX_SAVED = 0x06, NET_AVX512_SAVED = 0xe6 /* XCR0 */
};
#define NET_V4_MORE (1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) /* AVX-512 F, DQ, CD, BW, VL: leaf 7, ebx */

static int net_find_level(void) {
    unsigned a, b, c, d, more = 0, extended = 0;
    const unsigned saved = net_saved();
    if (__get_cpuid_count(7, 0, &a, &more, &c, &d) == 0) more = 0;
    if (__get_cpuid(0x80000001, &a, &b, &extended, &d) == 0) extended = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0) return 0;
    if ((c & NET_V2) != NET_V2 || !(extended & NET_LAHF)) return 0;
    if ((c & NET_V3) != NET_V3 || (more & NET_V3_MORE) != NET_V3_MORE || !(extended & NET_LZCNT)) return 2;
    if ((saved & NET_AVX_SAVED) != NET_AVX_SAVED) return 2;
    if ((more & NET_V4_MORE) != NET_V4_MORE || (saved & NET_AVX512_SAVED) != NET_AVX512_SAVED) return 3;
    return 4;
}

NET_API int net_level(void);
int net_level(void) {
    static int found = -1;
    return net_find_once(&found, net_find_level);
}
