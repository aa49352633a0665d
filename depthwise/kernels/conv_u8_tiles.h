/* Convolution of bytes in the tiles of AMX: conv_u8.h says what it computes.

   A block is two tiles of 16 pixels x two of 16 outputs, four tiles of sums. Three blocks are under way at once, since
   the way of a tile to its reader is long and the core sees some 500 instructions ahead: while the products of one
   begin, tile by tile the sums of the one before go to memory, and a few rows at a time of the one before that become
   bytes. All pass one room of 4 KB: of two, 4 KB apart, each load would wait for a store as far away, as far as the
   core can tell. */

#include "conv_u8_common.h"
#include "tiles.h"

#if defined(U8_PACKED) && VL == 16 && defined(__AMX_INT8__)
#define U8_TILES

/* Where the pixels of a block lie in out and sum, the same for all its outputs: -1 where it stores none, since another
   block does, or it lies between rows. */
struct u8_places {
    int out[32], sum[32];
};

/* A block whose sums are under way: pixels of a run from `start` on; `all` of them are stored, side by side, where
   there are no places. */
struct u8_block {
    const unsigned char *sum;
    unsigned char *out;
    float *real;
    const float *scale;
    const struct u8_places *places;
    int start, pixels, count;
};
struct u8_blocks {
    int room[32 * 32] __attribute__((aligned(64)));
    unsigned char nowhere[64];
    struct u8_block *last[2], blocks[2]; /* the block before, and the one before it */
    struct u8_places places[4]; /* of blocks under way, by turns */
    int turn;
    const signed char *next; /* the weights to come */
};

/* the places of pixels of a run from `start` on, of which those before `first` another block has done */
INLINE const struct u8_places *u8_tiles_places(
    const struct quantized_conv *a, struct u8_blocks *s, const int start, const int first, const int pixels) {
    struct u8_places *p = s->places + (s->turn = (s->turn + 1) % 4);
    int row = a->pitch ? start / a->pitch : 0, x = a->pitch ? start % a->pitch : start;
    for (int i = 0; i < 32; i++) {
        const int stored = i >= first && i < pixels && (!a->pitch || x < a->width);
        p->out[i] = stored ? row * a->out_row + x * a->out_pixel : -1;
        p->sum[i] = stored ? row * a->sum_row + x * a->sum_pixel : 0;
        if (++x == a->pitch) x = 0, row++;
    }
    return p;
}

/* where pixel i of a block goes */
INLINE unsigned char *u8_tiles_out(
    const struct quantized_conv *a, struct u8_blocks *s, const struct u8_block b, const int i, const int all) {
    if (all) return b.out + (size_t)(b.start + i) * a->out_pixel;
    return b.places->out[i] < 0 ? s->nowhere : b.out + b.places->out[i];
}

INLINE vf u8_tiles_rescaled(
    const struct quantized_conv *a, const struct u8_block b, const int i, const int v, const int count, const int all,
    const vf scale, const int *row) {
    const size_t at = all ? (size_t)(b.start + i) * a->sum_pixel : (size_t)b.places->sum[i];
    return u8_quantized_conv_rescaled(
        a, load_ints(row + v * VL), v, count, scale, u8_quantized_conv_sum(a, b.sum, at));
}

/* eight rows of a block from x on, of `count` outputs */
INLINE void u8_tiles_rows(
    const struct quantized_conv *a, struct u8_blocks *s, const struct u8_block b, const int x, const int count,
    const int all) {
    const vf low = load(b.scale), high = load(b.scale + VL);
    for (int i = x; i < x + 8; i += 2) {
        const int *r = s->room + i * 32, *t = r + 32;
        if (!all && b.places->out[i] < 0 && b.places->out[i + 1] < 0) continue;
        store_packed(
            a->requantize, count, u8_tiles_rescaled(a, b, i, 0, count, all, low, r),
            u8_tiles_rescaled(a, b, i, 1, count, all, high, r), u8_tiles_rescaled(a, b, i + 1, 0, count, all, low, t),
            u8_tiles_rescaled(a, b, i + 1, 1, count, all, high, t), u8_tiles_out(a, s, b, i, all),
            u8_tiles_out(a, s, b, i + 1, all));
    }
}

INLINE void u8_tiles_real(
    const struct quantized_conv *a, const struct u8_blocks *s, const struct u8_block b, const int x, const int count) {
    for (int i = x; i < x + 8; i++) {
        if (b.places && b.places->out[i] < 0) continue;
        float *to = b.real + (b.places ? (size_t)b.places->out[i] : (size_t)(b.start + i) * a->out_pixel);
        const int *r = s->room + i * 32;
        store_part(to, to_floats(load_ints(r)) * load(b.scale), count < VL ? count : VL);
        if (count > VL) store_part(to + VL, to_floats(load_ints(r + VL)) * load(b.scale + VL), count - VL);
    }
}

/* eight rows of a block from x on become bytes, or `floats` */
INLINE void u8_tiles_finish(
    const struct quantized_conv *a, struct u8_blocks *s, const int floats, const struct u8_block *from, const int x) {
    const struct u8_block b = *from;
    if (x >= b.pixels) return;
    const int rest = a->outs % 32;
    if (floats && b.count == 32) u8_tiles_real(a, s, b, x, 32);
    else if (floats) u8_tiles_real(a, s, b, x, rest ? rest : 32);
    else if (b.count == 32 && !b.places) u8_tiles_rows(a, s, b, x, 32, 1);
    else if (b.count == 32) u8_tiles_rows(a, s, b, x, 32, 0);
    else if (rest && !b.places) u8_tiles_rows(a, s, b, x, rest, 1);
    else if (rest) u8_tiles_rows(a, s, b, x, rest, 0);
}

/* before the first products of tile T: the sums that lie there leave, the bias comes, from rows 0 bytes apart */
#define U8_TURN(T) STORE_TILE(T, s->room + (T & 2) * 256 + (T & 1) * 16, 128); LOAD_TILE(T, bias + (T & 1) * 16, 0)

/* the products of a block of one tile of pixels or two (`down`), one of outputs or two (`wide`) */
INLINE void u8_tiles_products(
    const struct quantized_conv *a, struct u8_blocks *s, const int floats, const int down, const int wide,
    const unsigned char *one, const unsigned char *two, const signed char *w, const int *bias) {
    const int fours = u8_quantized_conv_fours(a), depth = fours < 16 ? fours : 16, steps = fours / depth;
    const size_t apart = (size_t)a->in_pixel;
    for (int t = 0; t < a->taps; t++)
        for (int i = 0; i < steps; i++, w += depth * 128) {
            const int last = a->channels > 64 && i == steps - 1; /* which ends with the channels */
            const int c = a->offsets[t] + (last ? a->channels - 64 : 64 * i);
            const int begins = t == 0 && i == 0;
            LOAD_TILE(4, one + c, apart);
            LOAD_TILE(6, w, 128);
            if (begins) {
                u8_tiles_finish(a, s, floats, s->last[1], 8);
                U8_TURN(0);
            }
            MULTIPLY_U8(0, 4, 6);
            if (wide) LOAD_TILE(7, w + 64, 128);
            if (begins) {
                u8_tiles_finish(a, s, floats, s->last[1], 16);
                U8_TURN(1);
            }
            if (wide) MULTIPLY_U8(1, 4, 7);
            if (down > 1) LOAD_TILE(5, two + c, apart);
            if (begins) {
                u8_tiles_finish(a, s, floats, s->last[1], 24);
                U8_TURN(2);
            }
            if (down > 1) MULTIPLY_U8(2, 5, 6);
            if (begins) {
                U8_TURN(3);
                u8_tiles_finish(a, s, floats, s->last[0], 0);
            }
            if (down > 1 && wide) MULTIPLY_U8(3, 5, 7);
        }
}

/* What a run of pixels reads and writes: a row, or an image whose rows follow each other. */
struct u8_run {
    const unsigned char *in, *sum;
    unsigned char *out;
    float *real;
};

/* `count` outputs from k on of one or two tiles of pixels of a run (`down`) */
INLINE void u8_tiles_block(
    const struct quantized_conv *a, struct u8_blocks *s, const struct u8_run r, const struct u8_block *pixels,
    const int down, const int wide, const int count, const int k, const signed char *w, const int *bias,
    const float *scale) {
    const size_t panel = (size_t)a->taps * u8_quantized_conv_fours(a) * 128;
    const unsigned char *one = r.in + (size_t)pixels->start * a->in_pixel;
    for (int i = 0; i < a->prefetch_lines; i++, s->next += 64) PREFETCH(s->next, 2); /* reads nothing, wherever it is */
    u8_tiles_products(a, s, !r.out, down, wide, one, one + (size_t)16 * a->in_pixel, w + (size_t)(k / 32) * panel,
                      bias + k);
    struct u8_block *b = s->last[1]; /* which is done */
    s->last[1] = s->last[0], s->last[0] = b;
    b->sum = r.sum ? r.sum + k : 0, b->out = r.out ? r.out + k : 0, b->real = r.real ? r.real + k : 0;
    b->scale = scale + k, b->places = pixels->places;
    b->start = pixels->start, b->pixels = pixels->pixels, b->count = count;
}

/* the outputs from `from` up to `to` of the tiles of pixels from number t on, one or two, of a run of `run` pixels */
INLINE void u8_tiles_pixels(
    const struct quantized_conv *a, struct u8_blocks *s, const struct u8_run r, const int run, const int t,
    const int down, const int from, const int to, const signed char *w, const int *bias, const float *scale) {
    const int rest = (to - from) % 32, whole = to - rest;
    const int pixels = run < 16 ? run : 16 * down; /* the last block begins so many before the end */
    const int start = run < 16 ? 0 : 16 * t + pixels <= run ? 16 * t : run - pixels, first = 16 * t - start;
    const int all = !a->pitch && !first && pixels % 16 == 0;
    const struct u8_block b = {
        .places = all ? 0 : u8_tiles_places(a, s, start, first, pixels), .start = start, .pixels = pixels};
    for (int k = from; k < whole; k += 32) u8_tiles_block(a, s, r, &b, down, 1, 32, k, w, bias, scale);
    if (rest) u8_tiles_block(a, s, r, &b, down, a->outs % 32 > 16, a->outs % 32, whole, w, bias, scale);
}

/* the outputs from `from` up to `to` of all pixels of a run */
INLINE void u8_tiles_run(
    const struct quantized_conv *a, struct u8_blocks *s, const struct u8_run r, const int run, const int from,
    const int to, const signed char *w, const int *bias, const float *scale) {
    const int tiles = (run + 15) / 16, pairs = run < 32 ? 0 : tiles / 2 * 2;
    for (int t = 0; t < pairs; t += 2) u8_tiles_pixels(a, s, r, run, t, 2, from, to, w, bias, scale);
    for (int t = pairs; t < tiles; t++) u8_tiles_pixels(a, s, r, run, t, 1, from, to, w, bias, scale);
}

INLINE void u8_tiles_conv(
    const struct quantized_conv *a, const unsigned char *in, const signed char *w, const int *bias, const float *scale,
    const unsigned char *sum, const signed char *next, unsigned char *out, float *real) {
    const int run = a->pitch ? (a->rows - 1) * a->pitch + a->width : a->width;
    const int fours = u8_quantized_conv_fours(a);
    struct u8_blocks s;
    s.blocks[0] = s.blocks[1] = (struct u8_block){0};
    s.last[0] = s.blocks, s.last[1] = s.blocks + 1;
    s.next = next, s.turn = 0;
    configure_tiles(run < 16 ? run : 16, fours < 16 ? fours : 16);
    for (int k = 0; k < (a->weights_outer ? a->outs : 1); k += 32)
        for (int n = 0; n < a->images; n++)
            for (int y = 0; y < (a->pitch ? 1 : a->rows); y++) {
                const size_t at = (size_t)n * a->out_image + (size_t)y * a->out_row;
                const struct u8_run r = {
                    in + (size_t)n * a->in_image + (size_t)y * a->in_row,
                    u8_quantized_conv_sum(a, sum, (size_t)n * a->sum_image + (size_t)y * a->sum_row),
                    out ? out + at : 0, out ? 0 : real + at,
                };
                const int to = a->weights_outer && k + 32 < a->outs ? k + 32 : a->outs;
                u8_tiles_run(a, &s, r, run, k, to, w, bias, scale);
            }
    for (int x = 8; x < 32; x += 8) u8_tiles_finish(a, &s, !out, s.last[1], x);
    STORE_TILE(0, s.room, 128);
    STORE_TILE(1, s.room + 16, 128);
    STORE_TILE(2, s.room + 512, 128);
    STORE_TILE(3, s.room + 528, 128);
    for (int x = 0; x < 32; x += 8) u8_tiles_finish(a, &s, !out, s.last[0], x);
    release_tiles();
}
#endif
