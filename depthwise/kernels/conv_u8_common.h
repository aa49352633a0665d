/* What the forms of conv_u8.h share: the numbers of a call, where weights lie, how tiles end. */

#include "bytes.h"

enum { CONV_U8_PIXELS = 16, CONV_U8_VECTORS = 2 }; /* the largest tile either way */

struct quantized_conv {
    int images, rows, width, taps, channels, outs, tile_pixels, panel, tiles, pitch, weights_outer;
    int in_image, in_row, in_pixel, out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel;
    struct requantize requantize;
    const int *offsets;
};

/* the fours of channels that a tap has in w */
INLINE int u8_quantized_conv_fours(const struct quantized_conv *a) {
    return a->tiles && a->channels > 64 ? (a->channels + 63) / 64 * 16 : (a->channels + 3) / 4;
}

/* where the weight of channel c of the first tap and output lies */
INLINE size_t u8_quantized_conv_place(const struct quantized_conv *a, const int c) {
    const int rest = a->tiles && a->channels > 64 ? a->channels % 64 : 0;
    const int at = c < a->channels - rest ? c : c + 64 - rest; /* the last step ends with the channels */
    return (size_t)(at / 4 * a->panel * 4 + at % 4);
}

/* ------------------------------------------------------------------------------------- how tiles end */

#if defined(__clang__) && VL == 16 && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define U8_PACKED
typedef short packed_s16 __attribute__((vector_size(64)));
typedef unsigned char packed_u8 __attribute__((vector_size(64)));
typedef unsigned char half_u8 __attribute__((vector_size(32), aligned(1), may_alias));

INLINE vi rounded_to_ints(const vf v) { return (vi)__builtin_ia32_cvtps2dq512_mask(v, (vi){0}, -1, 4); }

/* 32 outputs of each of two pixels, whose sums are rescaled: instructions that stop at the ends of narrower integers
   are all the bounds that most layers need */
INLINE void store_packed(
    const struct requantize a, const int count, const vf p0, const vf p1, const vf q0, const vf q1, unsigned char *p,
    unsigned char *q) {
    packed_s16 one = (packed_s16)__builtin_ia32_packssdw512(rounded_to_ints(p0), rounded_to_ints(p1));
    packed_s16 two = (packed_s16)__builtin_ia32_packssdw512(rounded_to_ints(q0), rounded_to_ints(q1));
    if (a.zero) {
        one = __builtin_elementwise_add_sat(one, (packed_s16){0} + (short)a.zero);
        two = __builtin_elementwise_add_sat(two, (packed_s16){0} + (short)a.zero);
    }
    vi v = (vi)__builtin_ia32_packuswb512(one, two); /* by parts of 128 bits: four of each, and so on */
    v = __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    if (a.low > 0) v = (vi)__builtin_elementwise_max((packed_u8)v, (packed_u8){0} + (unsigned char)a.low);
    if (a.high < 255) v = (vi)__builtin_elementwise_min((packed_u8)v, (packed_u8){0} + (unsigned char)a.high);
    if (count == 32) {
        *(half_u8 *)p = (half_u8)__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
        *(half_u8 *)q = (half_u8)__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
        return;
    }
    unsigned char lanes[64];
    memcpy(lanes, &v, sizeof lanes);
    memcpy(p, lanes, (size_t)count), memcpy(q, lanes + 32, (size_t)count);
}
#endif

/* null stays null */
INLINE const unsigned char *u8_quantized_conv_sum(
    const struct quantized_conv *a, const unsigned char *sum, const size_t bytes) {
    return a->requantize.add ? sum + bytes : 0;
}

/* vector v of a pixel's outputs, rescaled */
INLINE vf u8_quantized_conv_rescaled(
    const struct quantized_conv *a, const vi acc, const int v, const int count, const float *scale,
    const unsigned char *sum) {
    const int left = count - v * VL, here = left < VL ? left : VL;
    if (here <= 0) return (vf){0};
    const vbyte other = a->requantize.add ? load_some_bytes(sum + v * VL, here) : (vbyte){0};
    return rescaled(a->requantize, acc, load(scale + v * VL), other);
}
