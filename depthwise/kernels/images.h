/* Raw images: bytes to floats, in any layout to channels last. After vector.h. */

#include "vector.h"

typedef unsigned char vb __attribute__((vector_size(VL), aligned(1), may_alias));

/* y[n][y][x][c] = x[n][c][y][x], 0 to 255, with all strides in elements; pixels of y are packed. */
INLINE void u8_to_f32_naive(
    const int images, const int channels, const int rows, const int width, const int x_image,
    const int x_channel, const int x_row, const int x_pixel, const int y_image, const int y_row,
    const int y_pixel, const unsigned char *x, float *y) {
    for (int n = 0; n < images; n++)
    for (int c = 0; c < channels; c++)
    for (int r = 0; r < rows; r++)
    for (int i = 0; i < width; i++)
        y[(size_t)n * y_image + (size_t)r * y_row + (size_t)i * y_pixel + c] =
            (float)x[(size_t)n * x_image + (size_t)c * x_channel + (size_t)r * x_row + (size_t)i * x_pixel];
}

/* a run of `count` neighbours */
INLINE void u8_to_f32_run(const int count, const unsigned char *x, float *y) {
    const int whole = count - count % VL;
    for (int i = 0; i < whole; i += VL) store(y + i, __builtin_convertvector(*(const vb *)(x + i), vf));
    for (int i = whole; i < count; i++) y[i] = (float)x[i];
}

/* Rows that lie as they are wanted are converted a vector at a time, planes are woven pixel by pixel. */
INLINE void u8_to_f32(
    const int images, const int channels, const int rows, const int width, const int x_image,
    const int x_channel, const int x_row, const int x_pixel, const int y_image, const int y_row,
    const int y_pixel, const unsigned char *x, float *y) {
    const int whole_rows = (channels == 1 || x_channel == 1) && x_pixel == channels && y_pixel == channels;
    for (int n = 0; n < images; n++)
    for (int r = 0; r < rows; r++) {
        const unsigned char *from = x + (size_t)n * x_image + (size_t)r * x_row;
        float *to = y + (size_t)n * y_image + (size_t)r * y_row;
        if (whole_rows) u8_to_f32_run(width * channels, from, to);
        else
            for (int i = 0; i < width; i++)
                for (int c = 0; c < channels; c++)
                    to[(size_t)i * y_pixel + c] = (float)from[(size_t)i * x_pixel + (size_t)c * x_channel];
    }
}
