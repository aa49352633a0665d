/* Deformable convolution: a convolution whose taps lie where predicted offsets move them.

     position t      y * stride_y - pad_y + r * dilation_y + offsets[n][y][x][j][t].y,    t = r * kernel_x + s,
                     x * stride_x - pad_x + s * dilation_x + offsets[n][y][x][j][t].x
     sample[t][c]    mask[n][y][x][j][t] * in[n][position t][c], bilinear, where pixels outside of the plane are 0
     out[g][k]       epilogue(bias[g][k] + sum over t, c of sample[t][g][c] * w[g][t][c][k], sum[n][y][x][g][k])

     images, rows, width          the output's; in_rows, in_width the input's
     channels, outs, groups       as in f32_conv: channels and outs are those of one group
     offset_groups                j: channels of the input in this many equal runs, each with its own positions
     strip_rows, strip_width      output pixels that are sampled before they are convolved; rows only together with
                                  the whole width
     tile_pixels, tile_vectors, weights_outer, in_..., out_..., sum_..., epilogue, w, bias, sum as in f32_conv with a
                                  tile_depth of 1, but in_row and in_pixel are floats between neighbours of the input
     offsets, mask                pixels of [j][t][y, x] and of [j][t]; mask may be null, then it is 1
     columns                      scratch: strip_rows * strip_width * column floats
     column                       floats between the samples of neighbouring pixels, at least all taps * channels
     taps                         where each tap's samples lie in a column: t * groups * channels

   The input needs no border: nothing outside of the plane is read, wherever an offset points. Offsets that are not
   a number point outside. */

#include "conv.h"

struct deform_conv {
    int images, rows, width, in_rows, in_width, kernel_y, kernel_x, channels, outs, groups, offset_groups;
    int stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
    int strip_rows, strip_width, tile_pixels, tile_vectors, weights_outer;
    int in_image, in_row, in_pixel, offset_image, offset_row, offset_pixel, mask_image, mask_row, mask_pixel;
    int out_image, out_row, out_pixel, sum_image, sum_row, sum_pixel, column;
    struct epilogue epilogue;
    const int *taps;
};

/* where tap r, s of output pixel y, x lies before its offset */
INLINE float deform_y(const struct deform_conv *a, const int y, const int r) {
    return (float)(y * a->stride_y - a->pad_y + r * a->dilation_y);
}
INLINE float deform_x(const struct deform_conv *a, const int x, const int s) {
    return (float)(x * a->stride_x - a->pad_x + s * a->dilation_x);
}

/* one channel between pixels, of which `in` is at (0, 0) */
INLINE float deform_value(const struct deform_conv *a, const float y, const float x, const float *in) {
    const float top = floorf(y), left = floorf(x), down = y - top, right = x - left;
    float value = 0;
    for (int i = 0; i < 2; i++)
    for (int j = 0; j < 2; j++) {
        const float row = top + (float)i, pixel = left + (float)j;
        if (row >= 0 && row < (float)a->in_rows && pixel >= 0 && pixel < (float)a->in_width)
            value += (i ? down : 1 - down) * (j ? right : 1 - right)
                     * in[(size_t)row * a->in_row + (size_t)pixel * a->in_pixel];
    }
    return value;
}

INLINE void f32_deform_conv_naive(
    const struct deform_conv *a, const float *in, const float *w, const float *bias, const float *offsets,
    const float *mask, const float *sum, float *columns, float *out) {
    const int all = a->kernel_y * a->kernel_x, run = a->groups * a->channels / a->offset_groups;
    const int padded = (a->outs + VL - 1) / VL * VL, block = a->tile_vectors * VL;
    (void)columns;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < a->width; x++)
    for (int g = 0; g < a->groups; g++)
    for (int k = 0; k < a->outs; k++) {
        const int first = k / block * block; /* of the block that holds k */
        const int wide = padded - first < block ? padded - first : block;
        const float *wk = w + (size_t)(g * padded + first) * all * a->channels + (k - first);
        const float *o =
            offsets + (size_t)n * a->offset_image + (size_t)y * a->offset_row + (size_t)x * a->offset_pixel;
        float acc = bias[g * padded + k];
        for (int t = 0; t < all; t++)
        for (int c = 0; c < a->channels; c++) {
            const int channel = g * a->channels + c, at = channel / run * all + t;
            float value = deform_value(a, deform_y(a, y, t / a->kernel_x) + o[2 * at],
                                       deform_x(a, x, t % a->kernel_x) + o[2 * at + 1],
                                       in + (size_t)n * a->in_image + channel);
            if (mask)
                value *= mask[(size_t)n * a->mask_image + (size_t)y * a->mask_row + (size_t)x * a->mask_pixel + at];
            acc += value * wk[(t * a->channels + c) * wide];
        }
        const float *s = sum + (size_t)n * a->sum_image + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel;
        out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + g * a->outs + k]
            = epilogue(a->epilogue, acc, a->epilogue.add ? s[g * a->outs + k] : 0);
    }
}

/* `count` channels between four pixels, `row` and `pixel` floats apart, of which p is the upper left */
INLINE void deform_blend(
    const int count, const int row, const int pixel, const float *p, const float *weights, float *out) {
    vf v = load_part(p, count) * weights[0];
    v += load_part(p + pixel, count) * weights[1];
    v += load_part(p + row, count) * weights[2];
    v += load_part(p + row + pixel, count) * weights[3];
    store_part(out, v, count);
}

/* The samples of `count` channels at one position, times `mask`. Most positions have all four pixels in the plane;
   at its edges those outside are left out rather than multiplied by zero, which would turn infinity into NaN. */
INLINE void deform_sample(
    const struct deform_conv *a, const int count, const float y, const float x, const float mask, const float *in,
    float *out) {
    const int whole = count - count % VL;
    if (!(y > -1 && y < (float)a->in_rows && x > -1 && x < (float)a->in_width)) {
        memset(out, 0, (size_t)count * sizeof(float));
        return;
    }
    const int top = (int)floorf(y), left = (int)floorf(x);
    const float down = y - (float)top, right = x - (float)left, upper = mask * (1 - down), lower = mask * down;
    const float weights[4] = {upper * (1 - right), upper * right, lower * (1 - right), lower * right};
    if (top >= 0 && left >= 0 && top + 1 < a->in_rows && left + 1 < a->in_width) {
        const float *p = in + (size_t)top * a->in_row + (size_t)left * a->in_pixel;
        for (int c = 0; c < whole; c += VL) deform_blend(VL, a->in_row, a->in_pixel, p + c, weights, out + c);
        if (count > whole) deform_blend(count - whole, a->in_row, a->in_pixel, p + whole, weights, out + whole);
        return;
    }
    memset(out, 0, (size_t)count * sizeof(float));
    for (int corner = 0; corner < 4; corner++) {
        const int row = top + corner / 2, pixel = left + corner % 2;
        if (row < 0 || row >= a->in_rows || pixel < 0 || pixel >= a->in_width) continue;
        const float *p = in + (size_t)row * a->in_row + (size_t)pixel * a->in_pixel;
        for (int c = 0; c < whole; c += VL) store(out + c, load(out + c) + load(p + c) * weights[corner]);
        if (count > whole)
            store_part(out + whole, load_part(out + whole, count - whole)
                       + load_part(p + whole, count - whole) * weights[corner], count - whole);
    }
}

/* The samples of rows x width output pixels from y0, x0 on: [pixel][tap][channel]. A position and its four weights
   are worked out once for all channels of an offset group. */
INLINE void f32_deform_columns(
    const struct deform_conv *a, const int rows, const int width, const int y0, const int x0, const float *in,
    const float *offsets, const float *mask, float *columns) {
    const int taps = a->kernel_y * a->kernel_x, all = a->groups * a->channels;
    const int run = all / a->offset_groups;
    for (int y = y0; y < y0 + rows; y++)
    for (int x = x0; x < x0 + width; x++, columns += a->column) {
        const float *o = offsets + (size_t)y * a->offset_row + (size_t)x * a->offset_pixel;
        for (int j = 0; j < a->offset_groups; j++)
        for (int t = 0; t < taps; t++) {
            const int at = j * taps + t;
            const float factor = mask ? mask[(size_t)y * a->mask_row + (size_t)x * a->mask_pixel + at] : 1;
            deform_sample(a, run, deform_y(a, y, t / a->kernel_x) + o[2 * at],
                          deform_x(a, x, t % a->kernel_x) + o[2 * at + 1], factor, in + j * run,
                          columns + t * all + j * run);
        }
    }
}

/* one image's strip of rows x width pixels: samples, then their convolution as one row if the output has no gaps */
INLINE void f32_deform_strip(
    const struct deform_conv *a, const int rows, const int width, const int y, const int x, const float *in,
    const float *w, const float *bias, const float *offsets, const float *mask, const float *sum, float *columns,
    float *out) {
    const int long_row = a->out_row == width * a->out_pixel && (!a->epilogue.add || a->sum_row == width * a->sum_pixel);
    const struct conv c = {
        .images = 1, .rows = long_row ? 1 : rows, .width = long_row ? rows * width : width,
        .taps = a->kernel_y * a->kernel_x, .channels = a->channels, .outs = a->outs, .groups = a->groups,
        .tile_pixels = a->tile_pixels, .tile_vectors = a->tile_vectors, .tile_depth = 1,
        .weights_outer = a->weights_outer, .w_taps = a->kernel_y * a->kernel_x, .w_run = a->kernel_y * a->kernel_x,
        .in_row = width * a->column, .in_pixel = a->column, .out_row = a->out_row, .out_pixel = a->out_pixel,
        .sum_row = a->sum_row, .sum_pixel = a->sum_pixel, .epilogue = a->epilogue, .offsets = a->taps};
    f32_deform_columns(a, rows, width, y, x, in, offsets, mask, columns);
    f32_conv(&c, columns, w, bias, f32_conv_sum(&c, sum, 0, y, x), 0,
             out + (size_t)y * a->out_row + (size_t)x * a->out_pixel);
}

INLINE void f32_deform_conv(
    const struct deform_conv *a, const float *in, const float *w, const float *bias, const float *offsets,
    const float *mask, const float *sum, float *columns, float *out) {
    const int rest_rows = a->rows % a->strip_rows, whole_rows = a->rows - rest_rows;
    const int rest = a->width % a->strip_width, whole = a->width - rest;
    for (int n = 0; n < a->images; n++) {
        const float *p = in + (size_t)n * a->in_image, *o = offsets + (size_t)n * a->offset_image;
        const float *m = mask ? mask + (size_t)n * a->mask_image : 0;
        const float *s = a->epilogue.add ? sum + (size_t)n * a->sum_image : 0;
        float *q = out + (size_t)n * a->out_image;
        for (int y = 0; y < whole_rows; y += a->strip_rows) {
            for (int x = 0; x < whole; x += a->strip_width)
                f32_deform_strip(a, a->strip_rows, a->strip_width, y, x, p, w, bias, o, m, s, columns, q);
            if (rest) f32_deform_strip(a, a->strip_rows, rest, y, whole, p, w, bias, o, m, s, columns, q);
        }
        if (rest_rows)
            f32_deform_strip(a, rest_rows, a->width, whole_rows, 0, p, w, bias, o, m, s, columns, q);
    }
}
