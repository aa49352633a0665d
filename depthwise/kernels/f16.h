/* float16, the half of IEEE 754: 5 bits of exponent, 10 of fraction. From 65520 on a number becomes infinite, below
   2^-14 numbers lie 2^-24 apart, on every target, whatever the CPU is told of floats so small. Of two vectors of
   neighbours the first has the lower channels.

   Sums are floats, which hold each product exactly and know none below 2^-48. Where the plan says F16_SUMS the CPU
   computes in halves, and its kernels sum up in them: see sums_T16.h for the definition. */

#include "narrow.h"

#if defined(__FLT16_MANT_DIG__) && (defined(__F16C__) || defined(__aarch64__)) && !defined(NET_PLAIN)
#define F16_CONVERSIONS /* in hardware, as exact */
INLINE float f16_float(const unsigned short x) {
    _Float16 half;
    memcpy(&half, &x, sizeof half);
    return (float)half;
}
#else
INLINE float f16_float(const unsigned short x) {
    const unsigned size = x & 0x7fffu, sign = (unsigned)(x & 0x8000u) << 16;
    const float small = (float)size * 0x1p-24f;
    unsigned bits = (size << 13) + 0x38000000u;
    if (size < 0x400u) memcpy(&bits, &small, sizeof bits);
    if (size >= 0x7c00u) bits = size << 13 | 0x7f800000u;
    bits |= sign;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}
#endif
INLINE unsigned short f16_round(const float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    const unsigned size = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    if (size > 0x7f800000u) return (unsigned short)(sign | 0x7e00u | (size >> 13 & 0x3ffu)); /* NaN stays NaN */
    if (size >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);
    if (size < 0x38800000u) { /* a sum of at least 1/2 is rounded to 2^-24 */
        const float sum = fabsf(x) + 0.5f;
        memcpy(&bits, &sum, sizeof bits);
        return (unsigned short)(sign | (bits - 0x3f000000u));
    }
    return (unsigned short)(sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13);
}

#if VL > 1 && defined(F16_CONVERSIONS)
typedef _Float16 half_lanes __attribute__((vector_size(VL * 2)));
INLINE vf f16_floats(const vh v) { return __builtin_convertvector((half_lanes)v, vf); }
INLINE vh f16_halves(const vf v) { return (vh)__builtin_convertvector(v, half_lanes); }
INLINE vf f16_first(const vu pairs) { return f16_floats(low_halves(pairs)); }
INLINE vf f16_second(const vu pairs) { return f16_floats(low_halves(pairs >> 16)); }
INLINE vu f16_lower(const vf v) { return wide_lanes(f16_halves(v)); }
#else
/* halves in the lower half of each lane, zeros in the upper one */
INLINE vf f16_first_alone(const vu half) {
    const vu size = half & 0x7fffu;
#if VL == 1
    const vf small = (float)size * 0x1p-24f;
#else
    const vf small = __builtin_convertvector((vi)size, vf) * 0x1p-24f;
#endif
    const vu number = lanes_where(size < 0x400u, bits_of(small), (size << 13) + 0x38000000u);
    return of_bits(lanes_where(size >= 0x7c00u, size << 13 | 0x7f800000u, number) | (half & 0x8000u) << 16);
}
INLINE vu f16_lower(const vf v) {
    const vu bits = bits_of(v), size = bits & 0x7fffffffu;
    const vu small = bits_of(of_bits(size) + 0.5f) - 0x3f000000u;
    const vu normal = (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13;
    const vu large = lanes_where(v != v, (size >> 13 & 0x3ffu) | 0x7e00u, (vu){0} + 0x7c00u);
    const vu number = lanes_where(size < 0x38800000u, small, normal);
    return lanes_where(size >= 0x477ff000u, large, number) | (bits >> 16 & 0x8000u);
}
INLINE vf f16_floats(const vh v) { return f16_first_alone(wide_lanes(v)); }
INLINE vh f16_halves(const vf v) { return low_halves(f16_lower(v)); }
INLINE vf f16_first(const vu pairs) { return f16_first_alone(pairs & 0xffffu); }
INLINE vf f16_second(const vu pairs) { return f16_first_alone(pairs >> 16); }
#endif

/* 2 * count neighbours: VL of them, and the rest */
INLINE struct two f16_load_two(const unsigned short *p, const int count) {
    vh low = {0}, high = {0};
    memcpy(&low, p, (size_t)(2 * count < VL ? 2 * count : VL) * sizeof *p);
    if (2 * count > VL) memcpy(&high, p + VL, (size_t)(2 * count - VL) * sizeof *p);
    return (struct two){f16_floats(low), f16_floats(high)};
}
INLINE void f16_store_two(unsigned short *p, const struct two v, const int count) {
    const vh low = f16_halves(v.first), high = f16_halves(v.second);
    memcpy(p, &low, (size_t)(2 * count < VL ? 2 * count : VL) * sizeof *p);
    if (2 * count > VL) memcpy(p + VL, &high, (size_t)(2 * count - VL) * sizeof *p);
}

INLINE struct two f16_splat_two(const unsigned short *p) {
    return (struct two){splat(f16_float(p[0])), splat(f16_float(p[1]))};
}

/* ---------------------------------------------------------------------------------------- sums */

INLINE float f16_flush(const float x) { return x; }

/* pairs of channels in a step of a convolution: as many in each, so that there are at most 64 channels in one */
INLINE int f16_pairs(const int channels) {
    const int steps = (channels + 63) / 64;
    return (channels / 2 + steps - 1) / steps;
}

typedef unsigned short f16_tap;
INLINE float f16_tap_float(const f16_tap w) { return f16_float(w); }
INLINE int f16_lane(const int c) { return c; }
INLINE struct two f16_load_tap(const f16_tap *w) { return f16_load_two(w, VL); }

#if defined(F16_SUMS)
#if !(defined(__AVX512FP16__) && VL == 16) && !(defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC) && VL == 4)
#error this C computes in halves, which the CPU that it is compiled for does not: name one that does (-march)
#endif
#define f16_OWN_SUMS
/* VL pairs, or 2 * VL neighbours, of halves that are computed with */
typedef _Float16 vhalf __attribute__((vector_size(VL * 4)));

/* the half nearest to a product and a sum: a double holds both so well that it is rounded once */
INLINE float f16_multiply_add(const float x, const float w, const float sum) {
    return (float)(_Float16)((double)x * w + sum);
}

typedef vhalf f16_operand, f16_sums;
INLINE f16_operand f16_load_operand(const unsigned short *p, const int count) { return (vhalf)load_pairs(p, count); }
INLINE f16_operand f16_load_weights(const f16_tap *w) { return (vhalf)load_pairs(w, VL); }
INLINE f16_operand f16_load_pairs(const unsigned short *p) { return (vhalf)load_pairs(p, VL); }
INLINE f16_operand f16_splat_pair(const unsigned short *p) { return (vhalf)splat_pair(p); }
INLINE f16_sums f16_add_products(const f16_operand x, const f16_operand w, const f16_sums sums) { return sums + x * w; }
INLINE f16_sums f16_no_sums(void) { return (vhalf){0}; }

INLINE f16_sums f16_start(const struct two bias) {
    const vh parts[2] = {f16_halves(bias.first), f16_halves(bias.second)};
    f16_sums sums;
    memcpy(&sums, parts, sizeof sums);
    return sums;
}
INLINE struct two f16_total(const f16_sums sums) {
    vh parts[2];
    memcpy(parts, &sums, sizeof parts);
    return (struct two){f16_floats(parts[0]), f16_floats(parts[1])};
}
/* of sums of pairs, both of each */
INLINE vf f16_join(const f16_sums sums) {
    const vu turned = (vu)sums >> 16 | (vu)sums << 16;
    return f16_first((vu)(sums + (vhalf)turned));
}

/* Whether an epilogue only bounds numbers: then it is the same in halves, of bounds that are rounded. */
INLINE int f16_bounds(const struct act f) {
    return f.kind == ACT_NONE || f.kind == ACT_RELU || f.kind == ACT_RELU6 || f.kind == ACT_CLAMP;
}
INLINE int f16_only_bounds(const struct epilogue e) { return f16_bounds(e.before) && !e.add && f16_bounds(e.after); }

typedef short vs __attribute__((vector_size(VL * 4))); /* mask lanes are 0 or -1 */
INLINE vhalf f16_blend(const vs mask, const vhalf yes, const vhalf no) {
    return (vhalf)((mask & (vs)yes) | (~mask & (vs)no));
}
/* v where it is NaN */
INLINE vhalf f16_at_least(const vhalf v, const float bound) {
    const vhalf low = (_Float16)bound - (vhalf){0};
    return f16_blend((vs)(low > v), low, v);
}
INLINE vhalf f16_at_most(const vhalf v, const float bound) {
    const vhalf high = (_Float16)bound - (vhalf){0};
    return f16_blend((vs)(high < v), high, v);
}
INLINE vhalf f16_bound(const struct act f, const vhalf v) {
    if (f.kind == ACT_NONE) return v;
    if (f.kind == ACT_RELU) return f16_at_least(v, 0);
    if (f.kind == ACT_RELU6) return f16_at_most(f16_at_least(v, 0), 6);
    return f16_at_most(f16_at_least(v, f.a), f.b);
}
INLINE void f16_store_bounded(unsigned short *p, const struct epilogue e, const f16_sums sums, const int count) {
    store_part((float *)(void *)p, (vf)f16_bound(e.after, f16_bound(e.before, sums)), count);
}

INLINE float f16_start_float(const float bias) { return f16_float(f16_round(bias)); }
INLINE float f16_join_floats(const float even, const float odd) { return (float)(_Float16)(even + odd); }
#endif
