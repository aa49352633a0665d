/* Depthwise convolution: as many groups as channels, one output channel each. Needs vector.h and activation.h.

     out[n][y][x][c] = epilogue(bias[c] + sum over r, s of
                                in[n][y * stride_y + r * dilation_y][x * stride_x + s * dilation_x][c] * w[r][s][c],
                                sum[n][y][x][c])

     images, rows, width            the output's
     in_image, in_row, in_pixel     floats between neighbours of the input (stride not included)
     out_..., sum_...               floats between neighbours of out and sum
     in                             what output pixel (0, 0) reads at tap (0, 0): the input carries its padding
     w                              [r][s][w_tap floats], of which `channels` rounded up to VL are read; bias likewise
                                    (compiler/pack.py)
     sum                            read only where e.add is set, else null; may be `out` itself */

/* The register tile: DEPTHWISE_ROWS x 7 outputs (8 where 8 divides the width and 7 does not), which keeps as many
   accumulators, one row or two of weights and an input in registers. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { DEPTHWISE_ROWS = 2 }; /* of 32 registers */
#else
enum { DEPTHWISE_ROWS = 1 }; /* of 16 */
#endif
enum { DEPTHWISE_PIXELS = 8 };

/* Floats of each pixel that are done over the whole plane before the next: two cache lines, so that a few rows stay
   in L1. With all channels at once 14 x 14 x 384 fell from 92 % of peak to 49 %, with one line to 51 %. */
enum { DEPTHWISE_CHANNELS = 32 };

INLINE void f32_depthwise_naive(
    const int images, const int rows, const int width, const int channels, const int R, const int S,
    const int in_image, const int in_row, const int in_pixel, const int stride_y, const int stride_x,
    const int dilation_y, const int dilation_x, const int out_image, const int out_row, const int out_pixel,
    const int sum_image, const int sum_row, const int sum_pixel, const int w_tap, const struct epilogue e,
    const float *in, const float *w, const float *bias, const float *sum, float *out) {
    for (int n = 0; n < images; n++)
    for (int y = 0; y < rows; y++)
    for (int x = 0; x < width; x++)
    for (int c = 0; c < channels; c++) {
        float acc = bias[c];
        for (int r = 0; r < R; r++)
        for (int s = 0; s < S; s++)
            acc += in[(size_t)n * in_image + (size_t)(y * stride_y + r * dilation_y) * in_row +
                      (size_t)(x * stride_x + s * dilation_x) * in_pixel + c] * w[(r * S + s) * w_tap + c];
        const size_t at = (size_t)n * sum_image + (size_t)y * sum_row + (size_t)x * sum_pixel + c;
        out[(size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel + c] =
            epilogue(e, acc, e.add ? sum[at] : 0);
    }
}

/* the arguments of f32_depthwise that its parts share */
struct f32_depthwise {
    int channels, R, S, in_row, in_pixel, stride_y, stride_x, dilation_y, dilation_x;
    int out_row, out_pixel, sum_row, sum_pixel, w_tap;
    struct epilogue e;
};

/* acc += R x S taps that lie side by side, for rows x pixels outputs of `count` channels. Where windows overlap,
   every input is loaded once and goes to all outputs that it is under: 36 inputs for the 126 multiply-adds of
   2 x 7 outputs and 3 x 3 taps. `padded`: floats between the weights of two taps. */
INLINE void f32_depthwise_taps(
    const struct f32_depthwise a, const int rows, const int pixels, const int R, const int S, const int padded,
    const int count, const float *in, const float *w, vf acc[DEPTHWISE_ROWS][DEPTHWISE_PIXELS]) {
    if (S <= a.stride_x || a.stride_x > 4 || a.stride_y > 4) { /* apart, or too far to unroll */
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int s = 0; s < S; s++)
                UNROLL for (int y = 0; y < rows; y++)
                    UNROLL for (int x = 0; x < pixels; x++)
                        acc[y][x] += load_part(in + (size_t)(y * a.stride_y + r) * a.in_row +
                                               (size_t)(x * a.stride_x + s) * a.in_pixel, count) *
                                     load(w + (r * S + s) * padded);
        return;
    }
    UNROLL for (int i = 0; i < (rows - 1) * a.stride_y + R; i++)
        UNROLL for (int j = 0; j < (pixels - 1) * a.stride_x + S; j++) {
            const vf input = load_part(in + (size_t)i * a.in_row + (size_t)j * a.in_pixel, count);
            UNROLL for (int y = 0; y < rows; y++)
                UNROLL for (int x = 0; x < pixels; x++) {
                    const int r = i - y * a.stride_y, s = j - x * a.stride_x;
                    if (r >= 0 && r < R && s >= 0 && s < S) acc[y][x] += input * load(w + (r * S + s) * padded);
                }
        }
}

/* null stays null */
INLINE const float *f32_depthwise_sum(const struct f32_depthwise a, const float *sum, const size_t floats) {
    return a.e.add ? sum + floats : 0;
}

/* rows x pixels outputs of `count` channels, up to VL: small kernels unrolled whole, wide ones by rows of taps,
   dilated ones by taps */
INLINE void f32_depthwise_tile(
    const struct f32_depthwise a, const int rows, const int pixels, const int count, const float *in,
    const float *w, const float *bias, const float *sum, float *out) {
    const int padded = a.w_tap;
    vf acc[DEPTHWISE_ROWS][DEPTHWISE_PIXELS];
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) acc[y][x] = load(bias);
    if (a.dilation_y == 1 && a.dilation_x == 1 && a.R * a.S <= 25) {
        f32_depthwise_taps(a, rows, pixels, a.R, a.S, padded, count, in, w, acc);
    } else if (a.dilation_x == 1 && a.S <= 15) {
        for (int r = 0; r < a.R; r++, in += (size_t)a.dilation_y * a.in_row, w += a.S * padded)
            f32_depthwise_taps(a, rows, pixels, 1, a.S, padded, count, in, w, acc);
    } else {
        for (int r = 0; r < a.R; r++, in += (size_t)a.dilation_y * a.in_row)
            for (int s = 0; s < a.S; s++, w += padded)
                f32_depthwise_taps(a, rows, pixels, 1, 1, padded, count,
                                   in + (size_t)s * a.dilation_x * a.in_pixel, w, acc);
    }
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) {
            vf other = {0};
            if (a.e.add) other = load_part(sum + y * a.sum_row + x * a.sum_pixel, count);
            store_part(out + y * a.out_row + x * a.out_pixel, vepilogue(a.e, acc[y][x], other), count);
        }
}

/* one tile for each of `vectors` vectors of `count` channels */
INLINE void f32_depthwise_vectors(
    const struct f32_depthwise a, const int rows, const int pixels, const int vectors, const int count,
    const float *in, const float *w, const float *bias, const float *sum, float *out) {
    for (int c = 0; c < vectors * VL; c += VL)
        f32_depthwise_tile(a, rows, pixels, count, in + c, w + c, bias + c, f32_depthwise_sum(a, sum, c), out + c);
}

/* `rows` rows of outputs, up to DEPTHWISE_ROWS */
INLINE void f32_depthwise_rows(
    const struct f32_depthwise a, const int rows, const int width, const int vectors, const int count,
    const float *in, const float *w, const float *bias, const float *sum, float *out) {
    const int tile = width % 8 == 0 && width % 7 != 0 ? 8 : 7, rest = width % tile, whole = width - rest;
    const int step = a.stride_x * a.in_pixel;
    for (int x = 0; x < whole; x += tile)
        f32_depthwise_vectors(a, rows, tile, vectors, count, in + (size_t)x * step, w, bias,
                              f32_depthwise_sum(a, sum, (size_t)x * a.sum_pixel), out + (size_t)x * a.out_pixel);
    if (rest)
        f32_depthwise_vectors(a, rows, rest, vectors, count, in + (size_t)whole * step, w, bias,
                              f32_depthwise_sum(a, sum, (size_t)whole * a.sum_pixel),
                              out + (size_t)whole * a.out_pixel);
}

/* a plane of `height` x width outputs */
INLINE void f32_depthwise_plane(
    const struct f32_depthwise a, const int height, const int width, const int vectors, const int count,
    const float *in, const float *w, const float *bias, const float *sum, float *out) {
    const int rest = height % DEPTHWISE_ROWS, whole = height - rest, step = a.stride_y * a.in_row;
    for (int y = 0; y < whole; y += DEPTHWISE_ROWS)
        f32_depthwise_rows(a, DEPTHWISE_ROWS, width, vectors, count, in + (size_t)y * step, w, bias,
                           f32_depthwise_sum(a, sum, (size_t)y * a.sum_row), out + (size_t)y * a.out_row);
    if (rest)
        f32_depthwise_rows(a, rest, width, vectors, count, in + (size_t)whole * step, w, bias,
                           f32_depthwise_sum(a, sum, (size_t)whole * a.sum_row), out + (size_t)whole * a.out_row);
}

INLINE void f32_depthwise(
    const int images, const int rows, const int width, const int channels, const int R, const int S,
    const int in_image, const int in_row, const int in_pixel, const int stride_y, const int stride_x,
    const int dilation_y, const int dilation_x, const int out_image, const int out_row, const int out_pixel,
    const int sum_image, const int sum_row, const int sum_pixel, const int w_tap, const struct epilogue e,
    const float *in, const float *w, const float *bias, const float *sum, float *out) {
    const struct f32_depthwise a = {channels, R, S, in_row, in_pixel, stride_y, stride_x, dilation_y, dilation_x,
                                    out_row, out_pixel, sum_row, sum_pixel, w_tap, e};
    const int tail = channels % VL, whole = channels - tail;
    for (int n = 0; n < images; n++) {
        const float *p = in + (size_t)n * in_image, *s = f32_depthwise_sum(a, sum, (size_t)n * sum_image);
        float *q = out + (size_t)n * out_image;
        for (int c = 0; c < whole; c += DEPTHWISE_CHANNELS) {
            const int vectors = (whole - c < DEPTHWISE_CHANNELS ? whole - c : DEPTHWISE_CHANNELS) / VL;
            f32_depthwise_plane(a, rows, width, vectors, VL, p + c, w + c, bias + c, f32_depthwise_sum(a, s, c), q + c);
        }
        if (tail)
            f32_depthwise_plane(a, rows, width, 1, tail, p + whole, w + whole, bias + whole,
                                f32_depthwise_sum(a, s, whole), q + whole);
    }
}
