/* Bytes that stand for numbers (bytes.h), element by element: made of floats and turned into them, brought to another
   scale, added, multiplied, looked up; and sums over planes.

     images, rows, width, channels   the output's; channels of a pixel lie side by side
     in_..., sum_..., out_...        elements from one image, row and pixel to the next */

#include "woven_u8.h"

#define UP_TO(i, count) for (int i = 0; i < a->count; i++)
#define EACH_PIXEL UP_TO(n, images) UP_TO(y, rows) UP_TO(x, width)
#define PIXEL(name) ((size_t)n * a->name##_image + (size_t)y * a->name##_row + (size_t)x * a->name##_pixel)

/* out = clamp(round(x / scale) + zero, 0, 255), ties to even; what is no number becomes 0. x has any strides. Of up to
   four channels the rest of a pixel of four bytes is set to 0: then a store is a vector of pixels. */
struct quantize {
    int images, rows, width, channels, in_image, in_channel, in_row, in_pixel, out_image, out_row, out_pixel, zero;
    float scale;
};

INLINE unsigned char quantized(const float x, const float scale, const int zero) {
    const float steps = x / scale;
    if (!(steps >= (float)-zero)) return 0;
    return (unsigned char)(steps > (float)(255 - zero) ? 255 : (int)rintf(steps) + zero);
}

INLINE void u8_quantize_naive(const struct quantize *a, const float *in, unsigned char *out) {
    EACH_PIXEL for (int c = 0; c < a->channels; c++)
        out[PIXEL(out) + c] = quantized(in[PIXEL(in) + (size_t)c * a->in_channel], a->scale, a->zero);
    if (a->channels > 4 || a->out_pixel != 4) return;
    EACH_PIXEL for (int c = a->channels; c < 4; c++) out[PIXEL(out) + c] = 0;
}

/* x / scale, rounded once, for quotients up to 512: the product with the reciprocal is corrected twice by what it
   leaves over, which a multiply-add gives exactly (Markstein, IBM Journal of Research and Development 34, 1990). A
   division takes an Intel Xeon as long as 32 multiply-adds. */
#if VL > 1 && defined(__clang__) && (defined(__FMA__) || defined(__aarch64__))
INLINE vf in_steps(const vf x, const float scale) {
    if (scale < 0x1p-80f || scale > 0x1p80f) return x / splat(scale);
    const vf step = splat(scale), inverse = splat(1.0f / scale), near = x * inverse;
    const vf nearer = __builtin_elementwise_fma(__builtin_elementwise_fma(-near, step, x), inverse, near);
    return __builtin_elementwise_fma(__builtin_elementwise_fma(-nearer, step, x), inverse, nearer);
}
#else
INLINE vf in_steps(const vf x, const float scale) { return x / splat(scale); }
#endif

/* bytes as whole numbers */
INLINE vi vquantized(const vf x, const float scale, const int zero) {
    const struct requantize to = {.zero = zero, .low = 0, .high = 255};
    const vf most = splat(512 * scale), number = blend((vi)(x > -most), x, -most); /* what is none is -most */
    return round_to_bounds(in_steps(smaller(number, most), scale), to);
}

INLINE void u8_quantize_row(const struct quantize *a, const float *in, unsigned char *out) {
#if VL > 1
    if (a->channels <= 4 && a->out_pixel == 4 && a->in_pixel == 1) {
        const int whole = a->width - a->width % VL;
        for (int x = 0; x < whole; x += VL) {
            vi four = {0};
            for (int c = 0; c < a->channels; c++)
                four |= vquantized(load(in + (size_t)c * a->in_channel + x), a->scale, a->zero) << c * 8;
            memcpy(out + x * 4, &four, sizeof four);
        }
        for (int x = whole; x < a->width; x++)
            for (int c = 0; c < 4; c++)
                out[x * 4 + c] =
                    c < a->channels ? quantized(in[(size_t)c * a->in_channel + x], a->scale, a->zero) : 0;
        return;
    }
#endif
    for (int x = 0; x < a->width; x++, in += a->in_pixel, out += a->out_pixel) {
        const int whole = a->in_channel == 1 ? a->channels - a->channels % VL : 0;
        for (int c = 0; c < whole; c += VL) store_vbyte(out + c, narrowed(vquantized(load(in + c), a->scale, a->zero)));
        for (int c = whole; c < a->channels; c++)
            out[c] = quantized(in[(size_t)c * a->in_channel], a->scale, a->zero);
        if (a->channels <= 4 && a->out_pixel == 4)
            for (int c = a->channels; c < 4; c++) out[c] = 0;
    }
}
INLINE void u8_quantize(const struct quantize *a, const float *in, unsigned char *out) {
    for (int n = 0; n < a->images; n++)
        for (int y = 0; y < a->rows; y++)
            u8_quantize_row(a, in + (size_t)n * a->in_image + (size_t)y * a->in_row,
                            out + (size_t)n * a->out_image + (size_t)y * a->out_row);
}

/* y = (x - zero) * scale over six axes of n elements */
struct dequantize {
    int n[6], x_stride[6], y_stride[6], zero;
    float scale;
};

INLINE void u8_dequantize_naive(const struct dequantize *a, const unsigned char *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
    for (int i5 = 0; i5 < a->n[5]; i5++)
        y[at6(a->y_stride, i0, i1, i2, i3, i4, i5)] =
            (float)(x[at6(a->x_stride, i0, i1, i2, i3, i4, i5)] - a->zero) * a->scale;
}
INLINE void u8_dequantize(const struct dequantize *a, const unsigned char *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++) {
        const unsigned char *p = x + at5(a->x_stride, i0, i1, i2, i3, i4);
        float *q = y + at5(a->y_stride, i0, i1, i2, i3, i4);
        const int packed = a->x_stride[5] == 1 && a->y_stride[5] == 1;
        const int whole = packed ? a->n[5] - a->n[5] % VL : 0;
        for (int i = 0; i < whole; i += VL) store(q + i, to_floats(widened(load_vbyte(p + i)) - a->zero) * a->scale);
        for (int i = whole; i < a->n[5]; i++)
            q[(size_t)i * a->y_stride[5]] = (float)(p[(size_t)i * a->x_stride[5]] - a->zero) * a->scale;
    }
}

/* out = table[in], of 256 bytes */
struct lookup {
    int images, rows, width, channels, in_image, in_row, in_pixel, out_image, out_row, out_pixel;
};

INLINE void u8_lookup_naive(
    const struct lookup *a, const unsigned char *in, const unsigned char *table, unsigned char *out) {
    EACH_PIXEL for (int c = 0; c < a->channels; c++) out[PIXEL(out) + c] = table[in[PIXEL(in) + c]];
}

#if VL == 16 && defined(__AVX512VBMI__) && defined(WOVEN)
/* 64 at once: those of the lower half of the table, and of the upper one where the byte's highest bit says so */
INLINE all_u8 looked_up(const unsigned char *table, const all_u8 v) {
    masked_s8 quarter[4];
    memcpy(quarter, table, 256);
    const masked_s8 low = __builtin_ia32_vpermi2varqi512(quarter[0], (masked_s8)v, quarter[1]);
    const masked_s8 high = __builtin_ia32_vpermi2varqi512(quarter[2], (masked_s8)v, quarter[3]);
    return (all_u8)__builtin_ia32_selectb_512(__builtin_ia32_cvtb2mask512((masked_s8)v), high, low);
}
INLINE void u8_lookup_run(const int count, const unsigned char *in, const unsigned char *table, unsigned char *out) {
    const struct woven_bytes b = {count < 64 ? count : 64, 1};
    const int end = count - b.count; /* from there on the last are read first: `in` may be `out` */
    const all_u8 last = looked_up(table, load_woven(in + end, b, 0));
    for (int i = 0; i < end; i += 64) store_woven(out + i, looked_up(table, load_woven(in + i, b, 0)), b, 0);
    store_woven(out + end, last, b, 0);
}
#elif VL >= 8 && defined(WOVEN)
/* A shuffle looks 16 entries up, and gives 0 where the place has its highest bit. Of each half of the table, from part
   to part a place is 16 less: a part gives something until the place is below 0, and is stored as what it changes, so
   that the sum of all that a place passes over is the entry of the last one. */
typedef char plain_bytes __attribute__((vector_size(VL * 4)));
typedef signed char signed_bytes __attribute__((vector_size(VL * 4)));
INLINE all_u8 shuffled(const all_u8 part, const all_u8 v) {
#if VL == 16
    return (all_u8)__builtin_ia32_pshufb512((plain_bytes)part, (plain_bytes)v);
#else
    return (all_u8)__builtin_ia32_pshufb256((plain_bytes)part, (plain_bytes)v);
#endif
}
INLINE void u8_lookup_parts(const unsigned char *table, all_u8 parts[16]) {
    UNROLL for (int i = 15; i >= 0; i--) {
        UNROLL for (int lane = 0; lane < VL * 4; lane += 16)
            memcpy((unsigned char *)(parts + i) + lane, table + 16 * i, 16);
        if (i % 8 < 7) parts[i + 1] ^= parts[i];
    }
}
INLINE all_u8 looked_up(const all_u8 parts[16], const all_u8 v) {
    all_u8 low = {0}, high = {0}, below = v, above = v ^ (unsigned char)128;
    UNROLL for (int i = 0; i < 8; i++) {
        low ^= shuffled(parts[i], below), high ^= shuffled(parts[8 + i], above);
        below -= (unsigned char)16, above -= (unsigned char)16;
    }
    const all_u8 upper = (all_u8)((signed_bytes)v < 0);
    return (high & upper) | (low & ~upper);
}
INLINE void u8_lookup_run(const int count, const unsigned char *in, const unsigned char *table, unsigned char *out) {
    const struct woven_bytes b = {VL * 4, 1};
    if (count < VL * 4) {
        for (int i = 0; i < count; i++) out[i] = table[in[i]];
        return;
    }
    all_u8 parts[16];
    u8_lookup_parts(table, parts);
    const int end = count - VL * 4; /* from there on the last are read first: `in` may be `out` */
    const all_u8 last = looked_up(parts, load_woven(in + end, b, 0));
    for (int i = 0; i < end; i += VL * 4) store_woven(out + i, looked_up(parts, load_woven(in + i, b, 0)), b, 0);
    store_woven(out + end, last, b, 0);
}
#else
INLINE void u8_lookup_run(const int count, const unsigned char *in, const unsigned char *table, unsigned char *out) {
    for (int i = 0; i < count; i++) out[i] = table[in[i]];
}
#endif

INLINE void u8_lookup(
    const struct lookup *a, const unsigned char *in, const unsigned char *table, unsigned char *out) {
    const int packed = a->in_pixel == a->channels && a->out_pixel == a->channels;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < (packed ? 1 : a->width); x++)
        u8_lookup_run(packed ? a->width * a->channels : a->channels, in + PIXEL(in), table, out + PIXEL(out));
}

/* out = requantized(in - in_zero, scale, sum): at another scale, or a sum; `sum` is null where nothing is added */
struct rescale {
    int images, rows, width, channels, in_image, in_row, in_pixel, sum_image, sum_row, sum_pixel;
    int out_image, out_row, out_pixel, in_zero;
    float scale;
    struct requantize requantize;
};

INLINE void u8_rescale_naive(
    const struct rescale *a, const unsigned char *in, const unsigned char *sum, unsigned char *out) {
    EACH_PIXEL for (int c = 0; c < a->channels; c++)
        out[PIXEL(out) + c] = requantize_naive(a->requantize, in[PIXEL(in) + c] - a->in_zero, a->scale,
                                               a->requantize.add ? sum[PIXEL(sum) + c] : 0);
}

INLINE void u8_rescale_some(
    const struct rescale *a, const int count, const unsigned char *in, const unsigned char *sum, unsigned char *out) {
    const vbyte other = a->requantize.add ? load_some_bytes(sum, count) : (vbyte){0};
    const vi acc = widened(load_some_bytes(in, count)) - a->in_zero;
    store_some_bytes(out, requantized(a->requantize, acc, splat(a->scale), other), count);
}
INLINE void u8_rescale_run(
    const struct rescale *a, const int count, const unsigned char *in, const unsigned char *sum, unsigned char *out) {
    const int tail = count % VL, whole = count - tail;
    for (int i = 0; i < whole; i += VL) u8_rescale_some(a, VL, in + i, a->requantize.add ? sum + i : 0, out + i);
    if (tail) u8_rescale_some(a, tail, in + whole, a->requantize.add ? sum + whole : 0, out + whole);
}
INLINE void u8_rescale(
    const struct rescale *a, const unsigned char *in, const unsigned char *sum, unsigned char *out) {
    const int packed = a->in_pixel == a->channels && a->out_pixel == a->channels &&
                       (!a->requantize.add || a->sum_pixel == a->channels);
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->rows; y++)
    for (int x = 0; x < (packed ? 1 : a->width); x++)
        u8_rescale_run(a, packed ? a->width * a->channels : a->channels, in + PIXEL(in),
                       a->requantize.add ? sum + PIXEL(sum) : 0, out + PIXEL(out));
}

/* out = requantized((in - in_zero) * (factor - factor_zero), scale): factor_row and factor_pixel are 0 for a gate,
   which has one factor a channel */
struct quantized_multiply {
    int images, rows, width, channels, in_image, in_row, in_pixel, factor_image, factor_row, factor_pixel;
    int out_image, out_row, out_pixel, in_zero, factor_zero;
    float scale;
    struct requantize requantize;
};

INLINE void u8_quantized_multiply_naive(
    const struct quantized_multiply *a, const unsigned char *in, const unsigned char *factor, unsigned char *out) {
    EACH_PIXEL for (int c = 0; c < a->channels; c++)
        out[PIXEL(out) + c] = requantize_naive(
            a->requantize, (in[PIXEL(in) + c] - a->in_zero) * (factor[PIXEL(factor) + c] - a->factor_zero),
            a->scale, 0);
}

INLINE void u8_multiply_some(
    const struct quantized_multiply *a, const int count, const unsigned char *in, const unsigned char *factor,
    unsigned char *out) {
    const vf left = to_floats(widened(load_some_bytes(in, count)) - a->in_zero);
    const vf right = to_floats(widened(load_some_bytes(factor, count)) - a->factor_zero);
    const vf product = rounded(left * right) * a->scale; /* of two numbers of 9 bits: exact */
    store_some_bytes(out, round_to_bytes(product, a->requantize), count);
}

#if defined(WOVEN)
/* as many channels as a vector has bytes, or fewer, of all pixels of an image, by a factor each: pairs of the input and
   its zero are multiplied by pairs of the factor and its opposite */
INLINE void u8_gate_channels(
    const struct quantized_multiply *a, const int count, const unsigned char *in, const unsigned char *factor,
    unsigned char *out) {
    const struct woven_bytes b = {count, 1};
    const all_u8 factors = load_woven(factor, b, 0), zero = (all_u8){0} + (unsigned char)a->in_zero;
    vi pairs[4];
    weave_pair(factors, factors, pairs);
    UNROLL for (int q = 0; q < 4; q++)
        pairs[q] = (vi)(((all_s16)pairs[q] - (short)a->factor_zero) * (all_s16)((vi){0} - 0xffff));
    for (int y = 0; y < a->rows; y++)
        for (int x = 0; x < a->width; x++) {
            vi v[4];
            weave_pair(load_woven(in + (size_t)y * a->in_row + (size_t)x * a->in_pixel, b, 0), zero, v);
            UNROLL for (int q = 0; q < 4; q++)
                v[q] = rounded_to_ints(to_floats(add_pairs((all_s16)v[q], (all_s16)pairs[q])) * a->scale);
            store_woven(out + (size_t)y * a->out_row + (size_t)x * a->out_pixel, packed_bytes(a->requantize, v), b, 0);
        }
}
/* the channels that it does, from the first on */
INLINE int u8_gate(
    const struct quantized_multiply *a, const unsigned char *in, const unsigned char *factor, unsigned char *out) {
    const int rest = a->channels % WOVEN_CHANNELS, whole = a->channels - rest, all = VL == 16 ? a->channels : whole;
    for (int n = 0; n < a->images; n++) {
        const unsigned char *p = in + (size_t)n * a->in_image, *f = factor + (size_t)n * a->factor_image;
        unsigned char *q = out + (size_t)n * a->out_image;
        for (int c = 0; c < whole; c += WOVEN_CHANNELS) u8_gate_channels(a, WOVEN_CHANNELS, p + c, f + c, q + c);
        if (all > whole) u8_gate_channels(a, rest, p + whole, f + whole, q + whole);
    }
    return all;
}
#endif

INLINE void u8_quantized_multiply(
    const struct quantized_multiply *a, const unsigned char *in, const unsigned char *factor, unsigned char *out) {
    const int tail = a->channels % VL, whole = a->channels - tail;
    int done = 0;
#if defined(WOVEN)
    if (!a->factor_row && !a->factor_pixel) done = u8_gate(a, in, factor, out);
#endif
    if (done == a->channels) return;
    EACH_PIXEL {
        const unsigned char *p = in + PIXEL(in), *f = factor + PIXEL(factor);
        unsigned char *q = out + PIXEL(out);
        for (int c = done; c < whole; c += VL) u8_multiply_some(a, VL, p + c, f + c, q + c);
        if (tail) u8_multiply_some(a, tail, p + whole, f + whole, q + whole);
    }
}

/* out = requantized(sum over all pixels of (in - in_zero), scale), one number an image and channel; where out is null,
   real = the sum times scale. A plane has fewer than 2^15 pixels: its sums are exact as floats, too. */
struct quantized_mean {
    int images, rows, width, channels, in_image, in_row, in_pixel, out_image, in_zero;
    float scale;
    struct requantize requantize;
};

INLINE void u8_quantized_mean_naive(
    const struct quantized_mean *a, const unsigned char *in, unsigned char *out, float *real) {
    for (int n = 0; n < a->images; n++)
    for (int c = 0; c < a->channels; c++) {
        int acc = -a->rows * a->width * a->in_zero;
        for (int y = 0; y < a->rows; y++)
        for (int x = 0; x < a->width; x++) acc += in[PIXEL(in) + c];
        if (out) out[(size_t)n * a->out_image + c] = requantize_naive(a->requantize, acc, a->scale, 0);
        else real[(size_t)n * a->out_image + c] = (float)acc * a->scale;
    }
}

INLINE void u8_mean_some(
    const struct quantized_mean *a, const int count, const unsigned char *in, unsigned char *out, float *real) {
    vi acc = (vi){0} - a->rows * a->width * a->in_zero;
    for (int y = 0; y < a->rows; y++)
        for (int x = 0; x < a->width; x++)
            acc += widened(load_some_bytes(in + (size_t)y * a->in_row + (size_t)x * a->in_pixel, count));
    if (out) store_some_bytes(out, requantized(a->requantize, acc, splat(a->scale), (vbyte){0}), count);
    else store_part(real, to_floats(acc) * a->scale, count);
}
INLINE void u8_quantized_mean(
    const struct quantized_mean *a, const unsigned char *in, unsigned char *out, float *real) {
    const int tail = a->channels % VL, whole = a->channels - tail;
    for (int n = 0; n < a->images; n++) {
        const unsigned char *p = in + (size_t)n * a->in_image;
        const size_t at = (size_t)n * a->out_image;
        for (int c = 0; c < whole; c += VL) u8_mean_some(a, VL, p + c, out ? out + at + c : 0, out ? 0 : real + at + c);
        if (tail) u8_mean_some(a, tail, p + whole, out ? out + at + whole : 0, out ? 0 : real + at + whole);
    }
}
