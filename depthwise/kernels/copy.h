/* Moving elements about: copies between layouts, borders, padding. */

#include "vector.h"

/* y[i0]...[i5] = x[i0]...[i5], over six axes with strides in floats; x repeats along an axis of stride 0. x and y do
   not overlap. compiler/lowering/loops.py drops and merges axes, puts last the one along which y is packed and, where
   x is packed along another, puts that one next to it. */
struct copy {
    int n[6], x_stride[6], y_stride[6];
};

INLINE void f32_copy_naive(const struct copy *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
    for (int i5 = 0; i5 < a->n[5]; i5++)
        y[at6(a->y_stride, i0, i1, i2, i3, i4, i5)] = x[at6(a->x_stride, i0, i1, i2, i3, i4, i5)];
}

INLINE void f32_fill_run(const int count, const float value, float *y) {
    const int tail = count % VL, whole = count - tail;
    for (int i = 0; i < whole; i += VL) store(y + i, splat(value));
    if (tail) store_part(y + whole, splat(value), tail);
}

INLINE void f32_transpose_part(
    const int columns, const int rows, const int x_row, const int y_row, const float *restrict x,
    float *restrict y) {
    for (int j = 0; j < columns; j++)
        for (int i = 0; i < rows; i++) y[(size_t)j * y_row + i] = x[(size_t)i * x_row + j];
}

/* VL x VL of them in registers: rows 1, 2, 4 and so on apart exchange the lanes that lie as far across the diagonal. */
#if VL == 1
INLINE void f32_transpose_square(const int x_row, const int y_row, const float *x, float *y) {
    (void)x_row, (void)y_row;
    *y = *x;
}
#else
NOINLINE void f32_transpose_square(const int x_row, const int y_row, const float *x, float *y) {
    vf v[VL];
    UNROLL for (int i = 0; i < VL; i++) v[i] = load(x + (size_t)i * x_row);
    UNROLL for (int apart = 1; apart < VL; apart *= 2) {
        int upper[VL], lower[VL];
        UNROLL for (int j = 0; j < VL; j++) {
            upper[j] = j & apart ? VL + j - apart : j;
            lower[j] = upper[j] + apart;
        }
        UNROLL for (int i = 0; i < VL; i++) {
            if (i & apart) continue;
            const vf a = v[i], b = v[i + apart];
            /* `rounded`, so that clang leaves the rounds as they are: it made 570 instructions of them, of 16 x 16 */
            v[i] = rounded(pick(a, b, upper)), v[i + apart] = rounded(pick(a, b, lower));
        }
    }
    UNROLL for (int j = 0; j < VL; j++) store(y + (size_t)j * y_row, v[j]);
}
#endif

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
    for (int i0 = 0; i0 < rows; i0 += 16)
    for (int j = j0; j < j0 + 16 && j < columns; j += VL)
    for (int i = i0; i < i0 + 16 && i < rows; i += VL) {
        const float *from = x + (size_t)i * x_row + j;
        float *to = y + (size_t)j * y_row + i;
        const int wide = columns - j < VL ? columns - j : VL, high = rows - i < VL ? rows - i : VL;
        if (wide == VL && high == VL) f32_transpose_square(x_row, y_row, from, to);
        else f32_transpose_part(wide, high, x_row, y_row, from, to);
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

INLINE void f32_copy(const struct copy *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
        f32_copy_plane(a->n[4], a->n[5], a->x_stride[4], a->x_stride[5], a->y_stride[4], a->y_stride[5],
                       x + at4(a->x_stride, i0, i1, i2, i3),
                       y + at4(a->y_stride, i0, i1, i2, i3));
}

/* y = value, over n[0] x n[1] x n[2] runs of `count` neighbouring floats */
struct fill {
    int n[3], count, y_stride[3];
    float value;
};

INLINE void f32_fill_naive(const struct fill *a, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i = 0; i < a->count; i++) y[at3(a->y_stride, i0, i1, i2) + i] = a->value;
}

INLINE void f32_fill(const struct fill *a, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
        f32_fill_run(a->count, a->value, y + at3(a->y_stride, i0, i1, i2));
}

/* Zeros in the frame around images of rows x width pixels: the buffer holds top + rows + bottom lines of
   left + width + right packed pixels of `channels` floats; y is its start. */
struct fill_border {
    int images, rows, width, channels, top, bottom, left, right;
};

INLINE void f32_fill_border_naive(const struct fill_border *a, float *y) {
    const int height = a->top + a->rows + a->bottom, line = (a->left + a->width + a->right) * a->channels;
    for (int n = 0; n < a->images; n++)
    for (int r = 0; r < height; r++)
    for (int i = 0; i < line; i++) {
        const int x = i / a->channels;
        const int inside = r >= a->top && r < a->top + a->rows && x >= a->left && x < a->left + a->width;
        if (!inside) y[((size_t)n * height + r) * line + i] = 0;
    }
}

INLINE void f32_fill_border(const struct fill_border *a, float *y) {
    const int height = a->top + a->rows + a->bottom, line = (a->left + a->width + a->right) * a->channels;
    for (int n = 0; n < a->images; n++) {
        float *image = y + (size_t)n * height * line;
        f32_fill_run(a->top * line, 0, image);
        for (int r = a->top; r < a->top + a->rows; r++) {
            f32_fill_run(a->left * a->channels, 0, image + (size_t)r * line);
            f32_fill_run(a->right * a->channels, 0, image + (size_t)r * line + (a->left + a->width) * a->channels);
        }
        f32_fill_run(a->bottom * line, 0, image + (size_t)(a->top + a->rows) * line);
    }
}

/* y[i0][i1][i2][i3][i] = x[offsets[0][i0] + offsets[1][i1] + offsets[2][i2] + offsets[3][i3] + i], i < count: every
   index of an axis is looked up in its table of offsets in floats. This is padding by reflection, repetition and
   wrapping, and nearest resizing. */
struct gather {
    int n[4], count, y_stride[4];
    const int *offsets[4];
};

INLINE void f32_gather_naive(const struct gather *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i = 0; i < a->count; i++)
        y[at4(a->y_stride, i0, i1, i2, i3) + i] =
            x[(size_t)a->offsets[0][i0] + a->offsets[1][i1] + a->offsets[2][i2] + a->offsets[3][i3] + i];
}

INLINE void f32_gather(const struct gather *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *p = x + a->offsets[0][i0] + a->offsets[1][i1] + a->offsets[2][i2];
        float *q = y + at3(a->y_stride, i0, i1, i2);
        for (int i3 = 0; i3 < a->n[3]; i3++)
            memcpy(q + (size_t)i3 * a->y_stride[3], p + a->offsets[3][i3], (size_t)a->count * sizeof(float));
    }
}

/* y[i0][i1][i2][p][i] = x[i0][i1][i2][index[p]][i], i < count, for `places` p: places below zero are counted from the
   end of `size`, and what lies outside of it is NaN. A place is a whole number in a float, held inside before x is
   read. This is an embedding whose rows are asked for while the network runs. */
struct pick {
    int n[3], count, x_stride[3], y_stride[3], places, size, x_step, y_step, index_step;
};

/* the place that a number names, -1 for none */
INLINE int f32_place(const float number, const int size) {
    if (!(number > -1 - (float)size && number < (float)size)) return -1;
    const int place = (int)number;
    return place < 0 ? place + size : place;
}

INLINE void f32_pick_naive(const struct pick *a, const float *x, const float *index, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int p = 0; p < a->places; p++)
    for (int i = 0; i < a->count; i++) {
        const int place = f32_place(index[(size_t)p * a->index_step], a->size);
        y[at3(a->y_stride, i0, i1, i2) + (size_t)p * a->y_step + i] =
            place < 0 ? NAN : x[at3(a->x_stride, i0, i1, i2) + (size_t)place * a->x_step + i];
    }
}

INLINE void f32_pick(const struct pick *a, const float *x, const float *index, float *y) {
    for (int p = 0; p < a->places; p++) {
        const int place = f32_place(index[(size_t)p * a->index_step], a->size);
        const float *row = x + (size_t)(place < 0 ? 0 : place) * a->x_step;
        float *out = y + (size_t)p * a->y_step;
        for (int i0 = 0; i0 < a->n[0]; i0++)
        for (int i1 = 0; i1 < a->n[1]; i1++)
        for (int i2 = 0; i2 < a->n[2]; i2++) {
            float *run = out + at3(a->y_stride, i0, i1, i2);
            if (place < 0) f32_fill_run(a->count, NAN, run);
            else memcpy(run, row + at3(a->x_stride, i0, i1, i2), (size_t)a->count * sizeof(float));
        }
    }
}
