/* Depthwise convolution: as many groups as channels, one output channel each. Needs vector.h and activation.h.

     out[n][y][x][c] = epilogue(bias[c] + sum over r, s of
                                in[n][y * stride_y + r * dilation_y][x * stride_x + s * dilation_x][c] * w[r][s][c],
                                sum[n][y][x][c])

     images, rows, width            the output's
     in_image, in_row, in_pixel     floats between neighbours of the input (stride not included)
     out_..., sum_...               floats between neighbours of out and sum
     in                             what output pixel (0, 0) reads at tap (0, 0): the input carries its padding
     w                              [r][s][channels rounded up to VL] (compiler/pack.py); bias likewise
     sum                            read only where e.add is set, else null; may be `out` itself */

#if defined(__AVX512F__) || defined(__aarch64__)
enum { DEPTHWISE_ROWS = 2 }; /* 14 accumulators, 9 or 10 weights, 1 input of 32 registers */
#else
enum { DEPTHWISE_ROWS = 1 }; /* 7 accumulators, 3 or 5 weights, 1 input of 16 registers */
#endif
enum { DEPTHWISE_PIXELS = 8 };

INLINE void f32_depthwise_naive(
    const int images, const int rows, const int width, const int channels, const int R, const int S,
    const int in_image, const int in_row, const int in_pixel, const int stride_y, const int stride_x,
    const int dilation_y, const int dilation_x, const int out_image, const int out_row, const int out_pixel,
    const int sum_image, const int sum_row, const int sum_pixel, const struct epilogue e, const float *in,
    const float *w, const float *bias, const float *sum, float *out) {
    const int padded = (channels + VL - 1) / VL * VL;
    for (int n = 0; n < images; n++)
    for (int y = 0; y < rows; y++)
    for (int x = 0; x < width; x++)
    for (int c = 0; c < channels; c++) {
        float acc = bias[c];
        for (int r = 0; r < R; r++)
        for (int s = 0; s < S; s++)
            acc += in[(size_t)n * in_image + (size_t)(y * stride_y + r * dilation_y) * in_row +
                      (size_t)(x * stride_x + s * dilation_x) * in_pixel + c] * w[(r * S + s) * padded + c];
        const size_t at = (size_t)n * sum_image + (size_t)y * sum_row + (size_t)x * sum_pixel + c;
        out[(size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel + c] =
            epilogue(e, acc, e.add ? sum[at] : 0);
    }
}

/* the arguments of f32_depthwise that its parts share */
struct f32_depthwise {
    int channels, R, S, in_row, in_pixel, stride_y, stride_x, dilation_y, dilation_x;
    int out_row, out_pixel, sum_row, sum_pixel;
    struct epilogue e;
};

/* acc += R x S taps that lie side by side, for rows x pixels outputs of `count` channels. Every input is loaded
   once and goes to all outputs that it is under: 36 inputs for the 126 multiply-adds of 2 x 7 outputs and 3 x 3
   taps. `padded`: floats between the weights of two taps. */
INLINE void f32_depthwise_taps(
    const struct f32_depthwise a, const int rows, const int pixels, const int R, const int S, const int padded,
    const int count, const float *in, const float *w, vf acc[DEPTHWISE_ROWS][DEPTHWISE_PIXELS]) {
    UNROLL for (int i = 0; i < (rows - 1) * a.stride_y + R; i++)
        UNROLL for (int j = 0; j < (pixels - 1) * a.stride_x + S; j++) {
            const vf input = load_part(in + i * a.in_row + j * a.in_pixel, count);
            UNROLL for (int y = 0; y < rows; y++)
                UNROLL for (int x = 0; x < pixels; x++) {
                    const int r = i - y * a.stride_y, s = j - x * a.stride_x;
                    if (r >= 0 && r < R && s >= 0 && s < S) acc[y][x] += input * load(w + (r * S + s) * padded);
                }
        }
}

/* rows x pixels outputs of `count` channels, up to VL */
INLINE void f32_depthwise_tile(
    const struct f32_depthwise a, const int rows, const int pixels, const int count, const float *in,
    const float *w, const float *bias, const float *sum, float *out) {
    const int padded = (a.channels + VL - 1) / VL * VL;
    const int dense = a.dilation_y == 1 && a.dilation_x == 1;
    vf acc[DEPTHWISE_ROWS][DEPTHWISE_PIXELS];
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) acc[y][x] = load(bias);
    if (dense && a.R * a.S <= 25) {
        f32_depthwise_taps(a, rows, pixels, a.R, a.S, padded, count, in, w, acc);
    } else if (a.dilation_x == 1 && a.S <= 15) {
        for (int r = 0; r < a.R; r++)
            f32_depthwise_taps(a, rows, pixels, 1, a.S, padded, count, in + (size_t)r * a.dilation_y * a.in_row,
                               w + (size_t)r * a.S * padded, acc);
    } else {
        for (int r = 0; r < a.R; r++)
            for (int s = 0; s < a.S; s++)
                f32_depthwise_taps(a, rows, pixels, 1, 1, padded, count,
                                   in + (size_t)r * a.dilation_y * a.in_row + (size_t)s * a.dilation_x * a.in_pixel,
                                   w + (size_t)(r * a.S + s) * padded, acc);
    }
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++) {
            vf other = {0};
            if (a.e.add) other = load_part(sum + y * a.sum_row + x * a.sum_pixel, count);
            store_part(out + y * a.out_row + x * a.out_pixel, vepilogue(a.e, acc[y][x], other), count);
        }
}

/* all channels of rows x pixels outputs: neighbours in memory one after the other, weights from L1 */
INLINE void f32_depthwise_channels(
    const struct f32_depthwise a, const int rows, const int pixels, const float *in, const float *w,
    const float *bias, const float *sum, float *out) {
    const int rest = a.channels % VL, whole = a.channels - rest;
    for (int c = 0; c < whole; c += VL)
        f32_depthwise_tile(a, rows, pixels, VL, in + c, w + c, bias + c, a.e.add ? sum + c : 0, out + c);
    if (rest)
        f32_depthwise_tile(a, rows, pixels, rest, in + whole, w + whole, bias + whole,
                           a.e.add ? sum + whole : 0, out + whole);
}

/* `rows` rows of outputs */
INLINE void f32_depthwise_rows(
    const struct f32_depthwise a, const int rows, const int width, const float *in, const float *w,
    const float *bias, const float *sum, float *out) {
    const int tile = width % 8 == 0 && width % 7 != 0 ? 8 : 7, rest = width % tile;
    for (int x = 0; x < width - rest; x += tile)
        f32_depthwise_channels(a, rows, tile, in + (size_t)x * a.stride_x * a.in_pixel, w, bias,
                               a.e.add ? sum + (size_t)x * a.sum_pixel : 0, out + (size_t)x * a.out_pixel);
    if (rest) {
        const int x = width - rest;
        f32_depthwise_channels(a, rows, rest, in + (size_t)x * a.stride_x * a.in_pixel, w, bias,
                               a.e.add ? sum + (size_t)x * a.sum_pixel : 0, out + (size_t)x * a.out_pixel);
    }
}

INLINE void f32_depthwise(
    const int images, const int rows, const int width, const int channels, const int R, const int S,
    const int in_image, const int in_row, const int in_pixel, const int stride_y, const int stride_x,
    const int dilation_y, const int dilation_x, const int out_image, const int out_row, const int out_pixel,
    const int sum_image, const int sum_row, const int sum_pixel, const struct epilogue e, const float *in,
    const float *w, const float *bias, const float *sum, float *out) {
    const struct f32_depthwise a = {channels, R, S, in_row, in_pixel, stride_y, stride_x, dilation_y, dilation_x,
                                    out_row, out_pixel, sum_row, sum_pixel, e};
    const int shared = dilation_y == 1 && dilation_x == 1 && R * S <= 25; /* rows of outputs share inputs */
    const int tile = shared ? DEPTHWISE_ROWS : 1, rest = rows % tile;
    for (int n = 0; n < images; n++) {
        const float *p = in + (size_t)n * in_image, *s = e.add ? sum + (size_t)n * sum_image : 0;
        float *q = out + (size_t)n * out_image;
        for (int y = 0; y < rows - rest; y += tile)
            f32_depthwise_rows(a, tile, width, p + (size_t)y * stride_y * in_row, w, bias,
                               e.add ? s + (size_t)y * sum_row : 0, q + (size_t)y * out_row);
        if (rest) {
            const int y = rows - rest;
            f32_depthwise_rows(a, rest, width, p + (size_t)y * stride_y * in_row, w, bias,
                               e.add ? s + (size_t)y * sum_row : 0, q + (size_t)y * out_row);
        }
    }
}
