/* Types of 16 bits, kept in an unsigned short: what bf16.h and f16.h have alike, and the numbers that their kernels
   take. Sums are floats unless the type says otherwise; what is stored is rounded to the nearest, halves to even.

   Two neighbours are read as one 32-bit lane, so that values begin at even elements and have even channels. */

#include "activation.h"

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
INLINE vu wide_lanes(const vh v) { return v; }
INLINE vh low_halves(const vu v) { return (vh)v; }
#else
INLINE vu bits_of(const vf v) { return (vu)v; }
INLINE vf of_bits(const vu bits) { return (vf)bits; }
INLINE vu lanes_where(const vi is, const vu yes, const vu no) { return ((vu)is & yes) | (~(vu)is & no); }
INLINE vu wide_lanes(const vh v) { return __builtin_convertvector(v, vu); }
INLINE vh low_halves(const vu v) { return __builtin_convertvector(v, vh); }
#endif

/* VL pairs of neighbours, `count` of them read */
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

/* one pair in all lanes */
INLINE vu splat_pair(const unsigned short *p) {
    unsigned pair;
    memcpy(&pair, p, sizeof pair);
    return pair - (vu){0};
}

/* Two vectors of floats, of 2 * VL neighbours or of VL pairs: the type says which channels are in which. */
struct two { vf first, second; };

/* See plain_conv_T16.h. */
struct tile_conv {
    int images, rows, width, taps, channels, outs, pitch, weights_outer;
    int in_image, in_row, in_pixel, out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel;
    struct epilogue epilogue;
    const int *offsets;
};

/* See depthwise_T16.h. */
struct pair_depthwise {
    int images, rows, width, channels, R, S;
    int in_image, in_row, in_pixel, stride_y, stride_x, dilation_y, dilation_x;
    int out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel, w_tap;
    struct epilogue epilogue;
};

/* See copy_T16.h. */
struct pairs_from_floats {
    int images, channels, rows, width, x_image, x_channel, x_row, x_pixel, y_image, y_row, y_pixel;
};
