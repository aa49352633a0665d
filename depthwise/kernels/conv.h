/* Convolution as a list of taps: pointwise, k x k, strided, dilated, grouped, the first layer, one phase of a
   transposed convolution, and linear layers (a pixel is a row of the batch). Needs vector.h and activation.h.

     out[n][y][x][g][k] = epilogue(bias[g][k] + sum over t, c of in[n][y][x + offset t][g][c] * w[g][t][c][k],
                                   sum[n][y][x][g][k])

     images, rows, width          the output's
     taps, channels, outs         kernel positions; input and output channels of one group
     groups                       group g reads channels from g * channels and writes from g * outs
     tile_pixels, tile_vectors    the register tile: pixels of a row x vectors of output channels
     panel_outer                  1: a block of weights meets the whole input before the next does (large weights);
                                  0: a tile of pixels meets all weights before the next does (small weights)
     ahead                        cache lines beyond the bias, where the next layers' weights lie, that each tile
                                  brings closer while it computes
     in_image, in_row, in_pixel   floats from what one output image, row, pixel reads to what the next reads, so
                                  that in_row = stride * floats of an input row, in_pixel = stride * pixel stride
     out_..., sum_...             floats between neighbours of out and sum
     offsets                      where each tap lies, in floats from `in`: may be negative
     w                            [group][block][tap][c][tile_vectors * VL], the last block only as wide as its
                                  channels rounded up to VL; beyond `outs` zeros, or where the last vector is at
                                  most half full, its lower half once more (compiler/pack.py)
     bias                         [group][outs rounded up to VL]
     sum                          read only where e.add is set, else null; may be `out` itself

   The input carries its padding: every tap of every pixel must be readable. */

enum { CONV_PIXELS = 16, CONV_VECTORS = 16 }; /* the largest tile either way */
enum { LINE = 16 };                          /* floats of a cache line */

INLINE void f32_conv_naive(
    const int images, const int rows, const int width, const int taps, const int channels, const int outs,
    const int groups, const int tile_pixels, const int tile_vectors, const int panel_outer, const int ahead,
    const int in_image, const int in_row, const int in_pixel, const int out_image, const int out_row, const int out_pixel,
    const int sum_image, const int sum_row, const int sum_pixel, const struct epilogue e, const int *offsets,
    const float *in, const float *w, const float *bias, const float *sum, float *out) {
    const int padded = (outs + VL - 1) / VL * VL, block = tile_vectors * VL;
    (void)tile_pixels, (void)panel_outer, (void)ahead;
    for (int n = 0; n < images; n++)
    for (int y = 0; y < rows; y++)
    for (int x = 0; x < width; x++)
    for (int g = 0; g < groups; g++)
    for (int k = 0; k < outs; k++) {
        const int first = k / block * block; /* of the block that holds k */
        const int wide = padded - first < block ? padded - first : block;
        const float *wk = w + (size_t)(g * padded + first) * taps * channels + (k - first);
        const float *p = in + (size_t)n * in_image + (size_t)y * in_row + (size_t)x * in_pixel + g * channels;
        float acc = bias[g * padded + k];
        for (int t = 0; t < taps; t++)
            for (int c = 0; c < channels; c++) acc += p[offsets[t] + c] * wk[(t * channels + c) * wide];
        float *q = out + (size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel + g * outs + k;
        const float *s = sum + (size_t)n * sum_image + (size_t)y * sum_row + (size_t)x * sum_pixel + g * outs + k;
        *q = epilogue(e, acc, e.add ? *s : 0);
    }
}

/* the arguments of f32_conv that its parts share */
struct f32_conv {
    int taps, channels, outs, tile_pixels, tile_vectors, ahead;
    int in_image, in_row, in_pixel, out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel;
    struct epilogue e;
    const int *offsets;
};

/* where a pixel's summands lie; null stays null */
INLINE const float *f32_conv_sum(const struct f32_conv a, const float *sum, const int n, const int y, const int x) {
    if (!a.e.add) return 0;
    return sum + (size_t)n * a.sum_image + (size_t)y * a.sum_row + (size_t)x * a.sum_pixel;
}

/* Where the last vector of a block is at most half full, two pixels share it: its upper half repeats the weights of the
   lower (compiler/pack.py) and computes the pixel to the right. 24 channels then take 1.5 vectors a pixel, not 2. */
INLINE int f32_conv_shares(const int pixels, const int lanes) { return VL >= 8 && pixels > 1 && lanes <= VL / 2; }

/* the lower half of a, the upper of b */
INLINE vf f32_conv_both(vf a, const vf b) {
    UNROLL for (int i = VL / 2; i < VL; i++) a[i] = b[i];
    return a;
}

/* the lower half of v, twice */
INLINE vf f32_conv_twice(vf v) {
    UNROLL for (int i = VL / 2; i < VL; i++) v[i] = v[i - VL / 2];
    return v;
}

/* Stores the pixels x and x + 1 that share a vector; the second only where it is one of `pixels`. */
INLINE void f32_conv_store_both(
    const struct f32_conv a, const int x, const int pixels, const int lanes, const vf acc, const float *sum,
    float *out) {
    const size_t bytes = (size_t)lanes * sizeof(float);
    vf other = {0};
    if (a.e.add) {
        memcpy(&other, sum + x * a.sum_pixel, bytes);
        if (x + 1 < pixels) memcpy((float *)&other + VL / 2, sum + (x + 1) * a.sum_pixel, bytes);
    }
    const vf v = vepilogue(a.e, acc, other);
    memcpy(out + x * a.out_pixel, &v, bytes);
    if (x + 1 < pixels) memcpy(out + (x + 1) * a.out_pixel, (const float *)&v + VL / 2, bytes);
}

/* `pixels` x `vectors` outputs, in registers over all taps and channels: a step of c loads `vectors` weights and
   `pixels` inputs, each spread over a vector, for pixels * vectors multiply-adds.
   `lanes`: how many floats of the last vector are outputs. */
INLINE void f32_conv_tile(
    const struct f32_conv a, const int pixels, const int vectors, const int lanes, const float *in,
    const float *w, const float *bias, const float *sum, float *out) {
    const int shares = f32_conv_shares(pixels, lanes), whole = vectors - shares, last = pixels - 1;
    vf acc[CONV_PIXELS][CONV_VECTORS], both[CONV_PIXELS / 2];
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int k = 0; k < whole; k++) acc[x][k] = load(bias + k * VL);
    if (shares)
        UNROLL for (int x = 0; x < pixels; x += 2) both[x / 2] = f32_conv_twice(load(bias + whole * VL));
    for (int t = 0; t < a.taps; t++) {
        const float *p = in + a.offsets[t];
        for (int c = 0; c < a.channels; c++, p++, w += vectors * VL) {
            vf weight[CONV_VECTORS];
            UNROLL for (int k = 0; k < vectors; k++) weight[k] = load(w + k * VL);
            vf before = {0};
            UNROLL for (int x = 0; x < pixels; x++) {
                const vf input = splat(p[x * a.in_pixel]);
                UNROLL for (int k = 0; k < whole; k++) acc[x][k] += input * weight[k];
                if (shares && (x % 2 || x == last))
                    both[x / 2] += f32_conv_both(x % 2 ? before : input, input) * weight[whole];
                before = input;
            }
        }
    }
    UNROLL for (int x = 0; x < pixels; x++)
        UNROLL for (int k = 0; k < whole; k++) {
            const int count = k == vectors - 1 ? lanes : VL;
            vf other = {0};
            if (a.e.add) other = load_part(sum + x * a.sum_pixel + k * VL, count);
            store_part(out + x * a.out_pixel + k * VL, vepilogue(a.e, acc[x][k], other), count);
        }
    if (shares)
        UNROLL for (int x = 0; x < pixels; x += 2)
            f32_conv_store_both(a, x, pixels, lanes, both[x / 2], a.e.add ? sum + whole * VL : 0, out + whole * VL);
}

/* Asks for the cache lines from *next on, and moves it behind them. Nothing is read: past the weights nothing happens. */
INLINE void f32_conv_fetch(const int lines, const float **next) {
    for (int i = 0; i < lines; i++, *next += LINE) __builtin_prefetch(*next);
}

/* one block of `vectors` output vectors over images x rows x width pixels */
INLINE void f32_conv_block(
    const struct f32_conv a, const int images, const int rows, const int width, const int vectors,
    const int lanes, const float *in, const float *w, const float *bias, const float *sum, float *out,
    const float **next) {
    const int rest = width % a.tile_pixels, whole = width - rest;
    for (int n = 0; n < images; n++)
    for (int y = 0; y < rows; y++) {
        const float *p = in + (size_t)n * a.in_image + (size_t)y * a.in_row;
        float *q = out + (size_t)n * a.out_image + (size_t)y * a.out_row;
        for (int x = 0; x < whole; x += a.tile_pixels) {
            f32_conv_fetch(a.ahead, next);
            f32_conv_tile(a, a.tile_pixels, vectors, lanes, p + (size_t)x * a.in_pixel, w, bias,
                          f32_conv_sum(a, sum, n, y, x), q + (size_t)x * a.out_pixel);
        }
        if (rest)
            f32_conv_tile(a, rest, vectors, lanes, p + (size_t)whole * a.in_pixel, w, bias,
                          f32_conv_sum(a, sum, n, y, whole), q + (size_t)whole * a.out_pixel);
    }
}

/* all output channels of a group over images x rows x width pixels, block after block */
INLINE void f32_conv_blocks(
    const struct f32_conv a, const int images, const int rows, const int width, const float *in, const float *w,
    const float *bias, const float *sum, float *out, const float **next) {
    const int block = a.tile_vectors * VL, rest = a.outs % block, whole = a.outs - rest;
    const int last = (rest + VL - 1) / VL; /* vectors of the last block */
    for (int k = 0; k < whole; k += block)
        f32_conv_block(a, images, rows, width, a.tile_vectors, VL, in, w + (size_t)k * a.taps * a.channels,
                       bias + k, a.e.add ? sum + k : 0, out + k, next);
    if (rest)
        f32_conv_block(a, images, rows, width, last, rest - (last - 1) * VL, in,
                       w + (size_t)whole * a.taps * a.channels, bias + whole, a.e.add ? sum + whole : 0,
                       out + whole, next);
}

INLINE void f32_conv(
    const int images, const int rows, const int width, const int taps, const int channels, const int outs,
    const int groups, const int tile_pixels, const int tile_vectors, const int panel_outer, const int ahead,
    const int in_image, const int in_row, const int in_pixel, const int out_image, const int out_row, const int out_pixel,
    const int sum_image, const int sum_row, const int sum_pixel, const struct epilogue e, const int *offsets,
    const float *in, const float *w, const float *bias, const float *sum, float *out) {
    const struct f32_conv a = {taps,     channels,  outs,    tile_pixels, tile_vectors, ahead,   in_image,  in_row,
                               in_pixel, out_image, out_row, out_pixel,   sum_image,    sum_row, sum_pixel, e, offsets};
    const int padded = (outs + VL - 1) / VL * VL;
    const int rest = width % tile_pixels, whole = width - rest;
    const float *next = bias + groups * padded;
    for (int g = 0; g < groups; g++) {
        const float *ig = in + g * channels, *wg = w + (size_t)g * padded * taps * channels;
        const float *bg = bias + g * padded, *sg = e.add ? sum + g * outs : 0;
        float *og = out + g * outs;
        if (panel_outer) {
            f32_conv_blocks(a, images, rows, width, ig, wg, bg, sg, og, &next);
            continue;
        }
        for (int n = 0; n < images; n++)
        for (int y = 0; y < rows; y++) {
            const float *p = ig + (size_t)n * in_image + (size_t)y * in_row;
            float *q = og + (size_t)n * out_image + (size_t)y * out_row;
            for (int x = 0; x < whole; x += tile_pixels)
                f32_conv_blocks(a, 1, 1, tile_pixels, p + (size_t)x * in_pixel, wg, bg,
                                f32_conv_sum(a, sg, n, y, x), q + (size_t)x * out_pixel, &next);
            if (rest)
                f32_conv_blocks(a, 1, 1, rest, p + (size_t)whole * in_pixel, wg, bg,
                                f32_conv_sum(a, sg, n, y, whole), q + (size_t)whole * out_pixel, &next);
        }
    }
}
