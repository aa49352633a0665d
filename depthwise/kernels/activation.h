/* Functions of one element: act() with math.h is the naive twin, vact() the same on vectors. The kind is a
   literal wherever it is called, so that the compiler keeps one branch.

   exp, expm1, log and erf on vectors are polynomials of our own fit (largest relative error 2e-7, against 6e-8 of
   a correctly rounded float). NaN stays NaN, overflow becomes infinity. */

#include "vector.h"

enum {
    ACT_NONE, ACT_RELU, ACT_RELU6,
    ACT_LEAKY_RELU, /* a: the slope */
    ACT_HARD_SWISH, ACT_HARD_SIGMOID, ACT_SIGMOID, ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_TANH,
    ACT_ELU,   /* a: what it tends to at minus infinity, with its sign turned */
    ACT_CLAMP, /* a, b: the bounds */
    ACT_SOFTPLUS, ACT_MISH,
    ACT_POWER, /* a: the exponent */
    ACT_SQRT, ACT_EXP, ACT_LOG, ACT_ABS, ACT_NEGATIVE, ACT_RECIPROCAL_SQRT, ACT_ERF,
    ACT_TRUNC,
    ACT_WRAP /* a, b: the lowest of b whole numbers around which it goes; b is a power of two */
};

struct act { int kind; float a, b; };

/* out = after(before(acc) + (add ? sum : 0)) */
struct epilogue { struct act before; int add; struct act after; };

/* ------------------------------------------------------------------------------------- one element */

INLINE float clamp(float x, float low, float high) {
    const float raised = x < low ? low : x;
    return raised > high ? high : raised;
}
INLINE float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* mish(x) = x tanh(log(1 + e^x)) = x n / (n + 2), n = e^x (e^x + 2); above 20 the fraction is 1 */
INLINE float mish(float x) {
    float e = expf(clamp(x, -INFINITY, 20)), n = e * (e + 2);
    return x * (n / (n + 2));
}

/* the whole part, from 0 to count - 1, then from `lowest` on: exact, for count is a power of two */
INLINE float wrap(float x, float lowest, float count) {
    const float whole = truncf(x), above = whole - count * floorf(whole / count);
    return above >= lowest + count ? above - count : above;
}

INLINE float act(const struct act f, float x) {
    switch (f.kind) {
    case ACT_RELU: return x < 0 ? 0 : x;
    case ACT_RELU6: return clamp(x, 0, 6);
    case ACT_LEAKY_RELU: return x > 0 ? x : x * f.a;
    case ACT_HARD_SWISH: return x * clamp(x + 3, 0, 6) * (1 / 6.0f);
    case ACT_HARD_SIGMOID: return clamp(x + 3, 0, 6) * (1 / 6.0f);
    case ACT_SIGMOID: return sigmoid(x);
    case ACT_SILU: return x * sigmoid(x);
    case ACT_GELU: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case ACT_GELU_TANH: return x * sigmoid(x * (1.59576912f + 0.07135482f * x * x));
    case ACT_TANH: return tanhf(x);
    case ACT_ELU: return x > 0 ? x : f.a * expm1f(x);
    case ACT_CLAMP: return clamp(x, f.a, f.b);
    case ACT_SOFTPLUS: return (x < 0 ? 0 : x) + log1pf(expf(-fabsf(x)));
    case ACT_MISH: return mish(x);
    case ACT_POWER: return powf(x, f.a);
    case ACT_SQRT: return sqrtf(x);
    case ACT_EXP: return expf(x);
    case ACT_LOG: return logf(x);
    case ACT_ABS: return fabsf(x);
    case ACT_NEGATIVE: return -x;
    case ACT_RECIPROCAL_SQRT: return 1 / sqrtf(x);
    case ACT_ERF: return erff(x);
    case ACT_TRUNC: return truncf(x);
    case ACT_WRAP: return wrap(x, f.a, f.b);
    default: return x;
    }
}

INLINE float epilogue(const struct epilogue e, float acc, float sum) {
    float y = act(e.before, acc);
    if (e.add) y += sum;
    return act(e.after, y);
}

/* ----------------------------------------------------------------------------------------- vectors */

#if VL == 1
INLINE vf at_least(vf v, float low) { return vmax(splat(low), v); }
INLINE vf vexp(vf x) { return expf(x); }
INLINE vf vlog(vf x) { return logf(x); }
INLINE vf vtanh(vf x) { return tanhf(x); }
INLINE vf vsigmoid(vf x) { return sigmoid(x); }
INLINE vf vsqrt(vf x) { return sqrtf(x); }
INLINE vf inverse_fourth_root(vf x) { return 1 / sqrtf(sqrtf(x)); }
INLINE vf vact(const struct act f, vf v) { return act(f, v); }
#else

/* the bounds are literals and come first: then these are one instruction each */
INLINE vf at_least(vf v, float low) { return vmax(splat(low), v); }
INLINE vf at_most(vf v, float high) { return vmin(splat(high), v); }
INLINE vf vclamp(vf v, float low, float high) { return at_most(at_least(v, low), high); }
INLINE vf vabs(vf v) { return (vf)((vi)v & 0x7fffffff); }

/* x = n log(2) + r with |r| <= log(2) / 2; adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
   log(2) is split in two, so that n times its first part is exact. */
struct powers { vi n; vf r; };
INLINE struct powers reduce_exponent(vf x) {
    const float magic = 12582912;
    vf shifted = x * 1.44269504f + magic, n = shifted - magic;
    return (struct powers){(vi)shifted - 0x4b400000, x - n * 0.693359375f + n * 2.12194440e-4f};
}
INLINE vf power_of_two(vi n) { return (vf)((n + 127) << 23); }

/* (e^r - 1 - r) / r^2 */
INLINE vf exp_tail(vf r) {
    return (((1.39507244e-3f * r + 8.36902484e-3f) * r + 4.16662022e-2f) * r + 0.166665182f) * r + 0.5f;
}

/* 2^n in two factors, since n reaches from -150 (below the smallest float) to 128 (above the largest) */
INLINE vf vexp(vf x) {
    struct powers p = reduce_exponent(vclamp(x, -104, 89));
    vf y = (p.r * p.r) * exp_tail(p.r) + p.r + 1;
    vi half = p.n >> 1;
    return y * power_of_two(half) * power_of_two(p.n - half);
}

/* e^x - 1 = 2^n (e^r - 1) + (2^n - 1), which cancels nowhere; x up to 88 */
INLINE vf vexpm1(vf x) {
    struct powers p = reduce_exponent(vclamp(x, -30, 88));
    vf y = (p.r * p.r) * exp_tail(p.r) + p.r, scale = power_of_two(p.n);
    return y * scale + (scale - 1);
}

/* log(x) = n log(2) + log(1 + m), 1 + m from sqrt(1/2) to sqrt(2); denormals are brought into range first */
INLINE vf vlog(vf x) {
    vi tiny = (vi)(x < 1.17549435e-38f);
    vi bits = (vi)blend(tiny, x * 8388608, x);
    vi above = bits - 0x3f3504f3; /* the bits of sqrt(1/2): n counts from there */
    vi exponent = above >> 23;
    vf m = (vf)(bits - (exponent << 23)) - 1;
    vf n = __builtin_convertvector(exponent - (tiny & 23), vf);
    vf p = 6.74660131e-2f * m - 0.116756409f;
    p = ((p * m + 0.118881717f) * m - 0.124055915f) * m + 0.142195508f;
    p = ((p * m - 0.166679963f) * m + 0.200021192f) * m - 0.250000089f;
    p = (p * m + 0.333333135f) * m - 0.5f;
    vf y = m + (m * m * p - n * 2.12194440e-4f) + n * 0.693359375f;
    y = blend((vi)(x < 0), splat(NAN), y);
    y = blend((vi)(x == 0), splat(-INFINITY), y);
    return blend((vi)(x < INFINITY), y, x * x); /* NaN and infinity; x * x is either */
}

/* log(1 + u) for u in [0, 1]: the logarithm of the rounded sum, corrected by what rounding lost */
INLINE vf vlog1p(vf u) {
    vf sum = u + 1;
    return vlog(sum) + (u - (sum - 1)) / sum;
}

/* tanh(|x|) = t / (t + 2), t = e^2|x| - 1; from 20 on it is 1 */
INLINE vf vtanh(vf x) {
    vi sign = (vi)x & (int)0x80000000u;
    vf t = vexpm1(at_most(vabs(x) * 2, 40));
    return (vf)((vi)(t / (t + 2)) | sign);
}

/* erf: odd polynomial up to 1, 1 - e^p beyond, 1 from 4 on */
INLINE vf verf(vf x) {
    vi sign = (vi)x & (int)0x80000000u;
    vf a = vabs(x), q = x * x;
    vf near = (7.85385782e-5f * q - 8.01019254e-4f) * q + 5.18832775e-3f;
    near = (((near * q - 2.68538110e-2f) * q + 0.112835854f) * q - 0.376126260f) * q + 1.12837911f;
    vf t = at_most(a, 4);
    vf far = (1.91505038e-4f * t - 2.99954903e-3f) * t + 2.20520291e-2f;
    far = (((far * t - 0.103566952f) * t - 0.637599945f) * t - 1.12742615f) * t - 2.56436644e-4f;
    vf y = blend((vi)(a < 1), a * near, 1 - vexp(far));
    return (vf)((vi)y | sign);
}

/* 1 + e^-x, infinity from x = -88.73 down. The low bits of `shifted` are n + 126, so that a shift alone makes
   2^(n - 1), which is finite; the sum doubles it. Half the operations of 1 + vexp(-x), and SiLU is x over it. */
INLINE vf one_plus_exp(vf x) {
    const float magic = 12583038;
    vf v = vclamp(x, -89, 80), shifted = v * -1.44269504f + magic, n = shifted - magic;
    vf r = n * 2.12194440e-4f - (n * 0.693359375f + v);
    vf y = ((1.39507244e-3f * r + 8.36902484e-3f) * r + 4.16662022e-2f) * r + 0.166665182f;
    y = ((y * r + 0.5f) * r + 1) * r + 1;
    return y * (vf)((vi)shifted << 23) * 2 + 1;
}

INLINE vf vsigmoid(vf x) { return 1 / one_plus_exp(x); }

INLINE vf vmish(vf x) {
    vf e = vexp(at_most(x, 20)), n = e * (e + 2);
    return x * (n / (n + 2));
}

INLINE vf vsqrt(vf x) {
    UNROLL for (int i = 0; i < VL; i++) x[i] = sqrtf(x[i]);
    return x;
}

/* x^(-1/4) of a normal, finite x > 0, within 2 units in the last place. Minus a quarter of the bits is minus a quarter
   of the logarithm, within 3.2 %; each step then leaves 0.9 e^3 of an error e. Roots and a division in hardware take
   longer. */
INLINE vf inverse_fourth_root(vf x) {
    vf y = (vf)(0x4f584000 - ((vi)x >> 2));
    UNROLL for (int i = 0; i < 2; i++) {
        const vf squared = y * y, e = 1 - x * squared * squared;
        y += y * (e * (e * 0.15625f + 0.25f));
    }
    return y;
}

INLINE vf vtrunc(vf x) {
    UNROLL for (int i = 0; i < VL; i++) x[i] = truncf(x[i]);
    return x;
}

INLINE vf vwrap(vf x, const float lowest, const float count) {
    UNROLL for (int i = 0; i < VL; i++) x[i] = wrap(x[i], lowest, count);
    return x;
}

/* common exponents; any other goes lane by lane through powf */
INLINE vf vpower(vf x, const float exponent) {
    if (exponent == 1) return x;
    if (exponent == 2) return x * x;
    if (exponent == 3) return x * x * x;
    if (exponent == -1) return 1 / x;
    UNROLL for (int i = 0; i < VL; i++) x[i] = powf(x[i], exponent);
    return x;
}

INLINE vf vact(const struct act f, vf v) {
    switch (f.kind) {
    case ACT_RELU: return at_least(v, 0);
    case ACT_RELU6: return vclamp(v, 0, 6);
    case ACT_LEAKY_RELU: return blend((vi)(v > 0), v, v * f.a);
    case ACT_HARD_SWISH: return v * vclamp(v + 3, 0, 6) * (1 / 6.0f);
    case ACT_HARD_SIGMOID: return vclamp(v + 3, 0, 6) * (1 / 6.0f);
    case ACT_SIGMOID: return vsigmoid(v);
    case ACT_SILU: return v / one_plus_exp(v);
    case ACT_GELU: return 0.5f * v * (1 + verf(v * 0.70710678f));
    case ACT_GELU_TANH: return v / one_plus_exp(v * (1.59576912f + 0.07135482f * v * v));
    case ACT_TANH: return vtanh(v);
    case ACT_ELU: return blend((vi)(v > 0), v, f.a * vexpm1(at_most(v, 0)));
    case ACT_CLAMP: return vclamp(v, f.a, f.b);
    case ACT_SOFTPLUS: return at_least(v, 0) + vlog1p(vexp(-vabs(v)));
    case ACT_MISH: return vmish(v);
    case ACT_POWER: return vpower(v, f.a);
    case ACT_SQRT: return vsqrt(v);
    case ACT_EXP: return vexp(v);
    case ACT_LOG: return vlog(v);
    case ACT_ABS: return vabs(v);
    case ACT_NEGATIVE: return -v;
    case ACT_RECIPROCAL_SQRT: return 1 / vsqrt(v);
    case ACT_ERF: return verf(v);
    case ACT_TRUNC: return vtrunc(v);
    case ACT_WRAP: return vwrap(v, f.a, f.b);
    default: return v;
    }
}
#endif

INLINE vf vepilogue(const struct epilogue e, vf acc, vf sum) {
    vf y = vact(e.before, acc);
    if (e.add) y += sum;
    return vact(e.after, y);
}
