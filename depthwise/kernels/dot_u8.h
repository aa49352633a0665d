/* Products of bytes, unsigned ones with signed ones, summed in whole numbers of 32 bits.

   Products of bytes fit in 16 bits, sums of two need not: vpmaddubsw, which adds them there, is wrong where both are
   large. */

#include "bytes.h"

#if VL > 1
/* two products of 16 bits a lane */
INLINE vi add_pairs(const all_s16 x, const all_s16 w) {
#if VL == 16 && defined(__AVX512BW__) && defined(__clang__)
    return (vi)__builtin_ia32_pmaddwd512(x, w);
#elif VL == 8 && defined(__AVX2__)
    return (vi)__builtin_ia32_pmaddwd256(x, w);
#elif VL == 4 && defined(__SSE2__)
    return (vi)__builtin_ia32_pmaddwd128(x, w);
#elif VL == 4 && defined(__wasm_simd128__)
    return (vi)__builtin_wasm_dot_s_i32x4_i16x8(x, w);
#else
    return ((vi)x << 16 >> 16) * ((vi)w << 16 >> 16) + ((vi)x >> 16) * ((vi)w >> 16);
#endif
}
#endif

/* acc + four products a lane */
#if defined(__clang__) && VL == 16 && defined(__AVX512VNNI__)
#define DOT_FOURS
typedef char dot_s8 __attribute__((vector_size(64)));
INLINE vi dot4(const vi acc, const vi x, const vi w) {
    return (vi)__builtin_ia32_vpdpbusd512(acc, (all_u8)x, (dot_s8)w);
}
#elif defined(__clang__) && VL == 8 && (defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__)))
#define DOT_FOURS
typedef char dot_s8 __attribute__((vector_size(32)));
INLINE vi dot4(const vi acc, const vi x, const vi w) {
    return (vi)__builtin_ia32_vpdpbusd256(acc, (all_u8)x, (dot_s8)w);
}
#elif VL == 1
INLINE vi dot4(vi acc, const vi x, const vi w) {
    for (int i = 0; i < 32; i += 8) acc += (x >> i & 255) * (signed char)(w >> i & 255);
    return acc;
}
#else
/* the even and the odd bytes of four are multiplied apart */
INLINE vi dot4(const vi acc, const vi x, const vi w) {
    const all_s16 even = (all_s16)w << 8 >> 8, odd = (all_s16)w >> 8;
    return acc + (add_pairs((all_s16)(x & 0x00ff00ff), even) + add_pairs((all_s16)(x >> 8 & 0x00ff00ff), odd));
}
#endif
