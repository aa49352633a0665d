/* Pooling of 16-bit types over windows of pixels, with the numbers of pool.h: the larger of two is one of them, and
   means are sums of floats, each row of a window from its left and then row by row, divided and rounded once. Channels
   are an even number. */

#include "lanes_T16.h"
#include "pool.h"

/* 2 * `count` channels of a window of rows x columns pixels, `across` apart, whose rows lie `down` apart */
INLINE void T16_pool_pairs(
    const int function, const int rows, const int columns, const int down, const int across, const int count,
    const float divisor, const unsigned short *in, unsigned short *out) {
    const vf start = splat(function == POOL_MAX ? -INFINITY : 0);
    vf first = start, second = start;
    for (int r = 0; r < rows; r++) {
        vf line_first = start, line_second = start;
        for (int s = 0; s < columns; s++) {
            const struct two here = T16_load_two(in + (size_t)r * down + (size_t)s * across, count);
            line_first = pool(function, line_first, here.first);
            line_second = pool(function, line_second, here.second);
        }
        first = pool(function, first, line_first), second = pool(function, second, line_second);
    }
    if (function == POOL_MEAN) first /= divisor, second /= divisor;
    T16_store_two(out, (struct two){first, second}, count);
}

INLINE void T16_pool_window(
    const int function, const int rows, const int columns, const int down, const int across, const int channels,
    const float divisor, const unsigned short *in, unsigned short *out) {
    const int rest = channels % (2 * VL) / 2, whole = channels - 2 * rest;
    for (int c = 0; c < whole; c += 2 * VL)
        T16_pool_pairs(function, rows, columns, down, across, VL, divisor, in + c, out + c);
    if (rest) T16_pool_pairs(function, rows, columns, down, across, rest, divisor, in + whole, out + whole);
}

INLINE void T16_max_pool_naive(const struct max_pool *a, const unsigned short *in, unsigned short *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        float largest = -INFINITY;
        for (int r = 0; r < a->kernel_y; r++)
        for (int s = 0; s < a->kernel_x; s++) {
            const int i = y * a->stride_y - a->top + r * a->dilation_y;
            const int j = x * a->stride_x - a->left + s * a->dilation_x;
            if (i < 0 || i >= a->height || j < 0 || j >= a->width) continue;
            const float here =
                T16_float(in[(size_t)n * a->in_image + (size_t)i * a->in_row + (size_t)j * a->in_pixel + c]);
            if (here > largest || here != here) largest = here;
        }
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] = T16_round(largest);
    }
}

INLINE void T16_max_pool(const struct max_pool *a, const unsigned short *in, unsigned short *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const int i = y * a->stride_y - a->top, j = x * a->stride_x - a->left;
        const struct taps rows = taps_inside(i, a->dilation_y, a->kernel_y, a->height);
        const struct taps columns = taps_inside(j, a->dilation_x, a->kernel_x, a->width);
        T16_pool_window(
            POOL_MAX, rows.end - rows.first, columns.end - columns.first, a->dilation_y * a->in_row,
            a->dilation_x * a->in_pixel, a->channels, 1,
            in + (size_t)n * a->in_image + (size_t)(i + rows.first * a->dilation_y) * a->in_row +
                (size_t)(j + columns.first * a->dilation_x) * a->in_pixel,
            out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel);
    }
}

INLINE void T16_avg_pool_naive(const struct avg_pool *a, const unsigned short *in, unsigned short *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        float sum = 0;
        int inside = 0, padded = 0;
        for (int r = 0; r < a->kernel_y; r++) {
            float line = 0;
            for (int s = 0; s < a->kernel_x; s++) {
                const int i = y * a->stride_y - a->top + r, j = x * a->stride_x - a->left + s;
                padded += i < a->height + a->bottom && j < a->width + a->right;
                if (i < 0 || i >= a->height || j < 0 || j >= a->width) continue;
                inside++;
                line += T16_float(in[(size_t)n * a->in_image + (size_t)i * a->in_row + (size_t)j * a->in_pixel + c]);
            }
            sum += line;
        }
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] =
            T16_round(sum / f32_pool_divisor(a->divisor, a->count_padding, 1, inside, 1, padded));
    }
}

INLINE void T16_avg_pool(const struct avg_pool *a, const unsigned short *in, unsigned short *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const int i = y * a->stride_y - a->top, j = x * a->stride_x - a->left;
        const struct taps r = taps_inside(i, 1, a->kernel_y, a->height), s = taps_inside(j, 1, a->kernel_x, a->width);
        const float pixels = f32_pool_divisor(
            a->divisor, a->count_padding, r.end - r.first, s.end - s.first,
            taps_inside(i, 1, a->kernel_y, a->height + a->bottom).end,
            taps_inside(j, 1, a->kernel_x, a->width + a->right).end);
        T16_pool_window(
            POOL_MEAN, r.end - r.first, s.end - s.first, a->in_row, a->in_pixel, a->channels, pixels,
            in + (size_t)n * a->in_image + (size_t)(i + r.first) * a->in_row + (size_t)(j + s.first) * a->in_pixel,
            out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel);
    }
}
