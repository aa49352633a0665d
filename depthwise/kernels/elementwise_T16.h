/* Element by element on 16-bit types, with the numbers of elementwise.h: computed in float32, rounded once. */

#include "lanes_T16.h"
#include "elementwise.h"

INLINE void T16_unary_naive(const struct unary *a, const unsigned short *x, unsigned short *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i = 0; i < a->count; i++)
        y[at3(a->y_stride, i0, i1, i2) + i] =
            T16_round(act(a->activation, T16_float(x[at3(a->x_stride, i0, i1, i2) + i])));
}

INLINE void T16_unary(const struct unary *a, const unsigned short *x, unsigned short *y) {
    const int tail = a->count % VL, whole = a->count - tail;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const unsigned short *p = x + at3(a->x_stride, i0, i1, i2);
        unsigned short *q = y + at3(a->y_stride, i0, i1, i2);
        for (int i = 0; i < whole; i += VL) T16_store(q + i, vact(a->activation, T16_load(p + i, VL)), VL);
        if (tail) T16_store(q + whole, vact(a->activation, T16_load(p + whole, tail)), tail);
    }
}

INLINE void T16_binary_naive(
    const struct binary *a, const unsigned short *left, const unsigned short *right, const unsigned short *sum,
    unsigned short *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
    for (int i5 = 0; i5 < a->n[5]; i5++) {
        const float p = T16_float(left[at6(a->left_stride, i0, i1, i2, i3, i4, i5)]);
        const float q = T16_float(right[at6(a->right_stride, i0, i1, i2, i3, i4, i5)]);
        const float s = a->epilogue.add ? T16_float(sum[at6(a->sum_stride, i0, i1, i2, i3, i4, i5)]) : 0;
        y[at6(a->y_stride, i0, i1, i2, i3, i4, i5)] = T16_round(epilogue(a->epilogue, binary(a->function, p, q), s));
    }
}

/* the first `count` numbers of a run, or one number in all lanes where the run is a repeated one */
INLINE vf T16_load_run(const unsigned short *p, const int i, const int stride, const int count) {
    return stride ? T16_load(p + i, count) : splat(T16_float(*p));
}

/* `count` neighbours */
INLINE void T16_binary_vector(
    const struct binary *a, const int i, const int count, const unsigned short *left, const unsigned short *right,
    const unsigned short *sum, unsigned short *y) {
    const vf result = vbinary(a->function, T16_load_run(left, i, a->left_stride[5], count),
                              T16_load_run(right, i, a->right_stride[5], count));
    const vf other = a->epilogue.add ? T16_load_run(sum, i, a->sum_stride[5], count) : (vf){0};
    T16_store(y + i, vepilogue(a->epilogue, result, other), count);
}

/* the innermost axis: vectors where y and all operands are neighbours, or repeat one number */
INLINE void T16_binary_run(
    const struct binary *a, const unsigned short *left, const unsigned short *right, const unsigned short *sum,
    unsigned short *y) {
    const int count = a->n[5], step = a->y_stride[5], tail = count % VL, whole = count - tail;
    if (step != 1 || a->left_stride[5] > 1 || a->right_stride[5] > 1 || a->sum_stride[5] > 1) {
        for (int i = 0; i < count; i++) {
            const float p = T16_float(left[(size_t)i * a->left_stride[5]]);
            const float q = T16_float(right[(size_t)i * a->right_stride[5]]);
            const float s = a->epilogue.add ? T16_float(sum[(size_t)i * a->sum_stride[5]]) : 0;
            y[(size_t)i * step] = T16_round(epilogue(a->epilogue, binary(a->function, p, q), s));
        }
        return;
    }
    for (int i = 0; i < whole; i += VL) T16_binary_vector(a, i, VL, left, right, sum, y);
    if (tail) T16_binary_vector(a, whole, tail, left, right, sum, y);
}

INLINE void T16_binary(
    const struct binary *a, const unsigned short *left, const unsigned short *right, const unsigned short *sum,
    unsigned short *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
        T16_binary_run(a, left + at5(a->left_stride, i0, i1, i2, i3, i4),
                        right + at5(a->right_stride, i0, i1, i2, i3, i4),
                        a->epilogue.add ? sum + at5(a->sum_stride, i0, i1, i2, i3, i4) : 0,
                        y + at5(a->y_stride, i0, i1, i2, i3, i4));
}
