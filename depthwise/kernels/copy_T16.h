/* Moving numbers of 16 bits about, and between it and floats, with the numbers of copy.h and convert.h. */

#include "lanes_T16.h"
#include "convert.h"
#include "copy.h"

INLINE void T16_copy_naive(const struct copy *a, const unsigned short *x, unsigned short *y) {
    FOR_RUNS FOR(i, 5) y[TO] = x[FROM];
}
INLINE void T16_copy(const struct copy *a, const unsigned short *x, unsigned short *y) {
    FOR_RUNS {
        if (PACKED) memcpy(y + RUN_AT(a->y_stride), x + RUN_AT(a->x_stride), (size_t)a->n[5] * sizeof *y);
        else FOR(i, 5) y[TO] = x[FROM];
    }
}

INLINE void T16_fill_run(const int count, const unsigned short value, unsigned short *y) {
    for (int i = 0; i < count; i++) y[i] = value;
}

INLINE void T16_fill_naive(const struct fill *a, unsigned short *y) {
    FOR(i0, 0) FOR(i1, 1) FOR(i2, 2)
        for (int i = 0; i < a->count; i++) y[at3(a->y_stride, i0, i1, i2) + i] = T16_round(a->value);
}
INLINE void T16_fill(const struct fill *a, unsigned short *y) {
    FOR(i0, 0) FOR(i1, 1) FOR(i2, 2) T16_fill_run(a->count, T16_round(a->value), y + at3(a->y_stride, i0, i1, i2));
}

INLINE void T16_fill_border_naive(const struct fill_border *a, unsigned short *y) {
    const int height = a->top + a->rows + a->bottom, line = (a->left + a->width + a->right) * a->channels;
    for (int n = 0; n < a->images; n++)
    for (int r = 0; r < height; r++)
    for (int i = 0; i < line; i++) {
        const int x = i / a->channels;
        const int inside = r >= a->top && r < a->top + a->rows && x >= a->left && x < a->left + a->width;
        if (!inside) y[((size_t)n * height + r) * line + i] = 0;
    }
}
INLINE void T16_fill_border(const struct fill_border *a, unsigned short *y) {
    const int height = a->top + a->rows + a->bottom, line = (a->left + a->width + a->right) * a->channels;
    for (int n = 0; n < a->images; n++) {
        unsigned short *image = y + (size_t)n * height * line;
        T16_fill_run(a->top * line, 0, image);
        for (int r = a->top; r < a->top + a->rows; r++) {
            unsigned short *row = image + (size_t)r * line;
            T16_fill_run(a->left * a->channels, 0, row);
            T16_fill_run(a->right * a->channels, 0, row + (a->left + a->width) * a->channels);
        }
        T16_fill_run(a->bottom * line, 0, image + (size_t)(a->top + a->rows) * line);
    }
}

INLINE void T16_to_floats_naive(const struct to_floats *a, const unsigned short *x, float *y) {
    EACH_NAIVE(T16_float);
}
INLINE void T16_to_floats(const struct to_floats *a, const unsigned short *x, float *y) {
    const int tail = a->n[5] % VL, whole = a->n[5] - tail;
    FOR_RUNS {
        if (PACKED) {
            const unsigned short *p = x + RUN_AT(a->x_stride);
            float *q = y + RUN_AT(a->y_stride);
            for (int i = 0; i < whole; i += VL) store(q + i, T16_load(p + i, VL));
            if (tail) store_part(q + whole, T16_load(p + whole, tail), tail);
        } else FOR(i, 5) y[TO] = T16_float(x[FROM]);
    }
}

INLINE void T16_from_floats_naive(const struct from_floats *a, const float *x, unsigned short *y) {
    EACH_NAIVE(T16_round);
}
INLINE void T16_from_floats(const struct from_floats *a, const float *x, unsigned short *y) {
    const int tail = a->n[5] % VL, whole = a->n[5] - tail;
    FOR_RUNS {
        if (PACKED) {
            const float *p = x + RUN_AT(a->x_stride);
            unsigned short *q = y + RUN_AT(a->y_stride);
            for (int i = 0; i < whole; i += VL) T16_store(q + i, load(p + i), VL);
            if (tail) T16_store(q + whole, load_part(p + whole, tail), tail);
        } else FOR(i, 5) y[TO] = T16_round(x[FROM]);
    }
}

/* Images with an odd number of channels, rounded, with a channel of zeros after them: y is channels last, y_pixel
   apart, x has any strides. Three planes that lie row by row, as those of colours, are woven a vector at a time. */
INLINE void T16_pairs_from_floats_naive(const struct pairs_from_floats *a, const float *x, unsigned short *y) {
    for (int n = 0; n < a->images; n++)
    for (int r = 0; r < a->rows; r++)
    for (int i = 0; i < a->width; i++)
    for (int c = 0; c <= a->channels; c++) {
        const float *p = x + (size_t)n * a->x_image + (size_t)r * a->x_row + (size_t)i * a->x_pixel;
        y[(size_t)n * a->y_image + (size_t)r * a->y_row + (size_t)i * a->y_pixel + c] =
            c < a->channels ? T16_round(p[(size_t)c * a->x_channel]) : 0;
    }
}

/* `count` pixels of a row */
INLINE void T16_pairs_run(
    const struct pairs_from_floats *a, const int count, const float *x, unsigned short *y) {
    for (int i = 0; i < count; i++)
        for (int c = 0; c <= a->channels; c++)
            y[(size_t)i * a->y_pixel + c] =
                c < a->channels ? T16_round(x[(size_t)i * a->x_pixel + (size_t)c * a->x_channel]) : 0;
}

/* VL pixels of three planes */
INLINE void T16_weave(const struct pairs_from_floats *a, const float *x, unsigned short *y) {
#if VL == 1
    T16_pairs_run(a, 1, x, y);
#else
    const vu red = T16_lower(load(x)), green = T16_lower(load(x + a->x_channel)) << 16;
    const vf front = of_bits(red | green), back = of_bits(T16_lower(load(x + 2 * (size_t)a->x_channel)));
    int low[VL], high[VL];
    UNROLL for (int i = 0; i < VL; i++) low[i] = i / 2 + i % 2 * VL, high[i] = VL / 2 + low[i];
    store((float *)(void *)y, pick(front, back, low));
    store((float *)(void *)(y + 2 * VL), pick(front, back, high));
#endif
}

INLINE void T16_pairs_from_floats(const struct pairs_from_floats *a, const float *x, unsigned short *y) {
    const int woven = a->channels == 3 && a->x_pixel == 1 && a->y_pixel == 4, whole = woven ? a->width / VL * VL : 0;
    for (int n = 0; n < a->images; n++)
    for (int r = 0; r < a->rows; r++) {
        const float *p = x + (size_t)n * a->x_image + (size_t)r * a->x_row;
        unsigned short *q = y + (size_t)n * a->y_image + (size_t)r * a->y_row;
        for (int i = 0; i < whole; i += VL) T16_weave(a, p + i, q + (size_t)i * 4);
        T16_pairs_run(a, a->width - whole, p + (size_t)whole * a->x_pixel, q + (size_t)whole * a->y_pixel);
    }
}
