/* Depthwise convolution of bytes: as many groups as channels, one output channel each.

     out[n][y][x][c] = requantized(bias[c] + sum over r, s of
                                   in[n][y * stride_y + r * dilation_y][x * stride_x + s * dilation_x][c] * w[r][s][c],
                                   scale[c])

     images, rows, width            the output's
     in_image, in_row, in_pixel     bytes between neighbours of the input (stride not included)
     out_...                        bytes between neighbours of out
     in                             what output pixel (0, 0) reads at tap (0, 0): around images lies the byte of 0
     w                              [r][s][w_tap], of which `channels` are read
     bias, scale                    [c], `channels` of them

   Whole numbers below 2^24 are exact as floats: the caller holds to it that no sum is larger, so that sums of floats
   are sums of whole numbers, in any order, fused or not. */

#include "depthwise_u8_common.h"
#include "depthwise_u8_woven.h"

/* The register tile: 2 x 7 outputs (8 where 8 divides the width and 7 does not) with 32 registers, 1 x 4 with 16. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { DEPTHWISE_U8_ROWS = 2, DEPTHWISE_U8_PIXELS = 8 };
#else
enum { DEPTHWISE_U8_ROWS = 1, DEPTHWISE_U8_PIXELS = 4 };
#endif

enum { DEPTHWISE_U8_CHANNELS = 64 }; /* of each pixel that are done over the whole plane before the next: a line */

INLINE void u8_quantized_depthwise_naive(
    const struct quantized_depthwise *a, const unsigned char *in, const signed char *w, const int *bias,
    const float *scale, unsigned char *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int c = 0; c < a->channels; c++) {
        int acc = bias[c];
        for (int r = 0; r < a->R; r++)
        for (int s = 0; s < a->S; s++)
            acc += in[(size_t)n * a->in_image + (size_t)(y * a->stride_y + r * a->dilation_y) * a->in_row +
                      (size_t)(x * a->stride_x + s * a->dilation_x) * a->in_pixel + c] *
                   w[(r * a->S + s) * a->w_tap + c];
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] =
            requantize_naive(a->requantize, acc, scale[c], 0);
    }
}

INLINE vf load_weights(const signed char *p, const int count) {
#if VL == 1
    (void)count;
    return (float)*p;
#else
    typedef signed char vw __attribute__((vector_size(VL)));
    return __builtin_convertvector((vw)load_some_bytes((const unsigned char *)p, count), vf);
#endif
}

/* the first output whose window of `taps` inputs has input i in it, and the one after the last */
INLINE int u8_depthwise_first(const int i, const int taps, const int stride) {
    return i < taps ? 0 : (i - taps) / stride + 1;
}
INLINE int u8_depthwise_end(const int i, const int outputs, const int stride) {
    return i / stride < outputs ? i / stride + 1 : outputs;
}

/* acc += R x S taps that lie side by side: each input is loaded once and goes to all outputs that it is under */
INLINE void u8_depthwise_taps(
    const struct quantized_depthwise *a, const int rows, const int pixels, const int R, const int S, const int count,
    const unsigned char *in, const signed char *w, vf acc[DEPTHWISE_U8_ROWS][DEPTHWISE_U8_PIXELS]) {
    vf weight[9];
    UNROLL for (int i = 0; i < R * S; i++) weight[i] = load_weights(w + i * a->w_tap, count);
    UNROLL for (int i = 0; i < (rows - 1) * a->stride_y + R; i++)
        UNROLL for (int j = 0; j < (pixels - 1) * a->stride_x + S; j++) {
            const int y_end = u8_depthwise_end(i, rows, a->stride_y);
            const int x_end = u8_depthwise_end(j, pixels, a->stride_x);
            const int y_first = u8_depthwise_first(i, R, a->stride_y), x_first = u8_depthwise_first(j, S, a->stride_x);
            if (y_first >= y_end || x_first >= x_end) continue; /* between windows */
            const unsigned char *p = in + (size_t)i * a->in_row + (size_t)j * a->in_pixel;
            const vf input = to_floats(widened(load_some_bytes(p, count)));
            UNROLL for (int y = y_first; y < y_end; y++)
                UNROLL for (int x = x_first; x < x_end; x++)
                    acc[y][x] += input * weight[(i - y * a->stride_y) * S + j - x * a->stride_x];
        }
}

/* rows x pixels outputs of `count` channels: 3 x 3 taps unrolled, larger kernels by rows of taps, wide ones by taps */
INLINE void u8_depthwise_tile(
    const struct quantized_depthwise *a, const int rows, const int pixels, const int count, const unsigned char *in,
    const signed char *w, const int *bias, const float *scale, unsigned char *out) {
    float biases[VL] = {0}, scales[VL] = {0};
    vf acc[DEPTHWISE_U8_ROWS][DEPTHWISE_U8_PIXELS];
    UNROLL for (int c = 0; c < count; c++) biases[c] = (float)bias[c];
    if (count < VL) memcpy(scales, scale, (size_t)count * sizeof(float));
    const vf scaled = count < VL ? load(scales) : load(scale);
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) acc[y][x] = load(biases);
    if (a->dilation_y == 1 && a->dilation_x == 1 && a->R * a->S <= 9) {
        u8_depthwise_taps(a, rows, pixels, a->R, a->S, count, in, w, acc);
    } else if (a->dilation_x == 1 && a->S <= 9) {
        for (int r = 0; r < a->R; r++) {
            const unsigned char *p = in + (size_t)r * a->dilation_y * a->in_row;
            UNROLL for (int y = 0; y < rows; y++)
                u8_depthwise_taps(a, 1, pixels, 1, a->S, count, p + (size_t)y * a->stride_y * a->in_row,
                                  w + (size_t)r * a->S * a->w_tap, acc + y);
        }
    } else {
        for (int r = 0; r < a->R; r++)
            for (int s = 0; s < a->S; s++)
                u8_depthwise_taps(
                    a, rows, pixels, 1, 1, count,
                    in + (size_t)r * a->dilation_y * a->in_row + (size_t)s * a->dilation_x * a->in_pixel,
                    w + (size_t)(r * a->S + s) * a->w_tap, acc);
    }
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++)
            store_some_bytes(out + (size_t)y * a->out_row + (size_t)x * a->out_pixel,
                             round_to_bytes(acc[y][x] * scaled, a->requantize), count);
}

/* tiles of `rows` rows, of `channels` channels from `in` on */
INLINE void u8_depthwise_row(
    const struct quantized_depthwise *a, const int rows, const int channels, const unsigned char *in,
    const signed char *w, const int *bias, const float *scale, unsigned char *out) {
    const int seven = DEPTHWISE_U8_PIXELS > 7 && (a->width % 8 || a->width % 7 == 0);
    const int tile = seven ? 7 : DEPTHWISE_U8_PIXELS, tail = channels % VL, rest = a->width % tile;
    for (int x = 0; x < a->width - rest; x += tile) {
        const unsigned char *p = in + (size_t)x * a->stride_x * a->in_pixel;
        unsigned char *q = out + (size_t)x * a->out_pixel;
        for (int c = 0; c < channels - tail; c += VL)
            u8_depthwise_tile(a, rows, tile, VL, p + c, w + c, bias + c, scale + c, q + c);
        const int c = channels - tail;
        if (tail) u8_depthwise_tile(a, rows, tile, tail, p + c, w + c, bias + c, scale + c, q + c);
    }
    if (!rest) return;
    const unsigned char *p = in + (size_t)(a->width - rest) * a->stride_x * a->in_pixel;
    unsigned char *q = out + (size_t)(a->width - rest) * a->out_pixel;
    for (int c = 0; c < channels - tail; c += VL)
        u8_depthwise_tile(a, rows, rest, VL, p + c, w + c, bias + c, scale + c, q + c);
    const int c = channels - tail;
    if (tail) u8_depthwise_tile(a, rows, rest, tail, p + c, w + c, bias + c, scale + c, q + c);
}

INLINE void u8_depthwise_plane(
    const struct quantized_depthwise *a, const int channels, const unsigned char *in, const signed char *w,
    const int *bias, const float *scale, unsigned char *out) {
    const int whole = a->rows - a->rows % DEPTHWISE_U8_ROWS;
    for (int y = 0; y < whole; y += DEPTHWISE_U8_ROWS)
        u8_depthwise_row(a, DEPTHWISE_U8_ROWS, channels, in + (size_t)y * a->stride_y * a->in_row, w, bias, scale,
                         out + (size_t)y * a->out_row);
    if (whole < a->rows)
        u8_depthwise_row(a, 1, channels, in + (size_t)whole * a->stride_y * a->in_row, w, bias, scale,
                         out + (size_t)whole * a->out_row);
}

INLINE void u8_quantized_depthwise(
    const struct quantized_depthwise *a, const unsigned char *in, const signed char *w, const int *bias,
    const float *scale, unsigned char *out) {
    int done = 0;
#if defined(WOVEN)
    if (u8_depthwise_is_woven(a)) done = u8_woven_depthwise(a, in, w, bias, scale, out);
#endif
    const int rest = (a->channels - done) % DEPTHWISE_U8_CHANNELS, whole = a->channels - rest;
    for (int n = 0; n < a->images; n++) {
        const unsigned char *p = in + (size_t)n * a->in_image;
        unsigned char *q = out + (size_t)n * a->out_image;
        for (int c = done; c < whole; c += DEPTHWISE_U8_CHANNELS)
            u8_depthwise_plane(a, DEPTHWISE_U8_CHANNELS, p + c, w + c, bias + c, scale + c, q + c);
        if (rest) u8_depthwise_plane(a, rest, p + whole, w + whole, bias + whole, scale + whole, q + whole);
    }
}
