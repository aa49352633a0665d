/* Pooling over windows of pixels, channels last. After vector.h.

     images, channels           n and c
     height, width              the input's; windows are cut where they hang over its edges, so that no border is read
     out_height, out_width      the output's
     in_image, in_row, in_pixel, out_image, out_row, out_pixel
                                floats from one image, row and pixel to the next

   A NaN in a window of a maximum may be lost. */

enum { POOL_MEAN, POOL_MAX }; /* compiler/lower_pool.py numbers them the same */

/* The taps start + i * step, i from `first` to `end`, are those of `count` that lie in [0, length). */
struct taps { int first, end; };
INLINE struct taps taps_inside(const int start, const int step, const int count, const int length) {
    const int before = start < 0 ? (-start + step - 1) / step : 0;
    const int inside = start < length ? (length - start + step - 1) / step : 0;
    const int end = inside < count ? inside : count;
    return (struct taps){before < end ? before : end, end};
}

INLINE vf pool(const int function, vf a, vf b) {
    if (function == POOL_MAX) return vmax(a, b);
    return a + b;
}

/* The mean is taken row by row, which keeps the error of large windows small. `vectors` up to 4. */
INLINE void f32_pool_vectors(
    const int function, const int rows, const int columns, const int row, const int pixel, const int vectors,
    const int lanes, const float divisor, const float *in, float *out) {
    vf acc[4];
    UNROLL for (int k = 0; k < vectors; k++) acc[k] = splat(function == POOL_MAX ? -INFINITY : 0);
    for (int r = 0; r < rows; r++) {
        const float *p = in + (size_t)r * row;
        vf line[4];
        UNROLL for (int k = 0; k < vectors; k++) line[k] = splat(function == POOL_MAX ? -INFINITY : 0);
        for (int s = 0; s < columns; s++)
            UNROLL for (int k = 0; k < vectors; k++)
                line[k] = pool(function, line[k], load_part(p + (size_t)s * pixel + k * VL, lanes));
        UNROLL for (int k = 0; k < vectors; k++) acc[k] = pool(function, acc[k], line[k]);
    }
    UNROLL for (int k = 0; k < vectors; k++) {
        if (function == POOL_MEAN) acc[k] /= divisor;
        store_part(out + k * VL, acc[k], lanes);
    }
}

/* all channels of one window of rows x columns pixels */
INLINE void f32_pool_window(
    const int function, const int rows, const int columns, const int row, const int pixel, const int channels,
    const float divisor, const float *in, float *out) {
    const int blocks = channels / (4 * VL) * (4 * VL), whole = channels / VL * VL;
    for (int c = 0; c < blocks; c += 4 * VL)
        f32_pool_vectors(function, rows, columns, row, pixel, 4, VL, divisor, in + c, out + c);
    for (int c = blocks; c < whole; c += VL)
        f32_pool_vectors(function, rows, columns, row, pixel, 1, VL, divisor, in + c, out + c);
    if (whole < channels)
        f32_pool_vectors(function, rows, columns, row, pixel, 1, channels - whole, divisor, in + whole,
                         out + whole);
}

/* out[n][y][x][c] = max over r, s of in[n][y * stride_y - top + r * dilation_y][...][c], pixels outside left out */
INLINE void f32_max_pool_naive(
    const int images, const int channels, const int height, const int width, const int out_height,
    const int out_width, const int kernel_y, const int kernel_x, const int stride_y, const int stride_x,
    const int top, const int left, const int dilation_y, const int dilation_x, const int in_image,
    const int in_row, const int in_pixel, const int out_image, const int out_row, const int out_pixel,
    const float *in, float *out) {
    for (int n = 0; n < images; n++)
    for (int y = 0; y < out_height; y++)
    for (int x = 0; x < out_width; x++)
    for (int c = 0; c < channels; c++) {
        float largest = -INFINITY;
        for (int r = 0; r < kernel_y; r++)
        for (int s = 0; s < kernel_x; s++) {
            const int yy = y * stride_y - top + r * dilation_y, xx = x * stride_x - left + s * dilation_x;
            if (yy < 0 || yy >= height || xx < 0 || xx >= width) continue;
            const float v = in[(size_t)n * in_image + (size_t)yy * in_row + (size_t)xx * in_pixel + c];
            if (v > largest) largest = v;
        }
        out[(size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel + c] = largest;
    }
}

INLINE void f32_max_pool(
    const int images, const int channels, const int height, const int width, const int out_height,
    const int out_width, const int kernel_y, const int kernel_x, const int stride_y, const int stride_x,
    const int top, const int left, const int dilation_y, const int dilation_x, const int in_image,
    const int in_row, const int in_pixel, const int out_image, const int out_row, const int out_pixel,
    const float *in, float *out) {
    const int row = dilation_y * in_row, pixel = dilation_x * in_pixel;
    for (int n = 0; n < images; n++)
    for (int y = 0; y < out_height; y++)
    for (int x = 0; x < out_width; x++) {
        const int yy = y * stride_y - top, xx = x * stride_x - left;
        const struct taps r = taps_inside(yy, dilation_y, kernel_y, height);
        const struct taps s = taps_inside(xx, dilation_x, kernel_x, width);
        const int rows = r.end - r.first, columns = s.end - s.first;
        const float *p = in + (size_t)n * in_image;
        float *q = out + (size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel;
        /* most windows are whole: with sizes that are literals their loops unroll */
        if (rows == kernel_y && columns == kernel_x)
            f32_pool_window(POOL_MAX, kernel_y, kernel_x, row, pixel, channels, 1,
                            p + (size_t)yy * in_row + (size_t)xx * in_pixel, q);
        else if (rows && columns)
            f32_pool_window(POOL_MAX, rows, columns, row, pixel, channels, 1,
                            p + (size_t)(yy + r.first * dilation_y) * in_row +
                                (size_t)(xx + s.first * dilation_x) * in_pixel, q);
        else f32_pool_window(POOL_MAX, 0, 0, row, pixel, channels, 1, p, q);
    }
}

/* How many pixels an average divides by: `divisor` where it is not 0; else those of the window that lie inside the
   input, or (count_padding) inside the input with its padding of `top`, `bottom`, `left` and `right` pixels. */
INLINE float f32_pool_divisor(
    const int divisor, const int count_padding, const int rows, const int columns, const int padded_rows,
    const int padded_columns) {
    return (float)(divisor ? divisor : count_padding ? padded_rows * padded_columns : rows * columns);
}

/* out[n][y][x][c] = (sum over r, s of in[n][y * stride_y - top + r][x * stride_x - left + s][c]) / divisor */
INLINE void f32_avg_pool_naive(
    const int images, const int channels, const int height, const int width, const int out_height,
    const int out_width, const int kernel_y, const int kernel_x, const int stride_y, const int stride_x,
    const int top, const int bottom, const int left, const int right, const int count_padding, const int divisor,
    const int in_image, const int in_row, const int in_pixel, const int out_image, const int out_row,
    const int out_pixel, const float *in, float *out) {
    for (int n = 0; n < images; n++)
    for (int y = 0; y < out_height; y++)
    for (int x = 0; x < out_width; x++)
    for (int c = 0; c < channels; c++) {
        float sum = 0;
        int inside = 0, padded = 0;
        for (int r = 0; r < kernel_y; r++)
        for (int s = 0; s < kernel_x; s++) {
            const int yy = y * stride_y - top + r, xx = x * stride_x - left + s;
            if (yy >= -top && yy < height + bottom && xx >= -left && xx < width + right) padded++;
            if (yy < 0 || yy >= height || xx < 0 || xx >= width) continue;
            inside++;
            sum += in[(size_t)n * in_image + (size_t)yy * in_row + (size_t)xx * in_pixel + c];
        }
        out[(size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel + c] =
            sum / f32_pool_divisor(divisor, count_padding, 1, inside, 1, padded);
    }
}

INLINE void f32_avg_pool(
    const int images, const int channels, const int height, const int width, const int out_height,
    const int out_width, const int kernel_y, const int kernel_x, const int stride_y, const int stride_x,
    const int top, const int bottom, const int left, const int right, const int count_padding, const int divisor,
    const int in_image, const int in_row, const int in_pixel, const int out_image, const int out_row,
    const int out_pixel, const float *in, float *out) {
    for (int n = 0; n < images; n++)
    for (int y = 0; y < out_height; y++)
    for (int x = 0; x < out_width; x++) {
        const int yy = y * stride_y - top, xx = x * stride_x - left;
        const struct taps r = taps_inside(yy, 1, kernel_y, height), s = taps_inside(xx, 1, kernel_x, width);
        const int rows = r.end - r.first, columns = s.end - s.first;
        const float *p = in + (size_t)n * in_image;
        float *q = out + (size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel;
        const float pixels = f32_pool_divisor(
            divisor, count_padding, rows, columns, taps_inside(yy, 1, kernel_y, height + bottom).end,
            taps_inside(xx, 1, kernel_x, width + right).end);
        if (rows == kernel_y && columns == kernel_x)
            f32_pool_window(POOL_MEAN, kernel_y, kernel_x, in_row, in_pixel, channels, pixels,
                            p + (size_t)yy * in_row + (size_t)xx * in_pixel, q);
        else if (rows && columns)
            f32_pool_window(POOL_MEAN, rows, columns, in_row, in_pixel, channels, pixels,
                            p + (size_t)(yy + r.first) * in_row + (size_t)(xx + s.first) * in_pixel, q);
        else f32_pool_window(POOL_MEAN, 0, 0, in_row, in_pixel, channels, pixels, p, q);
    }
}

/* Bin i of m along an axis of n pixels covers floor(i n / m) to ceil((i + 1) n / m); the mean over one bin of all
   pixels is global pooling. */
INLINE int bin_start(const int i, const int n, const int m) { return i * n / m; }
INLINE int bin_end(const int i, const int n, const int m) { return ((i + 1) * n + m - 1) / m; }

INLINE void f32_adaptive_pool_naive(
    const int function, const int images, const int channels, const int height, const int width,
    const int out_height, const int out_width, const int in_image, const int in_row, const int in_pixel,
    const int out_image, const int out_row, const int out_pixel, const float *in, float *out) {
    for (int n = 0; n < images; n++)
    for (int y = 0; y < out_height; y++)
    for (int x = 0; x < out_width; x++)
    for (int c = 0; c < channels; c++) {
        float sum = 0, largest = -INFINITY;
        int pixels = 0;
        for (int r = bin_start(y, height, out_height); r < bin_end(y, height, out_height); r++)
        for (int s = bin_start(x, width, out_width); s < bin_end(x, width, out_width); s++, pixels++) {
            const float v = in[(size_t)n * in_image + (size_t)r * in_row + (size_t)s * in_pixel + c];
            sum += v;
            if (v > largest) largest = v;
        }
        out[(size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel + c] =
            function == POOL_MAX ? largest : sum / (float)pixels;
    }
}

INLINE void f32_adaptive_pool(
    const int function, const int images, const int channels, const int height, const int width,
    const int out_height, const int out_width, const int in_image, const int in_row, const int in_pixel,
    const int out_image, const int out_row, const int out_pixel, const float *in, float *out) {
    for (int n = 0; n < images; n++)
    for (int y = 0; y < out_height; y++)
    for (int x = 0; x < out_width; x++) {
        const int r = bin_start(y, height, out_height), rows = bin_end(y, height, out_height) - r;
        const int s = bin_start(x, width, out_width), columns = bin_end(x, width, out_width) - s;
        f32_pool_window(function, rows, columns, in_row, in_pixel, channels, (float)(rows * columns),
                        in + (size_t)n * in_image + (size_t)r * in_row + (size_t)s * in_pixel,
                        out + (size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel);
    }
}
