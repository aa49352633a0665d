/* Local response normalisation over channels, as torch.nn.LocalResponseNorm. Needs vector.h and activation.h.

     out[n][y][x][c] = in[n][y][x][c] / (bias + alpha / size * sum)^power
     sum               over i < size of in[n][y][x][c - size / 2 + i]^2

   Channels that are not there count as 0. in_... and out_... are floats between neighbouring images, rows, pixels;
   out may be in. `squares` is scratch for the squares of `strip` pixels: each channels rounded up to VL, and size - 1
   more. */

#include "activation.h"

INLINE void f32_local_response_norm_naive(
    const int images, const int rows, const int width, const int channels, const int size, const int strip,
    const float alpha, const float power, const float bias, const int in_image, const int in_row, const int in_pixel,
    const int out_image, const int out_row, const int out_pixel, const float *in, float *squares, float *out) {
    (void)strip;
    for (int n = 0; n < images; n++)
    for (int y = 0; y < rows; y++)
    for (int x = 0; x < width; x++) {
        const float *p = in + (size_t)n * in_image + (size_t)y * in_row + (size_t)x * in_pixel;
        float *q = out + (size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel;
        for (int c = 0; c < channels; c++) squares[c] = p[c] * p[c];
        for (int c = 0; c < channels; c++) {
            float total = 0;
            for (int i = c - size / 2; i < c - size / 2 + size; i++)
                if (i >= 0 && i < channels) total += squares[i];
            q[c] = p[c] / powf(bias + alpha / (float)size * total, power);
        }
    }
}

/* v^power; 3/4, which nearly every network takes, is two square roots */
INLINE vf lrn_power(vf v, const float power) {
    if (power == 0.75f) {
        const vf root = vsqrt(v);
        return root * vsqrt(root);
    }
    return vexp(power * vlog(v));
}

INLINE void lrn_vector(
    const int count, const int size, const float alpha, const float power, const float bias, const float *in,
    const float *squares, float *out) {
    vf total = load(squares);
    for (int i = 1; i < size; i++) total += load(squares + i);
    store_part(out, load_part(in, count) / lrn_power(bias + alpha / (float)size * total, power), count);
}

/* A pixel's squares lie between zeros, so that the sliding sums need no edges: `size` loads a vector. Such a load spans
   two stores and waits until both have reached the cache: a strip of pixels waits once. */
INLINE void f32_local_response_norm(
    const int images, const int rows, const int width, const int channels, const int size, const int strip,
    const float alpha, const float power, const float bias, const int in_image, const int in_row,
    const int in_pixel, const int out_image, const int out_row, const int out_pixel, const float *in,
    float *squares, float *out) {
    const int rest = channels % VL, whole = channels - rest, line = (channels + VL - 1) / VL * VL + size - 1;
    memset(squares, 0, (size_t)(strip * line) * sizeof(float));
    for (int n = 0; n < images; n++)
    for (int y = 0; y < rows; y++)
    for (int x0 = 0; x0 < width; x0 += strip) {
        const int x1 = x0 + strip < width ? x0 + strip : width;
        const float *p = in + (size_t)n * in_image + (size_t)y * in_row;
        float *q = out + (size_t)n * out_image + (size_t)y * out_row;
        for (int x = x0; x < x1; x++) {
            float *s = squares + (x - x0) * line + size / 2;
            for (int c = 0; c < channels; c++) s[c] = p[(size_t)x * in_pixel + c] * p[(size_t)x * in_pixel + c];
        }
        for (int x = x0; x < x1; x++) {
            const float *v = p + (size_t)x * in_pixel, *s = squares + (x - x0) * line;
            float *to = q + (size_t)x * out_pixel;
            for (int c = 0; c < whole; c += VL) lrn_vector(VL, size, alpha, power, bias, v + c, s + c, to + c);
            if (rest) lrn_vector(rest, size, alpha, power, bias, v + whole, s + whole, to + whole);
        }
    }
}
