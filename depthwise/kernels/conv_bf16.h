/* Convolution of bfloat16, in the tiles of AMX where there are such: the sums of plain_conv_T16.h are what AMX
   computes, with numbers below 2^-126 taken for zeros and each sum rounded once. A product of two bfloat16 is exact in
   float32, so that it makes no difference whether it is fused. */

#include "plain_conv_bf16.h"
#include "tiles.h"

#if defined(__AMX_BF16__) && VL == 16
/* Where a run of pixels lies, and what becomes of it. */
struct bf16_run {
    const unsigned short *in, *sum;
    unsigned short *out;
};

/* A tile of 16 pixels of a run, from `start` on; those before `first` another tile has done. */
struct bf16_span { int start, first; };

/* A block is 32 pixels x 32 outputs, four tiles of sums, or half of that in either direction. Three are under way at
   once, for a tile's way to memory is long: while the products of one begin, the sums of the one before leave, tile by
   tile, and of the one before that a few rows at a time are finished. All pass through one room of 4 KB: two, 4 KB
   apart, would make loads wait for stores of the other. */
struct bf16_block {
    struct bf16_run run;
    struct bf16_span tile[2];
    int tiles, k; /* none in the first blocks */
};
struct bf16_state {
    float room[32 * 32] __attribute__((aligned(64)));
    struct bf16_block last, before; /* the block before, and the one before that */
};

/* `count` outputs of a pixel */
INLINE void bf16_finish_pixel(
    const struct tile_conv *a, const int count, const float *room, const unsigned short *sum, unsigned short *out) {
    vf low = load(room), high = load(room + 16), low_sum = {0}, high_sum = {0};
    if (a->epilogue.add) {
        low_sum = bf16_load(sum, count < 16 ? count : 16);
        if (count > 16) high_sum = bf16_load(sum + 16, count - 16);
    }
    low = vepilogue(a->epilogue, low, low_sum);
    if (count > 16) high = vepilogue(a->epilogue, high, high_sum);
    bf16_store_both(out, low, high, count);
}

/* Finishes 8 rows of a block's room. */
INLINE void bf16_finish(
    const struct tile_conv *a, const struct bf16_block *b, const int pixels, const int from, const float *room) {
    const int t = from / 16, row = from % 16, rest = a->outs % 32, whole = a->outs - b->k >= 32;
    if (t >= b->tiles || row >= pixels) return;
    const int at = b->tile[t].start + row, skipped = b->tile[t].first - row, y = a->pitch ? at / a->pitch : 0;
    int x = at - y * a->pitch;
    const unsigned short *sum = 0;
    unsigned short *out = b->run.out + (size_t)y * a->out_row + (size_t)x * a->out_pixel + b->k;
    if (a->epilogue.add) sum = b->run.sum + (size_t)y * a->sum_row + (size_t)x * a->sum_pixel + b->k;
    UNROLL for (int i = 0; i < 8; i++) {
        if (i >= skipped && row + i < pixels && (!a->pitch || x < a->width)) {
            if (whole) bf16_finish_pixel(a, 32, room + (from + i) * 32, sum, out);
            else if (rest) bf16_finish_pixel(a, rest, room + (from + i) * 32, sum, out);
        }
        x++, out += a->out_pixel;
        if (a->epilogue.add) sum += a->sum_pixel;
        if (a->pitch && x == a->pitch) {
            x = 0, out += a->out_row - a->pitch * a->out_pixel;
            if (a->epilogue.add) sum += a->sum_row - a->pitch * a->sum_pixel;
        }
    }
}

/* Starts the sums of tile T from the bias, those that lie there leave: first the rows of the room where they go are
   finished. T is a literal. */
#define BF16_TURN(T) bf16_finish(a, &s->before, pixels, 8 + 8 * T, s->room); BF16_LEAVE(T)
#define BF16_LEAVE(T) STORE_TILE(T, s->room + T / 2 * 512 + T % 2 * 16, 128); LOAD_TILE(T, bias + T % 2 * 16, 0)

/* 32 outputs from k on */
INLINE void bf16_multiply(
    const struct tile_conv *a, const struct bf16_block b, const int pixels, const unsigned short *w, const float *bias,
    struct bf16_state *s) {
    const int steps = bf16_steps(a), tile = bf16_tile(a), wide = a->outs - b.k > 16, tall = b.tiles > 1;
    const unsigned short *p = b.run.in + (size_t)b.tile[0].start * a->in_pixel;
    const unsigned short *q = b.run.in + (size_t)b.tile[1].start * a->in_pixel;
    const size_t apart = (size_t)a->in_pixel * sizeof *p;
    BF16_TURN(0);
    BF16_TURN(1);
    BF16_TURN(2);
    BF16_LEAVE(3);
    bf16_finish(a, &s->last, pixels, 0, s->room);
    for (int t = 0; t < a->taps; t++) {
        const int offset = a->offsets[t];
        for (int i = 0; i < steps; i++, w += 2 * tile) {
            const int c = offset + bf16_first_of(a, i);
            LOAD_TILE(4, p + c, apart);
            LOAD_TILE(6, w, 64);
            MULTIPLY_BF16(0, 4, 6);
            if (wide) {
                LOAD_TILE(7, w + tile, 64);
                MULTIPLY_BF16(1, 4, 7);
            }
            if (tall) {
                LOAD_TILE(5, q + c, apart);
                MULTIPLY_BF16(2, 5, 6);
                if (wide) MULTIPLY_BF16(3, 5, 7);
            }
        }
    }
    s->before = s->last, s->last = b;
}

/* What is under way is brought to its end. */
INLINE void bf16_drain(const struct tile_conv *a, const int pixels, struct bf16_state *s) {
    for (int from = 8; from < 32; from += 8) bf16_finish(a, &s->before, pixels, from, s->room);
    STORE_TILE(0, s->room, 128);
    STORE_TILE(1, s->room + 16, 128);
    STORE_TILE(2, s->room + 512, 128);
    STORE_TILE(3, s->room + 528, 128);
    for (int from = 0; from < 32; from += 8) bf16_finish(a, &s->last, pixels, from, s->room);
}

/* The t-th tile of a run of `count` pixels: the last one begins so many before their end. */
INLINE struct bf16_span bf16_span(const int t, const int count) {
    const int first = 16 * t, start = count < 16 ? 0 : first + 16 <= count ? first : count - 16;
    return (struct bf16_span){start, first - start};
}

/* the outputs from `from` up to `to`, of all pixels of a run */
INLINE void bf16_pixels(
    const struct tile_conv *a, const struct bf16_run run, const int count, const int from, const int to,
    const unsigned short *w, const float *bias, struct bf16_state *s) {
    const int tiles = (count + 15) / 16, pixels = count < 16 ? count : 16;
    const int panel = a->taps * bf16_steps(a) * 2 * bf16_tile(a);
    for (int t = 0; t < tiles; t += 2) {
        const int two = t + 1 < tiles;
        struct bf16_block b = {run, {bf16_span(t, count), bf16_span(t + two, count)}, 1 + two, from};
        for (; b.k < to; b.k += 32) bf16_multiply(a, b, pixels, w + (size_t)(b.k / 32) * panel, bias + b.k, s);
    }
}

INLINE void bf16_tile_conv(
    const struct tile_conv *a, const unsigned short *in, const unsigned short *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    const int count = a->pitch ? (a->rows - 1) * a->pitch + a->width : a->width, pixels = count < 16 ? count : 16;
    struct bf16_state s;
    s.last.tiles = s.before.tiles = 0;
    configure_tiles(pixels, bf16_pairs(a->channels));
    for (int k = 0; k < (a->weights_outer ? a->outs : 1); k += 32)
        for (int n = 0; n < a->images; n++)
            for (int y = 0; y < (a->pitch ? 1 : a->rows); y++) {
                const struct bf16_run run = {
                    in + (size_t)n * a->in_image + (size_t)y * a->in_row,
                    a->epilogue.add ? sum + (size_t)n * a->sum_image + (size_t)y * a->sum_row : 0,
                    out + (size_t)n * a->out_image + (size_t)y * a->out_row,
                };
                const int to = a->weights_outer && k + 32 < a->outs ? k + 32 : a->outs;
                bf16_pixels(a, run, count, k, to, w, bias, &s);
            }
    bf16_drain(a, pixels, &s);
    release_tiles();
}
#else
INLINE void bf16_tile_conv(
    const struct tile_conv *a, const unsigned short *in, const unsigned short *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    bf16_plain_conv(a, in, w, bias, sum, out);
}
#endif
