/* Normalisation over strided axes. After vector.h and activation.h. */

/* y = f(x * scale + shift) over n0 x n1 x n2 x n3: BatchNorm where it could not be folded into a convolution.
   p0 ... p3: strides of scale and shift, 0 except along the channels; n3 is packed in y. y may be x. */
INLINE void f32_batch_norm_naive(
    const int n0, const int n1, const int n2, const int n3, const int x0, const int x1, const int x2,
    const int x3, const int p0, const int p1, const int p2, const int p3, const int y0, const int y1,
    const int y2, const int y3, const struct act f, const float *x, const float *scale, const float *shift,
    float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++)
    for (int i3 = 0; i3 < n3; i3++) {
        const size_t p = (size_t)i0 * p0 + (size_t)i1 * p1 + (size_t)i2 * p2 + (size_t)i3 * p3;
        const float v = x[(size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2 + (size_t)i3 * x3];
        y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + (size_t)i3 * y3] =
            act(f, v * scale[p] + shift[p]);
    }
}

/* `lanes` neighbours: their own scales, or one for all */
INLINE vf load_parameter(const float *p, const int stride, const int lanes) {
    return stride ? load_part(p, lanes) : splat(*p);
}

INLINE void f32_batch_norm(
    const int n0, const int n1, const int n2, const int n3, const int x0, const int x1, const int x2,
    const int x3, const int p0, const int p1, const int p2, const int p3, const int y0, const int y1,
    const int y2, const int y3, const struct act f, const float *x, const float *scale, const float *shift,
    float *y) {
    const int tail = n3 % VL, whole = n3 - tail;
    if (x3 != 1 || y3 != 1 || p3 > 1) {
        f32_batch_norm_naive(n0, n1, n2, n3, x0, x1, x2, x3, p0, p1, p2, p3, y0, y1, y2, y3, f, x, scale, shift,
                             y);
        return;
    }
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++) {
        const float *v = x + (size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2;
        const float *a = scale + (size_t)i0 * p0 + (size_t)i1 * p1 + (size_t)i2 * p2;
        const float *b = shift + (size_t)i0 * p0 + (size_t)i1 * p1 + (size_t)i2 * p2;
        float *q = y + (size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2;
        for (int i = 0; i < whole; i += VL)
            store(q + i, vact(f, load(v + i) * load_parameter(a + i * p3, p3, VL) +
                                     load_parameter(b + i * p3, p3, VL)));
        if (tail)
            store_part(q + whole,
                       vact(f, load_part(v + whole, tail) * load_parameter(a + whole * p3, p3, tail) +
                                   load_parameter(b + whole * p3, p3, tail)),
                       tail);
    }
}

/* y = f((x - mean) / sqrt(variance + eps) * weight + bias), mean and variance of x over some axes: layer, group and
   instance normalisation, which differ in nothing but the axes.

   n0 n1 n2          one mean each: strides x0 x1 x2 in x, p0 p1 p2 in weight and bias, y0 y1 y2 in y
   m0 m1 m2 m3       the mean's elements: strides r0 ... r3, q0 ... q3, s0 ... s3
   Two passes for the moments, a third that writes. */
INLINE void f32_normalize_naive(
    const int n0, const int n1, const int n2, const int m0, const int m1, const int m2, const int m3,
    const int x0, const int x1, const int x2, const int r0, const int r1, const int r2, const int r3,
    const int p0, const int p1, const int p2, const int q0, const int q1, const int q2, const int q3,
    const int y0, const int y1, const int y2, const int s0, const int s1, const int s2, const int s3,
    const float eps, const struct act f, const float *x, const float *weight, const float *bias, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++) {
        const float *v = x + (size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2;
        float mean = 0, variance = 0;
        for (int pass = 0; pass < 3; pass++) {
            for (int j0 = 0; j0 < m0; j0++)
            for (int j1 = 0; j1 < m1; j1++)
            for (int j2 = 0; j2 < m2; j2++)
            for (int j3 = 0; j3 < m3; j3++) {
                const float e = v[(size_t)j0 * r0 + (size_t)j1 * r1 + (size_t)j2 * r2 + (size_t)j3 * r3];
                const size_t p = (size_t)i0 * p0 + (size_t)i1 * p1 + (size_t)i2 * p2 + (size_t)j0 * q0 +
                                 (size_t)j1 * q1 + (size_t)j2 * q2 + (size_t)j3 * q3;
                if (pass == 0) mean += e;
                else if (pass == 1) variance += (e - mean) * (e - mean);
                else
                    y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2 + (size_t)j0 * s0 + (size_t)j1 * s1 +
                      (size_t)j2 * s2 + (size_t)j3 * s3] =
                        act(f, (e - mean) / sqrtf(variance + eps) * weight[p] + bias[p]);
            }
            if (pass == 0) mean /= (float)m0 * m1 * m2 * m3;
            if (pass == 1) variance /= (float)m0 * m1 * m2 * m3;
        }
    }
}

/* the axes of the mean that f32_normalize's parts share */
struct f32_axes { int m0, m1, m2, m3, r0, r1, r2, r3, q0, q1, q2, q3, s0, s1, s2, s3; };

/* sum of (x - mean)^power over all of the mean's elements, for `lanes` neighbouring means */
INLINE vf f32_moment_lanes(const struct f32_axes a, const int power, const int lanes, const vf mean, const float *x) {
    vf total = {0};
    for (int j0 = 0; j0 < a.m0; j0++)
    for (int j1 = 0; j1 < a.m1; j1++)
    for (int j2 = 0; j2 < a.m2; j2++) {
        const float *p = x + (size_t)j0 * a.r0 + (size_t)j1 * a.r1 + (size_t)j2 * a.r2;
        vf line = {0};
        for (int j3 = 0; j3 < a.m3; j3++) {
            vf e = load_part(p + (size_t)j3 * a.r3, lanes) - mean;
            if (power == 2) e *= e;
            line += e;
        }
        total += line;
    }
    return total;
}

INLINE void f32_normalize_lanes(
    const struct f32_axes a, const int lanes, const int parameter, const float eps, const struct act f,
    const float *x, const float *weight, const float *bias, float *y) {
    const float count = (float)a.m0 * a.m1 * a.m2 * a.m3;
    const vf mean = f32_moment_lanes(a, 1, lanes, (vf){0}, x) / count;
    const vf scale = 1 / vsqrt(f32_moment_lanes(a, 2, lanes, mean, x) / count + eps);
    for (int j0 = 0; j0 < a.m0; j0++)
    for (int j1 = 0; j1 < a.m1; j1++)
    for (int j2 = 0; j2 < a.m2; j2++)
    for (int j3 = 0; j3 < a.m3; j3++) {
        const size_t p = (size_t)j0 * a.q0 + (size_t)j1 * a.q1 + (size_t)j2 * a.q2 + (size_t)j3 * a.q3;
        const vf e = load_part(x + (size_t)j0 * a.r0 + (size_t)j1 * a.r1 + (size_t)j2 * a.r2 +
                                   (size_t)j3 * a.r3, lanes) - mean;
        const vf w = load_parameter(weight + p, parameter, lanes), b = load_parameter(bias + p, parameter, lanes);
        store_part(y + (size_t)j0 * a.s0 + (size_t)j1 * a.s1 + (size_t)j2 * a.s2 + (size_t)j3 * a.s3,
                   vact(f, e * scale * w + b), lanes);
    }
}

enum { NORM_CHUNK = 64 * VL }; /* a long sum is taken in pieces of that many floats */

/* sum of (x - mean)^power over the mean's elements, vectors of neighbours; any other stride one by one */
INLINE float f32_moment(const struct f32_axes a, const int power, const float mean, const float *x) {
    float total = 0;
    for (int j0 = 0; j0 < a.m0; j0++)
    for (int j1 = 0; j1 < a.m1; j1++)
    for (int j2 = 0; j2 < a.m2; j2++) {
        const float *p = x + (size_t)j0 * a.r0 + (size_t)j1 * a.r1 + (size_t)j2 * a.r2;
        const int whole = a.r3 == 1 ? a.m3 / VL * VL : 0;
        float rest = 0;
        for (int start = 0; start < whole; start += NORM_CHUNK) {
            const int end = whole - start < NORM_CHUNK ? whole : start + NORM_CHUNK;
            vf line = {0};
            for (int j3 = start; j3 < end; j3 += VL) {
                vf e = load(p + j3) - mean;
                if (power == 2) e *= e;
                line += e;
            }
            total += vsum(line);
        }
        for (int j3 = whole; j3 < a.m3; j3++) {
            const float e = p[(size_t)j3 * a.r3] - mean;
            rest += power == 2 ? e * e : e;
        }
        total += rest;
    }
    return total;
}

INLINE void f32_normalize_one(
    const struct f32_axes a, const float eps, const struct act f, const float *x, const float *weight,
    const float *bias, float *y) {
    const float count = (float)a.m0 * a.m1 * a.m2 * a.m3;
    const float mean = f32_moment(a, 1, 0, x) / count;
    const float scale = 1 / sqrtf(f32_moment(a, 2, mean, x) / count + eps);
    const int whole = a.r3 == 1 && a.s3 == 1 && a.q3 <= 1 ? a.m3 / VL * VL : 0;
    for (int j0 = 0; j0 < a.m0; j0++)
    for (int j1 = 0; j1 < a.m1; j1++)
    for (int j2 = 0; j2 < a.m2; j2++) {
        const size_t p = (size_t)j0 * a.q0 + (size_t)j1 * a.q1 + (size_t)j2 * a.q2;
        const float *v = x + (size_t)j0 * a.r0 + (size_t)j1 * a.r1 + (size_t)j2 * a.r2;
        const float *w = weight + p, *b = bias + p;
        float *q = y + (size_t)j0 * a.s0 + (size_t)j1 * a.s1 + (size_t)j2 * a.s2;
        for (int j = 0; j < whole; j += VL)
            store(q + j, vact(f, (load(v + j) - mean) * scale * load_parameter(w + j * a.q3, a.q3, VL) +
                                     load_parameter(b + j * a.q3, a.q3, VL)));
        for (int j = whole; j < a.m3; j++)
            q[(size_t)j * a.s3] = act(f, (v[(size_t)j * a.r3] - mean) * scale * w[(size_t)j * a.q3] +
                                             b[(size_t)j * a.q3]);
    }
}

INLINE void f32_normalize(
    const int n0, const int n1, const int n2, const int m0, const int m1, const int m2, const int m3,
    const int x0, const int x1, const int x2, const int r0, const int r1, const int r2, const int r3,
    const int p0, const int p1, const int p2, const int q0, const int q1, const int q2, const int q3,
    const int y0, const int y1, const int y2, const int s0, const int s1, const int s2, const int s3,
    const float eps, const struct act f, const float *x, const float *weight, const float *bias, float *y) {
    const struct f32_axes a = {m0, m1, m2, m3, r0, r1, r2, r3, q0, q1, q2, q3, s0, s1, s2, s3};
    const int lanes = x2 == 1 && y2 == 1 && p2 <= 1; /* neighbouring means, as of instances channels last */
    const int tail = n2 % VL, whole = lanes ? n2 - tail : 0;
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++) {
        const float *v = x + (size_t)i0 * x0 + (size_t)i1 * x1;
        const float *w = weight + (size_t)i0 * p0 + (size_t)i1 * p1, *b = bias + (size_t)i0 * p0 + (size_t)i1 * p1;
        float *q = y + (size_t)i0 * y0 + (size_t)i1 * y1;
        for (int i = 0; i < whole; i += VL)
            f32_normalize_lanes(a, VL, p2, eps, f, v + i, w + i * p2, b + i * p2, q + i);
        if (lanes && tail)
            f32_normalize_lanes(a, tail, p2, eps, f, v + whole, w + whole * p2, b + whole * p2, q + whole);
        for (int i = lanes ? n2 : 0; i < n2; i++)
            f32_normalize_one(a, eps, f, v + (size_t)i * x2, w + (size_t)i * p2, b + (size_t)i * p2,
                              q + (size_t)i * y2);
    }
}
