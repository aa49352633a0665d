/* Moving bfloat16 about, and between it and floats, with the numbers of copy.h and convert.h. */

#include "bfloat16.h"
#include "convert.h"
#include "copy.h"

INLINE void bf16_copy_naive(const struct copy *a, const unsigned short *x, unsigned short *y) {
    FOR_RUNS FOR(i, 5) y[TO] = x[FROM];
}
INLINE void bf16_copy(const struct copy *a, const unsigned short *x, unsigned short *y) {
    FOR_RUNS {
        if (PACKED) memcpy(y + RUN_AT(a->y_stride), x + RUN_AT(a->x_stride), (size_t)a->n[5] * sizeof *y);
        else FOR(i, 5) y[TO] = x[FROM];
    }
}

INLINE void bf16_fill_run(const int count, const unsigned short value, unsigned short *y) {
    for (int i = 0; i < count; i++) y[i] = value;
}

INLINE void bf16_fill_naive(const struct fill *a, unsigned short *y) {
    FOR(i0, 0) FOR(i1, 1) FOR(i2, 2)
        for (int i = 0; i < a->count; i++) y[at3(a->y_stride, i0, i1, i2) + i] = bf16_round(a->value);
}
INLINE void bf16_fill(const struct fill *a, unsigned short *y) {
    FOR(i0, 0) FOR(i1, 1) FOR(i2, 2) bf16_fill_run(a->count, bf16_round(a->value), y + at3(a->y_stride, i0, i1, i2));
}

INLINE void bf16_fill_border_naive(const struct fill_border *a, unsigned short *y) {
    const int height = a->top + a->rows + a->bottom, line = (a->left + a->width + a->right) * a->channels;
    for (int n = 0; n < a->images; n++)
    for (int r = 0; r < height; r++)
    for (int i = 0; i < line; i++) {
        const int x = i / a->channels;
        const int inside = r >= a->top && r < a->top + a->rows && x >= a->left && x < a->left + a->width;
        if (!inside) y[((size_t)n * height + r) * line + i] = 0;
    }
}
INLINE void bf16_fill_border(const struct fill_border *a, unsigned short *y) {
    const int height = a->top + a->rows + a->bottom, line = (a->left + a->width + a->right) * a->channels;
    for (int n = 0; n < a->images; n++) {
        unsigned short *image = y + (size_t)n * height * line;
        bf16_fill_run(a->top * line, 0, image);
        for (int r = a->top; r < a->top + a->rows; r++) {
            unsigned short *row = image + (size_t)r * line;
            bf16_fill_run(a->left * a->channels, 0, row);
            bf16_fill_run(a->right * a->channels, 0, row + (a->left + a->width) * a->channels);
        }
        bf16_fill_run(a->bottom * line, 0, image + (size_t)(a->top + a->rows) * line);
    }
}

INLINE void bf16_to_floats_naive(const struct to_floats *a, const unsigned short *x, float *y) {
    EACH_NAIVE(bf16_float);
}
INLINE void bf16_to_floats(const struct to_floats *a, const unsigned short *x, float *y) {
    const int tail = a->n[5] % VL, whole = a->n[5] - tail;
    FOR_RUNS {
        if (PACKED) {
            const unsigned short *p = x + RUN_AT(a->x_stride);
            float *q = y + RUN_AT(a->y_stride);
            for (int i = 0; i < whole; i += VL) store(q + i, bf16_load(p + i, VL));
            if (tail) store_part(q + whole, bf16_load(p + whole, tail), tail);
        } else FOR(i, 5) y[TO] = bf16_float(x[FROM]);
    }
}

INLINE void bf16_from_floats_naive(const struct from_floats *a, const float *x, unsigned short *y) {
    EACH_NAIVE(bf16_round);
}
INLINE void bf16_from_floats(const struct from_floats *a, const float *x, unsigned short *y) {
    const int tail = a->n[5] % VL, whole = a->n[5] - tail;
    FOR_RUNS {
        if (PACKED) {
            const float *p = x + RUN_AT(a->x_stride);
            unsigned short *q = y + RUN_AT(a->y_stride);
            for (int i = 0; i < whole; i += VL) bf16_store(q + i, load(p + i), VL);
            if (tail) bf16_store(q + whole, load_part(p + whole, tail), tail);
        } else FOR(i, 5) y[TO] = bf16_round(x[FROM]);
    }
}
