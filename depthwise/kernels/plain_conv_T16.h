/* Convolution of 16-bit types as a list of taps, as in conv.h.

     out[n][y][x][k] = epilogue(bias[k] + sum over t, s of (sum over even c of in[...][c] * w[t][s][c][k]
                                                          + sum over odd c of in[...][c] * w[t][s][c][k]),
                                sum[n][y][x][k])

   where a step s is some channels of a tap. Each of the two sums of a step starts from 0, as sums_T16.h has it; both
   are added up, and that is added to the float that the steps before have left. (Of bfloat16 numbers below 2^-126 are
   zeros there, as AMX has it; without AMX they are kept inside of a sum.)

     images, rows, width         the output's
     taps, channels, outs        kernel positions; input channels, an even number, and output channels
     pitch                       not 0: rows of the input follow each other so that a row begins `pitch` pixels after
                                 the one before it, in_row = pitch * in_pixel; tiles of AMX then pass over the ends of
                                 rows, and what they find beyond `width` is nobody's. 0: each row has tiles of its own
     weights_outer               1: 32 outputs meet all pixels before the next 32 do (large weights); 0: the reverse
     in_image, in_row, in_pixel  elements from what one output image, row, pixel reads to what the next reads
     out_..., sum_...            elements between neighbours of out and sum
     offsets                     where each tap lies, in elements from `in`: may be negative
     w                           [k / 32][tap][step][k / 16 % 2][c / 2][k % 16][c % 2], zeros beyond `outs`. All steps
                                 have 2 * T16_pairs channels: where these are more than there are, the last step begins
                                 so many before their end, with zeros for those that came before
     bias                        [k], zeros up to a multiple of 32; at a multiple of 64 bytes
     sum                         read only where epilogue.add is set, else null; may be `out` itself

   The input carries its padding: every tap of every pixel must be readable, with `pitch` those beyond `width` too. */

#include "sums_T16.h"

/* the steps of a tap; the first channel of one; the weights of 16 outputs in one */
INLINE int T16_steps(const struct tile_conv *a) {
    const int step = 2 * T16_pairs(a->channels);
    return (a->channels + step - 1) / step;
}
INLINE int T16_first_of(const struct tile_conv *a, const int step) {
    const int count = 2 * T16_pairs(a->channels), first = count * step;
    return first + count <= a->channels ? first : a->channels - count;
}
INLINE int T16_tile(const struct tile_conv *a) { return 32 * T16_pairs(a->channels); }

INLINE void T16_tile_conv_naive(
    const struct tile_conv *a, const unsigned short *in, const unsigned short *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    const int steps = T16_steps(a), depth = T16_pairs(a->channels), tile = T16_tile(a);
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int k = 0; k < a->outs; k++) {
        const unsigned short *p = in + (size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel;
        const unsigned short *q = w + (size_t)(k / 32) * a->taps * steps * 2 * tile + k / 16 % 2 * tile + k % 16 * 2;
        float acc = bias[k];
        for (int t = 0; t < a->taps; t++)
        for (int s = 0; s < steps; s++, q += 2 * tile) {
            float even = 0, odd = 0;
            for (int c = 0; c < 2 * depth; c += 2) {
                const unsigned short *x0 = p + a->offsets[t] + T16_first_of(a, s) + c;
                even = T16_flush(T16_multiply_add(T16_float(x0[0]), T16_float(q[c * 16]), even));
                odd = T16_flush(T16_multiply_add(T16_float(x0[1]), T16_float(q[c * 16 + 1]), odd));
            }
            acc = T16_flush(acc + T16_join_floats(even, odd));
        }
        float other = 0;
        if (a->epilogue.add)
            other = T16_float(sum[(size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + k]);
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + k] =
            T16_round(epilogue(a->epilogue, acc, other));
    }
}

/* A tile has so many pixels, and vectors of VL outputs: as its sums fill the registers. Sums in halves take one vector
   for what takes two of floats. */
#if defined(T16_OWN_SUMS) && VL == 16
enum { T16_PIXELS = 14, T16_VECTORS = 2 };
#elif defined(T16_OWN_SUMS)
enum { T16_PIXELS = 8, T16_VECTORS = 2 };
#elif VL == 16
enum { T16_PIXELS = 6, T16_VECTORS = 2 };
#else
enum { T16_PIXELS = 4, T16_VECTORS = 1 };
#endif

/* sums of one step: `pixels` neighbours of a row x vectors of outputs */
INLINE void T16_plain_step(
    const int pixels, const int vectors, const int depth, const int tile, const int in_pixel,
    const unsigned short *in, const unsigned short *w, vf acc[T16_PIXELS][T16_VECTORS]) {
    T16_sums sums[T16_PIXELS][T16_VECTORS];
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int v = 0; v < vectors; v++) sums[x][v] = T16_no_sums();
    for (int r = 0; r < depth; r++) {
        T16_operand weights[T16_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++)
            weights[v] = T16_load_pairs(w + r * 32 + v * VL / 16 * tile + v * VL % 16 * 2);
        UNROLL for (int x = 0; x < pixels; x++) {
            const T16_operand here = T16_splat_pair(in + (size_t)x * in_pixel + 2 * r);
            UNROLL for (int v = 0; v < vectors; v++) sums[x][v] = T16_add_products(here, weights[v], sums[x][v]);
        }
    }
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int v = 0; v < vectors; v++) acc[x][v] += T16_join(sums[x][v]);
}

/* `pixels` neighbours of a row x `outs` outputs, which `vectors` hold */
INLINE void T16_plain_tile(
    const struct tile_conv *a, const int pixels, const int outs, const unsigned short *in, const unsigned short *w,
    const float *bias, const unsigned short *sum, unsigned short *out) {
    const int steps = T16_steps(a), depth = T16_pairs(a->channels), tile = T16_tile(a), vectors = (outs + VL - 1) / VL;
    vf acc[T16_PIXELS][T16_VECTORS];
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int v = 0; v < vectors; v++) acc[x][v] = load(bias + v * VL);
    for (int t = 0; t < a->taps; t++)
        for (int s = 0; s < steps; s++, w += 2 * tile)
            T16_plain_step(pixels, vectors, depth, tile, a->in_pixel, in + a->offsets[t] + T16_first_of(a, s), w, acc);
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int v = 0; v < vectors; v++) {
            const int count = outs - v * VL < VL ? outs - v * VL : VL;
            vf other = {0};
            if (a->epilogue.add) other = T16_load(sum + (size_t)x * a->sum_pixel + v * VL, count);
            T16_store(out + (size_t)x * a->out_pixel + v * VL, vepilogue(a->epilogue, acc[x][v], other), count);
        }
}

/* the outputs from `from` up to `to`, of `pixels` neighbours of a row */
INLINE void T16_plain_pixels(
    const struct tile_conv *a, const int pixels, const int from, const int to, const unsigned short *in,
    const unsigned short *w, const float *bias, const unsigned short *sum, unsigned short *out) {
    const int tile = T16_tile(a), panel = a->taps * T16_steps(a) * 2 * tile;
    const int wide = T16_VECTORS * VL, rest = a->outs % wide, end = to == a->outs ? to - rest : to;
    for (int k = from; k < end; k += wide)
        T16_plain_tile(a, pixels, wide, in, w + (size_t)(k / 32) * panel + k / 16 % 2 * tile + k % 16 * 2, bias + k,
                       a->epilogue.add ? sum + k : 0, out + k);
    if (rest && end < to)
        T16_plain_tile(a, pixels, rest, in, w + (size_t)(end / 32) * panel + end / 16 % 2 * tile + end % 16 * 2,
                       bias + end, a->epilogue.add ? sum + end : 0, out + end);
}

/* the same of a row */
INLINE void T16_plain_row(
    const struct tile_conv *a, const int from, const int to, const unsigned short *in, const unsigned short *w,
    const float *bias, const unsigned short *sum, unsigned short *out) {
    const int rest = a->width % T16_PIXELS, whole = a->width - rest;
    for (int x = 0; x < whole; x += T16_PIXELS)
        T16_plain_pixels(a, T16_PIXELS, from, to, in + (size_t)x * a->in_pixel, w, bias,
                         sum ? sum + (size_t)x * a->sum_pixel : 0, out + (size_t)x * a->out_pixel);
    if (rest)
        T16_plain_pixels(a, rest, from, to, in + (size_t)whole * a->in_pixel, w, bias,
                         sum ? sum + (size_t)whole * a->sum_pixel : 0, out + (size_t)whole * a->out_pixel);
}

INLINE void T16_plain_conv(
    const struct tile_conv *a, const unsigned short *in, const unsigned short *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    for (int k = 0; k < (a->weights_outer ? a->outs : 1); k += 32) {
        const int to = a->weights_outer && k + 32 < a->outs ? k + 32 : a->outs;
        for (int n = 0; n < a->images; n++)
        for (int y = 0; y < a->rows; y++)
            T16_plain_row(a, k, to, in + (size_t)n * a->in_image + (size_t)y * a->in_row, w, bias,
                          a->epilogue.add ? sum + (size_t)n * a->sum_image + (size_t)y * a->sum_row : 0,
                          out + (size_t)n * a->out_image + (size_t)y * a->out_row);
    }
}
