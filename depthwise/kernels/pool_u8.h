/* Means of windows of bytes, which the largest of a window (movement_u8.h) has no need of: a sum is exact. */

#include "elementwise_u8.h"
#include "pool.h"

/* out = requantized(sum over the window's pixels of (in - in_zero), scale), windows as f32_avg_pool has them; where out
   is null, real = the sum times scale. scale[n] is that of a sum which is divided by n, for up to
   kernel_y * kernel_x: by the pixels that lie inside, or (count_padding) inside the input with its padding. */
struct quantized_avg_pool {
    int images, channels, height, width, out_height, out_width, kernel_y, kernel_x, stride_y, stride_x, top, bottom,
        left, right, count_padding, in_image, in_row, in_pixel, out_image, out_row, out_pixel, in_zero;
    struct requantize requantize;
};

INLINE void u8_quantized_avg_pool_naive(
    const struct quantized_avg_pool *a, const unsigned char *in, const float *scale, unsigned char *out, float *real) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++)
    for (int c = 0; c < a->channels; c++) {
        const size_t at = (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c;
        int acc = 0, inside = 0, padded = 0;
        for (int r = 0; r < a->kernel_y; r++)
        for (int s = 0; s < a->kernel_x; s++) {
            const int yy = y * a->stride_y - a->top + r, xx = x * a->stride_x - a->left + s;
            if (yy < a->height + a->bottom && xx < a->width + a->right) padded++;
            if (yy < 0 || yy >= a->height || xx < 0 || xx >= a->width) continue;
            inside++;
            acc += in[(size_t)n * a->in_image + (size_t)yy * a->in_row + (size_t)xx * a->in_pixel + c] - a->in_zero;
        }
        const float factor = scale[a->count_padding ? padded : inside];
        if (out) out[at] = requantize_naive(a->requantize, acc, factor, 0);
        else real[at] = (float)acc * factor;
    }
}

INLINE void u8_quantized_avg_pool(
    const struct quantized_avg_pool *a, const unsigned char *in, const float *scale, unsigned char *out, float *real) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const int yy = y * a->stride_y - a->top, xx = x * a->stride_x - a->left;
        const struct taps r = taps_inside(yy, 1, a->kernel_y, a->height), s = taps_inside(xx, 1, a->kernel_x, a->width);
        const int padded = taps_inside(yy, 1, a->kernel_y, a->height + a->bottom).end *
                           taps_inside(xx, 1, a->kernel_x, a->width + a->right).end;
        const struct quantized_mean window = {
            .images = 1, .rows = r.end - r.first, .width = s.end - s.first, .channels = a->channels,
            .in_row = a->in_row, .in_pixel = a->in_pixel, .in_zero = a->in_zero, .requantize = a->requantize,
            .scale = scale[a->count_padding ? padded : (r.end - r.first) * (s.end - s.first)]};
        const size_t at = (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
        u8_quantized_mean(&window, in + (size_t)n * a->in_image + (size_t)(yy + r.first) * a->in_row +
                          (size_t)(xx + s.first) * a->in_pixel, out ? out + at : 0, out ? 0 : real + at);
    }
}
