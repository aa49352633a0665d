/* Reductions and softmax over strided axes. After vector.h and activation.h. */

enum { REDUCE_MEAN, REDUCE_SUM, REDUCE_MAX, REDUCE_MIN }; /* compiler/lower_norm.py numbers them the same */

INLINE float reduce_start(const int function) {
    return function == REDUCE_MAX ? -INFINITY : function == REDUCE_MIN ? INFINITY : 0;
}
INLINE float reduce(const int function, float a, float b) {
    if (function == REDUCE_MAX) return a > b || a != a ? a : b;
    if (function == REDUCE_MIN) return a < b || a != a ? a : b;
    return a + b;
}
INLINE vf vreduce(const int function, vf a, vf b) {
    if (function == REDUCE_MAX) return vmax(a, b);
    if (function == REDUCE_MIN) return vmin(a, b);
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

   n0 n1 n2          the axes that are kept, with strides x0 x1 x2 and y0 y1 y2
   m0 m1 m2 m3       those that are reduced, with strides r0 r1 r2 r3

   Sums are taken axis by axis, which keeps the error of long ones small. */
INLINE void f32_reduce_naive(
    const int function, const int n0, const int n1, const int n2, const int m0, const int m1, const int m2,
    const int m3, const int x0, const int x1, const int x2, const int r0, const int r1, const int r2,
    const int r3, const int y0, const int y1, const int y2, const float *x, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++) {
        const float *p = x + (size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2;
        float total = reduce_start(function);
        for (int j0 = 0; j0 < m0; j0++)
        for (int j1 = 0; j1 < m1; j1++)
        for (int j2 = 0; j2 < m2; j2++)
        for (int j3 = 0; j3 < m3; j3++)
            total = reduce(function, total,
                           p[(size_t)j0 * r0 + (size_t)j1 * r1 + (size_t)j2 * r2 + (size_t)j3 * r3]);
        if (function == REDUCE_MEAN) total /= (float)m0 * m1 * m2 * m3;
        y[(size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2] = total;
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

/* the kept axis n2, where its elements are neighbours in x and y: vectors of them */
INLINE void f32_reduce_vectors(
    const int function, const int n2, const int lanes, const int m0, const int m1, const int m2, const int m3,
    const int r0, const int r1, const int r2, const int r3, const float *x, float *y) {
    for (int i = 0; i < n2; i += lanes) {
        vf total = splat(reduce_start(function));
        for (int j0 = 0; j0 < m0; j0++)
        for (int j1 = 0; j1 < m1; j1++)
        for (int j2 = 0; j2 < m2; j2++) {
            const float *p = x + i + (size_t)j0 * r0 + (size_t)j1 * r1 + (size_t)j2 * r2;
            total = vreduce(function, total, f32_reduce_lanes(function, lanes, m3, r3, p));
        }
        if (function == REDUCE_MEAN) total /= (float)m0 * m1 * m2 * m3;
        store_part(y + i, total, lanes);
    }
}

INLINE void f32_reduce(
    const int function, const int n0, const int n1, const int n2, const int m0, const int m1, const int m2,
    const int m3, const int x0, const int x1, const int x2, const int r0, const int r1, const int r2,
    const int r3, const int y0, const int y1, const int y2, const float *x, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++) {
        const float *p = x + (size_t)i0 * x0 + (size_t)i1 * x1;
        float *q = y + (size_t)i0 * y0 + (size_t)i1 * y1;
        if (x2 == 1 && y2 == 1) {
            const int tail = n2 % VL, whole = n2 - tail;
            f32_reduce_vectors(function, whole, VL, m0, m1, m2, m3, r0, r1, r2, r3, p, q);
            if (tail)
                f32_reduce_vectors(function, tail, tail, m0, m1, m2, m3, r0, r1, r2, r3, p + whole, q + whole);
            continue;
        }
        for (int i2 = 0; i2 < n2; i2++) {
            float total = reduce_start(function);
            for (int j0 = 0; j0 < m0; j0++)
            for (int j1 = 0; j1 < m1; j1++)
            for (int j2 = 0; j2 < m2; j2++) {
                const float *line = p + (size_t)i2 * x2 + (size_t)j0 * r0 + (size_t)j1 * r1 + (size_t)j2 * r2;
                const float part = r3 == 1 ? f32_reduce_run(function, m3, line)
                                           : f32_reduce_strided(function, m3, r3, line);
                total = reduce(function, total, part);
            }
            if (function == REDUCE_MEAN) total /= (float)m0 * m1 * m2 * m3;
            q[(size_t)i2 * y2] = total;
        }
    }
}

/* y = exp(x - max) / sum(exp(x - max)) along an axis of `count` elements, for each of n0 x n1 x n2 others. Strides:
   x0 x1 x2 and x_step along the axis, y0 ... likewise. y may be x where it has its strides. */
INLINE void f32_softmax_naive(
    const int n0, const int n1, const int n2, const int count, const int x0, const int x1, const int x2,
    const int x_step, const int y0, const int y1, const int y2, const int y_step, const float *x, float *y) {
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++)
    for (int i2 = 0; i2 < n2; i2++) {
        const float *p = x + (size_t)i0 * x0 + (size_t)i1 * x1 + (size_t)i2 * x2;
        float *q = y + (size_t)i0 * y0 + (size_t)i1 * y1 + (size_t)i2 * y2;
        float largest = -INFINITY, sum = 0;
        for (int i = 0; i < count; i++)
            if (p[(size_t)i * x_step] > largest) largest = p[(size_t)i * x_step];
        for (int i = 0; i < count; i++) {
            q[(size_t)i * y_step] = expf(p[(size_t)i * x_step] - largest);
            sum += q[(size_t)i * y_step];
        }
        for (int i = 0; i < count; i++) q[(size_t)i * y_step] /= sum;
    }
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

INLINE void f32_softmax(
    const int n0, const int n1, const int n2, const int count, const int x0, const int x1, const int x2,
    const int x_step, const int y0, const int y1, const int y2, const int y_step, const float *x, float *y) {
    const int tail = n2 % VL, whole = n2 - tail;
    for (int i0 = 0; i0 < n0; i0++)
    for (int i1 = 0; i1 < n1; i1++) {
        const float *p = x + (size_t)i0 * x0 + (size_t)i1 * x1;
        float *q = y + (size_t)i0 * y0 + (size_t)i1 * y1;
        if (x_step == 1 && y_step == 1)
            for (int i2 = 0; i2 < n2; i2++) f32_softmax_run(count, p + (size_t)i2 * x2, q + (size_t)i2 * y2);
        else if (x2 == 1 && y2 == 1) {
            for (int i2 = 0; i2 < whole; i2 += VL)
                f32_softmax_lanes(VL, count, x_step, y_step, p + i2, q + i2);
            if (tail) f32_softmax_lanes(tail, count, x_step, y_step, p + whole, q + whole);
        } else
            f32_softmax_naive(1, 1, n2, count, 0, 0, x2, x_step, 0, 0, y2, y_step, p, q);
    }
}
