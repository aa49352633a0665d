/* Raw images: bytes to floats, in any layout to channels last. */

#include "vector.h"

#if VL == 1
INLINE vf load_bytes(const unsigned char *p) { return (float)*p; }
#else
typedef unsigned char vb __attribute__((vector_size(VL), aligned(1), may_alias));
INLINE vf load_bytes(const unsigned char *p) { return __builtin_convertvector(*(const vb *)p, vf); }
#endif

/* y[n][y][x][c] = x[n][c][y][x], 0 to 255, with all strides in elements; pixels of y are packed. */
struct to_f32 {
    int images, channels, rows, width, x_image, x_channel, x_row, x_pixel, y_image, y_row, y_pixel;
};

INLINE void u8_to_f32_naive(const struct to_f32 *a, const unsigned char *x, float *y) {
    for (int n = 0; n < a->images; n++)
    for (int c = 0; c < a->channels; c++)
    for (int r = 0; r < a->rows; r++)
    for (int i = 0; i < a->width; i++)
        y[(size_t)n * a->y_image + (size_t)r * a->y_row + (size_t)i * a->y_pixel + c] =
            (float)x[(size_t)n * a->x_image + (size_t)c * a->x_channel + (size_t)r * a->x_row + (size_t)i * a->x_pixel];
}

/* a run of `count` neighbours */
INLINE void u8_to_f32_run(const int count, const unsigned char *x, float *y) {
    const int whole = count - count % VL;
    for (int i = 0; i < whole; i += VL) store(y + i, load_bytes(x + i));
    for (int i = whole; i < count; i++) y[i] = (float)x[i];
}

/* Rows that lie as they are wanted are converted a vector at a time, planes are woven pixel by pixel. */
INLINE void u8_to_f32(const struct to_f32 *a, const unsigned char *x, float *y) {
    const int whole_rows =
        (a->channels == 1 || a->x_channel == 1) && a->x_pixel == a->channels && a->y_pixel == a->channels;
    for (int n = 0; n < a->images; n++)
    for (int r = 0; r < a->rows; r++) {
        const unsigned char *from = x + (size_t)n * a->x_image + (size_t)r * a->x_row;
        float *to = y + (size_t)n * a->y_image + (size_t)r * a->y_row;
        if (whole_rows) u8_to_f32_run(a->width * a->channels, from, to);
        else
            for (int i = 0; i < a->width; i++)
                for (int c = 0; c < a->channels; c++)
                    to[(size_t)i * a->y_pixel + c] = (float)from[(size_t)i * a->x_pixel + (size_t)c * a->x_channel];
    }
}
