/* More functions of one element, which only networks that have them compile: function() with math.h is the naive twin,
   vfunction() the same on vectors.

   They compute in double and round once, so that a handful of terms of a Taylor series is enough: the largest error is
   half a unit in the last place and a little. Nothing calls math.h but sqrt, which is an instruction. NaN stays NaN,
   overflow becomes infinity, and zero keeps its sign. */

#include "activation.h"

/* Vectors of doubles are wider than registers: gcc warns of how they would be passed, but all of it is inlined. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

typedef double vd __attribute__((vector_size(VL * 8)));
typedef __typeof__((vd){0} < (vd){0}) vl; /* 64 bits a lane */

/* kinds of `struct act`, as those of activation.h */
enum {
    ACT_LOG2 = 100, ACT_LOG10, ACT_LOG1P, ACT_EXPM1, ACT_EXP2,
    ACT_SIN, ACT_COS, ACT_TAN, ACT_ASIN, ACT_ACOS, ACT_ATAN,
    ACT_SINH, ACT_COSH, ACT_ASINH, ACT_ACOSH, ACT_ATANH,
    ACT_SINC, /* sin(pi x) / (pi x) */
    ACT_ERFC,
    ACT_FLOOR, ACT_CEIL,
    ACT_ROUND, /* ties to even */
    ACT_SIGN,       /* of NaN it is 0, as in PyTorch */
    ACT_THRESHOLD,  /* b up to a, x above */
    ACT_HARD_SHRINK /* 0 from -a to a, x elsewhere */
};

/* ------------------------------------------------------------------------------------- one element */

INLINE double sinc(double x) {
    const double near = rint(x), sine = sin(3.141592653589793 * (x - near));
    return x == 0 ? 1 : (fmod(near, 2) == 0 ? sine : -sine) / (3.141592653589793 * x);
}

INLINE float function(const struct act f, float x) {
    switch (f.kind) {
    case ACT_LOG2: return (float)log2(x);
    case ACT_LOG10: return (float)log10(x);
    case ACT_LOG1P: return (float)log1p(x);
    case ACT_EXPM1: return (float)expm1(x);
    case ACT_EXP2: return (float)exp2(x);
    case ACT_SIN: return (float)sin(x);
    case ACT_COS: return (float)cos(x);
    case ACT_TAN: return (float)tan(x);
    case ACT_ASIN: return (float)asin(x);
    case ACT_ACOS: return (float)acos(x);
    case ACT_ATAN: return (float)atan(x);
    case ACT_SINH: return (float)sinh(x);
    case ACT_COSH: return (float)cosh(x);
    case ACT_ASINH: return (float)asinh(x);
    case ACT_ACOSH: return (float)acosh(x);
    case ACT_ATANH: return (float)atanh(x);
    case ACT_SINC: return (float)sinc(x);
    case ACT_ERFC: return (float)erfc(x);
    case ACT_FLOOR: return floorf(x);
    case ACT_CEIL: return ceilf(x);
    case ACT_ROUND: return rintf(x);
    case ACT_SIGN: return (float)((x > 0) - (x < 0));
    case ACT_THRESHOLD: return x <= f.a ? f.b : x;
    case ACT_HARD_SHRINK: return x >= -f.a && x <= f.a ? 0 : x;
    default: return x;
    }
}

/* ----------------------------------------------------------------------------------- vectors of double */

INLINE vd widen(vf x) { return __builtin_convertvector(x, vd); }
INLINE vf narrow(vd x) { return __builtin_convertvector(x, vf); }
INLINE vd choose(vl mask, vd yes, vd no) { return (vd)((mask & (vl)yes) | (~mask & (vl)no)); }
INLINE vd constant(double x) { return x - (vd){0}; }
INLINE vd dabs(vd x) { return (vd)((vl)x & 0x7fffffffffffffff); }
INLINE vd dsqrt(vd x) {
    UNROLL for (int i = 0; i < VL; i++) x[i] = sqrt(x[i]);
    return x;
}

/* y with the sign of x, where y is not negative or has that sign already */
INLINE vd dsigned(vd y, vd x) { return (vd)((vl)y | ((vl)x & (-0x7fffffffffffffff - 1))); }
INLINE vf vsigned(vf y, vf x) { return (vf)((vi)y | ((vi)x & (-0x7fffffff - 1))); }

/* Below 2^51, adding 1.5 * 2^52 rounds to an integer and leaves it in the low bits. */
#define DMAGIC 6755399441055744.0
INLINE vd nearest(vd x) { return (x + DMAGIC) - DMAGIC; }
INLINE vl to_whole(vd integer) { return (vl)(integer + DMAGIC) - 0x4338000000000000; }
INLINE vd from_whole(vl integer) { return (vd)(integer + 0x4338000000000000) - DMAGIC; }
INLINE vd dpower_of_two(vd integer) { return (vd)((to_whole(integer) + 1023) << 52); }

INLINE vd dsquare(vd x) { return x * x; }

/* e^r - 1 up to |r| = log(2) / 2, to r^10 / 10! */
INLINE vd dexpm1_near(vd r) {
    vd p = (r * (1 / 3628800.0) + 1 / 362880.0) * r + 1 / 40320.0;
    p = (((p * r + 1 / 5040.0) * r + 1 / 720.0) * r + 1 / 120.0) * r + 1 / 24.0;
    return (((p * r + 1 / 6.0) * r + 0.5) * r + 1) * r;
}

/* 2^t for t from -1000 to 1000, exact for whole t */
INLINE vd dexp2(vd t) {
    const vd n = nearest(t);
    return (dexpm1_near((t - n) * 0.6931471805599453) + 1) * dpower_of_two(n);
}

/* e^x - 1 = 2^n (e^r - 1) + (2^n - 1), which cancels nowhere; |x| up to 700 */
INLINE vd dexpm1(vd x) {
    const vd n = nearest(x * 1.4426950408889634), scale = dpower_of_two(n);
    return dexpm1_near(x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10) * scale + (scale - 1);
}

/* x = 2^n m with m from sqrt(1/2) to sqrt(2), and log(m) = 2 atanh((m - 1) / (m + 1)) to the 13th power; for x > 0 */
struct logarithm { vd n, m; };
INLINE struct logarithm dlog_parts(vd x) {
    const vl n = ((vl)x - 0x3fe6a09e667f3bcd) >> 52; /* the bits of sqrt(1/2) */
    const vd m = (vd)((vl)x - (n << 52)), s = (m - 1) / (m + 1), q = s * s;
    vd p = ((q * (1 / 13.0) + 1 / 11.0) * q + 1 / 9.0) * q + 1 / 7.0;
    p = ((p * q + 1 / 5.0) * q + 1 / 3.0) * q + 1;
    return (struct logarithm){from_whole(n), 2 * s * p};
}

/* log(x) times `unit`, where log(2) times it is `two`: exact for powers of 2 where that is 1 */
INLINE vd dlog(vd x, const double unit, const double two) {
    const struct logarithm parts = dlog_parts(x);
    vd y = parts.n * two + parts.m * unit;
    y = choose(x < 0, constant(NAN), y);
    y = choose(x == 0, constant(-INFINITY), y);
    return choose(x < INFINITY, y, x); /* NaN and infinity */
}

/* the logarithm of the rounded sum, corrected by what rounding lost */
INLINE vd dlog1p(vd x) {
    const vd sum = x + 1, lost = (x - (sum - 1)) / sum;
    const vd y = dlog(sum, 1, 0.6931471805599453) + choose((sum > 0) & (sum < INFINITY), lost, constant(0));
    return dsigned(y, x);
}

/* --------------------------------------------------------------------------------------------- angles */

/* x = quadrant pi / 2 + rest, |rest| up to pi / 4 */
struct angle { vd rest; vl quadrant; };

/* For one |x| from 2^23 up, x = m 2^e: the digits of 1 / (2 pi) before the e-th give whole turns and are left out; the
   96 after them, times m, are a fraction of a turn in units of 2^-64, wrong by 2^-8 of one. */
static __attribute__((noinline, unused)) double reduce_large_angle(const float x, long long *quadrant) {
    static const unsigned long long per_turn[] = {
        0x28be60db9391054a, 0x7f09d5f47d4d3770, 0x36d8a5664f10e410, 0x7f9458eaf7aef158};
    unsigned bits;
    memcpy(&bits, &x, sizeof(bits));
    const int exponent = (int)(bits >> 23 & 255) - 150, word = exponent >> 6, shift = exponent & 63;
    const unsigned long long m = (bits & 0x7fffff) | 0x800000;
    if (exponent == 105) return (double)(x - x); /* infinity */
    unsigned long long first = per_turn[word] << shift, second = per_turn[word + 1] << shift;
    if (shift) {
        first |= per_turn[word + 1] >> (64 - shift);
        second |= per_turn[word + 2] >> (64 - shift);
    }
    const unsigned long long turn = m * first + (m * (second >> 32) >> 32);
    const unsigned long long whole = (turn + (1ull << 61)) >> 62;
    const double rest = (double)(long long)(turn - (whole << 62)) * 3.4061215800865545e-19; /* 2 pi / 2^64 */
    *quadrant = x < 0 ? -(long long)whole : (long long)whole;
    return x < 0 ? -rest : rest;
}

/* pi / 2 is split in two: the first part has 29 bits, so that its multiples up to 2^24 are exact */
INLINE struct angle reduce_angle(vf x) {
    const vd d = widen(x), n = nearest(d * 0.6366197723675814);
    struct angle a = {d - n * 1.570796325802803 - n * 9.920935796805404e-10, to_whole(n)};
    const vi large = (vi)(vabs(x) >= 8388608);
    int any = 0;
    UNROLL for (int i = 0; i < VL; i++) any |= large[i];
    if (any)
        for (int i = 0; i < VL; i++)
            if (large[i]) {
                long long quadrant = 0;
                a.rest[i] = reduce_large_angle(x[i], &quadrant);
                a.quadrant[i] = quadrant;
            }
    return a;
}

/* to r^15 / 15!, for |r| up to pi / 2; to r^12 / 12!, up to pi / 4 */
INLINE vd dsin_near(vd r) {
    const vd q = r * r;
    vd p = ((q * (-1 / 1307674368000.0) + 1 / 6227020800.0) * q - 1 / 39916800.0) * q + 1 / 362880.0;
    p = ((p * q - 1 / 5040.0) * q + 1 / 120.0) * q - 1 / 6.0;
    return r * (q * p + 1);
}
INLINE vd dcos_near(vd r) {
    const vd q = r * r;
    vd p = ((q * (1 / 479001600.0) - 1 / 3628800.0) * q + 1 / 40320.0) * q - 1 / 720.0;
    return ((p * q + 1 / 24.0) * q - 0.5) * q + 1;
}

/* sin(x + turns pi / 2) */
INLINE vd dsin(vf x, const int turns) {
    const struct angle a = reduce_angle(x);
    const vl quadrant = a.quadrant + turns;
    const vd y = choose(-(quadrant & 1), dcos_near(a.rest), dsin_near(a.rest));
    return (vd)((vl)y ^ ((quadrant & 2) << 62));
}

INLINE vd dtan(vf x) {
    const struct angle a = reduce_angle(x);
    const vl odd = -(a.quadrant & 1);
    const vd s = dsin_near(a.rest), c = dcos_near(a.rest);
    return choose(odd, -c, s) / choose(odd, s, c);
}

INLINE vd dsinc(vd x) {
    const vl whole = dabs(x) >= 16777216;
    const vd n = choose(whole, x, nearest(x)), s = dsin_near((x - n) * 3.141592653589793);
    const vd y = (vd)((vl)s ^ (~whole & to_whole(n) << 63)) / (x * 3.141592653589793);
    return choose(x == 0, constant(1), y);
}

/* The angle of (x, y). With t the smaller over the larger of |x| and |y|, the angle of t is a series to t^23; above
   tan(pi / 8) it is pi / 4 less that of (1 - t) / (1 + t). Infinities count as 1e300. */
INLINE vd datan2(vd y, vd x) {
    vd a = dabs(y), b = dabs(x);
    a = choose(a > 1e300, constant(1e300), a);
    b = choose(b > 1e300, constant(1e300), b);
    const vl steep = a > b;
    const vd large = choose(steep, a, b), small = choose(steep, b, a);
    const vl near = small > large * 0.41421356237309503;
    const vd below = choose(near, large + small, choose(large == 0, constant(1), large));
    const vd t = choose(near, small - large, small) / below, q = t * t;
    vd p = ((q * (-1 / 23.0) + 1 / 21.0) * q - 1 / 19.0) * q + 1 / 17.0;
    p = (((p * q - 1 / 15.0) * q + 1 / 13.0) * q - 1 / 11.0) * q + 1 / 9.0;
    p = ((p * q - 1 / 7.0) * q + 1 / 5.0) * q - 1 / 3.0;
    vd angle = t + t * q * p + choose(near, constant(0.7853981633974483), constant(0));
    angle = choose(steep, 1.5707963267948966 - angle, angle);
    angle = choose((vl)x < 0, 3.141592653589793 - angle, angle);
    return dsigned(angle, y);
}

/* the other side of a right-angled triangle of hypotenuse 1; NaN beyond */
INLINE vd other_side(vd x) { return dsqrt((1 - x) * (1 + x)); }

/* ------------------------------------------------------------------------- hyperbolic functions, erfc */

INLINE vd dsinh(vd x) {
    const vd e = dexpm1(dabs(x));
    return dsigned((e + e / (e + 1)) * 0.5, x);
}
INLINE vd dcosh(vd x) {
    const vd e = dexpm1(dabs(x)) + 1;
    return (e + 1 / e) * 0.5;
}
INLINE vd dasinh(vd x) {
    const vd a = dabs(x), square = a * a;
    const vd y = dlog1p(a + square / (dsqrt(square + 1) + 1));
    return dsigned(choose(a < INFINITY, y, a), x);
}
INLINE vd dacosh(vd x) {
    const vd t = x - 1;
    return choose(x < 1, constant(NAN), dlog1p(t + dsqrt(t * (t + 2))));
}
INLINE vd datanh(vd x) {
    const vd a = dabs(x);
    return dsigned(dlog1p(2 * a / (1 - a)) * 0.5, x);
}

/* e^(-x^2) times a polynomial of 2 / (2 + x), our own fit for x from 0 to 11 */
INLINE vd derfc(vd x) {
    const vd a = choose(dabs(x) > 11, constant(11), dabs(x)), t = 2 / (2 + a);
    vd p = (t * -0.03456078883279063 + 0.25558559256834873) * t - 0.8109981683155462;
    p = ((p * t + 1.4034181038377298) * t - 1.3823935796356577) * t + 0.7732649733139758;
    p = ((p * t - 0.3664922619581528) * t + 0.19620717231970586) * t + 0.1515163927965796;
    p = (((p * t + 0.2506220788029397) * t + 0.281713642749641) * t + 0.2821174436218471) * t - 6.01344375533099e-07;
    const vd y = p * dexp2(a * a * -1.4426950408889634);
    return choose((vl)x < 0, 2 - y, y);
}

/* ------------------------------------------------------------------------------------------ vectors */

/* from 2^23 on every float is whole; below, adding that rounds */
INLINE vf vround(vf x) {
    const vf a = vabs(x);
    return vsigned(blend((vi)(a < 8388608), (a + 8388608) - 8388608, a), x);
}
INLINE vf vfloor(vf x) {
    const vf near = vround(x);
    return blend((vi)(near > x), near - 1, near);
}

INLINE vf vfunction(const struct act f, vf x) {
    const vd d = widen(x);
    switch (f.kind) {
    case ACT_LOG2: return narrow(dlog(d, 1.4426950408889634, 1));
    case ACT_LOG10: return narrow(dlog(d, 0.4342944819032518, 0.30102999566398120));
    case ACT_LOG1P: return narrow(dlog1p(d));
    case ACT_EXPM1: return vsigned(narrow(dexpm1(widen(vclamp(x, -100, 100)))), x);
    case ACT_EXP2: return narrow(dexp2(widen(vclamp(x, -200, 200))));
    case ACT_SIN: return narrow(dsin(x, 0));
    case ACT_COS: return narrow(dsin(x, 1));
    case ACT_TAN: return narrow(dtan(x));
    case ACT_ASIN: return narrow(datan2(d, other_side(d)));
    case ACT_ACOS: return narrow(datan2(other_side(d), d));
    case ACT_ATAN: return narrow(datan2(d, constant(1)));
    case ACT_SINH: return narrow(dsinh(widen(vclamp(x, -100, 100))));
    case ACT_COSH: return narrow(dcosh(widen(vclamp(x, -100, 100))));
    case ACT_ASINH: return narrow(dasinh(d));
    case ACT_ACOSH: return narrow(dacosh(d));
    case ACT_ATANH: return narrow(datanh(d));
    case ACT_SINC: return narrow(dsinc(d));
    case ACT_ERFC: return narrow(derfc(d));
    case ACT_FLOOR: return vfloor(x);
    case ACT_CEIL: return -vfloor(-x);
    case ACT_ROUND: return vround(x);
    case ACT_SIGN: return __builtin_convertvector((vi)(x < 0) - (vi)(x > 0), vf);
    case ACT_THRESHOLD: return blend((vi)(x <= f.a), splat(f.b), x);
    case ACT_HARD_SHRINK: return blend((vi)(x >= -f.a) & (vi)(x <= f.a), splat(0), x);
    default: return x;
    }
}

/* ------------------------------------------------------------------------------------------ kernels */

/* y = f(x), over n[0] x n[1] x n[2] runs of `count` neighbouring floats, as f32_unary; y may be x */
struct function {
    int n[3], count, x_stride[3], y_stride[3];
    struct act activation;
};

INLINE void f32_function_naive(const struct function *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i = 0; i < a->count; i++)
        y[at3(a->y_stride, i0, i1, i2) + i] = function(a->activation, x[at3(a->x_stride, i0, i1, i2) + i]);
}

INLINE void f32_function(const struct function *a, const float *x, float *y) {
    const int tail = a->count % VL, whole = a->count - tail;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *p = x + at3(a->x_stride, i0, i1, i2);
        float *q = y + at3(a->y_stride, i0, i1, i2);
        for (int i = 0; i < whole; i += VL) store(q + i, vfunction(a->activation, load(p + i)));
        if (tail) store_part(q + whole, vfunction(a->activation, load_part(p + whole, tail)), tail);
    }
}
