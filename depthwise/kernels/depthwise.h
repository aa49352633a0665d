/* Depthwise convolution: as many groups as channels, one output channel each.

     out[n][y][x][c] = epilogue(bias[c] + sum over r, s of
                                in[n][y * stride_y + r * dilation_y][x * stride_x + s * dilation_x][c] * w[r][s][c],
                                sum[n][y][x][c])

     images, rows, width            the output's
     in_image, in_row, in_pixel     floats between neighbours of the input (stride not included)
     out_..., sum_...               floats between neighbours of out and sum
     in                             what output pixel (0, 0) reads at tap (0, 0): the input carries its padding
     w                              [r][s][w_tap floats], of which `channels` rounded up to VL are read; bias likewise
                                    (compiler/lowering/packing.py)
     sum                            read only where epilogue.add is set, else null; may be `out` itself
     total                          where each row's sum goes, for whoever averages over the plane; null and
                                    total_row 0 where nothing does:
                                    total[n][y][c] = sum over x of out[n][y][x][c], a tile's pixels from left to right,
                                    then the tiles, so that parts of the layer give the same sums as the whole */

#include "activation.h"

/* The register tile: 2 x 7 outputs (8 where 8 divides the width and 7 does not) with 32 registers, 1 x 7 with 16, which
   keeps as many accumulators, one row or two of weights and an input in registers. */
enum { DEPTHWISE_ROWS = 2, DEPTHWISE_PIXELS = 8 }; /* the largest tile either way */

/* Rows of a tile, and the most taps that it unrolls. x86 multiplies by what lies in memory; aarch64 loads inputs and
   weights first, and with two rows of stride 2, or with 25 taps, some sums would go to the stack. With AVX2 25 taps by
   rows take 0.85 to 1.02 times as long as unrolled, which puts sums on the stack where rows are totalled. */
INLINE int f32_depthwise_height(const int stride_y) {
#if defined(__AVX512F__)
    (void)stride_y;
    return 2;
#elif defined(__aarch64__)
    return stride_y == 1 ? 2 : 1;
#else
    (void)stride_y;
    return 1;
#endif
}
#if defined(__AVX512F__)
enum { DEPTHWISE_UNROLLED = 25 };
#else
enum { DEPTHWISE_UNROLLED = 9 };
#endif

/* Floats of each pixel that are done over the whole plane before the next: two cache lines, so that a few rows stay
   in L1. With all channels at once 14 x 14 x 384 fell from 92 % of peak to 49 %, with one line to 51 %. */
enum { DEPTHWISE_CHANNELS = 32 };

/* Whether a tile of a strip with stride 2 fetches what the tile below it will be the first to read. The plan knows the
   core that it is for: on an Intel Xeon 28 x 28 x 128 takes 11.8 us with it, 7.4 without. */
#ifndef DEPTHWISE_FETCHES
#define DEPTHWISE_FETCHES 1
#endif

/* Bytes of the rows under a row of tiles that the first cache holds until the tiles below read them again. Where they
   are more, a plane is done in strips one tile wide: 147 x 147 x 64 rose from 70 % of peak to 88 %, 56 x 56 x 96 with
   stride 2 from 37 % to 56 %; below that strips lose, 14 x 14 x 512 falls from 95 % to 80 %. That is half of 48 KB;
   the plan knows the core that it is for. */
#ifndef L1_BYTES
#define L1_BYTES (48 * 1024)
#endif
enum { DEPTHWISE_WINDOW = L1_BYTES / 2 };

struct depthwise {
    int images, rows, width, channels, R, S;
    int in_image, in_row, in_pixel, stride_y, stride_x, dilation_y, dilation_x;
    int out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel, w_tap, total_image, total_row;
    struct epilogue epilogue;
};

INLINE void f32_depthwise_naive(
    const struct depthwise *a, const float *in, const float *w, const float *bias, const float *sum, float *total,
    float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int c = 0; c < a->channels; c++) {
        float acc = bias[c];
        for (int r = 0; r < a->R; r++)
        for (int s = 0; s < a->S; s++)
            acc += in[(size_t)n * a->in_image + (size_t)(y * a->stride_y + r * a->dilation_y) * a->in_row +
                      (size_t)(x * a->stride_x + s * a->dilation_x) * a->in_pixel + c] *
                   w[(r * a->S + s) * a->w_tap + c];
        const size_t at = (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + c;
        const float result = epilogue(a->epilogue, acc, a->epilogue.add ? sum[at] : 0);
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] = result;
        if (!a->total_row) continue;
        float *row = total + (size_t)n * a->total_image + (size_t)y * a->total_row + c;
        *row = x ? *row + result : result;
    }
}

/* whether planes are done in strips: of larger kernels these read too many columns twice, 5 x 5 with stride 2 fell
   from 80 % to 66 % */
INLINE int f32_depthwise_strips(const struct depthwise *a) {
    const int window = ((f32_depthwise_height(a->stride_y) - 1) * a->stride_y + a->R) * a->width * a->stride_x *
                       (a->channels < DEPTHWISE_CHANNELS ? a->channels : DEPTHWISE_CHANNELS) * (int)sizeof(float);
    return window > DEPTHWISE_WINDOW && a->in_pixel > DEPTHWISE_CHANNELS && a->R <= 3 && a->S <= 3;
}

/* whether a tile fetches what the tile below it will be the first to read */
INLINE int f32_depthwise_fetches(const struct depthwise *a) {
    return DEPTHWISE_FETCHES && f32_depthwise_strips(a) && a->stride_y > 1;
}

/* null stays null */
INLINE float *f32_depthwise_total(const struct depthwise *a, float *total, const size_t floats) {
    return a->total_row ? total + floats : 0;
}

/* total += each part of v, one after the other */
INLINE void f32_depthwise_add(float *total, const vf v, const int parts, const int count) {
    if (parts == 1) {
        store_part(total, load_part(total, count) + v, count);
        return;
    }
    float lanes[VL];
    store(lanes, v);
    UNROLL for (int i = 0; i < parts; i++)
        for (int c = 0; c < count; c++) total[c] += lanes[i * (VL / parts) + c];
}

/* the first output whose window of `taps` inputs has input i in it, and the one after the last. A test of each output
   says the same, but its branches are thousands once unrolled, which compilers drop late: GhostNet for AVX-512 took
   15 s to compile, not 9. */
INLINE int f32_depthwise_first(const int i, const int taps, const int stride) {
    return i < taps ? 0 : (i - taps) / stride + 1;
}
INLINE int f32_depthwise_end(const int i, const int outputs, const int stride) {
    return i / stride < outputs ? i / stride + 1 : outputs;
}

/* acc += R x S taps that lie side by side, for rows x pixels outputs of `count` channels. A vector is filled from
   `parts` tiles that lie side by side, `count` channels of each: the few channels beyond whole vectors would leave the
   rest of theirs idle. 112 x 112 x 24 rose from 61 % of peak to 87 %. Where windows overlap,
   every input is loaded once and goes to all outputs that it is under: 36 inputs for the 126 multiply-adds of
   2 x 7 outputs and 3 x 3 taps. */
INLINE void f32_depthwise_taps(
    const struct depthwise *a, const int rows, const int pixels, const int parts, const int R, const int S,
    const int count, const float *in, const float *w, vf acc[DEPTHWISE_ROWS][DEPTHWISE_PIXELS]) {
    const size_t apart = (size_t)pixels * a->stride_x * a->in_pixel;
    const int wide = VL / parts; /* lanes of a tile */
    if (S <= a->stride_x || a->stride_x > 4 || a->stride_y > 4) { /* apart, or too far to unroll */
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int s = 0; s < S; s++)
                UNROLL for (int y = 0; y < rows; y++)
                    UNROLL for (int x = 0; x < pixels; x++)
                        acc[y][x] += load_runs(in + (size_t)(y * a->stride_y + r) * a->in_row +
                                                   (size_t)(x * a->stride_x + s) * a->in_pixel,
                                               apart, parts, wide, count) *
                                     repeat(w + (r * S + s) * a->w_tap, wide);
        return;
    }
    UNROLL for (int i = 0; i < (rows - 1) * a->stride_y + R; i++)
        UNROLL for (int j = 0; j < (pixels - 1) * a->stride_x + S; j++) {
            if (f32_depthwise_fetches(a) && i >= R - a->stride_y)
                PREFETCH(in + (size_t)(i + rows * a->stride_y) * a->in_row + (size_t)j * a->in_pixel, 3);
            const vf input =
                held(load_runs(in + (size_t)i * a->in_row + (size_t)j * a->in_pixel, apart, parts, wide, count));
            const int y_end = f32_depthwise_end(i, rows, a->stride_y);
            const int x_end = f32_depthwise_end(j, pixels, a->stride_x);
            UNROLL for (int y = f32_depthwise_first(i, R, a->stride_y); y < y_end; y++)
                UNROLL for (int x = f32_depthwise_first(j, S, a->stride_x); x < x_end; x++) {
                    const int r = i - y * a->stride_y, s = j - x * a->stride_x;
                    acc[y][x] += input * repeat(w + (r * S + s) * a->w_tap, wide);
                }
        }
}

/* `parts` times rows x pixels outputs of `count` channels: small kernels unrolled whole, wide ones by rows of taps,
   dilated ones by taps */
INLINE void f32_depthwise_tile(
    const struct depthwise *a, const int rows, const int pixels, const int parts, const int count,
    const float *in, const float *w, const float *bias, const float *sum, float *total, float *out) {
    const int wide = VL / parts; /* lanes of a tile */
    free_registers();
    vf acc[DEPTHWISE_ROWS][DEPTHWISE_PIXELS];
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) acc[y][x] = repeat(bias, wide);
    if (a->dilation_y == 1 && a->dilation_x == 1 && a->R * a->S <= DEPTHWISE_UNROLLED) {
        f32_depthwise_taps(a, rows, pixels, parts, a->R, a->S, count, in, w, acc);
    } else if (a->dilation_x == 1 && a->S <= 15) {
        for (int r = 0; r < a->R; r++, in += (size_t)a->dilation_y * a->in_row, w += a->S * a->w_tap)
            f32_depthwise_taps(a, rows, pixels, parts, 1, a->S, count, in, w, acc);
    } else {
        for (int r = 0; r < a->R; r++, in += (size_t)a->dilation_y * a->in_row)
            for (int s = 0; s < a->S; s++, w += a->w_tap)
                f32_depthwise_taps(a, rows, pixels, parts, 1, 1, count,
                                   in + (size_t)s * a->dilation_x * a->in_pixel, w, acc);
    }
    const size_t sum_apart = (size_t)pixels * a->sum_pixel, out_apart = (size_t)pixels * a->out_pixel;
    UNROLL for (int y = 0; y < rows; y++) {
        vf line = {0};
        UNROLL for (int x = 0; x < pixels; x++) {
            vf other = {0};
            if (a->epilogue.add)
                other = load_runs(sum + y * a->sum_row + x * a->sum_pixel, sum_apart, parts, wide, count);
            const vf result = vepilogue(a->epilogue, acc[y][x], other);
            store_runs(out + y * a->out_row + x * a->out_pixel, result, out_apart, parts, wide, count);
            if (a->total_row) line += result;
        }
        if (a->total_row) f32_depthwise_add(total + y * a->total_row, line, parts, count);
    }
}

/* pixels of a tile in rows of `width` */
INLINE int f32_depthwise_pixels(const int width) { return width % 8 == 0 && width % 7 != 0 ? 8 : 7; }

/* how many tiles can share a vector for `count` channels */
INLINE int f32_depthwise_parts(const int count) {
    return VL >= 16 && count * 4 <= VL ? 4 : VL >= 8 && count * 2 <= VL ? 2 : 1;
}

/* `tail` channels, the last quarter of up to three apart from the others */
INLINE int f32_depthwise_split(const int tail) {
    return VL >= 16 && tail * 2 > VL && tail * 4 <= VL * 3 ? VL / 2 : tail;
}

/* how many tiles of a row are done together, for the sake of `tail` channels */
INLINE int f32_depthwise_group(const int width, const int tail) {
    const int tiles = width / f32_depthwise_pixels(width), rest = tail - f32_depthwise_split(tail);
    const int parts = tail ? f32_depthwise_parts(rest ? rest : tail) : 1;
    return tiles >= parts ? parts : tiles >= 2 && !rest && parts > 1 ? 2 : 1;
}

/* null stays null */
INLINE const float *f32_depthwise_sum(const struct depthwise *a, const float *sum, const size_t floats) {
    return a->epilogue.add ? sum + floats : 0;
}

/* `group` tiles of `count` channels, as many as can in one vector */
INLINE void f32_depthwise_tiles(
    const struct depthwise *a, const int rows, const int pixels, const int group, const int count,
    const float *in, const float *w, const float *bias, const float *sum, float *total, float *out) {
    const int fit = f32_depthwise_parts(count), parts = fit < group ? fit : group;
    for (int x = 0; x < group * pixels; x += parts * pixels)
        f32_depthwise_tile(a, rows, pixels, parts, count, in + (size_t)x * a->stride_x * a->in_pixel, w, bias,
                           f32_depthwise_sum(a, sum, (size_t)x * a->sum_pixel), total,
                           out + (size_t)x * a->out_pixel);
}

/* `group` tiles from pixel x on, of `vectors` vectors of channels and `tail` channels */
INLINE void f32_depthwise_vectors(
    const struct depthwise *a, const int rows, const int x, const int pixels, const int group, const int vectors,
    const int tail, const float *in, const float *w, const float *bias, const float *sum, float *total,
    float *out) {
    const int whole = vectors * VL, split = group > 1 ? f32_depthwise_split(tail) : tail;
    in += (size_t)x * a->stride_x * a->in_pixel, out += (size_t)x * a->out_pixel;
    sum = f32_depthwise_sum(a, sum, (size_t)x * a->sum_pixel);
    for (int c = 0; c < whole; c += VL)
        f32_depthwise_tiles(a, rows, pixels, group, VL, in + c, w + c, bias + c, f32_depthwise_sum(a, sum, c),
                            f32_depthwise_total(a, total, c), out + c);
    if (split)
        f32_depthwise_tiles(a, rows, pixels, group, split, in + whole, w + whole, bias + whole,
                            f32_depthwise_sum(a, sum, whole), f32_depthwise_total(a, total, whole), out + whole);
    if (tail > split) {
        const int c = whole + split;
        f32_depthwise_tiles(a, rows, pixels, group, tail - split, in + c, w + c, bias + c,
                            f32_depthwise_sum(a, sum, c), f32_depthwise_total(a, total, c), out + c);
    }
}

/* `rows` rows of outputs, as many as a tile's or fewer */
INLINE void f32_depthwise_rows(
    const struct depthwise *a, const int rows, const int width, const int vectors, const int tail,
    const float *in, const float *w, const float *bias, const float *sum, float *total, float *out) {
    const int tile = f32_depthwise_pixels(width), group = f32_depthwise_group(width, tail);
    const int rest = width % tile, whole = width - rest, grouped = whole - whole % (tile * group);
    for (int x = 0; x < grouped; x += tile * group)
        f32_depthwise_vectors(a, rows, x, tile, group, vectors, tail, in, w, bias, sum, total, out);
    for (int x = grouped; x < whole; x += tile)
        f32_depthwise_vectors(a, rows, x, tile, 1, vectors, tail, in, w, bias, sum, total, out);
    if (rest) f32_depthwise_vectors(a, rows, whole, rest, 1, vectors, tail, in, w, bias, sum, total, out);
}

/* a plane of `height` x width outputs */
INLINE void f32_depthwise_plane(
    const struct depthwise *a, const int height, const int width, const int vectors, const int tail,
    const float *in, const float *w, const float *bias, const float *sum, float *total, float *out) {
    const int tile = f32_depthwise_height(a->stride_y), step = a->stride_y * a->in_row;
    const int rest = height % tile, whole = height - rest;
    for (int y = 0; y < whole; y += tile)
        f32_depthwise_rows(a, tile, width, vectors, tail, in + (size_t)y * step, w, bias,
                           f32_depthwise_sum(a, sum, (size_t)y * a->sum_row),
                           f32_depthwise_total(a, total, (size_t)y * a->total_row), out + (size_t)y * a->out_row);
    if (rest)
        f32_depthwise_rows(a, rest, width, vectors, tail, in + (size_t)whole * step, w, bias,
                           f32_depthwise_sum(a, sum, (size_t)whole * a->sum_row),
                           f32_depthwise_total(a, total, (size_t)whole * a->total_row),
                           out + (size_t)whole * a->out_row);
}

/* `vectors` vectors of channels and `tail` channels of a plane: all rows at once, or strip after strip */
INLINE void f32_depthwise_channels(
    const struct depthwise *a, const int height, const int width, const int vectors, const int tail,
    const float *in, const float *w, const float *bias, const float *sum, float *total, float *out) {
    const int tile = f32_depthwise_pixels(width) * f32_depthwise_group(width, tail);
    const int strip = f32_depthwise_strips(a) && tile < width ? tile : width;
    const int rest = width % strip, whole = width - rest, step = a->stride_x * a->in_pixel;
    for (int x = 0; x < whole; x += strip)
        f32_depthwise_plane(a, height, strip, vectors, tail, in + (size_t)x * step, w, bias,
                            f32_depthwise_sum(a, sum, (size_t)x * a->sum_pixel), total,
                            out + (size_t)x * a->out_pixel);
    if (rest)
        f32_depthwise_plane(a, height, rest, vectors, tail, in + (size_t)whole * step, w, bias,
                            f32_depthwise_sum(a, sum, (size_t)whole * a->sum_pixel), total,
                            out + (size_t)whole * a->out_pixel);
}

INLINE void f32_depthwise(
    const struct depthwise *a, const float *in, const float *w, const float *bias, const float *sum, float *total,
    float *out) {
    const int tail = a->channels % VL, whole = a->channels - tail;
    /* the channels beyond whole vectors go with the last of these: they share cache lines */
    const int last = whole ? (whole - 1) / DEPTHWISE_CHANNELS * DEPTHWISE_CHANNELS : 0;
    for (int n = 0; n < a->images; n++) {
        const float *p = in + (size_t)n * a->in_image, *s = f32_depthwise_sum(a, sum, (size_t)n * a->sum_image);
        float *q = out + (size_t)n * a->out_image, *t = f32_depthwise_total(a, total, (size_t)n * a->total_image);
        if (a->total_row)
            for (int y = 0; y < a->rows; y++)
                memset(t + (size_t)y * a->total_row, 0, (size_t)a->channels * sizeof(float));
        for (int c = 0; c < last; c += DEPTHWISE_CHANNELS)
            f32_depthwise_channels(a, a->rows, a->width, DEPTHWISE_CHANNELS / VL, 0, p + c, w + c, bias + c,
                                   f32_depthwise_sum(a, s, c), f32_depthwise_total(a, t, c), q + c);
        f32_depthwise_channels(a, a->rows, a->width, (whole - last) / VL, tail, p + last, w + last, bias + last,
                               f32_depthwise_sum(a, s, last), f32_depthwise_total(a, t, last), q + last);
    }
}
