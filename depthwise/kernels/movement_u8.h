/* Moving bytes about: copies between layouts, what lies around images, the largest of a window. */

#include "bytes.h"
#include "copy.h"
#include "pool.h"

/* as f32_copy */
INLINE void u8_copy_naive(const struct copy *a, const unsigned char *x, unsigned char *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
    for (int i5 = 0; i5 < a->n[5]; i5++)
        y[at6(a->y_stride, i0, i1, i2, i3, i4, i5)] = x[at6(a->x_stride, i0, i1, i2, i3, i4, i5)];
}
INLINE void u8_copy(const struct copy *a, const unsigned char *x, unsigned char *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++) {
        const unsigned char *p = x + at5(a->x_stride, i0, i1, i2, i3, i4);
        unsigned char *q = y + at5(a->y_stride, i0, i1, i2, i3, i4);
        if (a->x_stride[5] == 1 && a->y_stride[5] == 1) memcpy(q, p, (size_t)a->n[5]);
        else
            for (int i = 0; i < a->n[5]; i++) q[(size_t)i * a->y_stride[5]] = p[(size_t)i * a->x_stride[5]];
    }
}

/* y = value, over n[0] x n[1] x n[2] runs of `count` neighbouring bytes */
struct fill_bytes {
    int n[3], count, y_stride[3], value;
};

INLINE void u8_fill_bytes_naive(const struct fill_bytes *a, unsigned char *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i = 0; i < a->count; i++) y[at3(a->y_stride, i0, i1, i2) + i] = (unsigned char)a->value;
}
INLINE void u8_fill_bytes(const struct fill_bytes *a, unsigned char *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) memset(y + at3(a->y_stride, i0, i1, i2), a->value, (size_t)a->count);
}

/* The byte `value` in the frame around images, which f32_fill_border sets to zeros. */
struct surround {
    int images, rows, width, channels, top, bottom, left, right, value;
};

INLINE void u8_surround_naive(const struct surround *a, unsigned char *y) {
    const int height = a->top + a->rows + a->bottom, line = (a->left + a->width + a->right) * a->channels;
    for (int n = 0; n < a->images; n++)
    for (int r = 0; r < height; r++)
    for (int i = 0; i < line; i++) {
        const int x = i / a->channels;
        const int inside = r >= a->top && r < a->top + a->rows && x >= a->left && x < a->left + a->width;
        if (!inside) y[((size_t)n * height + r) * line + i] = (unsigned char)a->value;
    }
}
INLINE void u8_surround(const struct surround *a, unsigned char *y) {
    const size_t line = (size_t)(a->left + a->width + a->right) * a->channels;
    const size_t left = (size_t)a->left * a->channels, right = (size_t)a->right * a->channels;
    for (int n = 0; n < a->images; n++) {
        memset(y, a->value, a->top * line);
        y += a->top * line;
        for (int r = 0; r < a->rows; r++, y += line) {
            memset(y, a->value, left);
            memset(y + line - right, a->value, right);
        }
        memset(y, a->value, a->bottom * line);
        y += a->bottom * line;
    }
}

/* as f32_max_pool: windows are cut where they hang over the edges, and each has a pixel */
INLINE void u8_max_pool_naive(const struct max_pool *a, const unsigned char *in, unsigned char *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        unsigned char best = 0;
        for (int r = 0; r < a->kernel_y; r++)
        for (int s = 0; s < a->kernel_x; s++) {
            const int iy = y * a->stride_y - a->top + r * a->dilation_y;
            const int ix = x * a->stride_x - a->left + s * a->dilation_x;
            if (iy < 0 || iy >= a->height || ix < 0 || ix >= a->width) continue;
            const unsigned char v = in[(size_t)n * a->in_image + (size_t)iy * a->in_row + (size_t)ix * a->in_pixel + c];
            best = v > best ? v : best;
        }
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] = best;
    }
}
INLINE void u8_max_pool(const struct max_pool *a, const unsigned char *in, unsigned char *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const int iy = y * a->stride_y - a->top, ix = x * a->stride_x - a->left;
        const struct taps rows = taps_inside(iy, a->dilation_y, a->kernel_y, a->height);
        const struct taps columns = taps_inside(ix, a->dilation_x, a->kernel_x, a->width);
        unsigned char *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
        memset(q, 0, (size_t)a->channels);
        for (int r = rows.first; r < rows.end; r++)
        for (int s = columns.first; s < columns.end; s++) {
            const unsigned char *p = in + (size_t)n * a->in_image + (size_t)(iy + r * a->dilation_y) * a->in_row +
                                     (size_t)(ix + s * a->dilation_x) * a->in_pixel;
            for (int c = 0; c < a->channels; c++) q[c] = p[c] > q[c] ? p[c] : q[c];
        }
    }
}
