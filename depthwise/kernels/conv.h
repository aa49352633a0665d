/* Convolution as a list of taps: pointwise, k x k, strided, dilated, grouped, the first layer, one phase of a
   transposed convolution, and linear layers (a pixel is a row of the batch).

     out[n][y][x][g][k] = epilogue(bias[g][k] + sum over t, c of in[n][y][x + offset t][g][c] * w[g][t][c][k],
                                   sum[n][y][x][g][k])

     images, rows, width          the output's
     taps, channels, outs         kernel positions; input and output channels of one group
     groups                       group g reads channels from g * channels and writes from g * outs
     tile_pixels, tile_vectors    the register tile: pixels of a row x vectors of output channels
     over_rows                    1: tiles pass from the end of a row to the next row of the image, which then has no
                                  fewer pixels than a tile, none of which share a vector; 0: each row begins with a
                                  tile of its own
     tile_depth                   1, 2 or 4, which divides channels: that many neighbouring input channels lie side by
                                  side in a vector, which then has VL / tile_depth output channels (below)
     weights_outer                1: a block of weights meets the whole input before the next does (large weights);
                                  0: a tile of pixels meets all weights before the next does (small weights)
     near_steps                   not 0: how many steps before its turn a tile brings a weight into the first cache
     prefetch_lines               cache lines of weights to come, from `next` on, that a tile brings closer before it
                                  starts, or where prefetch_steps is not 0, before every so many channels of each tap
     in_image, in_row, in_pixel   floats from what one output image, row, pixel reads to what the next reads, so
                                  that in_row = stride * floats of an input row, in_pixel = stride * pixel stride
     out_..., sum_...             floats between neighbours of out and sum
     offsets                      where each tap lies, in floats from `in`: may be negative
     w_taps                       the taps that the weights have: those of this call are w_run of them from w_first on,
     w_first, w_run, w_skip       then as many again behind w_skip others, and so on; with all of them w_first and
                                  w_skip are 0, w_taps and w_run are `taps`
     w                            [group][block][tap][c / tile_depth][tile_vectors][VL], the last block only of as
                                  many vectors as its channels need; zeros beyond `outs` (compiler/lowering/packing.py)
     panel                        0, or how many outputs lie side by side whatever the tile is: w is then
                                  [group][k / panel][tap][c][panel], which vectors of any width can read. tile_depth is
                                  1, and `panel` a multiple of tile_vectors * VL or a divisor
     bias                         [group][block][tile_vectors][VL]: each beside the zeros of its other lanes
     sum                          read only where epilogue.add is set, else null; may be `out` itself
     next                         null where prefetch_lines is 0

   The input carries its padding: every tap of every pixel must be readable.

   Spread over a vector, one input number takes a load and feeds VL outputs; where there are fewer, or no multiple of
   VL, the rest of the vector is idle. With tile_depth D the load takes D numbers, which feed VL / D outputs each, so
   that 8 or 12 outputs fill whole vectors too. A vector is then VL / D groups of D partial sums; D vectors of them are
   added across into one of VL outputs. Output o of these lies in vector o % D, group o / D; where a block leaves only
   n < D vectors, in vector o % n, group o / n, and D / n pixels share the sum. */

#include "activation.h"

enum { CONV_PIXELS = 16, CONV_VECTORS = 16 }; /* the largest tile either way */
enum { LINE = 16 };                          /* floats of a cache line */

struct conv {
    int images, rows, width, taps, channels, outs, groups;
    int tile_pixels, tile_vectors, over_rows, tile_depth, panel, weights_outer;
    int near_steps, prefetch_lines, prefetch_steps;
    int in_image, in_row, in_pixel, out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel;
    struct epilogue epilogue;
    int w_taps, w_first, w_run, w_skip;
    const int *offsets;
};

/* The outputs of a group with the zeros after them; how many lie side by side in a block of `vectors`; and where the
   weights of output k lie, the first of its block where there are no panels. */
INLINE int f32_conv_padded(const struct conv *a) {
    const int unit = a->panel ? a->panel : VL / a->tile_depth;
    return (a->outs + unit - 1) / unit * unit;
}
INLINE int f32_conv_line(const struct conv *a, const int vectors) { return a->panel ? a->panel : vectors * VL; }
INLINE size_t f32_conv_place(const struct conv *a, const int k) {
    const int within = a->panel ? k % a->panel : 0;
    return (size_t)(k - within) * a->w_taps * a->channels + within;
}
/* where float k of a step's weights lies, from the block's first */
INLINE size_t f32_conv_within(const struct conv *a, const int k) {
    return a->panel ? f32_conv_place(a, k) : (size_t)k;
}

INLINE void f32_conv_naive(
    const struct conv *a, const float *in, const float *w, const float *bias, const float *sum, const float *next,
    float *out) {
    (void)next;
    const int wide = VL / a->tile_depth, padded = f32_conv_padded(a), block = a->panel ? 1 : a->tile_vectors * wide;
    for (int i = 0; i < a->images; i++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int g = 0; g < a->groups; g++)
    for (int k = 0; k < a->outs; k++) {
        const int first = k / block * block; /* of the block that holds k */
        const int vectors = a->panel ? 1 : (padded - first < block ? padded - first : block) / wide;
        const int set = (k - first) / VL * a->tile_depth; /* the first of the vectors that are added across */
        const int n = vectors - set < a->tile_depth ? vectors - set : a->tile_depth, o = (k - first) % VL;
        const int lane = (set + o % n) * VL + o / n * a->tile_depth;
        const float *wk = w + (size_t)g * padded * a->w_taps * a->channels + f32_conv_place(a, first);
        const float *p =
            in + (size_t)i * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel + g * a->channels;
        float acc = bias[(g * padded + first) * a->tile_depth + lane];
        for (int t = 0; t < a->taps; t++)
            for (int c = 0; c < a->channels; c++) {
                const int tap = a->w_first + t + t / a->w_run * a->w_skip; /* among those that there are */
                const int step = (tap * a->channels + c) / a->tile_depth;
                acc += p[a->offsets[t] + c] * wk[step * f32_conv_line(a, vectors) + lane + c % a->tile_depth];
            }
        float *q = out + (size_t)i * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + g * a->outs + k;
        const float *s = sum + (size_t)i * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel;
        *q = epilogue(a->epilogue, acc, a->epilogue.add ? s[g * a->outs + k] : 0);
    }
}

/* where a pixel's summands lie; null stays null */
INLINE const float *f32_conv_sum(const struct conv *a, const float *sum, const int n, const int y, const int x) {
    if (!a->epilogue.add) return 0;
    return sum + (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel;
}

/* The floats from a tile's first pixel to pixel x of it, where `row_left` pixels of its row are left. */
INLINE size_t f32_conv_apart(const struct conv *a, const int x, const int row_left, const int row, const int pixel) {
    const int gap = row - a->width * pixel; /* from the end of a row to the next */
    return (size_t)(x * pixel + (a->over_rows && x >= row_left ? gap : 0));
}

#if VL == 1 /* depth is 1 */
INLINE vf f32_conv_gather(vf part[4], const int depth, const int n) { return (void)depth, (void)n, part[0]; }
#else
/* Each lane plus the one `apart` from it: of a where the lane's bit `apart` is clear, else of b. */
INLINE vf f32_conv_across(const vf a, const vf b, const int apart) {
    int own[VL], other[VL];
    UNROLL for (int i = 0; i < VL; i++) {
        own[i] = i & apart ? VL + i : i;
        other[i] = own[i] ^ apart;
    }
    return pick(a, b, own) + pick(a, b, other);
}

/* Adds `depth` vectors of partial sums across: part s of group g becomes lane depth * g + s, or where parts / n pixels
   share the sum, n vectors each, lane g * n + s % n of the pixel s / n. */
INLINE vf f32_conv_gather(vf part[4], const int depth, const int n) {
    UNROLL for (int apart = 1; apart < depth; apart *= 2)
        UNROLL for (int s = 0; s < depth; s += 2 * apart)
            part[s] = f32_conv_across(part[s], part[s + apart], apart);
    if (n == depth) return part[0];
    const int width = VL / (depth / n); /* lanes of a pixel */
    int from[VL];
    UNROLL for (int i = 0; i < VL; i++) from[i] = (i % width / n * depth + i / width * n + i % width % n) % VL;
    return pick(part[0], part[0], from);
}
#endif

/* Stores `pixels` that share a vector, `lanes` outputs of each. */
INLINE void f32_conv_store(
    const struct conv *a, const int pixels, const int width, const int lanes, const vf acc, const float *sum,
    float *out) {
    const vf other = a->epilogue.add ? load_runs(sum, (size_t)a->sum_pixel, pixels, width, lanes) : (vf){0};
    store_runs(out, vepilogue(a->epilogue, acc, other), (size_t)a->out_pixel, pixels, width, lanes);
}

/* Asks for the cache lines from *next on, and moves it past them. Nothing is read: past the weights nothing happens. */
INLINE void f32_conv_fetch(const int lines, const float **next) {
    for (int i = 0; i < lines; i++, *next += LINE) PREFETCH(*next, 3);
}

/* `pixels` x `vectors` sums, in registers over all taps and channels: a step of c loads `vectors` weights and
   `pixels` inputs, each spread over a vector, for pixels * vectors multiply-adds.
   `row_left`: how many pixels its row has left; `lanes`: how many outputs there are. */
INLINE void f32_conv_tile(
    const struct conv *a, const int pixels, const int row_left, const int vectors, const int lanes, const float *in,
    const float *w, const float *bias, const float *sum, float *out, const float **next) {
    const int depth = a->tile_depth, span = a->prefetch_steps ? a->prefetch_steps : a->channels;
    const size_t tap = (size_t)(a->channels / depth) * f32_conv_line(a, vectors); /* floats of its weights */
    w += a->w_first * tap;
    if (!a->prefetch_steps) f32_conv_fetch(a->prefetch_lines, next);
    free_registers();
    vf acc[CONV_PIXELS][CONV_VECTORS];
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int k = 0; k < vectors; k++) acc[x][k] = load(bias + k * VL);
    ROLLED for (int t = 0; t < a->taps; t++) {
        const float *p = in + a->offsets[t];
        if (a->w_skip && t && t % a->w_run == 0) w += a->w_skip * tap;
        ROLLED for (int first = 0; first < a->channels; first += span) {
            const int left = a->channels - first, count = left < span ? left : span, line = f32_conv_line(a, vectors);
            if (a->prefetch_steps) f32_conv_fetch(a->prefetch_lines, next);
            ROLLED for (int c = 0; c < count; c += depth, p += depth, w += line) {
                if (a->near_steps)
                    UNROLL for (int k = 0; k < vectors * VL; k += LINE)
                        PREFETCH(w + a->near_steps * line + f32_conv_within(a, k), 3);
                vf weight[CONV_VECTORS];
                UNROLL for (int k = 0; k < vectors; k++) {
                    const vf v = load(w + f32_conv_within(a, k * VL));
                    weight[k] = pixels > 1 ? held(v) : v;
                }
                UNROLL for (int x = 0; x < pixels; x++) {
                    const vf input = repeat(p + f32_conv_apart(a, x, row_left, a->in_row, a->in_pixel), depth);
                    UNROLL for (int k = 0; k < vectors; k++) acc[x][k] += input * weight[k];
                }
            }
        }
    }
    UNROLL for (int k = 0; k < vectors; k += depth) {
        const int n = vectors - k < depth ? vectors - k : depth, share = depth / n, width = VL / share;
        const int first = k * VL / depth, count = lanes - first < width ? lanes - first : width;
        UNROLL for (int x = 0; x < pixels; x += share) {
            const int here = pixels - x < share ? pixels - x : share;
            vf part[4];
            UNROLL for (int s = 0; s < depth; s++) part[s] = acc[s / n < here ? x + s / n : x][k + s % n];
            const float *summand = sum + f32_conv_apart(a, x, row_left, a->sum_row, a->sum_pixel) + first;
            f32_conv_store(a, here, width, count, f32_conv_gather(part, depth, n), a->epilogue.add ? summand : 0,
                           out + f32_conv_apart(a, x, row_left, a->out_row, a->out_pixel) + first);
        }
    }
}

/* `outs` output channels, block after block, of a tile of pixels, the first of which is number i from row y on */
INLINE void f32_conv_blocks(
    const struct conv *a, const int pixels, const int outs, const int n, int y, const int i, const float *in,
    const float *w, const float *bias, const float *sum, float *out, const float **next) {
    const int wide = VL / a->tile_depth, block = a->tile_vectors * wide, rest = outs % block, whole = outs - rest;
    const int x = a->over_rows ? i % a->width : i, row_left = a->width - x;
    if (a->over_rows) y += i / a->width;
    in += (size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel;
    out += (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
    sum = f32_conv_sum(a, sum, n, y, x);
    for (int k = 0; k < whole; k += block)
        f32_conv_tile(a, pixels, row_left, a->tile_vectors, block, in, w + f32_conv_place(a, k),
                      bias + k * a->tile_depth, a->epilogue.add ? sum + k : 0, out + k, next);
    if (rest)
        f32_conv_tile(a, pixels, row_left, (rest + wide - 1) / wide, rest, in, w + f32_conv_place(a, whole),
                      bias + whole * a->tile_depth, a->epilogue.add ? sum + whole : 0, out + whole, next);
}

/* `outs` output channels of all pixels, tile after tile of these */
INLINE void f32_conv_pixels(
    const struct conv *a, const int outs, const float *in, const float *w, const float *bias, const float *sum,
    float *out, const float **next) {
    const int step = a->over_rows ? a->rows : 1, run = step * a->width; /* rows and pixels that tiles follow */
    const int rest = run % a->tile_pixels, whole = run - rest;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y += step) {
        for (int i = 0; i < whole; i += a->tile_pixels)
            f32_conv_blocks(a, a->tile_pixels, outs, n, y, i, in, w, bias, sum, out, next);
        if (rest) f32_conv_blocks(a, rest, outs, n, y, whole, in, w, bias, sum, out, next);
    }
}

INLINE void f32_conv(
    const struct conv *a, const float *in, const float *w, const float *bias, const float *sum, const float *next,
    float *out) {
    const int padded = f32_conv_padded(a), block = a->tile_vectors * (VL / a->tile_depth), rest = a->outs % block;
    for (int g = 0; g < a->groups; g++) {
        const float *ig = in + g * a->channels, *wg = w + (size_t)g * padded * a->w_taps * a->channels;
        const float *bg = bias + g * padded * a->tile_depth, *sg = a->epilogue.add ? sum + g * a->outs : 0;
        float *og = out + g * a->outs;
        if (!a->weights_outer) {
            f32_conv_pixels(a, a->outs, ig, wg, bg, sg, og, &next);
            continue;
        }
        for (int k = 0; k < a->outs - rest; k += block)
            f32_conv_pixels(a, block, ig, wg + f32_conv_place(a, k), bg + k * a->tile_depth,
                            a->epilogue.add ? sg + k : 0, og + k, &next);
        const int k = a->outs - rest;
        if (rest)
            f32_conv_pixels(a, rest, ig, wg + f32_conv_place(a, k), bg + k * a->tile_depth,
                            a->epilogue.add ? sg + k : 0, og + k, &next);
    }
}
