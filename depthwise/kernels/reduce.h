/* Reductions and softmax over strided axes. */

#include "activation.h"

/* compiler/lowering/norm.py numbers them the same */
enum { REDUCE_MEAN, REDUCE_SUM, REDUCE_MAX, REDUCE_MIN, REDUCE_PRODUCT };

INLINE float reduce_start(const int function) {
    return function == REDUCE_MAX ? -INFINITY : function == REDUCE_MIN ? INFINITY : function == REDUCE_PRODUCT;
}
INLINE float reduce(const int function, float a, float b) {
    if (function == REDUCE_MAX) return a > b || a != a ? a : b;
    if (function == REDUCE_MIN) return a < b || a != a ? a : b;
    if (function == REDUCE_PRODUCT) return a * b;
    return a + b;
}
INLINE vf vreduce(const int function, vf a, vf b) {
    if (function == REDUCE_MAX) return vmax(a, b);
    if (function == REDUCE_MIN) return vmin(a, b);
    if (function == REDUCE_PRODUCT) return a * b;
    return a + b;
}

/* all lanes to one, in log2(VL) steps */
INLINE float reduce_lanes(const int function, const vf v) {
    float lane[VL];
    store(lane, v);
    UNROLL for (int half = VL / 2; half > 0; half /= 2)
        UNROLL for (int i = 0; i < half; i++) lane[i] = reduce(function, lane[i], lane[i + half]);
    return lane[0];
}

/* the first `count` floats, `other` in the lanes past them */
INLINE vf load_or(const float *p, const int count, const float other) {
    if (count == VL) return load(p);
    vf v = splat(other);
    memcpy(&v, p, (size_t)count * sizeof(float));
    return v;
}

/* y[i0][i1][i2] = function of all x[i0][i1][i2][j0][j1][j2][j3].

   n       sizes of the axes that are kept, with x_stride and y_stride
   m       of those that are reduced, with x_inner

   Sums are taken axis by axis, which keeps the error of long ones small. */
struct reduce {
    int function, n[3], m[4], x_stride[3], x_inner[4], y_stride[3];
};

INLINE void f32_reduce_naive(const struct reduce *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *p = x + at3(a->x_stride, i0, i1, i2);
        float total = reduce_start(a->function);
        for (int j0 = 0; j0 < a->m[0]; j0++)
        for (int j1 = 0; j1 < a->m[1]; j1++)
        for (int j2 = 0; j2 < a->m[2]; j2++)
        for (int j3 = 0; j3 < a->m[3]; j3++)
            total = reduce(a->function, total,
                           p[at4(a->x_inner, j0, j1, j2, j3)]);
        if (a->function == REDUCE_MEAN) total /= (float)a->m[0] * a->m[1] * a->m[2] * a->m[3];
        y[at3(a->y_stride, i0, i1, i2)] = total;
    }
}

/* the innermost reduced axis for `lanes` neighbours that are kept */
INLINE vf f32_reduce_lanes(const int function, const int lanes, const int m, const int r, const float *x) {
    vf line = splat(reduce_start(function));
    for (int j = 0; j < m; j++) line = vreduce(function, line, load_part(x + (size_t)j * r, lanes));
    return line;
}

enum { REDUCE_CHUNK = 64 * VL }; /* a long sum is taken in pieces of that many floats */

/* the innermost reduced axis, where its elements are neighbours: VL partial results at once */
INLINE float f32_reduce_run(const int function, const int m, const float *x) {
    vf total = splat(reduce_start(function));
    for (int start = 0; start < m; start += REDUCE_CHUNK) {
        const int end = m - start < REDUCE_CHUNK ? m : start + REDUCE_CHUNK;
        vf line = splat(reduce_start(function));
        int j = start;
        for (; j + VL <= end; j += VL) line = vreduce(function, line, load(x + j));
        if (j < end) line = vreduce(function, line, load_or(x + j, m % VL, reduce_start(function)));
        total = vreduce(function, total, line);
    }
    return reduce_lanes(function, total);
}

INLINE float f32_reduce_strided(const int function, const int m, const int r, const float *x) {
    float line = reduce_start(function);
    for (int j = 0; j < m; j++) line = reduce(function, line, x[(size_t)j * r]);
    return line;
}

/* `count` elements of the last kept axis, where they are neighbours in x and y: vectors of `lanes` */
INLINE void f32_reduce_vectors(
    const struct reduce *a, const int count, const int lanes, const float *x, float *y) {
    for (int i = 0; i < count; i += lanes) {
        vf total = splat(reduce_start(a->function));
        for (int j0 = 0; j0 < a->m[0]; j0++)
        for (int j1 = 0; j1 < a->m[1]; j1++)
        for (int j2 = 0; j2 < a->m[2]; j2++) {
            const float *p = x + i + at3(a->x_inner, j0, j1, j2);
            total = vreduce(a->function, total, f32_reduce_lanes(a->function, lanes, a->m[3], a->x_inner[3], p));
        }
        if (a->function == REDUCE_MEAN) total /= (float)a->m[0] * a->m[1] * a->m[2] * a->m[3];
        store_part(y + i, total, lanes);
    }
}

INLINE void f32_reduce(const struct reduce *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++) {
        const float *p = x + at2(a->x_stride, i0, i1);
        float *q = y + at2(a->y_stride, i0, i1);
        if (a->x_stride[2] == 1 && a->y_stride[2] == 1) {
            const int tail = a->n[2] % VL, whole = a->n[2] - tail;
            f32_reduce_vectors(a, whole, VL, p, q);
            if (tail)
                f32_reduce_vectors(a, tail, tail, p + whole, q + whole);
            continue;
        }
        for (int i2 = 0; i2 < a->n[2]; i2++) {
            float total = reduce_start(a->function);
            for (int j0 = 0; j0 < a->m[0]; j0++)
            for (int j1 = 0; j1 < a->m[1]; j1++)
            for (int j2 = 0; j2 < a->m[2]; j2++) {
                const float *line = p + (size_t)i2 * a->x_stride[2] + at3(a->x_inner, j0, j1, j2);
                const float part = a->x_inner[3] == 1 ? f32_reduce_run(a->function, a->m[3], line)
                                                     : f32_reduce_strided(a->function, a->m[3], a->x_inner[3], line);
                total = reduce(a->function, total, part);
            }
            if (a->function == REDUCE_MEAN) total /= (float)a->m[0] * a->m[1] * a->m[2] * a->m[3];
            q[(size_t)i2 * a->y_stride[2]] = total;
        }
    }
}

/* y = exp(x - max) / sum(exp(x - max)) along an axis of `count` elements, for each of n[0] x n[1] x n[2] others.
   Strides: x_stride, and x_step along the axis; y_stride and y_step likewise. y may be x where it has its strides. */
struct softmax {
    int n[3], count, x_stride[3], x_step, y_stride[3], y_step;
};

/* one of the others: a single axis */
INLINE void f32_softmax_one(const struct softmax *a, const float *x, float *y) {
    float largest = -INFINITY, sum = 0;
    for (int i = 0; i < a->count; i++)
        if (x[(size_t)i * a->x_step] > largest) largest = x[(size_t)i * a->x_step];
    for (int i = 0; i < a->count; i++) {
        y[(size_t)i * a->y_step] = expf(x[(size_t)i * a->x_step] - largest);
        sum += y[(size_t)i * a->y_step];
    }
    for (int i = 0; i < a->count; i++) y[(size_t)i * a->y_step] /= sum;
}

INLINE void f32_softmax_naive(const struct softmax *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
        f32_softmax_one(a, x + at3(a->x_stride, i0, i1, i2), y + at3(a->y_stride, i0, i1, i2));
}

/* along neighbours; lanes past the end are e^-inf = 0 */
INLINE void f32_softmax_run(const int count, const float *x, float *y) {
    const int tail = count % VL, whole = count - tail;
    const float largest = f32_reduce_run(REDUCE_MAX, count, x);
    vf sums = {0};
    for (int i = 0; i < whole; i += VL) {
        const vf power = vexp(load(x + i) - largest);
        store(y + i, power);
        sums += power;
    }
    if (tail) {
        const vf power = vexp(load_or(x + whole, tail, -INFINITY) - largest);
        store_part(y + whole, power, tail);
        sums += power;
    }
    const float sum = reduce_lanes(REDUCE_SUM, sums);
    for (int i = 0; i < whole; i += VL) store(y + i, load(y + i) / sum);
    if (tail) store_part(y + whole, load_part(y + whole, tail) / sum, tail);
}

/* across `lanes` neighbours at once */
INLINE void f32_softmax_lanes(
    const int lanes, const int count, const int x_step, const int y_step, const float *x, float *y) {
    vf largest = splat(-INFINITY), sum = {0};
    for (int i = 0; i < count; i++) largest = vmax(largest, load_part(x + (size_t)i * x_step, lanes));
    for (int i = 0; i < count; i++) {
        const vf power = vexp(load_part(x + (size_t)i * x_step, lanes) - largest);
        store_part(y + (size_t)i * y_step, power, lanes);
        sum += power;
    }
    for (int i = 0; i < count; i++) {
        float *q = y + (size_t)i * y_step;
        store_part(q, load_part(q, lanes) / sum, lanes);
    }
}

INLINE void f32_softmax(const struct softmax *a, const float *x, float *y) {
    const int tail = a->n[2] % VL, whole = a->n[2] - tail;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++) {
        const float *p = x + at2(a->x_stride, i0, i1);
        float *q = y + at2(a->y_stride, i0, i1);
        if (a->x_step == 1 && a->y_step == 1)
            for (int i2 = 0; i2 < a->n[2]; i2++)
                f32_softmax_run(a->count, p + (size_t)i2 * a->x_stride[2], q + (size_t)i2 * a->y_stride[2]);
        else if (a->x_stride[2] == 1 && a->y_stride[2] == 1) {
            for (int i2 = 0; i2 < whole; i2 += VL)
                f32_softmax_lanes(VL, a->count, a->x_step, a->y_step, p + i2, q + i2);
            if (tail) f32_softmax_lanes(tail, a->count, a->x_step, a->y_step, p + whole, q + whole);
        } else
            for (int i2 = 0; i2 < a->n[2]; i2++)
                f32_softmax_one(a, p + (size_t)i2 * a->x_stride[2], q + (size_t)i2 * a->y_stride[2]);
    }
}
