/* Normalisation over strided axes. */

#include "activation.h"

/* y = activation(x * scale + shift) over four axes of n elements: BatchNorm where it could not be folded into a
   convolution. p_stride: that of scale and shift, 0 except along the channels; the last axis is packed in y. y may be
   x. */
struct batch_norm {
    int n[4], x_stride[4], p_stride[4], y_stride[4];
    struct act activation;
};

INLINE void f32_batch_norm_naive(
    const struct batch_norm *a, const float *x, const float *scale, const float *shift, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++) {
        const size_t p = at4(a->p_stride, i0, i1, i2, i3);
        const float v = x[at4(a->x_stride, i0, i1, i2, i3)];
        y[at4(a->y_stride, i0, i1, i2, i3)] = act(a->activation, v * scale[p] + shift[p]);
    }
}

/* `lanes` neighbours: their own scales, or one for all */
INLINE vf load_parameter(const float *p, const int stride, const int lanes) {
    return stride ? load_part(p, lanes) : splat(*p);
}

INLINE void f32_batch_norm(
    const struct batch_norm *a, const float *x, const float *scale, const float *shift, float *y) {
    const int tail = a->n[3] % VL, whole = a->n[3] - tail, step = a->p_stride[3];
    if (a->x_stride[3] != 1 || a->y_stride[3] != 1 || step > 1) {
        f32_batch_norm_naive(a, x, scale, shift, y);
        return;
    }
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *v = x + at3(a->x_stride, i0, i1, i2);
        const float *w = scale + at3(a->p_stride, i0, i1, i2), *b = shift + at3(a->p_stride, i0, i1, i2);
        float *q = y + at3(a->y_stride, i0, i1, i2);
        for (int i = 0; i < whole; i += VL)
            store(q + i, vact(a->activation, load(v + i) * load_parameter(w + i * step, step, VL) +
                                                load_parameter(b + i * step, step, VL)));
        if (tail)
            store_part(q + whole,
                       vact(a->activation, load_part(v + whole, tail) * load_parameter(w + whole * step, step, tail) +
                                              load_parameter(b + whole * step, step, tail)),
                       tail);
    }
}

/* y = activation((x - mean) / sqrt(variance + eps) * weight + bias), mean and variance of x over some axes: layer,
   group and instance normalisation, which differ in nothing but the axes.

   n       one mean each, along three axes: x_stride in x, p_stride in weight and bias, y_stride in y
   m       the mean's elements, along four: x_inner, p_inner, y_inner
   Two passes for the moments, a third that writes. */
struct normalize {
    int n[3], m[4], x_stride[3], x_inner[4], p_stride[3], p_inner[4], y_stride[3], y_inner[4];
    float eps;
    struct act activation;
};

INLINE void f32_normalize_naive(
    const struct normalize *a, const float *x, const float *weight, const float *bias, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *v = x + at3(a->x_stride, i0, i1, i2);
        float mean = 0, variance = 0;
        for (int pass = 0; pass < 3; pass++) {
            for (int j0 = 0; j0 < a->m[0]; j0++)
            for (int j1 = 0; j1 < a->m[1]; j1++)
            for (int j2 = 0; j2 < a->m[2]; j2++)
            for (int j3 = 0; j3 < a->m[3]; j3++) {
                const float e = v[at4(a->x_inner, j0, j1, j2, j3)];
                const size_t p = at3(a->p_stride, i0, i1, i2) + at4(a->p_inner, j0, j1, j2, j3);
                if (pass == 0) mean += e;
                else if (pass == 1) variance += (e - mean) * (e - mean);
                else
                    y[at3(a->y_stride, i0, i1, i2) + at4(a->y_inner, j0, j1, j2, j3)] =
                        act(a->activation, (e - mean) / sqrtf(variance + a->eps) * weight[p] + bias[p]);
            }
            if (pass == 0) mean /= (float)a->m[0] * a->m[1] * a->m[2] * a->m[3];
            if (pass == 1) variance /= (float)a->m[0] * a->m[1] * a->m[2] * a->m[3];
        }
    }
}

/* sum of (x - mean)^power over all of the mean's elements, for `lanes` neighbouring means */
INLINE vf f32_moment_lanes(const struct normalize *a, const int power, const int lanes, const vf mean, const float *x) {
    vf total = {0};
    for (int j0 = 0; j0 < a->m[0]; j0++)
    for (int j1 = 0; j1 < a->m[1]; j1++)
    for (int j2 = 0; j2 < a->m[2]; j2++) {
        const float *p = x + at3(a->x_inner, j0, j1, j2);
        vf line = {0};
        for (int j3 = 0; j3 < a->m[3]; j3++) {
            vf e = load_part(p + (size_t)j3 * a->x_inner[3], lanes) - mean;
            if (power == 2) e *= e;
            line += e;
        }
        total += line;
    }
    return total;
}

INLINE void f32_normalize_lanes(
    const struct normalize *a, const int lanes, const float *x, const float *weight, const float *bias, float *y) {
    const float count = (float)a->m[0] * a->m[1] * a->m[2] * a->m[3];
    const vf mean = f32_moment_lanes(a, 1, lanes, (vf){0}, x) / count;
    const vf scale = 1 / vsqrt(f32_moment_lanes(a, 2, lanes, mean, x) / count + a->eps);
    for (int j0 = 0; j0 < a->m[0]; j0++)
    for (int j1 = 0; j1 < a->m[1]; j1++)
    for (int j2 = 0; j2 < a->m[2]; j2++)
    for (int j3 = 0; j3 < a->m[3]; j3++) {
        const size_t p = at4(a->p_inner, j0, j1, j2, j3);
        const vf e = load_part(x + at4(a->x_inner, j0, j1, j2, j3), lanes) - mean;
        const vf w = load_parameter(weight + p, a->p_stride[2], lanes);
        const vf b = load_parameter(bias + p, a->p_stride[2], lanes);
        store_part(y + at4(a->y_inner, j0, j1, j2, j3), vact(a->activation, e * scale * w + b), lanes);
    }
}

enum { NORM_CHUNK = 64 * VL }; /* a long sum is taken in pieces of that many floats */

/* sum of (x - mean)^power over the mean's elements, vectors of neighbours; any other stride one by one */
INLINE float f32_moment(const struct normalize *a, const int power, const float mean, const float *x) {
    float total = 0;
    for (int j0 = 0; j0 < a->m[0]; j0++)
    for (int j1 = 0; j1 < a->m[1]; j1++)
    for (int j2 = 0; j2 < a->m[2]; j2++) {
        const float *p = x + at3(a->x_inner, j0, j1, j2);
        const int whole = a->x_inner[3] == 1 ? a->m[3] / VL * VL : 0;
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
        for (int j3 = whole; j3 < a->m[3]; j3++) {
            const float e = p[(size_t)j3 * a->x_inner[3]] - mean;
            rest += power == 2 ? e * e : e;
        }
        total += rest;
    }
    return total;
}

INLINE void f32_normalize_one(
    const struct normalize *a, const float *x, const float *weight, const float *bias, float *y) {
    const float count = (float)a->m[0] * a->m[1] * a->m[2] * a->m[3];
    const float mean = f32_moment(a, 1, 0, x) / count;
    const float scale = 1 / sqrtf(f32_moment(a, 2, mean, x) / count + a->eps);
    const int step = a->p_inner[3];
    const int whole = a->x_inner[3] == 1 && a->y_inner[3] == 1 && step <= 1 ? a->m[3] / VL * VL : 0;
    for (int j0 = 0; j0 < a->m[0]; j0++)
    for (int j1 = 0; j1 < a->m[1]; j1++)
    for (int j2 = 0; j2 < a->m[2]; j2++) {
        const size_t p = at3(a->p_inner, j0, j1, j2);
        const float *v = x + at3(a->x_inner, j0, j1, j2);
        const float *w = weight + p, *b = bias + p;
        float *q = y + at3(a->y_inner, j0, j1, j2);
        for (int j = 0; j < whole; j += VL)
            store(q + j, vact(a->activation, (load(v + j) - mean) * scale * load_parameter(w + j * step, step, VL) +
                                                load_parameter(b + j * step, step, VL)));
        for (int j = whole; j < a->m[3]; j++)
            q[(size_t)j * a->y_inner[3]] = act(
                a->activation,
                (v[(size_t)j * a->x_inner[3]] - mean) * scale * w[(size_t)j * step] + b[(size_t)j * step]);
    }
}

INLINE void f32_normalize(const struct normalize *a, const float *x, const float *weight, const float *bias, float *y) {
    /* neighbouring means, as of instances channels last */
    const int lanes = a->x_stride[2] == 1 && a->y_stride[2] == 1 && a->p_stride[2] <= 1;
    const int tail = a->n[2] % VL, whole = lanes ? a->n[2] - tail : 0, step = a->p_stride[2];
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++) {
        const float *v = x + at2(a->x_stride, i0, i1);
        const float *w = weight + at2(a->p_stride, i0, i1), *b = bias + at2(a->p_stride, i0, i1);
        float *q = y + at2(a->y_stride, i0, i1);
        for (int i = 0; i < whole; i += VL)
            f32_normalize_lanes(a, VL, v + i, w + i * step, b + i * step, q + i);
        if (lanes && tail)
            f32_normalize_lanes(a, tail, v + whole, w + whole * step, b + whole * step, q + whole);
        for (int i = lanes ? a->n[2] : 0; i < a->n[2]; i++)
            f32_normalize_one(a, v + (size_t)i * a->x_stride[2], w + (size_t)i * step, b + (size_t)i * step,
                              q + (size_t)i * a->y_stride[2]);
    }
}
