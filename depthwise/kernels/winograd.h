/* Dense convolution of stride 1 by Winograd's minimal filtering (Lavin & Gray, arXiv:1509.09308): m outputs of a
   row of r taps from n = m + r - 1 products instead of m r, the same along the columns, 36 instead of 144 for 4x4
   outputs of 3x3 taps.

     out[y][x][k] = epilogue(bias[k] + sum over r, s, c of in[y + r][x + s][c] * g[r][s][c][k], sum[y][x][k])

   A tile of my x mx outputs reads ny x nx pixels d and is, with w = G g G' from compiler/lowering/winograd_weights.py,

     M[i][j][k] = sum over c of V[i][j][c] * w[i][j][c][k]        V = B d B'        out = A' M A

   B d is a polynomial product and A' M its values at n - 1 points and at infinity: A'[y][i] = a_i^y, B[i] holds the
   coefficients of the product of (x - a_j) over j != i, and w carries 1 / product of (a_i - a_j). The points are 0,
   the pairs below with both signs, and infinity. They are fractions of powers of two, so that whole numbers stay
   exact while they fit 24 bits; n = 1 leaves an axis as it is. An infinity or NaN in a tile's input spoils the whole
   tile, not only the outputs that read it.

     images, rows, width          the output's
     channels, outs               input and output channels
     points_y, points_x           n along each axis: 1, 4, 6, 8 or 10
     taps_y, taps_x               r along each axis, below n or both 1
     tile_pixels, tile_vectors    the register tile: Winograd tiles x vectors of output channels
     batch                        Winograd tiles that go through scratch together
     in_image, in_row, in_pixel   floats between neighbours of in; out_..., sum_... likewise
     in                           the first pixel that the first tile reads, so in the border if there is one; rows +
                                  taps_y - 1 rows of width + taps_x - 1 pixels must be readable
     panel                        as in conv.h: w is then [k / panel][i][j][c][panel]
     w                            [block][i][j][c][tile_vectors * VL], the last block only as wide as its channels
                                  rounded up to VL, zeros beyond `outs`
     bias                         [outs rounded up to VL]
     sum                          read only where epilogue.add is set, else null; may be `out` itself
     scratch                      winograd_scratch floats: V and M of a batch */

#include "activation.h"

enum { WINOGRAD_POINTS = 10 }; /* the most along an axis */

/* n - 2 of the points are pairs +-a. These lose least in float32 of the simple fractions that we tried: 6e-7 of the
   output's deviation for 4 outputs of 3 taps, 256 channels, where 1, 2 lose 1e-6 and direct convolution 4e-7; 3e-6
   for 4 outputs of 7 taps. */
INLINE float winograd_pair(const int points, const int pair) {
    const float pairs[4][4] = {{1}, {0.5f, 1.5f}, {0.5f, 1, 2}, {0.5f, 0.75f, 1.5f, 2.5f}};
    return pairs[points / 2 - 2][pair];
}

/* ---------------------------------------------------------------------------------------- naive twin */

/* point i of n: 0, then each pair with both signs; the last, infinity, has none */
INLINE float winograd_point(const int points, const int i) {
    return i == 0 ? 0 : i % 2 ? winograd_pair(points, (i - 1) / 2) : -winograd_pair(points, (i - 1) / 2);
}

/* B[i]: the coefficients of the product of (x - a_j) over all finite points j != i */
INLINE void winograd_row(const int points, const int i, float *row) {
    row[0] = 1;
    for (int r = 1; r < points; r++) row[r] = 0;
    for (int j = 0; j < points - 1; j++)
        if (j != i)
            for (int r = points - 1; r >= 0; r--)
                row[r] = (r ? row[r - 1] : 0) - winograd_point(points, j) * row[r];
}

/* A'[y][i] for `outs` outputs of `points` */
INLINE float winograd_power(const int points, const int outs, const int i, const int y) {
    if (points > 1 && i == points - 1) return y == outs - 1;
    float power = 1;
    for (int k = 0; k < y; k++) power *= winograd_point(points, i);
    return power;
}

struct winograd {
    int images, rows, width, channels, outs, points_y, points_x, taps_y, taps_x;
    int tile_pixels, tile_vectors, panel, batch;
    int in_image, in_row, in_pixel, out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel;
    struct epilogue epilogue;
};

/* Outputs side by side in a block of `vectors`, and where the weights of output k lie: as those of conv.h. */
INLINE int winograd_line(const struct winograd *a, const int vectors) { return a->panel ? a->panel : vectors * VL; }
INLINE size_t winograd_place(const struct winograd *a, const int k) {
    const int within = a->panel ? k % a->panel : 0;
    return (size_t)(k - within) * a->points_y * a->points_x * a->channels + within;
}
INLINE size_t winograd_vector(const struct winograd *a, const int k) {
    return a->panel ? winograd_place(a, k * VL) : (size_t)k * VL;
}

INLINE void f32_winograd_naive(
    const struct winograd *a, const float *in, const float *w, const float *bias, const float *sum, float *scratch,
    float *out) {
    const int block = winograd_line(a, a->tile_vectors), unit = a->panel ? a->panel : VL;
    const int padded = (a->outs + unit - 1) / unit * unit;
    const int my = a->points_y - a->taps_y + 1, mx = a->points_x - a->taps_x + 1;
    (void)scratch;
    float down[WINOGRAD_POINTS][WINOGRAD_POINTS], across[WINOGRAD_POINTS][WINOGRAD_POINTS];
    for (int i = 0; i < a->points_y; i++) winograd_row(a->points_y, i, down[i]);
    for (int j = 0; j < a->points_x; j++) winograd_row(a->points_x, j, across[j]);
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int k = 0; k < a->outs; k++) {
        const int first = k / block * block; /* of the block that holds k */
        const int wide = padded - first < block ? padded - first : block;
        const int top = y / my * my, left = x / mx * mx;
        float acc = bias[k];
        for (int i = 0; i < a->points_y; i++)
        for (int j = 0; j < a->points_x; j++) {
            const size_t at = (size_t)first * a->points_y * a->points_x + (size_t)(i * a->points_x + j) * wide;
            const float *wk = w + at * a->channels;
            float product = 0;
            for (int c = 0; c < a->channels; c++) {
                float v = 0;
                for (int r = 0; r < a->points_y && top + r < a->rows + a->taps_y - 1; r++)
                    for (int s = 0; s < a->points_x && left + s < a->width + a->taps_x - 1; s++)
                        v += down[i][r] * across[j][s] * in[(size_t)n * a->in_image + (size_t)(top + r) * a->in_row
                                                            + (size_t)(left + s) * a->in_pixel + c];
                product += v * wk[(size_t)c * wide + k - first];
            }
            acc += winograd_power(a->points_y, my, i, y - top) * winograd_power(a->points_x, mx, j, x - left) * product;
        }
        const float *s = sum + (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + k;
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + k]
            = epilogue(a->epilogue, acc, a->epilogue.add ? *s : 0);
    }
}

/* ---------------------------------------------------------------------------------------- transforms */

/* the product of (z - a^2) over the pairs but `without`, lowest power first */
INLINE void winograd_squares(const int points, const int without, float *p) {
    p[0] = 1;
    UNROLL for (int r = 1; r < WINOGRAD_POINTS / 2; r++) p[r] = 0;
    UNROLL for (int h = 0; h < points / 2 - 1; h++) {
        const float a = winograd_pair(points, h);
        if (h != without)
            UNROLL for (int r = WINOGRAD_POINTS / 2 - 1; r >= 0; r--) p[r] = (r ? p[r - 1] : 0) - a * a * p[r];
    }
}

/* B d. A row of +a and that of -a are an even and an odd part, added and subtracted. */
INLINE void winograd_before(const int points, const vf *d, vf *v) {
    const int pairs = points / 2 - 1;
    float p[WINOGRAD_POINTS / 2];
    if (points == 1) {
        v[0] = d[0];
        return;
    }
    winograd_squares(points, pairs, p);
    vf zero = d[2 * pairs], infinity = d[2 * pairs + 1];
    UNROLL for (int r = 0; r < pairs; r++) zero += p[r] * d[2 * r], infinity += p[r] * d[2 * r + 1];
    v[0] = zero, v[points - 1] = infinity;
    UNROLL for (int h = 0; h < pairs; h++) {
        winograd_squares(points, h, p);
        vf even = d[2 * pairs], odd = d[2 * pairs - 1];
        UNROLL for (int r = 0; r < pairs - 1; r++) even += p[r] * d[2 * r + 2], odd += p[r] * d[2 * r + 1];
        const float a = winograd_pair(points, h);
        v[1 + 2 * h] = even + a * odd, v[2 + 2 * h] = even - a * odd;
    }
}

/* A' m: even powers weigh the sums of a pair, odd powers the differences */
INLINE void winograd_after(const int points, const int outs, const vf *m, vf *y) {
    const int pairs = points / 2 - 1;
    UNROLL for (int i = 0; i < outs; i++) y[i] = (vf){0};
    y[0] = m[0];
    UNROLL for (int h = 0; h < pairs; h++) {
        const vf both = m[1 + 2 * h] + m[2 + 2 * h], apart = m[1 + 2 * h] - m[2 + 2 * h];
        float power = 1;
        UNROLL for (int i = 0; i < outs; i++, power *= winograd_pair(points, h)) y[i] += power * (i % 2 ? apart : both);
    }
    if (points > 1) y[outs - 1] += m[points - 1];
}

/* outputs of a tile down and across, and how many tiles cover an image's */
INLINE int winograd_down(const struct winograd *a) { return a->points_y - a->taps_y + 1; }
INLINE int winograd_across(const struct winograd *a) { return a->points_x - a->taps_x + 1; }
INLINE int winograd_tiles_y(const struct winograd *a) {
    return (a->rows + winograd_down(a) - 1) / winograd_down(a);
}
INLINE int winograd_tiles_x(const struct winograd *a) {
    return (a->width + winograd_across(a) - 1) / winograd_across(a);
}

/* floats between tiles and between points of V and M; an odd number of vectors between points, since those a multiple
   of 4096 bytes apart would meet in the same set of the first cache */
INLINE int winograd_apart(const int floats) { return (floats / VL | 1) * VL; }
INLINE int winograd_v_pixel(const struct winograd *a) { return (a->channels + VL - 1) / VL * VL; }
INLINE int winograd_m_pixel(const struct winograd *a) { return a->tile_vectors * VL; }
INLINE int winograd_v_point(const struct winograd *a) { return winograd_apart(a->batch * winograd_v_pixel(a)); }
INLINE int winograd_m_point(const struct winograd *a) { return winograd_apart(a->batch * winograd_m_pixel(a)); }

/* where a tile lies: its image and the first output it writes */
struct winograd_at { int n, y, x; };
INLINE struct winograd_at winograd_locate(const struct winograd *a, const int tile) {
    const int row = tile / winograd_tiles_x(a);
    return (struct winograd_at){row / winograd_tiles_y(a), row % winograd_tiles_y(a) * winograd_down(a),
                                tile % winograd_tiles_x(a) * winograd_across(a)};
}

/* V of `lanes` channels of one tile; beyond `rows` x `columns` pixels there are zeros */
INLINE void f32_winograd_input(
    const struct winograd *a, const int lanes, const int rows, const int columns, const float *in, float *v) {
    vf t[WINOGRAD_POINTS][WINOGRAD_POINTS];
    for (int x = 0; x < a->points_x; x++) {
        vf d[WINOGRAD_POINTS], u[WINOGRAD_POINTS];
        UNROLL for (int y = 0; y < a->points_y; y++)
            d[y] = y < rows && x < columns ? load_part(in + (size_t)y * a->in_row + (size_t)x * a->in_pixel, lanes)
                                           : (vf){0};
        winograd_before(a->points_y, d, u);
        UNROLL for (int y = 0; y < a->points_y; y++) t[y][x] = u[y];
    }
    for (int y = 0; y < a->points_y; y++) {
        vf u[WINOGRAD_POINTS];
        winograd_before(a->points_x, t[y], u);
        UNROLL for (int x = 0; x < a->points_x; x++)
            store(v + (size_t)(y * a->points_x + x) * winograd_v_point(a), u[x]);
    }
}

/* V of `count` tiles from tile `first` on */
INLINE void f32_winograd_inputs(
    const struct winograd *a, const int first, const int count, const float *in, float *v) {
    const int rest = a->channels % VL, whole = a->channels - rest;
    for (int t = 0; t < count; t++, v += winograd_v_pixel(a)) {
        const struct winograd_at at = winograd_locate(a, first + t);
        const int rows = a->rows + a->taps_y - 1 - at.y, columns = a->width + a->taps_x - 1 - at.x;
        const float *p = in + (size_t)at.n * a->in_image + (size_t)at.y * a->in_row + (size_t)at.x * a->in_pixel;
        if (rows >= a->points_y && columns >= a->points_x)
            for (int c = 0; c < whole; c += VL)
                f32_winograd_input(a, VL, a->points_y, a->points_x, p + c, v + c);
        else
            for (int c = 0; c < whole; c += VL) f32_winograd_input(a, VL, rows, columns, p + c, v + c);
        if (rest) f32_winograd_input(a, rest, rows, columns, p + whole, v + whole);
    }
}

/* `lanes` output channels of one tile from its M; only `rows` x `columns` pixels are written */
INLINE void f32_winograd_output(
    const struct winograd *a, const int lanes, const int rows, const int columns, const float *m, const vf bias,
    const float *sum, float *out) {
    const int my = winograd_down(a), mx = winograd_across(a);
    vf t[WINOGRAD_POINTS][WINOGRAD_POINTS];
    for (int x = 0; x < a->points_x; x++) {
        vf d[WINOGRAD_POINTS], u[WINOGRAD_POINTS];
        UNROLL for (int y = 0; y < a->points_y; y++)
            d[y] = load(m + (size_t)(y * a->points_x + x) * winograd_m_point(a));
        winograd_after(a->points_y, my, d, u);
        UNROLL for (int y = 0; y < my; y++) t[y][x] = u[y];
    }
    for (int y = 0; y < my && y < rows; y++) {
        vf u[WINOGRAD_POINTS];
        winograd_after(a->points_x, mx, t[y], u);
        UNROLL for (int x = 0; x < mx; x++)
            if (x < columns) {
                vf other = {0};
                if (a->epilogue.add) other = load_part(sum + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel, lanes);
                store_part(out + (size_t)y * a->out_row + (size_t)x * a->out_pixel,
                           vepilogue(a->epilogue, u[x] + bias, other), lanes);
            }
    }
}

/* `vectors` vectors of output channels of `count` tiles; `lanes`: outputs in the last vector */
INLINE void f32_winograd_outputs(
    const struct winograd *a, const int first, const int count, const int vectors, const int lanes,
    const float *m, const float *bias, const float *sum, float *out) {
    for (int t = 0; t < count; t++, m += winograd_m_pixel(a)) {
        const struct winograd_at at = winograd_locate(a, first + t);
        const int rows = a->rows - at.y, columns = a->width - at.x;
        float *q = out + (size_t)at.n * a->out_image + (size_t)at.y * a->out_row + (size_t)at.x * a->out_pixel;
        const float *s = a->epilogue.add ? sum + (size_t)at.n * a->sum_image + (size_t)at.y * a->sum_row
                                       + (size_t)at.x * a->sum_pixel : 0;
        const int whole = lanes == VL ? vectors : vectors - 1;
        for (int k = 0; k < whole * VL; k += VL)
            f32_winograd_output(a, VL, rows, columns, m + k, load(bias + k), a->epilogue.add ? s + k : 0, q + k);
        if (lanes < VL)
            f32_winograd_output(a, lanes, rows, columns, m + whole * VL, load(bias + whole * VL),
                                a->epilogue.add ? s + whole * VL : 0, q + whole * VL);
    }
}

/* ------------------------------------------------------------------------------------------- products */

/* M of `pixels` tiles x `vectors` vectors at one point, in registers over all channels. A step of c fetches `ahead`
   lines that lie `apart` floats from each other, from `next` on, towards the second cache. */
INLINE void f32_winograd_tile(
    const struct winograd *a, const int pixels, const int vectors, const int ahead, const size_t apart, const float *v,
    const float *w, const float *next, float *m) {
    vf acc[16][16];
    UNROLL for (int t = 0; t < pixels; t++)
        UNROLL for (int k = 0; k < vectors; k++) acc[t][k] = (vf){0};
    const int line = winograd_line(a, vectors);
    for (int c = 0; c < a->channels; c++, v++, w += line, next += line) {
        vf weight[16];
        UNROLL for (int k = 0; k < ahead; k++) PREFETCH(next + k * apart, 2);
        UNROLL for (int k = 0; k < vectors; k++) weight[k] = load(w + winograd_vector(a, k));
        UNROLL for (int t = 0; t < pixels; t++) {
            const vf input = splat(v[t * winograd_v_pixel(a)]);
            UNROLL for (int k = 0; k < vectors; k++) acc[t][k] += input * weight[k];
        }
    }
    UNROLL for (int t = 0; t < pixels; t++)
        UNROLL for (int k = 0; k < vectors; k++) store(m + t * winograd_m_pixel(a) + k * VL, acc[t][k]);
}

enum { WINOGRAD_LINE = 16, WINOGRAD_NEAR = 1024 }; /* floats of a line, and of how far ahead weights are fetched */

/* M of `count` tiles x `vectors` vectors at every point. While the tiles pass over the weights of a point, they fetch
   those of the next, each pass its share of the lines; a single pass fetches closer. With weights from memory this
   makes 28x28x128 11 % faster, 14x14x256 15 %, 1x7 on 17x17x192 7 %. */
INLINE void f32_winograd_products(
    const struct winograd *a, const int count, const int vectors, const float *v, const float *w, float *m) {
    const int rest = count % a->tile_pixels, whole = count - rest;
    const int passes = whole / a->tile_pixels + (rest > 0), panel = a->channels * winograd_line(a, vectors);
    const int lines = (vectors * VL + WINOGRAD_LINE - 1) / WINOGRAD_LINE; /* of a step of c */
    const size_t between = a->panel ? winograd_place(a, WINOGRAD_LINE) : WINOGRAD_LINE; /* these */
    const size_t apart = passes * between;
    const int ahead = (lines + passes - 1) / passes;
    for (int p = 0; p < a->points_y * a->points_x;
         p++, v += winograd_v_point(a), m += winograd_m_point(a), w += panel) {
        const float *next = w + (passes == 1 ? WINOGRAD_NEAR : panel);
        for (int t = 0; t < whole; t += a->tile_pixels, next += between)
            f32_winograd_tile(a, a->tile_pixels, vectors, ahead, apart, v + (size_t)t * winograd_v_pixel(a), w, next,
                              m + (size_t)t * winograd_m_pixel(a));
        if (rest)
            f32_winograd_tile(a, rest, vectors, ahead, apart, v + (size_t)whole * winograd_v_pixel(a), w, next,
                              m + (size_t)whole * winograd_m_pixel(a));
    }
}

/* all outputs of `count` tiles, block after block of output channels: V stays in the second cache, and each weight
   is read once a batch */
INLINE void f32_winograd_batch(
    const struct winograd *a, const int first, const int count, const float *in, const float *w, const float *bias,
    const float *sum, float *v, float *m, float *out) {
    const int block = a->tile_vectors * VL, rest = a->outs % block, whole = a->outs - rest;
    const int last = (rest + VL - 1) / VL; /* vectors of the last block */
    f32_winograd_inputs(a, first, count, in, v);
    for (int k = 0; k < whole; k += block) {
        f32_winograd_products(a, count, a->tile_vectors, v, w + winograd_place(a, k), m);
        f32_winograd_outputs(a, first, count, a->tile_vectors, VL, m, bias + k, a->epilogue.add ? sum + k : 0, out + k);
    }
    if (rest) {
        f32_winograd_products(a, count, last, v, w + winograd_place(a, whole), m);
        f32_winograd_outputs(a, first, count, last, rest - (last - 1) * VL, m, bias + whole,
                             a->epilogue.add ? sum + whole : 0, out + whole);
    }
}

INLINE void f32_winograd(
    const struct winograd *a, const float *in, const float *w, const float *bias, const float *sum, float *scratch,
    float *out) {
    float *m = scratch + (size_t)a->points_y * a->points_x * winograd_v_point(a);
    const int tiles = a->images * winograd_tiles_y(a) * winograd_tiles_x(a), rest = tiles % a->batch;
    const int whole = tiles - rest;
    for (int first = 0; first < whole; first += a->batch)
        f32_winograd_batch(a, first, a->batch, in, w, bias, sum, scratch, m, out);
    if (rest) f32_winograd_batch(a, whole, rest, in, w, bias, sum, scratch, m, out);
}
