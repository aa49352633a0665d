/* Depthwise convolution of 16-bit types: what depthwise.h computes, with the same numbers. A sum starts from the bias
   and goes from tap to tap, as sums_T16.h says.

     w      [r][s][w_tap], numbers that the type holds, where T16_lane has each channel, zeros up to a multiple of
            2 * VL; bias likewise, floats

   Channels are an even number, of which a vector of operands has 2 * VL. */

#include "sums_T16.h"
#include "depthwise.h"

#if !defined(NARROW_WIDE)
#if defined(__AVX512F__)
#define NARROW_TALL 2
#define NARROW_WIDE 7
#elif defined(__aarch64__)
#define NARROW_TALL 1
#define NARROW_WIDE 7
#else
#define NARROW_TALL 1
#define NARROW_WIDE 4
#endif
#endif

INLINE void T16_pair_depthwise_naive(
    const struct pair_depthwise *a, const unsigned short *in, const T16_tap *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int c = 0; c < a->channels; c++) {
        float acc = T16_start_float(bias[T16_lane(c)]);
        for (int r = 0; r < a->R; r++)
        for (int s = 0; s < a->S; s++)
            acc = T16_multiply_add(
                T16_float(in[(size_t)n * a->in_image + (size_t)(y * a->stride_y + r * a->dilation_y) * a->in_row +
                             (size_t)(x * a->stride_x + s * a->dilation_x) * a->in_pixel + c]),
                T16_tap_float(w[(r * a->S + s) * a->w_tap + T16_lane(c)]), acc);
        const size_t at = (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + c;
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] =
            T16_round(epilogue(a->epilogue, acc, a->epilogue.add ? T16_float(sum[at]) : 0));
    }
}

typedef T16_sums T16_tile_sums[NARROW_TALL][NARROW_WIDE];

/* sums += R x S taps that lie side by side, unrolled: each input is loaded once for all outputs */
INLINE void T16_pair_taps(
    const struct pair_depthwise *a, const int rows, const int pixels, const int count, const unsigned short *in,
    const T16_tap *w, T16_tile_sums sums) {
    const int down = a->stride_y, across = a->stride_x;
    UNROLL for (int i = 0; i < (rows - 1) * down + a->R; i++)
        UNROLL for (int j = 0; j < (pixels - 1) * across + a->S; j++) {
            const T16_operand here = T16_load_operand(in + (size_t)i * a->in_row + (size_t)j * a->in_pixel, count);
            const int top = f32_depthwise_first(i, a->R, down), left = f32_depthwise_first(j, a->S, across);
            UNROLL for (int y = top; y < f32_depthwise_end(i, rows, down); y++)
                UNROLL for (int x = left; x < f32_depthwise_end(j, pixels, across); x++) {
                    const T16_tap *tap = w + ((i - y * down) * a->S + j - x * across) * a->w_tap;
                    sums[y][x] = T16_add_products(here, T16_load_weights(tap), sums[y][x]);
                }
        }
}

/* the same tap after tap, wherever they lie */
INLINE void T16_pair_far_taps(
    const struct pair_depthwise *a, const int rows, const int pixels, const int count, const unsigned short *in,
    const T16_tap *w, T16_tile_sums sums) {
    for (int r = 0; r < a->R; r++)
        for (int s = 0; s < a->S; s++, w += a->w_tap) {
            const T16_operand tap = T16_load_weights(w);
            const unsigned short *p =
                in + (size_t)r * a->dilation_y * a->in_row + (size_t)s * a->dilation_x * a->in_pixel;
            UNROLL for (int y = 0; y < rows; y++)
                UNROLL for (int x = 0; x < pixels; x++) {
                    const T16_operand here = T16_load_operand(
                        p + (size_t)y * a->stride_y * a->in_row + (size_t)x * a->stride_x * a->in_pixel, count);
                    sums[y][x] = T16_add_products(here, tap, sums[y][x]);
                }
        }
}

/* rows x pixels outputs of `count` pairs of channels */
INLINE void T16_pair_tile(
    const struct pair_depthwise *a, const int rows, const int pixels, const int count, const unsigned short *in,
    const T16_tap *w, const float *bias, const unsigned short *sum, unsigned short *out) {
    T16_tile_sums sums;
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++)
            sums[y][x] = T16_start((struct two){load(bias), load(bias + VL)});
    if (a->dilation_y == 1 && a->dilation_x == 1 && a->R * a->S <= DEPTHWISE_UNROLLED)
        T16_pair_taps(a, rows, pixels, count, in, w, sums);
    else T16_pair_far_taps(a, rows, pixels, count, in, w, sums);
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) {
#if defined(T16_OWN_SUMS)
            if (T16_only_bounds(a->epilogue)) {
                T16_store_bounded(out + (size_t)y * a->out_row + (size_t)x * a->out_pixel, a->epilogue, sums[y][x],
                                  count);
                continue;
            }
#endif
            struct two v = T16_total(sums[y][x]), others = {splat(0), splat(0)};
            if (a->epilogue.add)
                others = T16_load_two(sum + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel, count);
            v.first = vepilogue(a->epilogue, v.first, others.first);
            v.second = vepilogue(a->epilogue, v.second, others.second);
            T16_store_two(out + (size_t)y * a->out_row + (size_t)x * a->out_pixel, v, count);
        }
}

/* `rows` rows of outputs of `count` pairs of channels */
INLINE void T16_pair_rows(
    const struct pair_depthwise *a, const int rows, const int count, const unsigned short *in, const T16_tap *w,
    const float *bias, const unsigned short *sum, unsigned short *out) {
    const int rest = a->width % NARROW_WIDE, whole = a->width - rest, across = a->stride_x * a->in_pixel;
    for (int x = 0; x < whole; x += NARROW_WIDE)
        T16_pair_tile(a, rows, NARROW_WIDE, count, in + (size_t)x * across, w, bias,
                            a->epilogue.add ? sum + (size_t)x * a->sum_pixel : 0, out + (size_t)x * a->out_pixel);
    if (rest)
        T16_pair_tile(a, rows, rest, count, in + (size_t)whole * across, w, bias,
                            a->epilogue.add ? sum + (size_t)whole * a->sum_pixel : 0,
                            out + (size_t)whole * a->out_pixel);
}

/* `count` pairs of channels of a plane */
INLINE void T16_pair_plane(
    const struct pair_depthwise *a, const int count, const unsigned short *in, const T16_tap *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    const int rest = a->rows % NARROW_TALL, whole = a->rows - rest;
    for (int y = 0; y < whole; y += NARROW_TALL)
        T16_pair_rows(a, NARROW_TALL, count, in + (size_t)y * a->stride_y * a->in_row, w, bias,
                            a->epilogue.add ? sum + (size_t)y * a->sum_row : 0, out + (size_t)y * a->out_row);
    if (rest)
        T16_pair_rows(a, rest, count, in + (size_t)whole * a->stride_y * a->in_row, w, bias,
                            a->epilogue.add ? sum + (size_t)whole * a->sum_row : 0, out + (size_t)whole * a->out_row);
}

INLINE void T16_pair_depthwise(
    const struct pair_depthwise *a, const unsigned short *in, const T16_tap *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    const int rest = a->channels % (2 * VL) / 2, whole = a->channels - 2 * rest;
    for (int n = 0; n < a->images; n++) {
        const unsigned short *p = in + (size_t)n * a->in_image;
        const unsigned short *s = a->epilogue.add ? sum + (size_t)n * a->sum_image : 0;
        unsigned short *q = out + (size_t)n * a->out_image;
        for (int c = 0; c < whole; c += 2 * VL)
            T16_pair_plane(a, VL, p + c, w + c, bias + c, s ? s + c : 0, q + c);
        if (rest) T16_pair_plane(a, rest, p + whole, w + whole, bias + whole, s ? s + whole : 0, q + whole);
    }
}
