/* What the forms of conv_u8.h share: the numbers of a call, where weights lie, how tiles end. */

#include "bytes.h"

enum { CONV_U8_PIXELS = 16, CONV_U8_VECTORS = 2 }; /* the largest tile either way */

struct quantized_conv {
    int images, rows, width, taps, channels, outs, tile_pixels, panel, tiles, pitch, weights_outer, prefetch_lines;
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

#if defined(PACKS_BYTES)
#define U8_PACKED
typedef unsigned char half_u8 __attribute__((vector_size(2 * VL), aligned(1), may_alias));

/* the lanes of half a vector from one on */
#if VL == 16
#define HALF_FROM(i) i, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6, i + 7
#elif VL == 8
#define HALF_FROM(i) i, i + 1, i + 2, i + 3
#else
#define HALF_FROM(i) i, i + 1
#endif

/* 2 * VL outputs of each of two pixels, whose sums are rescaled: `count` of them are stored */
INLINE void store_packed(
    const struct requantize a, const int count, const vf p0, const vf p1, const vf q0, const vf q1, unsigned char *p,
    unsigned char *q) {
    const vi whole[4] = {rounded_to_ints(p0), rounded_to_ints(p1), rounded_to_ints(q0), rounded_to_ints(q1)};
    vi v = (vi)packed_bytes(a, whole);
#if VL == 16
    v = __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
#elif VL == 8
    v = __builtin_shufflevector(v, v, 0, 4, 1, 5, 2, 6, 3, 7);
#endif
    if (count == 2 * VL) {
        *(half_u8 *)p = (half_u8)__builtin_shufflevector(v, v, HALF_FROM(0));
        *(half_u8 *)q = (half_u8)__builtin_shufflevector(v, v, HALF_FROM(VL / 2));
        return;
    }
    unsigned char lanes[4 * VL];
    memcpy(lanes, &v, sizeof lanes);
    memcpy(p, lanes, (size_t)count), memcpy(q, lanes + 2 * VL, (size_t)count);
}
#endif

/* null stays null */
INLINE const unsigned char *u8_quantized_conv_sum(
    const struct quantized_conv *a, const unsigned char *sum, const size_t bytes) {
    return a->requantize.add ? sum + bytes : 0;
}

/* vector v of a pixel's outputs, rescaled by its scale */
INLINE vf u8_quantized_conv_rescaled(
    const struct quantized_conv *a, const vi acc, const int v, const int count, const vf scale,
    const unsigned char *sum) {
    const int left = count - v * VL, here = left < VL ? left : VL;
    if (here <= 0) return (vf){0};
    const vbyte other = a->requantize.add ? load_some_bytes(sum + v * VL, here) : (vbyte){0};
    return rescaled(a->requantize, acc, scale, other);
}
