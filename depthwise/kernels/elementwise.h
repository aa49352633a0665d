/* Element by element, over strided axes. */

#include "activation.h"

/* y = activation(x), over n[0] x n[1] x n[2] runs of `count` neighbouring floats; y may be x.
   x_stride, y_stride: floats from one run to the next along each axis. */
struct unary {
    int n[3], count, x_stride[3], y_stride[3];
    struct act activation;
};

INLINE void f32_unary_naive(const struct unary *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i = 0; i < a->count; i++)
        y[at3(a->y_stride, i0, i1, i2) + i] = act(a->activation, x[at3(a->x_stride, i0, i1, i2) + i]);
}

INLINE void f32_unary(const struct unary *a, const float *x, float *y) {
    const int tail = a->count % VL, whole = a->count - tail;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *p = x + at3(a->x_stride, i0, i1, i2);
        float *q = y + at3(a->y_stride, i0, i1, i2);
        for (int i = 0; i < whole; i += VL) store(q + i, vact(a->activation, load(p + i)));
        if (tail) store_part(q + whole, vact(a->activation, load_part(p + whole, tail)), tail);
    }
}

/* compiler/lowering/elementwise.py numbers them the same */
enum {
    BINARY_ADD, BINARY_SUBTRACT, BINARY_MULTIPLY, BINARY_DIVIDE, BINARY_MAXIMUM, BINARY_MINIMUM,
    BINARY_PRELU, /* a where it is positive, a * b elsewhere */
    /* 1 where it holds, else 0 */
    BINARY_EQUAL, BINARY_NOT_EQUAL, BINARY_LESS, BINARY_LESS_EQUAL, BINARY_GREATER, BINARY_GREATER_EQUAL
};

INLINE float binary(const int function, float a, float b) {
    switch (function) {
    case BINARY_ADD: return a + b;
    case BINARY_SUBTRACT: return a - b;
    case BINARY_MULTIPLY: return a * b;
    case BINARY_DIVIDE: return a / b;
    case BINARY_MAXIMUM: return a > b || a != a ? a : b;
    case BINARY_MINIMUM: return a < b || a != a ? a : b;
    case BINARY_EQUAL: return a == b;
    case BINARY_NOT_EQUAL: return a != b;
    case BINARY_LESS: return a < b;
    case BINARY_LESS_EQUAL: return a <= b;
    case BINARY_GREATER: return a > b;
    case BINARY_GREATER_EQUAL: return a >= b;
    default: return a > 0 ? a : a * b;
    }
}

#if VL == 1
INLINE vf vbinary(const int function, vf a, vf b) { return binary(function, a, b); }
#else
INLINE vf ones(vi mask) { return (vf)(mask & (vi)splat(1)); }

INLINE vf vbinary(const int function, vf a, vf b) {
    switch (function) {
    case BINARY_ADD: return a + b;
    case BINARY_SUBTRACT: return a - b;
    case BINARY_MULTIPLY: return a * b;
    case BINARY_DIVIDE: return a / b;
    case BINARY_MAXIMUM: return vmax(a, b);
    case BINARY_MINIMUM: return vmin(a, b);
    case BINARY_EQUAL: return ones((vi)(a == b));
    case BINARY_NOT_EQUAL: return ones((vi)(a != b));
    case BINARY_LESS: return ones((vi)(a < b));
    case BINARY_LESS_EQUAL: return ones((vi)(a <= b));
    case BINARY_GREATER: return ones((vi)(a > b));
    case BINARY_GREATER_EQUAL: return ones((vi)(a >= b));
    default: return blend((vi)(a > 0), a, a * b);
    }
}
#endif

/* y = epilogue(function(left, right), sum) over six axes of n elements; an axis along which left, right or sum is
   repeated has stride 0. sum is read only where epilogue.add is set, else null. y may be left, right or sum, where it
   has their strides. */
struct binary {
    int function, n[6], left_stride[6], right_stride[6], sum_stride[6], y_stride[6];
    struct epilogue epilogue;
};

INLINE void f32_binary_naive(
    const struct binary *a, const float *left, const float *right, const float *sum, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
    for (int i5 = 0; i5 < a->n[5]; i5++) {
        const float p = left[at6(a->left_stride, i0, i1, i2, i3, i4, i5)];
        const float q = right[at6(a->right_stride, i0, i1, i2, i3, i4, i5)];
        const float s = a->epilogue.add ? sum[at6(a->sum_stride, i0, i1, i2, i3, i4, i5)] : 0;
        y[at6(a->y_stride, i0, i1, i2, i3, i4, i5)] = epilogue(a->epilogue, binary(a->function, p, q), s);
    }
}

/* the first `count` floats of a run, or one float in all lanes where the run is a repeated one */
INLINE vf load_run(const float *p, const int i, const int stride, const int count) {
    return stride ? load_part(p + i, count) : splat(*p);
}

/* `count` neighbours */
INLINE void f32_binary_vector(
    const struct binary *a, const int i, const int count, const float *left, const float *right, const float *sum,
    float *y) {
    const vf result = vbinary(
        a->function, load_run(left, i, a->left_stride[5], count), load_run(right, i, a->right_stride[5], count));
    const vf other = a->epilogue.add ? load_run(sum, i, a->sum_stride[5], count) : (vf){0};
    store_part(y + i, vepilogue(a->epilogue, result, other), count);
}

/* the innermost axis: vectors where y and all operands are neighbours, or repeat one float */
INLINE void f32_binary_run(
    const struct binary *a, const float *left, const float *right, const float *sum, float *y) {
    const int count = a->n[5], step = a->y_stride[5];
    if (step != 1 || a->left_stride[5] > 1 || a->right_stride[5] > 1 || a->sum_stride[5] > 1) {
        for (int i = 0; i < count; i++) {
            const float p = left[(size_t)i * a->left_stride[5]], q = right[(size_t)i * a->right_stride[5]];
            const float s = a->epilogue.add ? sum[(size_t)i * a->sum_stride[5]] : 0;
            y[(size_t)i * step] = epilogue(a->epilogue, binary(a->function, p, q), s);
        }
        return;
    }
    const int tail = count % VL, whole = count - tail;
    for (int i = 0; i < whole; i += VL) f32_binary_vector(a, i, VL, left, right, sum, y);
    if (tail) f32_binary_vector(a, whole, tail, left, right, sum, y);
}

INLINE void f32_binary(
    const struct binary *a, const float *left, const float *right, const float *sum, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
        f32_binary_run(
            a, left + at5(a->left_stride, i0, i1, i2, i3, i4),
            right + at5(a->right_stride, i0, i1, i2, i3, i4),
            a->epilogue.add ? sum + at5(a->sum_stride, i0, i1, i2, i3, i4) : 0,
            y + at5(a->y_stride, i0, i1, i2, i3, i4));
}

/* y = condition is not 0 ? yes : no, over six axes of n elements; an axis along which one of them is repeated has
   stride 0. y may be one of them, where it has its strides. */
struct select {
    int n[6], condition_stride[6], yes_stride[6], no_stride[6], y_stride[6];
};

INLINE void f32_select_naive(
    const struct select *a, const float *condition, const float *yes, const float *no, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
    for (int i5 = 0; i5 < a->n[5]; i5++) {
        const float c = condition[at6(a->condition_stride, i0, i1, i2, i3, i4, i5)];
        const float p = yes[at6(a->yes_stride, i0, i1, i2, i3, i4, i5)];
        const float q = no[at6(a->no_stride, i0, i1, i2, i3, i4, i5)];
        y[at6(a->y_stride, i0, i1, i2, i3, i4, i5)] = c != 0 ? p : q;
    }
}

/* `count` neighbours */
INLINE void f32_select_vector(
    const struct select *a, const int i, const int count, const float *condition, const float *yes, const float *no,
    float *y) {
    const vf c = load_run(condition, i, a->condition_stride[5], count);
    const vf p = load_run(yes, i, a->yes_stride[5], count), q = load_run(no, i, a->no_stride[5], count);
    store_part(y + i, blend((vi)(c != 0), p, q), count);
}

/* the innermost axis, as of f32_binary */
INLINE void f32_select_run(
    const struct select *a, const float *condition, const float *yes, const float *no, float *y) {
    const int count = a->n[5], step = a->y_stride[5];
    if (step != 1 || a->condition_stride[5] > 1 || a->yes_stride[5] > 1 || a->no_stride[5] > 1) {
        for (int i = 0; i < count; i++) {
            const float p = yes[(size_t)i * a->yes_stride[5]], q = no[(size_t)i * a->no_stride[5]];
            y[(size_t)i * step] = condition[(size_t)i * a->condition_stride[5]] != 0 ? p : q;
        }
        return;
    }
    const int tail = count % VL, whole = count - tail;
    for (int i = 0; i < whole; i += VL) f32_select_vector(a, i, VL, condition, yes, no, y);
    if (tail) f32_select_vector(a, whole, tail, condition, yes, no, y);
}

INLINE void f32_select(
    const struct select *a, const float *condition, const float *yes, const float *no, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
        f32_select_run(
            a, condition + at5(a->condition_stride, i0, i1, i2, i3, i4),
            yes + at5(a->yes_stride, i0, i1, i2, i3, i4), no + at5(a->no_stride, i0, i1, i2, i3, i4),
            y + at5(a->y_stride, i0, i1, i2, i3, i4));
}
