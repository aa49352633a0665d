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

/* the pixels along one axis, whole numbers that may be outside, and their weights */
struct grid_line { int count; float pixel[4], weight[4]; };
/* the pixels of the plane around one place: where they lie, and their weights; what those outside add */
struct grid_taps { int count, offset[16]; float weight[16], outside; };

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

/* whether both ends of a line of pixels are inside: all of them, then, but where they are held one by one */
INLINE int grid_inside(const struct grid_line line, const int size) {
    return line.pixel[0] >= 0 && line.pixel[line.count - 1] < (float)size;
}

/* both lines around a place; whether all their pixels are of the plane */
struct grid_cross { struct grid_line across, down; int all; };
INLINE struct grid_cross grid_cross(const struct grid_sample *a, const float *at) {
    const struct grid_line across = grid_find(a, at[0], a->in_width), down = grid_find(a, at[a->grid_axis], a->in_rows);
    const int held = a->mode == GRID_BICUBIC && a->outside != GRID_ZEROS;
    return (struct grid_cross){
        across, down, held || (grid_inside(across, a->in_width) && grid_inside(down, a->in_rows))};
}

/* a loop of a known length and no questions, so that a compiler keeps all of it in registers */
INLINE struct grid_taps grid_whole(const struct grid_sample *a, const struct grid_cross *c) {
    struct grid_taps taps;
    taps.count = c->down.count * c->across.count;
    taps.outside = 0;
    UNROLL for (int i = 0; i < c->down.count; i++)
        UNROLL for (int j = 0; j < c->across.count; j++) {
            const int t = i * c->across.count + j;
            taps.offset[t] = (int)c->down.pixel[i] * a->in_row + (int)c->across.pixel[j] * a->in_pixel;
            taps.weight[t] = c->down.weight[i] * c->across.weight[j];
        }
    return taps;
}

INLINE struct grid_taps grid_part(const struct grid_sample *a, const struct grid_cross *c) {
    struct grid_taps taps;
    taps.count = 0;
    taps.outside = 0;
    UNROLL for (int i = 0; i < c->down.count; i++)
        UNROLL for (int j = 0; j < c->across.count; j++) {
            const float row = c->down.pixel[i], pixel = c->across.pixel[j];
            const float weight = c->down.weight[i] * c->across.weight[j];
            if (row >= 0 && row < (float)a->in_rows && pixel >= 0 && pixel < (float)a->in_width) {
                taps.offset[taps.count] = (int)row * a->in_row + (int)pixel * a->in_pixel;
                taps.weight[taps.count++] = weight;
            } else taps.outside += 0 * weight;
        }
    return taps;
}

INLINE void f32_grid_sample_naive(const struct grid_sample *a, const float *in, const float *grid, float *out) {
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const struct grid_cross cross = grid_cross(
            a, grid + (size_t)n * a->grid_image + (size_t)y * a->grid_row + (size_t)x * a->grid_pixel);
        const struct grid_taps taps = cross.all ? grid_whole(a, &cross) : grid_part(a, &cross);
        for (int c = 0; c < a->channels; c++) {
            float sum = taps.outside;
            for (int t = 0; t < taps.count; t++)
                sum += in[(size_t)n * a->in_image + (size_t)taps.offset[t] + c] * taps.weight[t];
            out[(size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel + c] = sum;
        }
    }
}

INLINE void f32_grid_vector(
    const int count, const struct grid_taps *taps, const int lanes, const float *in, float *out) {
    vf sum = splat(taps->outside);
    for (int t = 0; t < count; t++) sum += load_part(in + taps->offset[t], lanes) * taps->weight[t];
    store_part(out, sum, lanes);
}

/* Up to FEW channels are quicker one by one: a part of a vector waits for its store. 3 take 6 ns in place of 20. */
enum { FEW = 4 };
INLINE void f32_grid_pixel(
    const int count, const struct grid_taps *taps, const int channels, const float *in, float *out) {
    const int tail = channels % VL, whole = channels - tail;
    for (int c = 0; c < whole; c += VL) f32_grid_vector(count, taps, VL, in + c, out + c);
    if (tail > FEW) f32_grid_vector(count, taps, tail, in + whole, out + whole);
    else
        for (int c = whole; c < channels; c++) {
            float sum = taps->outside;
            for (int t = 0; t < count; t++) sum += in[taps->offset[t] + c] * taps->weight[t];
            out[c] = sum;
        }
}

/* A place and its weights are worked out once for all channels; that all its pixels are inside, as most are, is a loop
   of a known length. */
INLINE void f32_grid_sample(const struct grid_sample *a, const float *in, const float *grid, float *out) {
    const int all = a->mode == GRID_BICUBIC ? 16 : a->mode == GRID_BILINEAR ? 4 : 1;
    for (int n = 0; n < a->images; n++)
    for (int y = 0; y < a->out_height; y++)
    for (int x = 0; x < a->out_width; x++) {
        const struct grid_cross cross = grid_cross(
            a, grid + (size_t)n * a->grid_image + (size_t)y * a->grid_row + (size_t)x * a->grid_pixel);
        const float *p = in + (size_t)n * a->in_image;
        float *q = out + (size_t)n * a->out_image + (size_t)y * a->out_row + (size_t)x * a->out_pixel;
        if (cross.all) {
            const struct grid_taps taps = grid_whole(a, &cross);
            f32_grid_pixel(all, &taps, a->channels, p, q);
        } else {
            const struct grid_taps taps = grid_part(a, &cross);
            f32_grid_pixel(taps.count, &taps, a->channels, p, q);
        }
    }
}
