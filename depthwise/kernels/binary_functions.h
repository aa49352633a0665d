/* Functions of two elements, in double as those of functions.h. */

#include "functions.h"

/* compiler/lowering/functions.py numbers them the same */
enum {
    FUNCTION_POWER,
    FUNCTION_REMAINDER,    /* has the sign of b, as in Python */
    FUNCTION_FMOD,         /* has the sign of a, as in C */
    FUNCTION_FLOOR_DIVIDE, /* floor(a / b), without what the quotient's rounding would add */
    FUNCTION_ARCTAN2, FUNCTION_HYPOT
};

INLINE float remainder_as_python(float a, float b) {
    const float rest = fmodf(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

INLINE float binary_function(const int function, float a, float b) {
    switch (function) {
    case FUNCTION_POWER: return (float)pow(a, b);
    case FUNCTION_REMAINDER: return remainder_as_python(a, b);
    case FUNCTION_FMOD: return fmodf(a, b);
    case FUNCTION_FLOOR_DIVIDE: {
        const double rest = fmod(a, b), down = rest != 0 && (rest < 0) != (b < 0);
        const double whole = rint((a - rest) / b) - down;
        return b == 0 ? a / b : (float)(whole == 0 ? copysign(0, (double)a / b) : whole);
    }
    case FUNCTION_ARCTAN2: return (float)atan2(a, b);
    default: return (float)hypot(a, b);
    }
}

/* ------------------------------------------------------------------------------------------ vectors */

#if VL == 1
INLINE vf vbinary_function(const int function, vf x, vf y) { return binary_function(function, x, y); }
#else

/* |a|^b with the sign of a where b is odd, NaN for a below 0 where b is not whole. IEEE 754-2019, 9.2.1. */
INLINE vd dpower(vd a, vd b) {
    const vd size = dabs(a);
    vd t = dlog(size, 1.4426950408889634, 1) * b;
    t = choose((size == 1) & (b == b), constant(0), t); /* also for infinite b */
    t = choose(t > 1000, constant(1000), choose(t < -1000, constant(-1000), t));
    const vd bounded = choose(dabs(b) < 4503599627370496.0, b, constant(0)); /* above, b is even */
    const vl whole = nearest(bounded) == bounded, odd = whole & -(to_whole(bounded) & 1);
    vd y = dexp2(t);
    y = choose(odd & ((vl)a < 0), -y, y);
    y = choose(~whole & (a < 0) & (a > -INFINITY), constant(NAN), y);
    return choose((b == 0) | (a == 1), constant(1), y);
}

/* floor(x) up to 2^51 */
INLINE vd dfloor(vd x) {
    const vd near = nearest(x);
    return choose(near > x, near - 1, near);
}

/* What is left of a after all multiples of b, with the sign of a. Each round takes off a multiple of 26 bits, whose
   product with b is exact, so that the rest is exact too, and has no more bits than a float; 12 of them bring 2^128
   below 2^-149. */
INLINE vd dfmod(vd a, vd b) {
    const vd size = dabs(b);
    vd rest = dabs(a);
    for (int round = 0; round < 12; round++) {
        const vl more = rest >= size;
        int any = 0;
        UNROLL for (int i = 0; i < VL; i++) any |= (int)more[i];
        if (!any) break;
        const vd quotient = (vd)((vl)(rest / size) & -(1 << 27));
        rest = choose(more, rest - choose(quotient < 67108864, dfloor(quotient), quotient) * size, rest);
    }
    rest = choose((size == 0) | ~(dabs(a) < INFINITY) | (b != b), constant(NAN), rest);
    return dsigned(rest, a);
}

/* whether a rest other than 0 has another sign than b */
INLINE vl turns_back(vd rest, vd b) { return ((rest < 0) & (b > 0)) | ((rest > 0) & (b < 0)); }

INLINE vf vbinary_function(const int function, vf x, vf y) {
    const vd a = widen(x), b = widen(y);
    switch (function) {
    case FUNCTION_POWER: return narrow(dpower(a, b));
    case FUNCTION_FMOD: return narrow(dfmod(a, b));
    case FUNCTION_REMAINDER: {
        const vd rest = dfmod(a, b);
        return narrow(choose(turns_back(rest, b), rest + b, rest));
    }
    case FUNCTION_FLOOR_DIVIDE: {
        const vd rest = dfmod(a, b), quotient = (a - rest) / b;
        const vd whole = choose(dabs(quotient) < 1125899906842624.0, nearest(quotient), quotient);
        const vd result = whole - choose(turns_back(rest, b), constant(1), constant(0));
        const vd zero = dsigned(constant(0), a / b);
        return narrow(choose(b == 0, a / b, choose(result == 0, zero, result)));
    }
    case FUNCTION_ARCTAN2: return narrow(datan2(a, b));
    default: {
        const vd long_side = dsqrt(a * a + b * b);
        return narrow(choose((dabs(a) == INFINITY) | (dabs(b) == INFINITY), constant(INFINITY), long_side));
    }
    }
}
#endif

/* ------------------------------------------------------------------------------------------- kernel */

/* y = function(left, right) over six axes of n elements; an axis along which one of them is repeated has stride 0.
   y may be left or right, where it has their strides. */
struct binary_function {
    int function, n[6], left_stride[6], right_stride[6], y_stride[6];
};

INLINE void f32_binary_function_naive(
    const struct binary_function *a, const float *left, const float *right, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
    for (int i5 = 0; i5 < a->n[5]; i5++) {
        const float p = left[at6(a->left_stride, i0, i1, i2, i3, i4, i5)];
        const float q = right[at6(a->right_stride, i0, i1, i2, i3, i4, i5)];
        y[at6(a->y_stride, i0, i1, i2, i3, i4, i5)] = binary_function(a->function, p, q);
    }
}

/* `count` floats that lie `stride` apart; lanes past them are 1 */
INLINE vf load_apart(const float *p, const int stride, const int count) {
    if (!stride) return splat(*p);
    float lanes[VL];
    store(lanes, splat(1));
    for (int i = 0; i < count; i++) lanes[i] = p[(size_t)i * stride];
    return load(lanes);
}

/* the innermost axis: vectors whatever the strides, for a function costs more than its operands' way to it */
INLINE void f32_binary_function_run(
    const struct binary_function *a, const float *left, const float *right, float *y) {
    const int p = a->left_stride[5], q = a->right_stride[5], step = a->y_stride[5];
    for (int i = 0; i < a->n[5]; i += VL) {
        const int count = a->n[5] - i < VL ? a->n[5] - i : VL;
        const vf v = vbinary_function(
            a->function, load_apart(left + (size_t)i * p, p, count), load_apart(right + (size_t)i * q, q, count));
        float lanes[VL];
        store(lanes, v);
        for (int j = 0; j < count; j++) y[(size_t)(i + j) * step] = lanes[j];
    }
}

INLINE void f32_binary_function(
    const struct binary_function *a, const float *left, const float *right, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
        f32_binary_function_run(
            a, left + at5(a->left_stride, i0, i1, i2, i3, i4), right + at5(a->right_stride, i0, i1, i2, i3, i4),
            y + at5(a->y_stride, i0, i1, i2, i3, i4));
}
