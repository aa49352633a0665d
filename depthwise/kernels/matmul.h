/* y[i0][i1][i2] = a[i0][i1][i2] b[i0][i1][i2], matrices of rows x inner and inner x columns. After vector.h.

   n0 n1 n2     batches; a0 ..., b0 ..., y0 ... their strides, 0 where a or b is repeated
   a_row, a_inner, b_inner, y_row
                floats between neighbours; b and y are packed along their columns, a need not be */

#include "vector.h"

INLINE void f32_matmul_naive(
    const int n0, const int n1, const int n2, const int rows, const int inner, const int columns, const int a0,
    const int a1, const int a2, const int a_row, const int a_inner, const int b0, const int b1, const int b2,
    const int b_inner, const int y0, const int y1, const int y2, const int y_row, const float *a, const float *b,
    float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int m = 0; m < rows; m++)
    for (int k = 0; k < columns; k++) {
        const float *p = a + (size_t)i0 * a0 + (size_t)i1 * a1 + (size_t)i2 * a2 + (size_t)m * a_row;
        const float *q = b + (size_t)i0 * b0 + (size_t)i1 * b1 + (size_t)i2 * b2 + k;
        float sum = 0;
        for (int c = 0; c < inner; c++) sum += p[(size_t)c * a_inner] * q[(size_t)c * b_inner];
        y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + (size_t)m * y_row + k] = sum;
    }
}

/* `height` rows x `vectors` vectors in registers over all of `inner`; the last vector has `lanes` columns */
INLINE void f32_matmul_tile(
    const int height, const int vectors, const int lanes, const int inner, const int a_row, const int a_inner,
    const int b_inner, const int y_row, const float *a, const float *b, float *y) {
    vf acc[4][2];
    UNROLL for (int m = 0; m < height; m++)
        UNROLL for (int k = 0; k < vectors; k++) acc[m][k] = (vf){0};
    for (int c = 0; c < inner; c++) {
        vf right[2];
        UNROLL for (int k = 0; k < vectors; k++)
            right[k] = load_part(b + (size_t)c * b_inner + k * VL, k == vectors - 1 ? lanes : VL);
        UNROLL for (int m = 0; m < height; m++) {
            const vf left = splat(a[(size_t)m * a_row + (size_t)c * a_inner]);
            UNROLL for (int k = 0; k < vectors; k++) acc[m][k] += left * right[k];
        }
    }
    UNROLL for (int m = 0; m < height; m++)
        UNROLL for (int k = 0; k < vectors; k++)
            store_part(y + (size_t)m * y_row + k * VL, acc[m][k], k == vectors - 1 ? lanes : VL);
}

/* all rows of a block of `vectors` vectors of columns: 4 rows x 2 vectors suit 16 registers */
INLINE void f32_matmul_block(
    const int vectors, const int lanes, const int rows, const int inner, const int a_row, const int a_inner,
    const int b_inner, const int y_row, const float *a, const float *b, float *y) {
    const int rest = rows % 4, whole = rows - rest;
    for (int m = 0; m < whole; m += 4)
        f32_matmul_tile(4, vectors, lanes, inner, a_row, a_inner, b_inner, y_row, a + (size_t)m * a_row, b,
                        y + (size_t)m * y_row);
    if (rest)
        f32_matmul_tile(rest, vectors, lanes, inner, a_row, a_inner, b_inner, y_row, a + (size_t)whole * a_row,
                        b, y + (size_t)whole * y_row);
}

INLINE void f32_matmul(
    const int n0, const int n1, const int n2, const int rows, const int inner, const int columns, const int a0,
    const int a1, const int a2, const int a_row, const int a_inner, const int b0, const int b1, const int b2,
    const int b_inner, const int y0, const int y1, const int y2, const int y_row, const float *a, const float *b,
    float *y) {
    const int rest = columns % (2 * VL), whole = columns - rest, last = (rest + VL - 1) / VL;
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++) {
        const float *p = a + (size_t)i0 * a0 + (size_t)i1 * a1 + (size_t)i2 * a2;
        const float *q = b + (size_t)i0 * b0 + (size_t)i1 * b1 + (size_t)i2 * b2;
        float *out = y + (size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2;
        for (int k = 0; k < whole; k += 2 * VL)
            f32_matmul_block(2, VL, rows, inner, a_row, a_inner, b_inner, y_row, p, q + k, out + k);
        if (rest)
            f32_matmul_block(last, rest - (last - 1) * VL, rows, inner, a_row, a_inner, b_inner, y_row, p,
                             q + whole, out + whole);
    }
}
