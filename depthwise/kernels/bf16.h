/* bfloat16: the upper half of a float. Numbers below 2^-126 become zeros of their sign, as AMX and AVX512-BF16 have it.
   Of two vectors of neighbours the first has the even channels. */

#include "narrow.h"

INLINE float bf16_float(const unsigned short x) {
    const unsigned bits = (unsigned)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}
INLINE unsigned short bf16_round(const float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) == 0) return (unsigned short)(bits >> 16 & 0x8000u);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(bits >> 16 | 0x40u); /* NaN stays NaN */
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* what is in the lower and in the upper half of each lane */
INLINE vf bf16_first(const vu pairs) { return of_bits(pairs << 16); }
INLINE vf bf16_second(const vu pairs) { return of_bits(pairs & 0xffff0000u); }

/* bfloat16 in the upper half of each lane; what is in the lower half has no meaning */
INLINE vu bf16_upper(const vf v) {
    const vu bits = bits_of(v), even = bits + 0x7fffu + (bits >> 16 & 1u);
    const vu number = lanes_where(v != v, bits | 0x400000u, even);
    return lanes_where((bits & 0x7f800000u) == 0, bits & 0x80000000u, number);
}
/* the same in the lower half, zeros in the upper one */
INLINE vu bf16_lower(const vf v) { return bf16_upper(v) >> 16; }

INLINE vf bf16_floats(const vh v) { return of_bits(wide_lanes(v) << 16); }
INLINE vh bf16_halves(const vf v) { return low_halves(bf16_lower(v)); }

/* 2 * count neighbours, even channels and odd ones apart */
INLINE struct two bf16_load_two(const unsigned short *p, const int count) {
    const vu pairs = load_pairs(p, count);
    return (struct two){bf16_first(pairs), bf16_second(pairs)};
}

#if VL == 16 && defined(__AVX512BF16__)
typedef unsigned short v32h __attribute__((vector_size(64)));
typedef unsigned short v32h_anywhere __attribute__((vector_size(64), aligned(2), may_alias));

INLINE v32h bf16_both(const vf low, const vf high) {
    v32h both;
    __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(high), "v"(low));
    return both;
}
INLINE void bf16_store_two(unsigned short *p, const struct two v, const int count) {
    const unsigned short weave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const v32h both = bf16_both(v.first, v.second), order = *(const v32h_anywhere *)weave;
    v32h pairs;
    __asm__("vpermw %2, %1, %0" : "=v"(pairs) : "v"(order), "v"(both));
    store_part((float *)(void *)p, (vf)pairs, count);
}
/* `count` numbers, of low up to VL and of high from there on */
INLINE void bf16_store_both(unsigned short *p, const vf low, const vf high, const int count) {
    const v32h both = bf16_both(low, high);
    store_part((float *)(void *)p, (vf)both, count / 2);
}
#else
INLINE void bf16_store_two(unsigned short *p, const struct two v, const int count) {
    const vu pairs = bf16_lower(v.first) | (bf16_upper(v.second) & 0xffff0000u);
#if VL == 1
    memcpy(p, &pairs, (size_t)count * sizeof pairs);
#else
    store_part((float *)(void *)p, of_bits(pairs), count);
#endif
}
#endif

INLINE struct two bf16_splat_two(const unsigned short *p) {
    const vu pairs = splat_pair(p);
    return (struct two){bf16_first(pairs), bf16_second(pairs)};
}

/* ---------------------------------------------------------------------------------------- sums */

/* zero of the same sign for what lies below the normal numbers */
INLINE float bf16_flush(const float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

/* pairs of channels in a step of a convolution: what a tile of AMX takes, or all where there are fewer */
INLINE int bf16_pairs(const int channels) { return channels < 32 ? channels / 2 : 16; }

/* Weights of a depthwise convolution are floats, numbers that bfloat16 holds. Where channel c lies among those of a
   tap: even ones first, as load_two has them. */
typedef float bf16_tap;
INLINE float bf16_tap_float(const bf16_tap w) { return w; }
INLINE int bf16_lane(const int c) { return c / (2 * VL) * (2 * VL) + c % 2 * VL + c % (2 * VL) / 2; }
INLINE struct two bf16_load_tap(const bf16_tap *w) { return (struct two){load(w), load(w + VL)}; }
