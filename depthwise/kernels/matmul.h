/* y[i0][i1][i2] = left[i0][i1][i2] right[i0][i1][i2], matrices of rows x inner and inner x columns.

   n                      batches along three axes; left_stride, right_stride, y_stride: floats between neighbours
                          along these, 0 where an operand is repeated
   left_row, left_inner, right_inner, y_row
                          floats between neighbours; right and y are packed along their columns, left need not be */

#include "vector.h"

struct matmul {
    int n[3], rows, inner, columns, left_stride[3], left_row, left_inner, right_stride[3], right_inner;
    int y_stride[3], y_row;
};

INLINE void f32_matmul_naive(const struct matmul *a, const float *left, const float *right, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int m = 0; m < a->rows; m++)
    for (int k = 0; k < a->columns; k++) {
        const float *p = left + at3(a->left_stride, i0, i1, i2) + (size_t)m * a->left_row;
        const float *q = right + at3(a->right_stride, i0, i1, i2) + k;
        float sum = 0;
        for (int c = 0; c < a->inner; c++) sum += p[(size_t)c * a->left_inner] * q[(size_t)c * a->right_inner];
        y[at3(a->y_stride, i0, i1, i2) + (size_t)m * a->y_row + k] = sum;
    }
}

/* `height` rows x `vectors` vectors in registers over all of `inner`; the last vector has `lanes` columns */
INLINE void f32_matmul_tile(
    const struct matmul *a, const int height, const int vectors, const int lanes, const float *left,
    const float *right, float *y) {
    vf acc[4][2];
    UNROLL for (int m = 0; m < height; m++)
        UNROLL for (int k = 0; k < vectors; k++) acc[m][k] = (vf){0};
    for (int c = 0; c < a->inner; c++) {
        vf row[2];
        UNROLL for (int k = 0; k < vectors; k++)
            row[k] = load_part(right + (size_t)c * a->right_inner + k * VL, k == vectors - 1 ? lanes : VL);
        UNROLL for (int m = 0; m < height; m++) {
            const vf factor = splat(left[(size_t)m * a->left_row + (size_t)c * a->left_inner]);
            UNROLL for (int k = 0; k < vectors; k++) acc[m][k] += factor * row[k];
        }
    }
    UNROLL for (int m = 0; m < height; m++)
        UNROLL for (int k = 0; k < vectors; k++)
            store_part(y + (size_t)m * a->y_row + k * VL, acc[m][k], k == vectors - 1 ? lanes : VL);
}

/* all rows of a block of `vectors` vectors of columns: 4 rows x 2 vectors suit 16 registers */
INLINE void f32_matmul_block(
    const struct matmul *a, const int vectors, const int lanes, const float *left, const float *right, float *y) {
    const int rest = a->rows % 4, whole = a->rows - rest;
    for (int m = 0; m < whole; m += 4)
        f32_matmul_tile(a, 4, vectors, lanes, left + (size_t)m * a->left_row, right, y + (size_t)m * a->y_row);
    if (rest)
        f32_matmul_tile(a, rest, vectors, lanes, left + (size_t)whole * a->left_row, right,
                        y + (size_t)whole * a->y_row);
}

INLINE void f32_matmul(const struct matmul *a, const float *left, const float *right, float *y) {
    const int rest = a->columns % (2 * VL), whole = a->columns - rest, last = (rest + VL - 1) / VL;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *p = left + at3(a->left_stride, i0, i1, i2), *q = right + at3(a->right_stride, i0, i1, i2);
        float *out = y + at3(a->y_stride, i0, i1, i2);
        for (int k = 0; k < whole; k += 2 * VL) f32_matmul_block(a, 2, VL, p, q + k, out + k);
        if (rest) f32_matmul_block(a, last, rest - (last - 1) * VL, p, q + whole, out + whole);
    }
}
