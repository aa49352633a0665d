/* Bilinear resizing, channels last (nearest is f32_gather of copy.h).

   out[n][y][x][c] is between the input rows low_rows[y] and high_rows[y], given as offsets in floats, `down[y]` of the
   way; and so for columns. The tables hold what align_corners, the given scale and the edges ask for
   (compiler/lowering/movement.py). */

#include "vector.h"

struct resize_bilinear {
    int images, channels, out_height, out_width, in_image, out_image, out_row, out_pixel;
    const int *low_rows, *high_rows, *low_columns, *high_columns;
};

INLINE void f32_resize_bilinear_naive(
    const struct resize_bilinear *a, const float *down, const float *right, const float *in, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        const float *low = in + (size_t)n * a->in_image + a->low_rows[y] + c;
        const float *high = in + (size_t)n * a->in_image + a->high_rows[y] + c;
        const float l = low[a->low_columns[x]] * (1 - down[y]) + high[a->low_columns[x]] * down[y];
        const float r = low[a->high_columns[x]] * (1 - down[y]) + high[a->high_columns[x]] * down[y];
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] =
            l * (1 - right[x]) + r * right[x];
    }
}

/* `lanes` channels between four input pixels */
INLINE void f32_resize_vector(
    const int lanes, const float down, const float right, const float *low_left, const float *low_right,
    const float *high_left, const float *high_right, float *out) {
    const vf l = load_part(low_left, lanes) * (1 - down) + load_part(high_left, lanes) * down;
    const vf r = load_part(low_right, lanes) * (1 - down) + load_part(high_right, lanes) * down;
    store_part(out, l * (1 - right) + r * right, lanes);
}

INLINE void f32_resize_bilinear(
    const struct resize_bilinear *a, const float *down, const float *right, const float *in, float *out) {
    const int tail = a->channels % VL, whole = a->channels - tail;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++) {
        const float *low = in + (size_t)n * a->in_image + a->low_rows[y];
        const float *high = in + (size_t)n * a->in_image + a->high_rows[y];
        for (int x = 0; x < a->out_width; x++) {
            const float *ll = low + a->low_columns[x], *lr = low + a->high_columns[x];
            const float *hl = high + a->low_columns[x], *hr = high + a->high_columns[x];
            float *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
            for (int c = 0; c < whole; c += VL)
                f32_resize_vector(VL, down[y], right[x], ll + c, lr + c, hl + c, hr + c, q + c);
            if (tail)
                f32_resize_vector(tail, down[y], right[x], ll + whole, lr + whole, hl + whole, hr + whole,
                                  q + whole);
        }
    }
}
