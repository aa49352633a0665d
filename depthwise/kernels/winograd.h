/* Dense convolution of stride 1 by Winograd's minimal filtering (Lavin & Gray, arXiv:1509.09308): m outputs of a
   row of r taps from n = m + r - 1 products instead of m r, the same along the columns, 36 instead of 144 for 4x4
   outputs of 3x3 taps. Needs vector.h and activation.h.

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
     w                            [block][i][j][c][tile_vectors * VL], the last block only as wide as its channels
                                  rounded up to VL, zeros beyond `outs`
     bias                         [outs rounded up to VL]
     sum                          read only where e.add is set, else null; may be `out` itself
     scratch                      winograd_scratch floats: V and M of a batch */

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

INLINE void f32_winograd_naive(
    const int images, const int rows, const int width, const int channels, const int outs, const int points_y,
    const int points_x, const int taps_y, const int taps_x, const int tile_pixels, const int tile_vectors,
    const int batch, const int in_image, const int in_row, const int in_pixel, const int out_image,
    const int out_row, const int out_pixel, const int sum_image, const int sum_row, const int sum_pixel,
    const struct epilogue e, const float *in, const float *w, const float *bias, const float *sum, float *scratch,
    float *out) {
    const int padded = (outs + VL - 1) / VL * VL, block = tile_vectors * VL;
    const int my = points_y - taps_y + 1, mx = points_x - taps_x + 1;
    (void)tile_pixels, (void)batch, (void)scratch;
    float down[WINOGRAD_POINTS][WINOGRAD_POINTS], across[WINOGRAD_POINTS][WINOGRAD_POINTS];
    for (int i = 0; i < points_y; i++) winograd_row(points_y, i, down[i]);
    for (int j = 0; j < points_x; j++) winograd_row(points_x, j, across[j]);
    for (int n = 0; n < images; n++)
    for (int y = 0; y < rows; y++)
    for (int x = 0; x < width; x++)
    for (int k = 0; k < outs; k++) {
        const int first = k / block * block; /* of the block that holds k */
        const int wide = padded - first < block ? padded - first : block;
        const int top = y / my * my, left = x / mx * mx;
        float acc = bias[k];
        for (int i = 0; i < points_y; i++)
        for (int j = 0; j < points_x; j++) {
            const float *wk = w + ((size_t)first * points_y * points_x + (size_t)(i * points_x + j) * wide) * channels;
            float product = 0;
            for (int c = 0; c < channels; c++) {
                float v = 0;
                for (int r = 0; r < points_y && top + r < rows + taps_y - 1; r++)
                    for (int s = 0; s < points_x && left + s < width + taps_x - 1; s++)
                        v += down[i][r] * across[j][s]
                             * in[(size_t)n * in_image + (size_t)(top + r) * in_row + (size_t)(left + s) * in_pixel + c];
                product += v * wk[(size_t)c * wide + k - first];
            }
            acc += winograd_power(points_y, my, i, y - top) * winograd_power(points_x, mx, j, x - left) * product;
        }
        const float *s = sum + (size_t)n * sum_image + (size_t)y * sum_row + (size_t)x * sum_pixel + k;
        out[(size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel + k] = epilogue(e, acc, e.add ? *s : 0);
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

/* the arguments of f32_winograd that its parts share */
struct f32_winograd {
    int rows, width, channels, points_y, points_x, taps_y, taps_x, tiles_y, tiles_x;
    int in_image, in_row, in_pixel, out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel;
    struct epilogue e;
    int v_pixel, v_point, m_pixel, m_point; /* floats between tiles and between points of V and M */
};

/* where a tile lies: its image and the first output it writes */
struct winograd_at { int n, y, x; };
INLINE struct winograd_at winograd_locate(const struct f32_winograd a, const int tile) {
    const int row = tile / a.tiles_x;
    return (struct winograd_at){row / a.tiles_y, row % a.tiles_y * (a.points_y - a.taps_y + 1),
                                tile % a.tiles_x * (a.points_x - a.taps_x + 1)};
}

/* V of `lanes` channels of one tile; beyond `rows` x `columns` pixels there are zeros */
INLINE void f32_winograd_input(
    const struct f32_winograd a, const int lanes, const int rows, const int columns, const float *in, float *v) {
    vf t[WINOGRAD_POINTS][WINOGRAD_POINTS];
    for (int x = 0; x < a.points_x; x++) {
        vf d[WINOGRAD_POINTS], u[WINOGRAD_POINTS];
        UNROLL for (int y = 0; y < a.points_y; y++)
            d[y] = y < rows && x < columns ? load_part(in + (size_t)y * a.in_row + (size_t)x * a.in_pixel, lanes)
                                           : (vf){0};
        winograd_before(a.points_y, d, u);
        UNROLL for (int y = 0; y < a.points_y; y++) t[y][x] = u[y];
    }
    for (int y = 0; y < a.points_y; y++) {
        vf u[WINOGRAD_POINTS];
        winograd_before(a.points_x, t[y], u);
        UNROLL for (int x = 0; x < a.points_x; x++) store(v + (size_t)(y * a.points_x + x) * a.v_point, u[x]);
    }
}

/* V of `count` tiles from tile `first` on */
INLINE void f32_winograd_inputs(
    const struct f32_winograd a, const int first, const int count, const float *in, float *v) {
    const int rest = a.channels % VL, whole = a.channels - rest;
    for (int t = 0; t < count; t++, v += a.v_pixel) {
        const struct winograd_at at = winograd_locate(a, first + t);
        const int rows = a.rows + a.taps_y - 1 - at.y, columns = a.width + a.taps_x - 1 - at.x;
        const float *p = in + (size_t)at.n * a.in_image + (size_t)at.y * a.in_row + (size_t)at.x * a.in_pixel;
        if (rows >= a.points_y && columns >= a.points_x)
            for (int c = 0; c < whole; c += VL)
                f32_winograd_input(a, VL, a.points_y, a.points_x, p + c, v + c);
        else
            for (int c = 0; c < whole; c += VL) f32_winograd_input(a, VL, rows, columns, p + c, v + c);
        if (rest) f32_winograd_input(a, rest, rows, columns, p + whole, v + whole);
    }
}

/* `lanes` output channels of one tile from its M; only `rows` x `columns` pixels are written */
INLINE void f32_winograd_output(
    const struct f32_winograd a, const int lanes, const int rows, const int columns, const float *m, const vf bias,
    const float *sum, float *out) {
    const int my = a.points_y - a.taps_y + 1, mx = a.points_x - a.taps_x + 1;
    vf t[WINOGRAD_POINTS][WINOGRAD_POINTS];
    for (int x = 0; x < a.points_x; x++) {
        vf d[WINOGRAD_POINTS], u[WINOGRAD_POINTS];
        UNROLL for (int y = 0; y < a.points_y; y++) d[y] = load(m + (size_t)(y * a.points_x + x) * a.m_point);
        winograd_after(a.points_y, my, d, u);
        UNROLL for (int y = 0; y < my; y++) t[y][x] = u[y];
    }
    for (int y = 0; y < my && y < rows; y++) {
        vf u[WINOGRAD_POINTS];
        winograd_after(a.points_x, mx, t[y], u);
        UNROLL for (int x = 0; x < mx; x++)
            if (x < columns) {
                vf other = {0};
                if (a.e.add) other = load_part(sum + (size_t)y * a.sum_row + (size_t)x * a.sum_pixel, lanes);
                store_part(out + (size_t)y * a.out_row + (size_t)x * a.out_pixel,
                           vepilogue(a.e, u[x] + bias, other), lanes);
            }
    }
}

/* `vectors` vectors of output channels of `count` tiles; `lanes`: outputs in the last vector */
INLINE void f32_winograd_outputs(
    const struct f32_winograd a, const int first, const int count, const int vectors, const int lanes,
    const float *m, const float *bias, const float *sum, float *out) {
    for (int t = 0; t < count; t++, m += a.m_pixel) {
        const struct winograd_at at = winograd_locate(a, first + t);
        const int rows = a.rows - at.y, columns = a.width - at.x;
        float *q = out + (size_t)at.n * a.out_image + (size_t)at.y * a.out_row + (size_t)at.x * a.out_pixel;
        const float *s = a.e.add ? sum + (size_t)at.n * a.sum_image + (size_t)at.y * a.sum_row
                                       + (size_t)at.x * a.sum_pixel : 0;
        const int whole = lanes == VL ? vectors : vectors - 1;
        for (int k = 0; k < whole * VL; k += VL)
            f32_winograd_output(a, VL, rows, columns, m + k, load(bias + k), a.e.add ? s + k : 0, q + k);
        if (lanes < VL)
            f32_winograd_output(a, lanes, rows, columns, m + whole * VL, load(bias + whole * VL),
                                a.e.add ? s + whole * VL : 0, q + whole * VL);
    }
}

/* ------------------------------------------------------------------------------------------- products */

/* M of `pixels` tiles x `vectors` vectors at one point, in registers over all channels. A step of c fetches `ahead`
   lines that lie `apart` floats from each other, from `next` on, towards the second cache. */
INLINE void f32_winograd_tile(
    const int pixels, const int vectors, const int channels, const int v_pixel, const int m_pixel, const int ahead,
    const int apart, const float *v, const float *w, const float *next, float *m) {
    vf acc[16][16];
    UNROLL for (int t = 0; t < pixels; t++)
        UNROLL for (int k = 0; k < vectors; k++) acc[t][k] = (vf){0};
    for (int c = 0; c < channels; c++, v++, w += vectors * VL, next += vectors * VL) {
        vf weight[16];
        UNROLL for (int k = 0; k < ahead; k++) __builtin_prefetch(next + k * apart, 0, 2);
        UNROLL for (int k = 0; k < vectors; k++) weight[k] = load(w + k * VL);
        UNROLL for (int t = 0; t < pixels; t++) {
            const vf input = splat(v[t * v_pixel]);
            UNROLL for (int k = 0; k < vectors; k++) acc[t][k] += input * weight[k];
        }
    }
    UNROLL for (int t = 0; t < pixels; t++)
        UNROLL for (int k = 0; k < vectors; k++) store(m + t * m_pixel + k * VL, acc[t][k]);
}

enum { WINOGRAD_LINE = 16, WINOGRAD_NEAR = 1024 }; /* floats of a line, and of how far ahead weights are fetched */

/* M of `count` tiles x `vectors` vectors at every point. While the tiles pass over the weights of a point, they fetch
   those of the next, each pass its share of the lines; a single pass fetches closer. With weights from memory this
   makes 28x28x128 11 % faster, 14x14x256 15 %, 1x7 on 17x17x192 7 %. */
INLINE void f32_winograd_products(
    const struct f32_winograd a, const int count, const int tile_pixels, const int vectors, const float *v,
    const float *w, float *m) {
    const int rest = count % tile_pixels, whole = count - rest;
    const int passes = whole / tile_pixels + (rest > 0), panel = a.channels * vectors * VL;
    const int lines = (vectors * VL + WINOGRAD_LINE - 1) / WINOGRAD_LINE; /* of a step of c */
    const int ahead = (lines + passes - 1) / passes, apart = passes * WINOGRAD_LINE;
    for (int p = 0; p < a.points_y * a.points_x; p++, v += a.v_point, m += a.m_point, w += panel) {
        const float *next = w + (passes == 1 ? WINOGRAD_NEAR : panel);
        for (int t = 0; t < whole; t += tile_pixels, next += WINOGRAD_LINE)
            f32_winograd_tile(tile_pixels, vectors, a.channels, a.v_pixel, a.m_pixel, ahead, apart,
                              v + (size_t)t * a.v_pixel, w, next, m + (size_t)t * a.m_pixel);
        if (rest)
            f32_winograd_tile(rest, vectors, a.channels, a.v_pixel, a.m_pixel, ahead, apart,
                              v + (size_t)whole * a.v_pixel, w, next, m + (size_t)whole * a.m_pixel);
    }
}

/* all outputs of `count` tiles, block after block of output channels: V stays in the second cache, and each weight
   is read once a batch */
INLINE void f32_winograd_batch(
    const struct f32_winograd a, const int outs, const int tile_pixels, const int tile_vectors, const int first,
    const int count, const float *in, const float *w, const float *bias, const float *sum, float *v, float *m,
    float *out) {
    const int block = tile_vectors * VL, rest = outs % block, whole = outs - rest;
    const int last = (rest + VL - 1) / VL; /* vectors of the last block */
    const size_t weights = (size_t)a.points_y * a.points_x * a.channels; /* of one output channel */
    f32_winograd_inputs(a, first, count, in, v);
    for (int k = 0; k < whole; k += block) {
        f32_winograd_products(a, count, tile_pixels, tile_vectors, v, w + weights * k, m);
        f32_winograd_outputs(a, first, count, tile_vectors, VL, m, bias + k, a.e.add ? sum + k : 0, out + k);
    }
    if (rest) {
        f32_winograd_products(a, count, tile_pixels, last, v, w + weights * whole, m);
        f32_winograd_outputs(a, first, count, last, rest - (last - 1) * VL, m, bias + whole,
                             a.e.add ? sum + whole : 0, out + whole);
    }
}

/* the floats of V a point; an odd number of vectors, since points a multiple of 4096 bytes apart would meet in the
   same set of the first cache */
INLINE int winograd_apart(const int floats) { return (floats / VL | 1) * VL; }

INLINE void f32_winograd(
    const int images, const int rows, const int width, const int channels, const int outs, const int points_y,
    const int points_x, const int taps_y, const int taps_x, const int tile_pixels, const int tile_vectors,
    const int batch, const int in_image, const int in_row, const int in_pixel, const int out_image,
    const int out_row, const int out_pixel, const int sum_image, const int sum_row, const int sum_pixel,
    const struct epilogue e, const float *in, const float *w, const float *bias, const float *sum, float *scratch,
    float *out) {
    const int my = points_y - taps_y + 1, mx = points_x - taps_x + 1;
    const int tiles_y = (rows + my - 1) / my, tiles_x = (width + mx - 1) / mx;
    const int v_pixel = (channels + VL - 1) / VL * VL, m_pixel = tile_vectors * VL;
    const struct f32_winograd a = {
        rows, width, channels, points_y, points_x, taps_y, taps_x, tiles_y, tiles_x, in_image, in_row, in_pixel,
        out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel, e, v_pixel, winograd_apart(batch * v_pixel),
        m_pixel, winograd_apart(batch * m_pixel)};
    float *m = scratch + (size_t)points_y * points_x * a.v_point;
    const int tiles = images * tiles_y * tiles_x, rest = tiles % batch, whole = tiles - rest;
    for (int first = 0; first < whole; first += batch)
        f32_winograd_batch(a, outs, tile_pixels, tile_vectors, first, batch, in, w, bias, sum, scratch, m, out);
    if (rest)
        f32_winograd_batch(a, outs, tile_pixels, tile_vectors, whole, rest, in, w, bias, sum, scratch, m, out);
}
