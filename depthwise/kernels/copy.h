/* Moving elements about: copies between layouts, borders, padding. After vector.h. */

#include "vector.h"

/* y[i0]...[i5] = x[i0]...[i5], over six axes with strides in floats; x repeats along an axis of stride 0. x and y do
   not overlap. compiler/lowering/axes.py drops and merges axes, puts last the one along which y is packed and, where x is packed
   along another, puts that one next to it. */
INLINE void f32_copy_naive(
    const int n0, const int n1, const int n2, const int n3, const int n4, const int n5, const int x0,
    const int x1, const int x2, const int x3, const int x4, const int x5, const int y0, const int y1,
    const int y2, const int y3, const int y4, const int y5, const float *x, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int i3 = 0; i3 < n3; i3++)
    for (int i4 = 0; i4 < n4; i4++)
    for (int i5 = 0; i5 < n5; i5++)
        y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + (size_t)i3 * y3 + (size_t)i4 * y4 +
          (size_t)i5 * y5] = x[(size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2 + (size_t)i3 * x3 +
                               (size_t)i4 * x4 + (size_t)i5 * x5];
}

INLINE void f32_fill_run(const int count, const float value, float *y) {
    const int tail = count % VL, whole = count - tail;
    for (int i = 0; i < whole; i += VL) store(y + i, splat(value));
    if (tail) store_part(y + whole, splat(value), tail);
}

/* y[j][i] = x[i][j]: x is packed along j, y along i. Blocks of 16 x 16 keep the lines of both in the first cache; a
   few planes (an image's colours) are woven, or parted, pixel by pixel. */
INLINE void f32_transpose(
    const int columns, const int rows, const int x_row, const int y_row, const float *restrict x,
    float *restrict y) {
    if (rows <= 4) {
        for (int j = 0; j < columns; j++)
            UNROLL for (int i = 0; i < rows; i++) y[(size_t)j * y_row + i] = x[(size_t)i * x_row + j];
        return;
    }
    if (columns <= 4) {
        for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < columns; j++) y[(size_t)j * y_row + i] = x[(size_t)i * x_row + j];
        return;
    }
    for (int j0 = 0; j0 < columns; j0 += 16)
    for (int i0 = 0; i0 < rows; i0 += 16) {
        const int j1 = j0 + 16 < columns ? j0 + 16 : columns, i1 = i0 + 16 < rows ? i0 + 16 : rows;
        for (int j = j0; j < j1; j++)
            for (int i = i0; i < i1; i++) y[(size_t)j * y_row + i] = x[(size_t)i * x_row + j];
    }
}

/* the two innermost axes, of m and n elements */
INLINE void f32_copy_plane(
    const int m, const int n, const int x_outer, const int x_inner, const int y_outer, const int y_inner,
    const float *x, float *y) {
    if (y_inner == 1 && x_inner == 1)
        for (int j = 0; j < m; j++)
            memcpy(y + (size_t)j * y_outer, x + (size_t)j * x_outer, (size_t)n * sizeof(float));
    else if (y_inner == 1 && x_inner == 0)
        for (int j = 0; j < m; j++) f32_fill_run(n, x[(size_t)j * x_outer], y + (size_t)j * y_outer);
    else if (y_inner == 1 && x_outer == 1) f32_transpose(m, n, x_inner, y_outer, x, y);
    else
        for (int j = 0; j < m; j++)
            for (int i = 0; i < n; i++)
                y[(size_t)j * y_outer + (size_t)i * y_inner] = x[(size_t)j * x_outer + (size_t)i * x_inner];
}

INLINE void f32_copy(
    const int n0, const int n1, const int n2, const int n3, const int n4, const int n5, const int x0,
    const int x1, const int x2, const int x3, const int x4, const int x5, const int y0, const int y1,
    const int y2, const int y3, const int y4, const int y5, const float *x, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int i3 = 0; i3 < n3; i3++)
        f32_copy_plane(n4, n5, x4, x5, y4, y5,
                       x + (size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2 + (size_t)i3 * x3,
                       y + (size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + (size_t)i3 * y3);
}

/* y = value, over n0 x n1 x n2 runs of `count` neighbouring floats */
INLINE void f32_fill_naive(
    const int n0, const int n1, const int n2, const int count, const int y0, const int y1, const int y2,
    const float value, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int i = 0; i < count; i++) y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + i] = value;
}

INLINE void f32_fill(
    const int n0, const int n1, const int n2, const int count, const int y0, const int y1, const int y2,
    const float value, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
        f32_fill_run(count, value, y + (size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2);
}

/* Zeros in the frame around images of rows x width pixels: the buffer holds top + rows + bottom lines of
   left + width + right packed pixels of `channels` floats; y is its start. */
INLINE void f32_fill_border_naive(
    const int images, const int rows, const int width, const int channels, const int top, const int bottom,
    const int left, const int right, float *y) {
    const int height = top + rows + bottom, line = (left + width + right) * channels;
    for (int n = 0; n < images; n++)
    for (int r = 0; r < height; r++)
    for (int i = 0; i < line; i++) {
        const int x = i / channels;
        const int inside = r >= top && r < top + rows && x >= left && x < left + width;
        if (!inside) y[((size_t)n * height + r) * line + i] = 0;
    }
}

INLINE void f32_fill_border(
    const int images, const int rows, const int width, const int channels, const int top, const int bottom,
    const int left, const int right, float *y) {
    const int height = top + rows + bottom, line = (left + width + right) * channels;
    for (int n = 0; n < images; n++) {
        float *image = y + (size_t)n * height * line;
        f32_fill_run(top * line, 0, image);
        for (int r = top; r < top + rows; r++) {
            f32_fill_run(left * channels, 0, image + (size_t)r * line);
            f32_fill_run(right * channels, 0, image + (size_t)r * line + (left + width) * channels);
        }
        f32_fill_run(bottom * line, 0, image + (size_t)(top + rows) * line);
    }
}

/* y[i0][i1][i2][i3][i] = x[t0[i0] + t1[i1] + t2[i2] + t3[i3] + i], i < count: every index of an axis is looked up in
   its table of offsets in floats. This is padding by reflection, repetition and wrapping, and nearest resizing. */
INLINE void f32_gather_naive(
    const int n0, const int n1, const int n2, const int n3, const int count, const int y0, const int y1,
    const int y2, const int y3, const int *t0, const int *t1, const int *t2, const int *t3, const float *x,
    float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int i3 = 0; i3 < n3; i3++)
    for (int i = 0; i < count; i++)
        y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + (size_t)i3 * y3 + i] =
            x[(size_t)t0[i0] + t1[i1] + t2[i2] + t3[i3] + i];
}

INLINE void f32_gather(
    const int n0, const int n1, const int n2, const int n3, const int count, const int y0, const int y1,
    const int y2, const int y3, const int *t0, const int *t1, const int *t2, const int *t3, const float *x,
    float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++) {
        const float *p = x + t0[i0] + t1[i1] + t2[i2];
        float *q = y + (size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2;
        for (int i3 = 0; i3 < n3; i3++)
            memcpy(q + (size_t)i3 * y3, p + t3[i3], (size_t)count * sizeof(float));
    }
}
