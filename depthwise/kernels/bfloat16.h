/* bfloat16: the upper half of a float, kept in an unsigned short. Sums are floats; what is stored is rounded to the
   nearest, halves to even. Numbers below 2^-126 become zeros of their sign, as AMX and AVX512-BF16 have it.

   Two neighbours are read as one 32-bit lane, so that values begin at even elements and have even channels. */

#include "activation.h"

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
/* zero of the same sign for what lies below the normal numbers */
INLINE float flush(const float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

#if VL == 1
typedef unsigned vu, vu_anywhere;
typedef unsigned short vh;
#else
typedef unsigned vu __attribute__((vector_size(VL * 4)));
typedef unsigned short vh __attribute__((vector_size(VL * 2)));
typedef vu vu_anywhere __attribute__((aligned(4), may_alias));
#endif

/* Lanes of 32 bits as floats and back: no number is changed. */
#if VL == 1
INLINE vu bits_of(const vf v) {
    vu bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}
INLINE vf of_bits(const vu bits) {
    vf v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
INLINE vu lanes_where(const int is, const vu yes, const vu no) { return is ? yes : no; }
#else
INLINE vu bits_of(const vf v) { return (vu)v; }
INLINE vf of_bits(const vu bits) { return (vf)bits; }
INLINE vu lanes_where(const vi is, const vu yes, const vu no) { return ((vu)is & yes) | (~(vu)is & no); }
#endif

/* VL pairs of neighbours, `count` of them read: the first ones of each, and the second */
#if VL == 1
INLINE vu load_pairs(const unsigned short *p, const int count) {
    vu pair = 0;
    memcpy(&pair, p, (size_t)count * sizeof pair);
    return pair;
}
#else
INLINE vu load_pairs(const unsigned short *p, const int count) {
    return bits_of(load_part((const float *)(const void *)p, count));
}
#endif
INLINE vf first_of(const vu pairs) { return of_bits(pairs << 16); }
INLINE vf second_of(const vu pairs) { return of_bits(pairs & 0xffff0000u); }

/* bfloat16 in the upper half of each lane; what is in the lower half has no meaning */
INLINE vu bf16_upper(const vf v) {
    const vu bits = bits_of(v), even = bits + 0x7fffu + (bits >> 16 & 1u);
    const vu number = lanes_where(v != v, bits | 0x400000u, even);
    return lanes_where((bits & 0x7f800000u) == 0, bits & 0x80000000u, number);
}

#if VL == 16 && defined(__AVX512BF16__)
typedef unsigned short v32h __attribute__((vector_size(64)));
typedef unsigned short v32h_anywhere __attribute__((vector_size(64), aligned(2), may_alias));

INLINE v32h bf16_both(const vf low, const vf high) {
    v32h both;
    __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(high), "v"(low));
    return both;
}
INLINE void store_pairs(unsigned short *p, const vf first, const vf second, const int count) {
    const unsigned short weave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const v32h both = bf16_both(first, second), order = *(const v32h_anywhere *)weave;
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
INLINE void store_pairs(unsigned short *p, const vf first, const vf second, const int count) {
    const vu pairs = bf16_upper(first) >> 16 | (bf16_upper(second) & 0xffff0000u);
#if VL == 1
    memcpy(p, &pairs, (size_t)count * sizeof pairs);
#else
    store_part((float *)(void *)p, of_bits(pairs), count);
#endif
}
#endif

/* `count` numbers, a literal up to VL */
INLINE vf bf16_load(const unsigned short *p, const int count) {
    vh half = {0};
    memcpy(&half, p, (size_t)count * sizeof *p);
#if VL == 1
    return bf16_float(half);
#else
    return (vf)(__builtin_convertvector(half, vu) << 16);
#endif
}
INLINE void bf16_store(unsigned short *p, const vf v, const int count) {
#if VL == 1
    const vh half = bf16_round(v);
#else
    const vh half = __builtin_convertvector(bf16_upper(v) >> 16, vh);
#endif
    memcpy(p, &half, (size_t)count * sizeof *p);
}
