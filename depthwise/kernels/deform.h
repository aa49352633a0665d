/* Deformable convolution: a convolution whose taps lie where predicted offsets move them. Needs vector.h,
   activation.h and conv.h.

     position t      y * stride_y - pad_y + r * dilation_y + offsets[n][y][x][j][t].y,    t = r * kernel_x + s,
                     x * stride_x - pad_x + s * dilation_x + offsets[n][y][x][j][t].x
     sample[t][c]    mask[n][y][x][j][t] * in[n][position t][c], bilinear, where pixels outside of the plane are 0
     out[g][k]       epilogue(bias[g][k] + sum over t, c of sample[t][g][c] * w[g][t][c][k], sum[n][y][x][g][k])

     images, rows, width          the output's; in_rows, in_width the input's
     channels, outs, groups       as in f32_conv: channels and outs are those of one group
     offset_groups                j: channels of the input in this many equal runs, each with its own positions
     strip_rows, strip_width      output pixels that are sampled before they are convolved; rows only together with
                                  the whole width
     tile_pixels, tile_vectors, panel_outer, in_..., out_..., sum_..., e, w, bias, sum       as in f32_conv with a
                                  tile_depth of 1, but in_row and in_pixel are floats between neighbours of the input
     offsets, mask                pixels of [j][t][y, x] and of [j][t]; mask may be null, then it is 1
     columns                      scratch: strip_rows * strip_width * column floats
     column                       floats between the samples of neighbouring pixels, at least all taps * channels
     taps                         where each tap's samples lie in a column: t * groups * channels

   The input needs no border: nothing outside of the plane is read, wherever an offset points. Offsets that are not
   a number point outside. */

struct f32_deform {
    int in_rows, in_width, in_row, in_pixel, kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y,
        dilation_x;
    int channels; /* of all groups */
    int offset_groups, offset_row, offset_pixel, mask_row, mask_pixel, column;
};

/* where tap r, s of output pixel y, x lies before its offset */
INLINE float deform_y(const struct f32_deform d, const int y, const int r) {
    return (float)(y * d.stride_y - d.pad_y + r * d.dilation_y);
}
INLINE float deform_x(const struct f32_deform d, const int x, const int s) {
    return (float)(x * d.stride_x - d.pad_x + s * d.dilation_x);
}

/* one channel between pixels, of which `in` is at (0, 0) */
INLINE float deform_value(const struct f32_deform d, const float y, const float x, const float *in) {
    const float top = floorf(y), left = floorf(x), down = y - top, right = x - left;
    float value = 0;
    for (int i = 0; i < 2; i++)
    for (int j = 0; j < 2; j++) {
        const float row = top + (float)i, pixel = left + (float)j;
        if (row >= 0 && row < (float)d.in_rows && pixel >= 0 && pixel < (float)d.in_width)
            value += (i ? down : 1 - down) * (j ? right : 1 - right)
                     * in[(size_t)row * d.in_row + (size_t)pixel * d.in_pixel];
    }
    return value;
}

INLINE void f32_deform_conv_naive(
    const int images, const int rows, const int width, const int in_rows, const int in_width, const int kernel_y,
    const int kernel_x, const int channels, const int outs, const int groups, const int offset_groups,
    const int stride_y, const int stride_x, const int pad_y, const int pad_x, const int dilation_y,
    const int dilation_x, const int strip_rows, const int strip_width, const int tile_pixels,
    const int tile_vectors, const int panel_outer, const int in_image, const int in_row, const int in_pixel,
    const int offset_image, const int offset_row, const int offset_pixel, const int mask_image,
    const int mask_row, const int mask_pixel, const int out_image, const int out_row, const int out_pixel,
    const int sum_image, const int sum_row, const int sum_pixel, const int column, const struct epilogue e,
    const int *taps, const float *in, const float *w, const float *bias, const float *offsets, const float *mask,
    const float *sum, float *columns, float *out) {
    const struct f32_deform d = {in_rows,  in_width, in_row,     in_pixel,   kernel_y,          kernel_x,
                                 stride_y, stride_x, pad_y,      pad_x,      dilation_y,        dilation_x,
                                 groups * channels,  offset_groups, offset_row, offset_pixel, mask_row, mask_pixel,
                                 column};
    const int all = kernel_y * kernel_x, run = groups * channels / offset_groups;
    const int padded = (outs + VL - 1) / VL * VL, block = tile_vectors * VL;
    (void)strip_rows, (void)strip_width, (void)tile_pixels, (void)panel_outer, (void)taps, (void)columns;
    for (int n = 0; n < images; n++)
    for (int y = 0; y < rows; y++)
    for (int x = 0; x < width; x++)
    for (int g = 0; g < groups; g++)
    for (int k = 0; k < outs; k++) {
        const int first = k / block * block; /* of the block that holds k */
        const int wide = padded - first < block ? padded - first : block;
        const float *wk = w + (size_t)(g * padded + first) * all * channels + (k - first);
        const float *o = offsets + (size_t)n * offset_image + (size_t)y * offset_row + (size_t)x * offset_pixel;
        float acc = bias[g * padded + k];
        for (int t = 0; t < all; t++)
        for (int c = 0; c < channels; c++) {
            const int channel = g * channels + c, at = channel / run * all + t;
            float value = deform_value(d, deform_y(d, y, t / kernel_x) + o[2 * at],
                                       deform_x(d, x, t % kernel_x) + o[2 * at + 1],
                                       in + (size_t)n * in_image + channel);
            if (mask) value *= mask[(size_t)n * mask_image + (size_t)y * mask_row + (size_t)x * mask_pixel + at];
            acc += value * wk[(t * channels + c) * wide];
        }
        const float *s = sum + (size_t)n * sum_image + (size_t)y * sum_row + (size_t)x * sum_pixel + g * outs + k;
        out[(size_t)n * out_image + (size_t)y * out_row + (size_t)x * out_pixel + g * outs + k]
            = epilogue(e, acc, e.add ? *s : 0);
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
    const struct f32_deform d, const int count, const float y, const float x, const float mask, const float *in,
    float *out) {
    const int whole = count - count % VL;
    if (!(y > -1 && y < (float)d.in_rows && x > -1 && x < (float)d.in_width)) {
        memset(out, 0, (size_t)count * sizeof(float));
        return;
    }
    const int top = (int)floorf(y), left = (int)floorf(x);
    const float down = y - (float)top, right = x - (float)left, upper = mask * (1 - down), lower = mask * down;
    const float weights[4] = {upper * (1 - right), upper * right, lower * (1 - right), lower * right};
    if (top >= 0 && left >= 0 && top + 1 < d.in_rows && left + 1 < d.in_width) {
        const float *p = in + (size_t)top * d.in_row + (size_t)left * d.in_pixel;
        for (int c = 0; c < whole; c += VL) deform_blend(VL, d.in_row, d.in_pixel, p + c, weights, out + c);
        if (count > whole) deform_blend(count - whole, d.in_row, d.in_pixel, p + whole, weights, out + whole);
        return;
    }
    memset(out, 0, (size_t)count * sizeof(float));
    for (int corner = 0; corner < 4; corner++) {
        const int row = top + corner / 2, pixel = left + corner % 2;
        if (row < 0 || row >= d.in_rows || pixel < 0 || pixel >= d.in_width) continue;
        const float *p = in + (size_t)row * d.in_row + (size_t)pixel * d.in_pixel;
        for (int c = 0; c < whole; c += VL) store(out + c, load(out + c) + load(p + c) * weights[corner]);
        if (count > whole)
            store_part(out + whole, load_part(out + whole, count - whole)
                       + load_part(p + whole, count - whole) * weights[corner], count - whole);
    }
}

/* The samples of rows x width output pixels from y0, x0 on: [pixel][tap][channel]. A position and its four weights
   are worked out once for all channels of an offset group. */
INLINE void f32_deform_columns(
    const struct f32_deform d, const int rows, const int width, const int y0, const int x0, const float *in,
    const float *offsets, const float *mask, float *columns) {
    const int taps = d.kernel_y * d.kernel_x, run = d.channels / d.offset_groups;
    for (int y = y0; y < y0 + rows; y++)
    for (int x = x0; x < x0 + width; x++, columns += d.column) {
        const float *o = offsets + (size_t)y * d.offset_row + (size_t)x * d.offset_pixel;
        for (int j = 0; j < d.offset_groups; j++)
        for (int t = 0; t < taps; t++) {
            const int at = j * taps + t;
            const float factor = mask ? mask[(size_t)y * d.mask_row + (size_t)x * d.mask_pixel + at] : 1;
            deform_sample(d, run, deform_y(d, y, t / d.kernel_x) + o[2 * at],
                          deform_x(d, x, t % d.kernel_x) + o[2 * at + 1], factor, in + j * run,
                          columns + t * d.channels + j * run);
        }
    }
}

/* one image's strip of rows x width pixels: samples, then their convolution as one row if the output has no gaps */
INLINE void f32_deform_strip(
    const struct f32_deform d, const struct f32_conv a, const int rows, const int width, const int groups,
    const int panel_outer, const int y, const int x, const float *in, const float *w, const float *bias,
    const float *offsets, const float *mask, const float *sum, float *columns, float *out) {
    const int long_row = a.out_row == width * a.out_pixel && (!a.e.add || a.sum_row == width * a.sum_pixel);
    f32_deform_columns(d, rows, width, y, x, in, offsets, mask, columns);
    f32_conv(1, long_row ? 1 : rows, long_row ? rows * width : width, a.taps, a.channels, a.outs, groups,
             a.tile_pixels, a.tile_vectors, a.tile_depth, panel_outer, 0, 0, width * d.column, d.column, 0,
             a.out_row, a.out_pixel, 0, a.sum_row, a.sum_pixel, a.e, a.offsets, columns, w, bias,
             f32_conv_sum(a, sum, 0, y, x), out + (size_t)y * a.out_row + (size_t)x * a.out_pixel);
}

INLINE void f32_deform_conv(
    const int images, const int rows, const int width, const int in_rows, const int in_width, const int kernel_y,
    const int kernel_x, const int channels, const int outs, const int groups, const int offset_groups,
    const int stride_y, const int stride_x, const int pad_y, const int pad_x, const int dilation_y,
    const int dilation_x, const int strip_rows, const int strip_width, const int tile_pixels,
    const int tile_vectors, const int panel_outer, const int in_image, const int in_row, const int in_pixel,
    const int offset_image, const int offset_row, const int offset_pixel, const int mask_image,
    const int mask_row, const int mask_pixel, const int out_image, const int out_row, const int out_pixel,
    const int sum_image, const int sum_row, const int sum_pixel, const int column, const struct epilogue e,
    const int *taps, const float *in, const float *w, const float *bias, const float *offsets, const float *mask,
    const float *sum, float *columns, float *out) {
    const struct f32_deform d = {in_rows,  in_width, in_row,     in_pixel,   kernel_y,          kernel_x,
                                 stride_y, stride_x, pad_y,      pad_x,      dilation_y,        dilation_x,
                                 groups * channels,  offset_groups, offset_row, offset_pixel, mask_row, mask_pixel,
                                 column};
    const struct f32_conv a = {kernel_y * kernel_x, channels, outs, tile_pixels, tile_vectors, 1, 0, 0, 0, 0, 0,
                               out_row, out_pixel, 0, sum_row, sum_pixel, e, taps};
    const int rest_rows = rows % strip_rows, whole_rows = rows - rest_rows;
    const int rest = width % strip_width, whole = width - rest;
    for (int n = 0; n < images; n++) {
        const float *p = in + (size_t)n * in_image, *o = offsets + (size_t)n * offset_image;
        const float *m = mask ? mask + (size_t)n * mask_image : 0;
        const float *s = e.add ? sum + (size_t)n * sum_image : 0;
        float *q = out + (size_t)n * out_image;
        for (int y = 0; y < whole_rows; y += strip_rows) {
            for (int x = 0; x < whole; x += strip_width)
                f32_deform_strip(d, a, strip_rows, strip_width, groups, panel_outer, y, x, p, w, bias, o, m, s,
                                 columns, q);
            if (rest)
                f32_deform_strip(d, a, strip_rows, rest, groups, panel_outer, y, whole, p, w, bias, o, m, s,
                                 columns, q);
        }
        if (rest_rows)
            f32_deform_strip(d, a, rest_rows, width, groups, panel_outer, whole_rows, 0, p, w, bias, o, m, s,
                             columns, q);
    }
}
