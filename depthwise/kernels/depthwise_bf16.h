/* Depthwise convolution of bfloat16: what depthwise.h computes, with the same numbers, sums in float32 from tap to tap.

     w      [r][s][w_tap floats], numbers that bfloat16 holds, so that products are exact; bias likewise. Of each 2 * VL
            channels those with even numbers come first, then the odd ones, zeros up to a multiple of 2 * VL

   Channels are an even number. A load has 2 * VL of them: shifted up the even ones are floats, masked the odd ones. */

#include "bfloat16.h"
#include "depthwise.h"

#if defined(__AVX512F__)
enum { BF16_TALL = 2, BF16_WIDE = 7 };
#elif defined(__aarch64__)
enum { BF16_TALL = 1, BF16_WIDE = 7 };
#else
enum { BF16_TALL = 1, BF16_WIDE = 4 };
#endif

struct pair_depthwise {
    int images, rows, width, channels, R, S;
    int in_image, in_row, in_pixel, stride_y, stride_x, dilation_y, dilation_x;
    int out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel, w_tap;
    struct epilogue epilogue;
};

/* where channel c lies among the weights of a tap */
INLINE int bf16_lane(const int c) { return c / (2 * VL) * (2 * VL) + c % 2 * VL + c % (2 * VL) / 2; }

INLINE void bf16_pair_depthwise_naive(
    const struct pair_depthwise *a, const unsigned short *in, const float *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int c = 0; c < a->channels; c++) {
        float acc = bias[bf16_lane(c)];
        for (int r = 0; r < a->R; r++)
        for (int s = 0; s < a->S; s++)
            acc += bf16_float(in[(size_t)n * a->in_image + (size_t)(y * a->stride_y + r * a->dilation_y) * a->in_row +
                                 (size_t)(x * a->stride_x + s * a->dilation_x) * a->in_pixel + c]) *
                   w[(r * a->S + s) * a->w_tap + bf16_lane(c)];
        const size_t at = (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + c;
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] =
            bf16_round(epilogue(a->epilogue, acc, a->epilogue.add ? bf16_float(sum[at]) : 0));
    }
}

typedef vf bf16_sums[BF16_TALL][BF16_WIDE];

/* even and odd sums += R x S taps that lie side by side, unrolled: each input is loaded once for all outputs */
INLINE void bf16_pair_taps(
    const struct pair_depthwise *a, const int rows, const int pixels, const int count, const unsigned short *in,
    const float *w, bf16_sums even, bf16_sums odd) {
    const int down = a->stride_y, across = a->stride_x;
    UNROLL for (int i = 0; i < (rows - 1) * down + a->R; i++)
        UNROLL for (int j = 0; j < (pixels - 1) * across + a->S; j++) {
            const vu pairs = load_pairs(in + (size_t)i * a->in_row + (size_t)j * a->in_pixel, count);
            const int top = f32_depthwise_first(i, a->R, down), left = f32_depthwise_first(j, a->S, across);
            UNROLL for (int y = top; y < f32_depthwise_end(i, rows, down); y++)
                UNROLL for (int x = left; x < f32_depthwise_end(j, pixels, across); x++) {
                    const float *tap = w + ((i - y * down) * a->S + j - x * across) * a->w_tap;
                    even[y][x] += first_of(pairs) * load(tap);
                    odd[y][x] += second_of(pairs) * load(tap + VL);
                }
        }
}

/* the same tap after tap, wherever they lie */
INLINE void bf16_pair_far_taps(
    const struct pair_depthwise *a, const int rows, const int pixels, const int count, const unsigned short *in,
    const float *w, bf16_sums even, bf16_sums odd) {
    for (int r = 0; r < a->R; r++)
        for (int s = 0; s < a->S; s++, w += a->w_tap) {
            const unsigned short *p =
                in + (size_t)r * a->dilation_y * a->in_row + (size_t)s * a->dilation_x * a->in_pixel;
            UNROLL for (int y = 0; y < rows; y++)
                UNROLL for (int x = 0; x < pixels; x++) {
                    const vu pairs = load_pairs(
                        p + (size_t)y * a->stride_y * a->in_row + (size_t)x * a->stride_x * a->in_pixel, count);
                    even[y][x] += first_of(pairs) * load(w);
                    odd[y][x] += second_of(pairs) * load(w + VL);
                }
        }
}

/* rows x pixels outputs of `count` pairs of channels */
INLINE void bf16_pair_tile(
    const struct pair_depthwise *a, const int rows, const int pixels, const int count, const unsigned short *in,
    const float *w, const float *bias, const unsigned short *sum, unsigned short *out) {
    bf16_sums even, odd;
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) even[y][x] = load(bias), odd[y][x] = load(bias + VL);
    if (a->dilation_y == 1 && a->dilation_x == 1 && a->R * a->S <= DEPTHWISE_UNROLLED)
        bf16_pair_taps(a, rows, pixels, count, in, w, even, odd);
    else bf16_pair_far_taps(a, rows, pixels, count, in, w, even, odd);
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) {
            vu others = {0};
            if (a->epilogue.add) others = load_pairs(sum + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel, count);
            store_pairs(out + (size_t)y * a->out_row + (size_t)x * a->out_pixel,
                        vepilogue(a->epilogue, even[y][x], first_of(others)),
                        vepilogue(a->epilogue, odd[y][x], second_of(others)), count);
        }
}

/* `rows` rows of outputs of `count` pairs of channels */
INLINE void bf16_pair_rows(
    const struct pair_depthwise *a, const int rows, const int count, const unsigned short *in, const float *w,
    const float *bias, const unsigned short *sum, unsigned short *out) {
    const int rest = a->width % BF16_WIDE, whole = a->width - rest, across = a->stride_x * a->in_pixel;
    for (int x = 0; x < whole; x += BF16_WIDE)
        bf16_pair_tile(a, rows, BF16_WIDE, count, in + (size_t)x * across, w, bias,
                            a->epilogue.add ? sum + (size_t)x * a->sum_pixel : 0, out + (size_t)x * a->out_pixel);
    if (rest)
        bf16_pair_tile(a, rows, rest, count, in + (size_t)whole * across, w, bias,
                            a->epilogue.add ? sum + (size_t)whole * a->sum_pixel : 0,
                            out + (size_t)whole * a->out_pixel);
}

/* `count` pairs of channels of a plane */
INLINE void bf16_pair_plane(
    const struct pair_depthwise *a, const int count, const unsigned short *in, const float *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    const int rest = a->rows % BF16_TALL, whole = a->rows - rest;
    for (int y = 0; y < whole; y += BF16_TALL)
        bf16_pair_rows(a, BF16_TALL, count, in + (size_t)y * a->stride_y * a->in_row, w, bias,
                            a->epilogue.add ? sum + (size_t)y * a->sum_row : 0, out + (size_t)y * a->out_row);
    if (rest)
        bf16_pair_rows(a, rest, count, in + (size_t)whole * a->stride_y * a->in_row, w, bias,
                            a->epilogue.add ? sum + (size_t)whole * a->sum_row : 0, out + (size_t)whole * a->out_row);
}

INLINE void bf16_pair_depthwise(
    const struct pair_depthwise *a, const unsigned short *in, const float *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    const int rest = a->channels % (2 * VL) / 2, whole = a->channels - 2 * rest;
    for (int n = 0; n < a->images; n++) {
        const unsigned short *p = in + (size_t)n * a->in_image;
        const unsigned short *s = a->epilogue.add ? sum + (size_t)n * a->sum_image : 0;
        unsigned short *q = out + (size_t)n * a->out_image;
        for (int c = 0; c < whole; c += 2 * VL)
            bf16_pair_plane(a, VL, p + c, w + c, bias + c, s ? s + c : 0, q + c);
        if (rest) bf16_pair_plane(a, rest, p + whole, w + whole, bias + whole, s ? s + whole : 0, q + whole);
    }
}
