/* One axis in another size: each place is a sum of neighbours, of which windows and weights are given.

     y[i0][i1][i2][p][c] = sum over t < counts[p] of x[i0][i1][i2][first[p] + t][c] * weights[.. + t]

   n                    along three axes beside it; x_stride, y_stride: floats between neighbours along these
   size, count          places p of the output, and neighbours c in memory that share them: the channels of a pixel,
                        or all of a row
   x_step, y_step       floats between neighbours along the axis
   weights              those of place 0, then of place 1: as many for each as counts says */

#include "vector.h"

struct resample {
    int n[3], count, x_stride[3], y_stride[3], size, x_step, y_step;
    const int *first, *counts;
};

INLINE void f32_resample_naive(const struct resample *a, const float *x, const float *weights, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *w = weights;
        for (int p = 0; p < a->size; w += a->counts[p++])
            for (int c = 0; c < a->count; c++) {
                float sum = 0;
                for (int t = 0; t < a->counts[p]; t++)
                    sum += x[at3(a->x_stride, i0, i1, i2) + (size_t)(a->first[p] + t) * a->x_step + c] * w[t];
                y[at3(a->y_stride, i0, i1, i2) + (size_t)p * a->y_step + c] = sum;
            }
    }
}

/* `vectors` vectors of neighbours in registers, the last of `lanes`, over a window */
INLINE void f32_resample_window(
    const int vectors, const int lanes, const int taps, const int x_step, const float *x, const float *w, float *y) {
    vf sum[4];
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = (vf){0};
    for (int t = 0; t < taps; t++, x += x_step)
        UNROLL for (int v = 0; v < vectors; v++) sum[v] += load_part(x + v * VL, v == vectors - 1 ? lanes : VL) * w[t];
    UNROLL for (int v = 0; v < vectors; v++) store_part(y + v * VL, sum[v], v == vectors - 1 ? lanes : VL);
}

INLINE void f32_resample(const struct resample *a, const float *x, const float *weights, float *y) {
    const int rest = a->count % (4 * VL), whole = a->count - rest, last = (rest + VL - 1) / VL;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *from = x + at3(a->x_stride, i0, i1, i2), *w = weights;
        float *to = y + at3(a->y_stride, i0, i1, i2);
        for (int p = 0; p < a->size; to += a->y_step, w += a->counts[p++]) {
            const float *first = from + (size_t)a->first[p] * a->x_step;
            for (int c = 0; c < whole; c += 4 * VL)
                f32_resample_window(4, VL, a->counts[p], a->x_step, first + c, w, to + c);
            if (rest)
                f32_resample_window(
                    last, rest - (last - 1) * VL, a->counts[p], a->x_step, first + whole, w, to + whole);
        }
    }
}
