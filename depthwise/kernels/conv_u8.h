/* Convolution of bytes with bytes as a list of taps, summed in whole numbers: pointwise, k x k, strided, dilated, the
   first layer, and linear layers (a pixel is a row of the batch).

     out[n][y][x][k] = requantized(bias[k] + sum over t, c of in[n][y][x + offset t][c] * w[k][t][c], scale[k],
                                   sum[n][y][x][k])

     images, rows, width          the output's
     taps, channels, outs         kernel positions, input and output channels
     tile_pixels                  the register tile: pixels of a row x a panel of output channels
     panel                        outputs that lie side by side in w: a vector's or two vectors' lanes
     tiles                        1: AMX does it where the target has it, by steps of 64 channels of a tap, the last of
                                  which ends with the channels; these are then a multiple of 4
     pitch                        by tiles, not 0: a row of the input begins so many pixels after the one before it, so
                                  that tiles pass over the ends of rows; 0: each row has tiles of its own
     weights_outer                1: a panel of weights meets the whole input before the next does; 0: pixels meet all
                                  weights before the next do
     prefetch_lines               by tiles: cache lines of weights to come, from `next` on, that each block brings
                                  closer before it starts
     in_image, in_row, in_pixel   bytes from what one output image, row, pixel reads to what the next reads
     out_..., sum_...             bytes between neighbours of out and sum
     requantize                   how sums become bytes (bytes.h)
     offsets                      where each tap lies, in bytes from `in`: may be negative
     w                            [k / panel][tap][c / 4][panel][4], zeros beyond `outs` and channels; with `tiles` a
                                  tap of more than 64 channels has whole steps of 16 times 4, the last one zeros where
                                  channels come again (compiler/lowering/packing_u8.py)
     bias, scale                  [k], padded with zeros to whole panels
     sum                          read only where requantize.add is set, else null; may be `out` itself
     next                         null where prefetch_lines is 0
     real                         where out is null, what takes float(acc) * scale[k] as it is, with the strides of out;
                                  else null

   Bytes about their zero z are summed as they are: the bias holds -z times the sum of the weights, and z lies around
   images. Taps that lie side by side, those of a row where nothing lies between pixels, are one of more channels. */

#include "conv_u8_common.h"
#include "conv_u8_tiles.h"
#include "dot_u8.h"

INLINE void u8_quantized_conv_naive(
    const struct quantized_conv *a, const unsigned char *in, const signed char *w, const int *bias, const float *scale,
    const unsigned char *sum, const signed char *next, unsigned char *out, float *real) {
    (void)next;
    const int fours = u8_quantized_conv_fours(a);
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int k = 0; k < a->outs; k++) {
        int acc = bias[k];
        for (int t = 0; t < a->taps; t++)
        for (int c = 0; c < a->channels; c++)
            acc += in[(size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel + c + a->offsets[t]] *
                   w[((size_t)(k / a->panel) * a->taps + t) * fours * a->panel * 4 + k % a->panel * 4 +
                     u8_quantized_conv_place(a, c)];
        const size_t at = (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + k;
        const size_t to = (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + k;
        if (out) out[to] = requantize_naive(a->requantize, acc, scale[k], a->requantize.add ? sum[at] : 0);
        else real[to] = (float)acc * scale[k];
    }
}

/* `count` bytes, a literal up to 4, as the low ones of each lane */
INLINE vi repeat_four(const unsigned char *p, const int count) {
    int four = 0;
    memcpy(&four, p, (size_t)count);
    return four - (vi){0};
}

/* ------------------------------------------------------------------------------------ register tiles */

/* Where four products take two instructions of 16 bits, the inputs of a tile are split for these once, and meet all
   panels so: of each pixel the even bytes of its fours, then the odd ones, tap after tap. */
#if !defined(DOT_FOURS) && VL > 1
#define U8_SPLIT
enum { CONV_U8_ROOM = 12 * 1024 }; /* pairs of a tile, at most: as many as the first cache holds */
#endif

/* acc += all taps of `pixels` neighbours of a row */
INLINE void u8_quantized_conv_taps(
    const struct quantized_conv *a, const int pixels, const int vectors, const unsigned char *in,
    const signed char *w, vi acc[CONV_U8_PIXELS][CONV_U8_VECTORS]) {
    for (int t = 0; t < a->taps; t++) {
        const unsigned char *p = in + a->offsets[t];
        for (int c = 0; c < a->channels / 4 * 4; c += 4) {
            const signed char *four = w + u8_quantized_conv_place(a, c);
            vi weight[CONV_U8_VECTORS];
            UNROLL for (int v = 0; v < vectors; v++) weight[v] = load_ints((const int *)(four + v * VL * 4));
            UNROLL for (int x = 0; x < pixels; x++) {
                const vi input = repeat_four(p + (size_t)x * a->in_pixel + c, 4);
                UNROLL for (int v = 0; v < vectors; v++) acc[x][v] = dot4(acc[x][v], input, weight[v]);
            }
        }
        const int c = a->channels / 4 * 4;
        if (c < a->channels)
            UNROLL for (int x = 0; x < pixels; x++) {
                const vi input = repeat_four(p + (size_t)x * a->in_pixel + c, a->channels - c);
                UNROLL for (int v = 0; v < vectors; v++)
                    acc[x][v] = dot4(acc[x][v], input, load_ints((const int *)(w + c * a->panel + v * VL * 4)));
            }
        w += (size_t)u8_quantized_conv_fours(a) * a->panel * 4;
    }
}

#if defined(U8_SPLIT)
/* whether there is room for a tile's inputs */
INLINE int u8_quantized_conv_is_split(const struct quantized_conv *a) {
    return !a->tiles && 2 * a->tile_pixels * a->taps * u8_quantized_conv_fours(a) <= CONV_U8_ROOM;
}

/* the inputs of `pixels` neighbours of a row */
INLINE void u8_quantized_conv_split(
    const struct quantized_conv *a, const int pixels, const unsigned char *in, int *room) {
    const int fours = u8_quantized_conv_fours(a), all = a->taps * fours, rest = a->channels % (4 * VL);
    const int whole = (a->channels - rest) / 4;
    for (int x = 0; x < pixels; x++)
        for (int t = 0; t < a->taps; t++) {
            const unsigned char *p = in + (size_t)x * a->in_pixel + a->offsets[t];
            int *even = room + 2 * x * all + t * fours, *odd = even + all;
            for (int i = 0; i < whole; i += VL) {
                const vi v = (vi) * (const all_u8_anywhere *)(p + 4 * i);
                *(vi_anywhere *)(even + i) = v & 0x00ff00ff;
                *(vi_anywhere *)(odd + i) = v >> 8 & 0x00ff00ff;
            }
            if (rest) {
                unsigned char bytes[4 * VL] = {0};
                memcpy(bytes, p + 4 * whole, (size_t)rest);
                const vi v = (vi) * (const all_u8_anywhere *)bytes;
                const vi parts[2] = {v & 0x00ff00ff, v >> 8 & 0x00ff00ff};
                memcpy(even + whole, parts, (size_t)(fours - whole) * 4);
                memcpy(odd + whole, parts + 1, (size_t)(fours - whole) * 4);
            }
        }
}

/* acc += what u8_quantized_conv_split left, times the weights */
INLINE void u8_quantized_conv_pairs(
    const struct quantized_conv *a, const int pixels, const int vectors, const int *room, const signed char *w,
    vi acc[CONV_U8_PIXELS][CONV_U8_VECTORS]) {
    const int all = a->taps * u8_quantized_conv_fours(a);
    UNROLL for (int odd = 0; odd < 2; odd++)
        for (int i = 0; i < all; i++) {
            all_s16 weight[CONV_U8_VECTORS];
            UNROLL for (int v = 0; v < vectors; v++) {
                const all_s16 four = (all_s16)load_ints((const int *)(w + (size_t)i * a->panel * 4 + v * VL * 4));
                weight[v] = odd ? four >> 8 : four << 8 >> 8;
            }
            UNROLL for (int x = 0; x < pixels; x++) {
                const vi input = room[(2 * x + odd) * all + i] - (vi){0};
                UNROLL for (int v = 0; v < vectors; v++) acc[x][v] += add_pairs((all_s16)input, weight[v]);
            }
        }
}
#endif

/* `count` outputs of `pixels` pixels side by side in a row, whose inputs are in `room` where that is not null */
INLINE void u8_quantized_conv_tile(
    const struct quantized_conv *a, const int pixels, const int vectors, const int count, const unsigned char *in,
    const int *room, const signed char *w, const int *bias, const float *scale, const unsigned char *sum,
    unsigned char *out, float *real) {
    vi acc[CONV_U8_PIXELS][CONV_U8_VECTORS];
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int v = 0; v < vectors; v++) acc[x][v] = load_ints(bias + v * VL);
#if defined(U8_SPLIT)
    if (room) u8_quantized_conv_pairs(a, pixels, vectors, room, w, acc);
    else
#endif
        u8_quantized_conv_taps(a, pixels, vectors, in, w, acc);
    (void)room;
    if (!out) {
        UNROLL for (int x = 0; x < pixels; x++)
            UNROLL for (int v = 0; v < vectors; v++) {
                const int left = count - v * VL, here = left < VL ? left : VL;
                store_part(real + (size_t)x * a->out_pixel + v * VL, to_floats(acc[x][v]) * load(scale + v * VL), here);
            }
        return;
    }
#if defined(U8_PACKED)
    UNROLL for (int x = 0; x < pixels; x += 2) {
        const int y = x + 1 < pixels ? x + 1 : x;
        vf v[2][2];
        UNROLL for (int i = 0; i < 2; i++)
            UNROLL for (int j = 0; j < 2; j++)
                v[i][j] = j < vectors ? u8_quantized_conv_rescaled(
                                            a, acc[i ? y : x][j], j, count, load(scale + j * VL),
                                            u8_quantized_conv_sum(a, sum, (size_t)(i ? y : x) * a->sum_pixel))
                                      : (vf){0};
        store_packed(a->requantize, count, v[0][0], v[0][1], v[1][0], v[1][1], out + (size_t)x * a->out_pixel,
                     out + (size_t)y * a->out_pixel);
    }
#else
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int v = 0; v < vectors; v++) {
            const int left = count - v * VL, here = left < VL ? left : VL;
            const vf to_be = u8_quantized_conv_rescaled(a, acc[x][v], v, count, load(scale + v * VL),
                                                        u8_quantized_conv_sum(a, sum, (size_t)x * a->sum_pixel));
            store_some_bytes(out + (size_t)x * a->out_pixel + v * VL, round_to_bytes(to_be, a->requantize), here);
        }
#endif
}

/* outputs from k on, `count` of them, of `pixels` pixels of row y of image n from x on */
INLINE void u8_quantized_conv_panel(
    const struct quantized_conv *a, const int pixels, const int count, const int n, const int y, const int x,
    const int k, const unsigned char *in, const int *room, const signed char *w, const int *bias, const float *scale,
    const unsigned char *sum, unsigned char *out, float *real) {
    const size_t panel = (size_t)a->taps * u8_quantized_conv_fours(a) * a->panel * 4;
    const size_t to = (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + k;
    u8_quantized_conv_tile(
        a, pixels, (count + VL - 1) / VL, count,
        in + (size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel, room,
        w + (size_t)(k / a->panel) * panel, bias + k, scale + k,
        u8_quantized_conv_sum(a, sum, (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + k),
        out ? out + to : 0, out ? 0 : real + to);
}

/* outputs from `first` to `end` of some pixels, panel after panel */
INLINE void u8_quantized_conv_panels(
    const struct quantized_conv *a, const int pixels, const int n, const int y, const int x, const int first,
    const int end, const unsigned char *in, int *room, const signed char *w, const int *bias, const float *scale,
    const unsigned char *sum, unsigned char *out, float *real) {
    const int whole = end - (end - first) % a->panel;
#if defined(U8_SPLIT)
    const size_t at = (size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel;
    if (room) u8_quantized_conv_split(a, pixels, in + at, room);
#endif
    for (int k = first; k < whole; k += a->panel)
        u8_quantized_conv_panel(a, pixels, a->panel, n, y, x, k, in, room, w, bias, scale, sum, out, real);
    if (whole < end)
        u8_quantized_conv_panel(
            a, pixels, a->outs % a->panel, n, y, x, whole, in, room, w, bias, scale, sum, out, real);
}

/* outputs from `first` to `end` of all pixels, tile after tile of these */
INLINE void u8_quantized_conv_pixels(
    const struct quantized_conv *a, const int first, const int end, const unsigned char *in, int *room,
    const signed char *w, const int *bias, const float *scale, const unsigned char *sum, unsigned char *out,
    float *real) {
    const int rest = a->width % a->tile_pixels, whole = a->width - rest;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++) {
        for (int x = 0; x < whole; x += a->tile_pixels)
            u8_quantized_conv_panels(
                a, a->tile_pixels, n, y, x, first, end, in, room, w, bias, scale, sum, out, real);
        if (rest)
            u8_quantized_conv_panels(a, rest, n, y, whole, first, end, in, room, w, bias, scale, sum, out, real);
    }
}

INLINE void u8_quantized_conv(
    const struct quantized_conv *a, const unsigned char *in, const signed char *w, const int *bias, const float *scale,
    const unsigned char *sum, const signed char *next, unsigned char *out, float *real) {
#if defined(U8_TILES)
    if (a->tiles) {
        u8_tiles_conv(a, in, w, bias, scale, sum, next, out, real);
        return;
    }
#endif
    (void)next;
    int *room = 0;
#if defined(U8_SPLIT)
    int pairs[CONV_U8_ROOM];
    if (u8_quantized_conv_is_split(a)) room = pairs;
#endif
    if (!a->weights_outer) {
        u8_quantized_conv_pixels(a, 0, a->outs, in, room, w, bias, scale, sum, out, real);
        return;
    }
    const int whole = a->outs - a->outs % a->panel;
    for (int k = 0; k < whole; k += a->panel)
        u8_quantized_conv_pixels(a, k, k + a->panel, in, room, w, bias, scale, sum, out, real);
    if (whole < a->outs) u8_quantized_conv_pixels(a, whole, a->outs, in, room, w, bias, scale, sum, out, real);
}
