/* Element by element, over strided axes. After activation.h. */

#include "activation.h"

/* y = f(x), over n0 x n1 x n2 runs of `count` neighbouring floats; y may be x.
   x0 x1 x2, y0 y1 y2: floats from one run to the next along each axis. */
INLINE void f32_unary_naive(
    const int n0, const int n1, const int n2, const int count, const int x0, const int x1, const int x2,
    const int y0, const int y1, const int y2, const struct act f, const float *x, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int i = 0; i < count; i++)
        y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + i] =
            act(f, x[(size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2 + i]);
}

INLINE void f32_unary(
    const int n0, const int n1, const int n2, const int count, const int x0, const int x1, const int x2,
    const int y0, const int y1, const int y2, const struct act f, const float *x, float *y) {
    const int tail = count % VL, whole = count - tail;
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++) {
        const float *p = x + (size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2;
        float *q = y + (size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2;
        for (int i = 0; i < whole; i += VL) store(q + i, vact(f, load(p + i)));
        if (tail) store_part(q + whole, vact(f, load_part(p + whole, tail)), tail);
    }
}

/* compiler/lower_elementwise.py numbers them the same */
enum {
    BINARY_ADD, BINARY_SUBTRACT, BINARY_MULTIPLY, BINARY_DIVIDE, BINARY_MAXIMUM, BINARY_MINIMUM,
    BINARY_PRELU /* a where it is positive, a * b elsewhere */
};

INLINE float binary(const int function, float a, float b) {
    switch (function) {
    case BINARY_ADD: return a + b;
    case BINARY_SUBTRACT: return a - b;
    case BINARY_MULTIPLY: return a * b;
    case BINARY_DIVIDE: return a / b;
    case BINARY_MAXIMUM: return a > b || a != a ? a : b;
    case BINARY_MINIMUM: return a < b || a != a ? a : b;
    default: return a > 0 ? a : a * b;
    }
}

INLINE vf vbinary(const int function, vf a, vf b) {
    switch (function) {
    case BINARY_ADD: return a + b;
    case BINARY_SUBTRACT: return a - b;
    case BINARY_MULTIPLY: return a * b;
    case BINARY_DIVIDE: return a / b;
    case BINARY_MAXIMUM: return vmax(a, b);
    case BINARY_MINIMUM: return vmin(a, b);
    default: return blend((vi)(a > 0), a, a * b);
    }
}

/* y = epilogue(function(a, b), sum) over six axes of n0 ... n5 elements; an axis along which a, b or sum is repeated
   has stride 0. sum is read only where e.add is set, else null. y may be a, b or sum, where it has their strides. */
INLINE void f32_binary_naive(
    const int function, const int n0, const int n1, const int n2, const int n3, const int n4, const int n5,
    const int a0, const int a1, const int a2, const int a3, const int a4, const int a5, const int b0,
    const int b1, const int b2, const int b3, const int b4, const int b5, const int sum0, const int sum1,
    const int sum2, const int sum3, const int sum4, const int sum5, const int y0, const int y1, const int y2,
    const int y3, const int y4, const int y5, const struct epilogue e, const float *a, const float *b,
    const float *sum, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int i3 = 0; i3 < n3; i3++)
    for (int i4 = 0; i4 < n4; i4++)
    for (int i5 = 0; i5 < n5; i5++) {
        const float left = a[(size_t)i0 * a0 + (size_t)i1 * a1 + (size_t)i2 * a2 + (size_t)i3 * a3 +
                             (size_t)i4 * a4 + (size_t)i5 * a5];
        const float right = b[(size_t)i0 * b0 + (size_t)i1 * b1 + (size_t)i2 * b2 + (size_t)i3 * b3 +
                              (size_t)i4 * b4 + (size_t)i5 * b5];
        const size_t s = (size_t)i0 * sum0 + (size_t)i1 * sum1 + (size_t)i2 * sum2 + (size_t)i3 * sum3 +
                         (size_t)i4 * sum4 + (size_t)i5 * sum5;
        y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + (size_t)i3 * y3 + (size_t)i4 * y4 +
          (size_t)i5 * y5] = epilogue(e, binary(function, left, right), e.add ? sum[s] : 0);
    }
}

/* the first `count` floats of a run, or one float in all lanes where the run is a repeated one */
INLINE vf load_run(const float *p, const int i, const int stride, const int count) {
    return stride ? load_part(p + i, count) : splat(*p);
}

/* one innermost axis: how far each operand moves along it */
struct f32_binary { int function, a, b, sum, y; struct epilogue e; };

/* `count` neighbours */
INLINE void f32_binary_vector(
    const struct f32_binary k, const int i, const int count, const float *a, const float *b, const float *sum,
    float *y) {
    const vf result = vbinary(k.function, load_run(a, i, k.a, count), load_run(b, i, k.b, count));
    const vf other = k.e.add ? load_run(sum, i, k.sum, count) : (vf){0};
    store_part(y + i, vepilogue(k.e, result, other), count);
}

/* vectors where y and all operands are neighbours, or repeat one float */
INLINE void f32_binary_run(
    const struct f32_binary k, const int count, const float *a, const float *b, const float *sum, float *y) {
    if (k.y != 1 || k.a > 1 || k.b > 1 || k.sum > 1) {
        for (int i = 0; i < count; i++)
            y[(size_t)i * k.y] = epilogue(k.e, binary(k.function, a[(size_t)i * k.a], b[(size_t)i * k.b]),
                                          k.e.add ? sum[(size_t)i * k.sum] : 0);
        return;
    }
    const int tail = count % VL, whole = count - tail;
    for (int i = 0; i < whole; i += VL) f32_binary_vector(k, i, VL, a, b, sum, y);
    if (tail) f32_binary_vector(k, whole, tail, a, b, sum, y);
}

INLINE void f32_binary(
    const int function, const int n0, const int n1, const int n2, const int n3, const int n4, const int n5,
    const int a0, const int a1, const int a2, const int a3, const int a4, const int a5, const int b0,
    const int b1, const int b2, const int b3, const int b4, const int b5, const int sum0, const int sum1,
    const int sum2, const int sum3, const int sum4, const int sum5, const int y0, const int y1, const int y2,
    const int y3, const int y4, const int y5, const struct epilogue e, const float *a, const float *b,
    const float *sum, float *y) {
    const struct f32_binary k = {function, a5, b5, sum5, y5, e};
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int i3 = 0; i3 < n3; i3++)
    for (int i4 = 0; i4 < n4; i4++)
        f32_binary_run(
            k, n5,
            a + (size_t)i0 * a0 + (size_t)i1 * a1 + (size_t)i2 * a2 + (size_t)i3 * a3 + (size_t)i4 * a4,
            b + (size_t)i0 * b0 + (size_t)i1 * b1 + (size_t)i2 * b2 + (size_t)i3 * b3 + (size_t)i4 * b4,
            e.add ? sum + (size_t)i0 * sum0 + (size_t)i1 * sum1 + (size_t)i2 * sum2 + (size_t)i3 * sum3 +
                        (size_t)i4 * sum4 : 0,
            y + (size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + (size_t)i3 * y3 + (size_t)i4 * y4);
}
