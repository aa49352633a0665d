/* Images sampled at places that a grid gives, as (x, y) from -1 to 1, channels last.

     out[n][y][x][c]    sum of the pixels around grid[n][y][x] times their weights: 1, 2 x 2 or 4 x 4 of them

   mode                 GRID_BILINEAR, GRID_NEAREST (halves to the even pixel), GRID_BICUBIC (Keys' weights, a = -0.75)
   outside              GRID_ZEROS, GRID_BORDER or GRID_REFLECTION
   align_corners        whether -1 and 1 are the centres of the outermost pixels or their outer edges
   images, channels, out_height, out_width       the output's; in_rows, in_width the input's
   grid_image, grid_row, grid_pixel, grid_axis   floats between neighbours of the grid, and from x to y

   Nothing outside of the plane is read, wherever the grid points. Zeros outside are multiplied by their weights all
   the same, which are not a number where the grid is none: then the sample is none. A border holds such places at 0. */

#include "vector.h"

enum { GRID_BILINEAR, GRID_NEAREST, GRID_BICUBIC };
enum { GRID_ZEROS, GRID_BORDER, GRID_REFLECTION };

struct grid_sample {
    int mode, outside, align_corners, images, channels, out_height, out_width, in_rows, in_width;
    int in_image, in_row, in_pixel, grid_image, grid_row, grid_pixel, grid_axis, out_image, out_row, out_pixel;
};

/* --------------------------------------------------------------------------------------- place by place */

/* the pixels along one axis, whole numbers that may be outside, and their weights */
struct grid_line { int count; float pixel[4], weight[4]; };

/* thrown back and forth between low and low + span */
INLINE float grid_mirror(const float place, const float low, const float span) {
    if (span == 0) return 0;
    const float beyond = fabsf(place - low), turns = floorf(beyond / span), rest = beyond - turns * span;
    return (turns - 2 * floorf(turns / 2) == 0 ? rest : span - rest) + low;
}

INLINE float grid_hold(const struct grid_sample *a, float place, const int size) {
    const float last = (float)(size - 1);
    if (a->outside == GRID_ZEROS) return place;
    if (a->outside == GRID_REFLECTION)
        place = a->align_corners ? grid_mirror(place, 0, last) : grid_mirror(place, -0.5f, (float)size);
    return place > 0 ? place < last ? place : last : 0;
}

INLINE float grid_near(const float x) { return (1.25f * x - 2.25f) * x * x + 1; }
INLINE float grid_far(const float x) { return ((-0.75f * x + 3.75f) * x - 6) * x + 3; }

INLINE struct grid_line grid_find(const struct grid_sample *a, const float at, const int size) {
    const float whole = (float)size;
    float place = a->align_corners ? (at + 1) * 0.5f * (whole - 1) : ((at + 1) * whole - 1) * 0.5f;
    if (a->mode == GRID_BICUBIC) {
        const float low = floorf(place), part = place - low;
        struct grid_line line = {
            4, {0}, {grid_far(part + 1), grid_near(part), grid_near(1 - part), grid_far(2 - part)}};
        for (int i = 0; i < 4; i++) line.pixel[i] = grid_hold(a, low + (float)(i - 1), size);
        return line;
    }
    place = grid_hold(a, place, size);
    if (a->mode == GRID_NEAREST) return (struct grid_line){1, {rintf(place)}, {1}};
    const float low = floorf(place);
    return (struct grid_line){2, {low, low + 1}, {1 - (place - low), place - low}};
}

INLINE void f32_grid_sample_naive(const struct grid_sample *a, const float *in, const float *grid, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const float *at = grid + (size_t)n * a->grid_image + (size_t)y * a->grid_row + (size_t)x * a->grid_pixel;
        const struct grid_line across = grid_find(a, at[0], a->in_width);
        const struct grid_line down = grid_find(a, at[a->grid_axis], a->in_rows);
        for (int c = 0; c < a->channels; c++) {
            float sum = 0;
            for (int i = 0; i < down.count; i++)
            for (int j = 0; j < across.count; j++) {
                const float row = down.pixel[i], pixel = across.pixel[j];
                float value = 0;
                if (row >= 0 && row < (float)a->in_rows && pixel >= 0 && pixel < (float)a->in_width)
                    value = in[(size_t)n * a->in_image + (size_t)row * a->in_row + (size_t)pixel * a->in_pixel + c];
                sum += value * (down.weight[i] * across.weight[j]);
            }
            out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] = sum;
        }
    }
}

#if VL == 1
INLINE void f32_grid_sample(const struct grid_sample *a, const float *in, const float *grid, float *out) {
    f32_grid_sample_naive(a, in, grid, out);
}
#else

/* ----------------------------------------------------------------------------- VL neighbours of a row at once */

/* Whole numbers from 2^23 on are all that there are; below it adding and taking it off rounds, half to even. */
INLINE vf grid_round(const vf v) {
    const vf size = (vf)((vi)v & 0x7fffffff), large = (vf)((vi)splat(8388608) | ((vi)v & (vi)splat(-0.0f)));
    return blend((vi)(size < 8388608.0f), rounded(v + large) - large, v);
}
INLINE vf grid_floor(const vf v) {
    const vf whole = grid_round(v);
    return whole - (vf)((vi)(whole > v) & (vi)splat(1));
}

/* held from 0 to `last`, at 0 where it is not a number */
INLINE vf grid_within(const vf v, const int last) {
    return smaller(blend((vi)(v > 0), v, (vf){0}), splat((float)last));
}

/* The same as grid_mirror, grid_hold, grid_near, grid_far and grid_find. */
INLINE vf grid_mirrors(const vf place, const float low, const float span) {
    if (span == 0) return (vf){0};
    const vf beyond = (vf)((vi)(place - low) & 0x7fffffff), turns = grid_floor(beyond / span);
    const vf rest = beyond - turns * span, odd = turns - 2 * grid_floor(turns / 2);
    return blend((vi)(odd == 0), rest, span - rest) + low;
}

INLINE vf grid_holds(const struct grid_sample *a, vf place, const int size) {
    if (a->outside == GRID_ZEROS) return place;
    if (a->outside == GRID_REFLECTION)
        place = a->align_corners ? grid_mirrors(place, 0, (float)(size - 1)) : grid_mirrors(place, -0.5f, (float)size);
    return grid_within(place, size - 1);
}

INLINE vf grid_nears(const vf x) { return (1.25f * x - 2.25f) * x * x + 1; }
INLINE vf grid_fars(const vf x) { return ((-0.75f * x + 3.75f) * x - 6) * x + 3; }

/* for each place: pixels along one axis, held inside, the bits of those that were there, and the weights of all */
struct grid_lines { int count; vi pixel[4], inside[4]; vf weight[4]; };

INLINE void grid_set(struct grid_lines *lines, const int i, const vf pixel, const vf weight, const int size) {
    lines->inside[i] = (vi)(pixel >= 0) & (vi)(pixel < (float)size);
    lines->pixel[i] = __builtin_convertvector(grid_within(pixel, size - 1), vi);
    lines->weight[i] = weight;
}

INLINE struct grid_lines grid_finds(const struct grid_sample *a, const vf at, const int size) {
    const float whole = (float)size;
    vf place = rounded(a->align_corners ? (at + 1) * 0.5f * (whole - 1) : ((at + 1) * whole - 1) * 0.5f);
    struct grid_lines lines;
    if (a->mode == GRID_BICUBIC) {
        const vf low = grid_floor(place), part = place - low;
        const vf weight[4] = {grid_fars(part + 1), grid_nears(part), grid_nears(1 - part), grid_fars(2 - part)};
        lines.count = 4;
        UNROLL for (int i = 0; i < 4; i++)
            grid_set(&lines, i, grid_holds(a, low + (float)(i - 1), size), weight[i], size);
        return lines;
    }
    place = rounded(grid_holds(a, place, size));
    if (a->mode == GRID_NEAREST) {
        lines.count = 1;
        grid_set(&lines, 0, grid_round(place), splat(1), size);
        return lines;
    }
    const vf low = grid_floor(place), part = place - low;
    lines.count = 2;
    grid_set(&lines, 0, low, 1 - part, size);
    grid_set(&lines, 1, low + 1, part, size);
    return lines;
}

/* for each place: where the pixels around it lie, from the plane's first on, all bits of those that were there, and
   the weights of all */
struct grid_taps { int offset[16][VL], inside[16][VL]; float weight[16][VL]; };

/* `count` channels of the place in lane x */
INLINE void f32_grid_vector(
    const int all, const struct grid_taps *taps, const int x, const int count, const float *in, float *out) {
    vf sum = {0};
    UNROLL for (int t = 0; t < all; t++) {
        const vf value = load_part(in + taps->offset[t][x], count);
        sum += (vf)((vi)value & taps->inside[t][x]) * taps->weight[t][x];
    }
    store_part(out, sum, count);
}

/* Up to FEW channels are quicker one by one: a part of a vector waits for its store. */
enum { FEW = 4 };
INLINE void f32_grid_few(
    const int all, const struct grid_taps *taps, const int x, const int count, const float *in, float *out) {
    float sum[FEW] = {0};
    UNROLL for (int t = 0; t < all; t++) {
        const int inside = taps->inside[t][x];
        const float *p = in + taps->offset[t][x];
        const float weight = taps->weight[t][x];
        UNROLL for (int c = 0; c < count; c++) {
            int bits; /* a choice of two floats would be a jump */
            memcpy(&bits, p + c, sizeof bits);
            bits &= inside;
            float value;
            memcpy(&value, &bits, sizeof value);
            sum[c] += value * weight;
        }
    }
    UNROLL for (int c = 0; c < count; c++) out[c] = sum[c];
}

INLINE void f32_grid_pixel(
    const int all, const struct grid_taps *taps, const int x, const int channels, const float *in, float *out) {
    const int tail = channels % VL, whole = channels - tail;
    for (int c = 0; c < whole; c += VL) f32_grid_vector(all, taps, x, VL, in + c, out + c);
    if (tail > FEW) f32_grid_vector(all, taps, x, tail, in + whole, out + whole);
    else if (tail) f32_grid_few(all, taps, x, tail, in + whole, out + whole);
}

/* `count` places, up to VL, of a row */
INLINE void f32_grid_places(
    const struct grid_sample *a, const int count, const float *in, const float *grid, float *out) {
    float x[VL] = {0}, y[VL] = {0};
    for (int i = 0; i < count; i++) {
        x[i] = grid[(size_t)i * a->grid_pixel];
        y[i] = grid[(size_t)i * a->grid_pixel + a->grid_axis];
    }
    const struct grid_lines across = grid_finds(a, load(x), a->in_width), down = grid_finds(a, load(y), a->in_rows);
    struct grid_taps taps;
    UNROLL for (int i = 0; i < down.count; i++)
        UNROLL for (int j = 0; j < across.count; j++) {
            const int t = i * across.count + j;
            *(vi_anywhere *)taps.offset[t] = down.pixel[i] * a->in_row + across.pixel[j] * a->in_pixel;
            *(vi_anywhere *)taps.inside[t] = down.inside[i] & across.inside[j];
            store(taps.weight[t], down.weight[i] * across.weight[j]);
        }
    const int all = a->mode == GRID_BICUBIC ? 16 : a->mode == GRID_BILINEAR ? 4 : 1;
    for (int i = 0; i < count; i++)
        f32_grid_pixel(all, &taps, i, a->channels, in, out + (size_t)i * a->out_pixel);
}

/* Places and weights are worked out by vectors, once for all channels. Whether a pixel is of the plane is no question
   to jump by, but bits to keep of it: places outside are as quick as others. */
INLINE void f32_grid_sample(const struct grid_sample *a, const float *in, const float *grid, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x += VL) {
        const int left = a->out_width - x;
        f32_grid_places(a, left < VL ? left : VL, in + (size_t)n * a->in_image,
                        grid + (size_t)n * a->grid_image + (size_t)y * a->grid_row + (size_t)x * a->grid_pixel,
                        out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel);
    }
}
#endif
