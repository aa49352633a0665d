/* Where the maxima of windows lie, and the way back. Sizes and strides as in pool.h. */

#include "pool.h"

/* out[n][y][x][c] = where in its plane, row by row, the maximum of the window lies, as max_pool finds it: the first of
   equal ones, the last NaN. Whole numbers, which floats hold up to 2^24. */
struct max_pool_indices {
    int images, channels, height, width, out_height, out_width, kernel_y, kernel_x, stride_y, stride_x, top, left,
        dilation_y, dilation_x, in_image, in_row, in_pixel, out_image, out_row, out_pixel;
};

INLINE void f32_max_pool_indices_naive(const struct max_pool_indices *a, const float *in, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        float largest = -INFINITY;
        int at = -1;
        for (int r = 0; r < a->kernel_y; r++)
        for (int s = 0; s < a->kernel_x; s++) {
            const int yy = y * a->stride_y - a->top + r * a->dilation_y;
            const int xx = x * a->stride_x - a->left + s * a->dilation_x;
            if (yy < 0 || yy >= a->height || xx < 0 || xx >= a->width) continue;
            const float v = in[(size_t)n * a->in_image + (size_t)yy * a->in_row + (size_t)xx * a->in_pixel + c];
            if (at < 0 || v > largest || v != v) {
                largest = v;
                at = yy * a->width + xx;
            }
        }
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] = (float)at;
    }
}

/* `lanes` channels of one window, whose first pixel inside is `in` and has the place `first`; -1 where none is */
INLINE void f32_max_pool_indices_lanes(
    const struct max_pool_indices *a, const int rows, const int columns, const int first, const int lanes,
    const float *in, float *out) {
    vf largest = splat(-INFINITY), at = splat((float)first);
    for (int r = 0; r < rows; r++)
    for (int s = 0; s < columns; s++) {
        const float *p = in + (size_t)r * a->dilation_y * a->in_row + (size_t)s * a->dilation_x * a->in_pixel;
        const vf v = load_part(p, lanes);
        const vi better = (vi)(v > largest) | (vi)(v != v);
        largest = blend(better, v, largest);
        at = blend(better, splat((float)(first + r * a->dilation_y * a->width + s * a->dilation_x)), at);
    }
    store_part(out, at, lanes);
}

INLINE void f32_max_pool_indices(const struct max_pool_indices *a, const float *in, float *out) {
    const int tail = a->channels % VL, whole = a->channels - tail;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const struct taps r = taps_inside(y * a->stride_y - a->top, a->dilation_y, a->kernel_y, a->height);
        const struct taps s = taps_inside(x * a->stride_x - a->left, a->dilation_x, a->kernel_x, a->width);
        const int yy = y * a->stride_y - a->top + r.first * a->dilation_y;
        const int xx = x * a->stride_x - a->left + s.first * a->dilation_x;
        const int rows = r.end - r.first, columns = s.end - s.first;
        const int first = rows && columns ? yy * a->width + xx : -1;
        const float *p = in + (size_t)n * a->in_image + (size_t)yy * a->in_row + (size_t)xx * a->in_pixel;
        float *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
        for (int c = 0; c < whole; c += VL)
            f32_max_pool_indices_lanes(a, rows, columns, first, VL, p + c, q + c);
        if (tail) f32_max_pool_indices_lanes(a, rows, columns, first, tail, p + whole, q + whole);
    }
}

/* out = 0, then out[n][index / out_width][index % out_width][c] = in[n][y][x][c], index[n][y][x][c] being whole; of
   several at one place the last stays, and what lies outside is left out */
struct max_unpool {
    int images, channels, height, width, out_height, out_width, in_image, in_row, in_pixel, index_image, index_row,
        index_pixel, out_image, out_row, out_pixel;
};

INLINE void f32_max_unpool_naive(const struct max_unpool *a, const float *in, const float *index, float *out) {
    const float size = (float)a->out_height * (float)a->out_width;
    for (int n = 0; n < a->images; n++)
    for (int c = 0; c < a->channels; c++) {
        float *const plane = out + (size_t)n * a->out_image + c;
        for (int y = 0; y < a->out_height; y++)
        for (int x = 0; x < a->out_width; x++) plane[(size_t)y * a->out_row + (size_t)x * a->out_pixel] = 0;
        for (int y = 0; y < a->height; y++)
        for (int x = 0; x < a->width; x++) {
            const size_t where = (size_t)n * a->index_image + (size_t)y * a->index_row + (size_t)x * a->index_pixel;
            const float at = index[where + c];
            if (!(at >= 0 && at < size)) continue;
            const int yy = (int)at / a->out_width, xx = (int)at % a->out_width;
            plane[(size_t)yy * a->out_row + (size_t)xx * a->out_pixel] =
                in[(size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel + c];
        }
    }
}

/* channel by channel as it lies: each pixel is read, and most lines written, once */
INLINE void f32_max_unpool(const struct max_unpool *a, const float *in, const float *index, float *out) {
    const float size = (float)a->out_height * (float)a->out_width;
    for (int n = 0; n < a->images; n++) {
        float *const image = out + (size_t)n * a->out_image;
        for (int y = 0; y < a->out_height; y++)
        for (int x = 0; x < a->out_width; x++)
            memset(image + (size_t)y * a->out_row + (size_t)x * a->out_pixel, 0, (size_t)a->channels * sizeof(float));
        for (int y = 0; y < a->height; y++)
        for (int x = 0; x < a->width; x++) {
            const float *p = in + (size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel;
            const float *i = index + (size_t)n * a->index_image + (size_t)y * a->index_row + (size_t)x * a->index_pixel;
            for (int c = 0; c < a->channels; c++) {
                if (!(i[c] >= 0 && i[c] < size)) continue;
                const int yy = (int)i[c] / a->out_width, xx = (int)i[c] % a->out_width;
                image[(size_t)yy * a->out_row + (size_t)xx * a->out_pixel + c] = p[c];
            }
        }
    }
}
