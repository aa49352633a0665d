/* Bytes that stand for numbers, scale * (byte - zero), and how sums of their products become bytes again.

   A sum of products is a whole number of 32 bits, exact in whatever order it is added up. What follows rounds each
   product and each sum of floats once, fuses none, and so gives the same bytes on every target:

     byte = clamp(round(float(acc) * scale [+ float(sum - sum_zero) * sum_scale]) + zero, low, high)

   with ties to even. The caller holds to it that what is rounded lies within 2^30, and 0 <= low <= high <= 255. */

#include "vector.h"

struct requantize {
    int zero, low, high; /* of the output: the byte of 0, and bounds, where an activation may lie */
    int add, sum_zero;   /* whether there is a summand, the byte of its 0 */
    float sum_scale;
};

INLINE unsigned char requantize_naive(
    const struct requantize a, const int acc, const float scale, const unsigned char sum) {
    const volatile float own = (float)acc * scale, other = (float)(sum - a.sum_zero) * a.sum_scale;
    const int whole = (int)rintf(a.add ? own + other : own) + a.zero;
    return (unsigned char)(whole < a.low ? a.low : whole > a.high ? a.high : whole);
}

/* ----------------------------------------------------------------------------------------- vectors */

#if VL == 1
typedef unsigned char vbyte; /* a byte a lane */
INLINE vf to_floats(vi v) { return (float)v; }
INLINE vi widened(vbyte v) { return v; }
INLINE vbyte narrowed(vi v) { return (unsigned char)v; }
INLINE vbyte load_vbyte(const unsigned char *p) { return *p; }
INLINE void store_vbyte(unsigned char *p, vbyte v) { *p = v; }
INLINE vi load_ints(const int *p) { return *p; }
#else
typedef unsigned char vbyte __attribute__((vector_size(VL)));
typedef vbyte vbyte_anywhere __attribute__((aligned(1), may_alias));
typedef short all_s16 __attribute__((vector_size(VL * 4))); /* all the shorts and bytes of a vector */
typedef unsigned char all_u8 __attribute__((vector_size(VL * 4)));
typedef all_u8 all_u8_anywhere __attribute__((aligned(1), may_alias));
INLINE vf to_floats(vi v) { return __builtin_convertvector(v, vf); }
INLINE vi widened(vbyte v) { return __builtin_convertvector(v, vi); }
INLINE vbyte narrowed(vi v) { return __builtin_convertvector(v, vbyte); }
INLINE vbyte load_vbyte(const unsigned char *p) { return *(const vbyte_anywhere *)p; }
INLINE void store_vbyte(unsigned char *p, vbyte v) { *(vbyte_anywhere *)p = v; }
INLINE vi load_ints(const int *p) { return *(const vi_anywhere *)p; }
#endif

/* The first `count` bytes, a literal up to VL; lanes past them are zero, or are not written. */
INLINE vbyte load_some_bytes(const unsigned char *p, const int count) {
    if (count == VL) return load_vbyte(p);
    unsigned char lanes[VL] = {0};
    memcpy(lanes, p, (size_t)count);
    return load_vbyte(lanes);
}
INLINE void store_some_bytes(unsigned char *p, const vbyte v, const int count) {
    if (count == VL) {
        store_vbyte(p, v);
        return;
    }
    unsigned char lanes[VL];
    store_vbyte(lanes, v);
    memcpy(p, lanes, (size_t)count);
}

/* floats, kept within the bounds of bytes about their zero, to bytes: adding 1.5 * 2^23 rounds to an integer, half to
   even, and leaves it in the low bits */
INLINE vi round_to_bounds(const vf v, const struct requantize a) {
    const vf low = splat((float)(a.low - a.zero)), high = splat((float)(a.high - a.zero));
    const vf shifted = smaller(larger(v, low), high) + 12582912.0f;
#if VL == 1
    int bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - (0x4b400000 - a.zero);
#else
    return (vi)shifted - (0x4b400000 - a.zero);
#endif
}
INLINE vbyte round_to_bytes(const vf v, const struct requantize a) { return narrowed(round_to_bounds(v, a)); }

/* what is rounded, before it is */
INLINE vf rescaled(const struct requantize a, const vi acc, const vf scale, const vbyte sum) {
    const vf own = to_floats(acc) * scale;
    if (!a.add) return own;
    return rounded(own) + rounded(to_floats(widened(sum) - a.sum_zero) * a.sum_scale);
}
INLINE vbyte requantized(const struct requantize a, const vi acc, const vf scale, const vbyte sum) {
    return round_to_bytes(rescaled(a, acc, scale, sum), a);
}

/* ------------------------------------------------------------------------------ four vectors at once */

/* Instructions that stop at the ends of narrower integers are all the bounds that most layers need. */
#if defined(__clang__) && VL == 16 && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define PACKS_BYTES
#elif defined(__clang__) && VL == 8 && defined(__AVX2__)
#define PACKS_BYTES
#elif defined(__clang__) && VL == 4 && defined(__SSE2__)
#define PACKS_BYTES
#endif

#if defined(PACKS_BYTES)
#if VL == 16
INLINE vi rounded_to_ints(const vf v) { return (vi)__builtin_ia32_cvtps2dq512_mask(v, (vi){0}, -1, 4); }
INLINE all_s16 pack_ints(const vi a, const vi b) { return (all_s16)__builtin_ia32_packssdw512(a, b); }
INLINE all_u8 pack_shorts(const all_s16 a, const all_s16 b) { return (all_u8)__builtin_ia32_packuswb512(a, b); }
#elif VL == 8
INLINE vi rounded_to_ints(const vf v) { return (vi)__builtin_ia32_cvtps2dq256(v); }
INLINE all_s16 pack_ints(const vi a, const vi b) { return (all_s16)__builtin_ia32_packssdw256(a, b); }
INLINE all_u8 pack_shorts(const all_s16 a, const all_s16 b) { return (all_u8)__builtin_ia32_packuswb256(a, b); }
#else
INLINE vi rounded_to_ints(const vf v) { return (vi)__builtin_ia32_cvtps2dq(v); }
INLINE all_s16 pack_ints(const vi a, const vi b) { return (all_s16)__builtin_ia32_packssdw128(a, b); }
INLINE all_u8 pack_shorts(const all_s16 a, const all_s16 b) { return (all_u8)__builtin_ia32_packuswb128(a, b); }
#endif

/* What is rounded to bytes: part by part of 128 bits, four of v[0], then four of v[1], and so on. */
INLINE all_u8 packed_bytes(const struct requantize a, const vi v[4]) {
    all_s16 one = pack_ints(v[0], v[1]), two = pack_ints(v[2], v[3]);
    if (a.zero) {
        one = __builtin_elementwise_add_sat(one, (all_s16){0} + (short)a.zero);
        two = __builtin_elementwise_add_sat(two, (all_s16){0} + (short)a.zero);
    }
    all_u8 bytes = pack_shorts(one, two);
    if (a.low > 0) bytes = __builtin_elementwise_max(bytes, (all_u8){0} + (unsigned char)a.low);
    if (a.high < 255) bytes = __builtin_elementwise_min(bytes, (all_u8){0} + (unsigned char)a.high);
    return bytes;
}
#endif
