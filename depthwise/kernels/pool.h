/* Pooling over windows of pixels, channels last.

     images, channels           n and c
     height, width              the input's; windows are cut where they hang over its edges, so that no border is read
     out_height, out_width      the output's
     in_image, in_row, in_pixel, out_image, out_row, out_pixel
                                floats from one image, row and pixel to the next */

#include "vector.h"

enum { POOL_MEAN, POOL_MAX }; /* compiler/lowering/pool.py numbers them the same */

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

/* Windows that overlap along a row are done in tiles: a column of the input is reduced once for all windows that it is
   under, so that seven windows of 3x3 and stride 1 load 27 vectors, not 63. `pixel` is that of the input. */
struct pool_tile {
    int function, kernel_y, kernel_x, stride_y, stride_x, row, pixel, out_row, out_pixel;
    float divisor;
};
enum { POOL_PIXELS = 7 };

/* The windows from `first` to `end` lie inside along an axis. */
INLINE struct taps windows_inside(
    const int length, const int windows, const int kernel, const int stride, const int before) {
    const int first = (before + stride - 1) / stride, room = length + before - kernel;
    const int fit = room < 0 ? 0 : room / stride + 1, end = fit < windows ? fit : windows;
    return (struct taps){first < end ? first : end, end};
}

INLINE void f32_pool_tile(
    const struct pool_tile *a, const int pixels, const int lanes, const float *in, float *out) {
    vf acc[POOL_PIXELS];
    UNROLL for (int j = 0; j < (pixels - 1) * a->stride_x + a->kernel_x; j++) {
        vf column = load_part(in + (size_t)j * a->pixel, lanes);
        for (int r = 1; r < a->kernel_y; r++)
            column = pool(a->function, column, load_part(in + (size_t)r * a->row + (size_t)j * a->pixel, lanes));
        UNROLL for (int x = 0; x < pixels; x++) {
            const int s = j - x * a->stride_x;
            if (s == 0) acc[x] = column;
            else if (s > 0 && s < a->kernel_x) acc[x] = pool(a->function, acc[x], column);
        }
    }
    UNROLL for (int x = 0; x < pixels; x++) {
        if (a->function == POOL_MEAN) acc[x] /= a->divisor;
        store_part(out + (size_t)x * a->out_pixel, acc[x], lanes);
    }
}

/* rows x width windows of `vectors` vectors of `lanes` channels */
INLINE void f32_pool_plane(
    const struct pool_tile *a, const int rows, const int width, const int vectors, const int lanes, const float *in,
    float *out) {
    const int rest = width % POOL_PIXELS, whole = width - rest, step = a->stride_x * a->pixel;
    for (int y = 0; y < rows; y++, in += a->stride_y * a->row, out += a->out_row) {
        for (int x = 0; x < whole; x += POOL_PIXELS)
            for (int c = 0; c < vectors * VL; c += VL)
                f32_pool_tile(a, POOL_PIXELS, lanes, in + (size_t)x * step + c, out + (size_t)x * a->out_pixel + c);
        if (rest)
            for (int c = 0; c < vectors * VL; c += VL)
                f32_pool_tile(a, rest, lanes, in + (size_t)whole * step + c, out + (size_t)whole * a->out_pixel + c);
    }
}

/* One image's windows of these rows and columns, two cache lines of every pixel before the next two: the rows under a
   window then stay in the first cache, and 14 x 14 x 512 take 5 us for 13. */
enum { POOL_CHANNELS = 32 };
INLINE void f32_pool_inside(
    const struct pool_tile *a, const struct taps rows, const struct taps columns, const int top, const int left,
    const int channels, const float *in, float *out) {
    const int height = rows.end - rows.first, width = columns.end - columns.first;
    const int tail = channels % VL, whole = channels - tail;
    if (!height || !width) return;
    in += (size_t)(rows.first * a->stride_y - top) * a->row + (size_t)(columns.first * a->stride_x - left) * a->pixel;
    out += (size_t)rows.first * a->out_row + (size_t)columns.first * a->out_pixel;
    for (int c = 0; c < whole; c += POOL_CHANNELS) {
        const int vectors = (whole - c < POOL_CHANNELS ? whole - c : POOL_CHANNELS) / VL;
        f32_pool_plane(a, height, width, vectors, VL, in + c, out + c);
    }
    if (tail) f32_pool_plane(a, height, width, 1, tail, in + whole, out + whole);
}

/* out[n][y][x][c] = max over r, s of in[n][y * stride_y - top + r * dilation_y][...][c], pixels outside left out */
struct max_pool {
    int images, channels, height, width, out_height, out_width, kernel_y, kernel_x, stride_y, stride_x, top, left,
        dilation_y, dilation_x, in_image, in_row, in_pixel, out_image, out_row, out_pixel;
};

INLINE void f32_max_pool_naive(const struct max_pool *a, const float *in, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        float largest = -INFINITY;
        for (int r = 0; r < a->kernel_y; r++)
        for (int s = 0; s < a->kernel_x; s++) {
            const int yy = y * a->stride_y - a->top + r * a->dilation_y;
            const int xx = x * a->stride_x - a->left + s * a->dilation_x;
            if (yy < 0 || yy >= a->height || xx < 0 || xx >= a->width) continue;
            const float v = in[(size_t)n * a->in_image + (size_t)yy * a->in_row + (size_t)xx * a->in_pixel + c];
            if (v > largest || v != v) largest = v;
        }
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] = largest;
    }
}

INLINE void f32_max_pool(const struct max_pool *a, const float *in, float *out) {
    const int row = a->dilation_y * a->in_row, pixel = a->dilation_x * a->in_pixel;
    const struct pool_tile tile = {.function = POOL_MAX,    .kernel_y = a->kernel_y, .kernel_x = a->kernel_x,
                                   .stride_y = a->stride_y,  .stride_x = a->stride_x, .row = a->in_row,
                                   .pixel = a->in_pixel,     .out_row = a->out_row,   .out_pixel = a->out_pixel,
                                   .divisor = 1};
    const int tiled = a->dilation_y == 1 && a->dilation_x == 1 && a->kernel_x <= 5 && a->stride_x < a->kernel_x;
    const struct taps rows = windows_inside(a->height, tiled ? a->out_height : 0, a->kernel_y, a->stride_y, a->top);
    const struct taps columns = windows_inside(a->width, tiled ? a->out_width : 0, a->kernel_x, a->stride_x, a->left);
    for (int n = 0; n < a->images; n++)
        f32_pool_inside(&tile, rows, columns, a->top, a->left, a->channels, in + (size_t)n * a->in_image,
                        out + (size_t)n * a->out_image);
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        if (y >= rows.first && y < rows.end && x >= columns.first && x < columns.end) continue;
        const int yy = y * a->stride_y - a->top, xx = x * a->stride_x - a->left;
        const struct taps r = taps_inside(yy, a->dilation_y, a->kernel_y, a->height);
        const struct taps s = taps_inside(xx, a->dilation_x, a->kernel_x, a->width);
        const int high = r.end - r.first, wide = s.end - s.first;
        const float *p = in + (size_t)n * a->in_image;
        float *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
        /* most windows are whole: with sizes that are literals their loops unroll */
        if (high == a->kernel_y && wide == a->kernel_x)
            f32_pool_window(POOL_MAX, a->kernel_y, a->kernel_x, row, pixel, a->channels, 1,
                            p + (size_t)yy * a->in_row + (size_t)xx * a->in_pixel, q);
        else if (high && wide)
            f32_pool_window(POOL_MAX, high, wide, row, pixel, a->channels, 1,
                            p + (size_t)(yy + r.first * a->dilation_y) * a->in_row +
                                (size_t)(xx + s.first * a->dilation_x) * a->in_pixel, q);
        else f32_pool_window(POOL_MAX, 0, 0, row, pixel, a->channels, 1, p, q);
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
struct avg_pool {
    int images, channels, height, width, out_height, out_width, kernel_y, kernel_x, stride_y, stride_x, top, bottom,
        left, right, count_padding, divisor, in_image, in_row, in_pixel, out_image, out_row, out_pixel;
};

INLINE void f32_avg_pool_naive(const struct avg_pool *a, const float *in, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        float sum = 0;
        int inside = 0, padded = 0;
        for (int r = 0; r < a->kernel_y; r++)
        for (int s = 0; s < a->kernel_x; s++) {
            const int yy = y * a->stride_y - a->top + r, xx = x * a->stride_x - a->left + s;
            if (yy >= -a->top && yy < a->height + a->bottom && xx >= -a->left && xx < a->width + a->right) padded++;
            if (yy < 0 || yy >= a->height || xx < 0 || xx >= a->width) continue;
            inside++;
            sum += in[(size_t)n * a->in_image + (size_t)yy * a->in_row + (size_t)xx * a->in_pixel + c];
        }
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] =
            sum / f32_pool_divisor(a->divisor, a->count_padding, 1, inside, 1, padded);
    }
}

INLINE void f32_avg_pool(const struct avg_pool *a, const float *in, float *out) {
    const struct pool_tile tile = {.function = POOL_MEAN,   .kernel_y = a->kernel_y, .kernel_x = a->kernel_x,
                                   .stride_y = a->stride_y,  .stride_x = a->stride_x, .row = a->in_row,
                                   .pixel = a->in_pixel,     .out_row = a->out_row,   .out_pixel = a->out_pixel,
                                   .divisor = (float)(a->divisor ? a->divisor : a->kernel_y * a->kernel_x)};
    const int tiled = a->kernel_x <= 5 && a->stride_x < a->kernel_x;
    const struct taps rows = windows_inside(a->height, tiled ? a->out_height : 0, a->kernel_y, a->stride_y, a->top);
    const struct taps columns = windows_inside(a->width, tiled ? a->out_width : 0, a->kernel_x, a->stride_x, a->left);
    for (int n = 0; n < a->images; n++)
        f32_pool_inside(&tile, rows, columns, a->top, a->left, a->channels, in + (size_t)n * a->in_image,
                        out + (size_t)n * a->out_image);
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        if (y >= rows.first && y < rows.end && x >= columns.first && x < columns.end) continue;
        const int yy = y * a->stride_y - a->top, xx = x * a->stride_x - a->left;
        const struct taps r = taps_inside(yy, 1, a->kernel_y, a->height), s = taps_inside(xx, 1, a->kernel_x, a->width);
        const int high = r.end - r.first, wide = s.end - s.first;
        const float *p = in + (size_t)n * a->in_image;
        float *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
        const float pixels = f32_pool_divisor(
            a->divisor, a->count_padding, high, wide, taps_inside(yy, 1, a->kernel_y, a->height + a->bottom).end,
            taps_inside(xx, 1, a->kernel_x, a->width + a->right).end);
        if (high == a->kernel_y && wide == a->kernel_x)
            f32_pool_window(POOL_MEAN, a->kernel_y, a->kernel_x, a->in_row, a->in_pixel, a->channels, pixels,
                            p + (size_t)yy * a->in_row + (size_t)xx * a->in_pixel, q);
        else if (high && wide)
            f32_pool_window(POOL_MEAN, high, wide, a->in_row, a->in_pixel, a->channels, pixels,
                            p + (size_t)(yy + r.first) * a->in_row + (size_t)(xx + s.first) * a->in_pixel, q);
        else f32_pool_window(POOL_MEAN, 0, 0, a->in_row, a->in_pixel, a->channels, pixels, p, q);
    }
}

/* Bin i of m along an axis of n pixels covers floor(i n / m) to ceil((i + 1) n / m); the mean over one bin of all
   pixels is global pooling. */
INLINE int bin_start(const int i, const int n, const int m) { return i * n / m; }
INLINE int bin_end(const int i, const int n, const int m) { return ((i + 1) * n + m - 1) / m; }

struct adaptive_pool {
    int function, images, channels, height, width, out_height, out_width, in_image, in_row, in_pixel, out_image,
        out_row, out_pixel;
};

INLINE void f32_adaptive_pool_naive(const struct adaptive_pool *a, const float *in, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        float sum = 0, largest = -INFINITY;
        int pixels = 0;
        for (int r = bin_start(y, a->height, a->out_height); r < bin_end(y, a->height, a->out_height); r++)
        for (int s = bin_start(x, a->width, a->out_width); s < bin_end(x, a->width, a->out_width); s++, pixels++) {
            const float v = in[(size_t)n * a->in_image + (size_t)r * a->in_row + (size_t)s * a->in_pixel + c];
            sum += v;
            if (v > largest || v != v) largest = v;
        }
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] =
            a->function == POOL_MAX ? largest : sum / (float)pixels;
    }
}

INLINE void f32_adaptive_pool(const struct adaptive_pool *a, const float *in, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const int r = bin_start(y, a->height, a->out_height), rows = bin_end(y, a->height, a->out_height) - r;
        const int s = bin_start(x, a->width, a->out_width), columns = bin_end(x, a->width, a->out_width) - s;
        f32_pool_window(a->function, rows, columns, a->in_row, a->in_pixel, a->channels, (float)(rows * columns),
                        in + (size_t)n * a->in_image + (size_t)r * a->in_row + (size_t)s * a->in_pixel,
                        out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel);
    }
}
