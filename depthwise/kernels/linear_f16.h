/* Pointwise convolution of a few pixels, as linear layers and gates are, computed in floats of weights in float16. Such
   a layer waits for its weights, of which there is half as much to read.

     out[n][y][x][k] = epilogue(bias[k] + sum over c of in[n][y][x][c] * w[c][k], sum[n][y][x][k]), c by c

     w      [k / (8 * VL)][c][k % (8 * VL)], float16; the last block is as wide as the vectors that hold its outputs,
            with zeros beyond `outs`
     bias   [k], zeros up to a multiple of VL
     sum    read only where epilogue.add is set, else null; may be `out` itself */

#include "lanes_f16.h"

enum { LINEAR_VECTORS = 8 }; /* as many sums as a multiply-add takes cycles, twice */

struct linear {
    int images, rows, width, channels, outs;
    int in_image, in_row, in_pixel, out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel;
    struct epilogue epilogue;
};

INLINE void f16_linear_naive(
    const struct linear *a, const float *in, const unsigned short *w, const float *bias, const float *sum, float *out) {
    const int block = LINEAR_VECTORS * VL;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int k = 0; k < a->outs; k++) {
        const int first = k / block * block, left = (a->outs - first + VL - 1) / VL * VL;
        const int wide = left < block ? left : block;
        float acc = bias[k];
        for (int c = 0; c < a->channels; c++)
            acc += in[(size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel + c] *
                   f16_float(w[(size_t)first * a->channels + (size_t)c * wide + k - first]);
        float other = 0;
        if (a->epilogue.add)
            other = sum[(size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + k];
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + k] =
            epilogue(a->epilogue, acc, other);
    }
}

/* `outs` outputs of a pixel, which `vectors` hold */
INLINE void f16_linear_block(
    const struct linear *a, const int outs, const float *in, const unsigned short *w, const float *bias,
    const float *sum, float *out) {
    const int vectors = (outs + VL - 1) / VL;
    vf acc[LINEAR_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) acc[v] = load(bias + v * VL);
    for (int c = 0; c < a->channels; c++, w += vectors * VL) {
        const vf x = splat(in[c]);
        UNROLL for (int v = 0; v < vectors; v++) acc[v] += x * f16_load(w + v * VL, VL);
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        const int count = outs - v * VL < VL ? outs - v * VL : VL;
        vf other = {0};
        if (a->epilogue.add) other = load_part(sum + v * VL, count);
        store_part(out + v * VL, vepilogue(a->epilogue, acc[v], other), count);
    }
}

INLINE void f16_linear(
    const struct linear *a, const float *in, const unsigned short *w, const float *bias, const float *sum, float *out) {
    const int block = LINEAR_VECTORS * VL, rest = a->outs % block, whole = a->outs - rest;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++) {
        const float *p = in + (size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel;
        const float *s = 0;
        float *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
        if (a->epilogue.add) s = sum + (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel;
        for (int k = 0; k < whole; k += block)
            f16_linear_block(a, block, p, w + (size_t)k * a->channels, bias + k, s ? s + k : 0, q + k);
        if (rest)
            f16_linear_block(a, rest, p, w + (size_t)whole * a->channels, bias + whole, s ? s + whole : 0, q + whole);
    }
}
