/* Local response normalisation over channels, as torch.nn.LocalResponseNorm.

     out[n][y][x][c] = in[n][y][x][c] / (bias + alpha / size * sum)^power
     sum               over i < size of in[n][y][x][c - size / 2 + i]^2

   Channels that are not there count as 0. in_... and out_... are floats between neighbouring images, rows, pixels;
   out may be in. `squares` is scratch for the squares of `strip` pixels: each channels rounded up to VL, and size - 1
   more. */

#include "activation.h"

struct local_response_norm {
    int images, rows, width, channels, size, strip;
    float alpha, power, bias;
    int in_image, in_row, in_pixel, out_image, out_row, out_pixel;
};

INLINE void f32_local_response_norm_naive(
    const struct local_response_norm *a, const float *in, float *squares, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++) {
        const float *p = in + (size_t)n * a->in_image + (size_t)y * a->in_row + (size_t)x * a->in_pixel;
        float *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
        for (int c = 0; c < a->channels; c++) squares[c] = p[c] * p[c];
        for (int c = 0; c < a->channels; c++) {
            float total = 0;
            for (int i = c - a->size / 2; i < c - a->size / 2 + a->size; i++)
                if (i >= 0 && i < a->channels) total += squares[i];
            q[c] = p[c] / powf(a->bias + a->alpha / (float)a->size * total, a->power);
        }
    }
}

/* v^-power; nearly every network takes 3/4, and what `bias` keeps off 0 */
INLINE vf lrn_scale(const struct local_response_norm *a, vf v) {
    if (a->power == 0.75f && a->bias >= 1.17549435e-38f && a->alpha >= 0) {
        const vf root = inverse_fourth_root(v);
        return blend((vi)(v == INFINITY), splat(0), root * root * root);
    }
    return vexp(-a->power * vlog(v));
}

INLINE void lrn_vector(
    const struct local_response_norm *a, const int count, const float *in, const float *squares, float *out) {
    vf total = load(squares);
    for (int i = 1; i < a->size; i++) total += load(squares + i);
    const vf scale = lrn_scale(a, a->bias + a->alpha / (float)a->size * total);
    store_part(out, load_part(in, count) * scale, count);
}

/* A pixel's squares lie between zeros, so that the sliding sums need no edges: `size` loads a vector. Such a load spans
   two stores and waits until both have reached the cache: a strip of pixels waits once. */
INLINE void f32_local_response_norm(const struct local_response_norm *a, const float *in, float *squares, float *out) {
    const int rest = a->channels % VL, whole = a->channels - rest;
    const int line = (a->channels + VL - 1) / VL * VL + a->size - 1;
    memset(squares, 0, (size_t)(a->strip * line) * sizeof(float));
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x0 = 0; x0 < a->width; x0 += a->strip) {
        const int x1 = x0 + a->strip < a->width ? x0 + a->strip : a->width;
        const float *p = in + (size_t)n * a->in_image + (size_t)y * a->in_row;
        float *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row;
        for (int x = x0; x < x1; x++) {
            float *s = squares + (x - x0) * line + a->size / 2;
            for (int c = 0; c < a->channels; c++)
                s[c] = p[(size_t)x * a->in_pixel + c] * p[(size_t)x * a->in_pixel + c];
        }
        for (int x = x0; x < x1; x++) {
            const float *v = p + (size_t)x * a->in_pixel, *s = squares + (x - x0) * line;
            float *to = q + (size_t)x * a->out_pixel;
            for (int c = 0; c < whole; c += VL) lrn_vector(a, VL, v + c, s + c, to + c);
            if (rest) lrn_vector(a, rest, v + whole, s + whole, to + whole);
        }
    }
}
