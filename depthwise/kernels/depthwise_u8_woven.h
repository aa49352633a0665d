/* Depthwise convolution of bytes, several rows of taps an instruction: depthwise_u8.h says what it computes.

   A column of four rows of the input (two, where only numbers of 16 bits can be multiplied) is woven once and serves
   two rows of outputs with stride 1: one instruction adds up the taps of a column, those beyond the kernel being zero.
   A run of up to eight pixels takes over the columns that it shares with the run before it. Its sums are made vector by
   vector of the four that channels are woven to (woven_u8.h), so that few registers are needed.

   Few channels, or those beyond whole vectors, share a vector with those of other rows of the plane. What does not
   divide the plane is done once more: a run or a tile that begins earlier writes the same bytes. */

#include "depthwise_u8_common.h"
#include "woven_u8.h"

#if defined(WOVEN)

enum { WOVEN_KERNEL = 7, WOVEN_STRIDE = 2 }; /* the largest kernel and step from pixel to pixel */
enum { WOVEN_HEIGHT = 2, WOVEN_RUN = 8 };    /* rows of a tile, pixels of a run */
enum { WOVEN_PIXELS = VL == 16 ? 4 : 2 };    /* whose sums are in registers at once */
enum { WOVEN_GROUPS = 8 / WOVEN_ROWS, WOVEN_COLUMNS = (WOVEN_RUN - 1) * WOVEN_STRIDE + WOVEN_KERNEL };

INLINE int u8_depthwise_is_woven(const struct quantized_depthwise *a) {
    return a->dilation_y == 1 && a->dilation_x == 1 && a->R <= WOVEN_KERNEL && a->S <= WOVEN_KERNEL &&
           a->stride_x <= WOVEN_STRIDE && a->stride_x <= a->S;
}

/* The numbers of the channels of a vector of bytes: weights for each row of a tile, group of rows and column, 0 where
   the kernel does not reach. */
struct woven_numbers {
    vi weights[WOVEN_HEIGHT][WOVEN_GROUPS][WOVEN_KERNEL][4], bias[4];
    vf scale[4];
};

/* the woven groups of rows under so many rows of outputs */
INLINE int u8_woven_groups(const struct quantized_depthwise *a, const int rows) {
    return ((rows - 1) * a->stride_y + a->R + WOVEN_ROWS - 1) / WOVEN_ROWS;
}

/* two rows of outputs where both come from the groups of one */
INLINE int u8_woven_height(const struct quantized_depthwise *a) {
    return a->rows > 1 && u8_woven_groups(a, 2) == u8_woven_groups(a, 1) ? 2 : 1;
}

INLINE void u8_woven_prepare(
    const struct quantized_depthwise *a, const struct woven_bytes b, const int rows, const signed char *w,
    const int *bias, const float *scale, struct woven_numbers *n) {
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int g = 0; g < u8_woven_groups(a, rows); g++)
            UNROLL for (int s = 0; s < a->S; s++) {
                all_u8 taps[WOVEN_ROWS];
                UNROLL for (int i = 0; i < WOVEN_ROWS; i++) {
                    const int r = g * WOVEN_ROWS + i - y * a->stride_y;
                    taps[i] = (all_u8){0};
                    if (r >= 0 && r < a->R)
                        taps[i] = load_woven((const unsigned char *)w + (size_t)(r * a->S + s) * a->w_tap, b, 0);
                }
                weave_signed(taps, n->weights[y][g][s]);
            }
    int biases[WOVEN_CHANNELS] = {0};
    float scales[WOVEN_CHANNELS] = {0};
    if (b.count == WOVEN_CHANNELS) {
        UNROLL for (int c = 0; c < WOVEN_CHANNELS; c += 4) {
            memcpy(biases + woven_place(c), bias + c, 4 * sizeof *bias);
            memcpy(scales + woven_place(c), scale + c, 4 * sizeof *scale);
        }
    } else {
        for (int i = 0; i < b.parts; i++)
            for (int c = 0; c < b.count; c++) {
                biases[woven_place(i * b.count + c)] = bias[c];
                scales[woven_place(i * b.count + c)] = scale[c];
            }
    }
    memcpy(n->bias, biases, sizeof biases);
    memcpy(n->scale, scales, sizeof scales);
}

/* rows x pixels outputs of the columns from `column` on; what lies in several places does so `apart` */
INLINE void u8_woven_tile(
    const struct quantized_depthwise *a, const struct woven_bytes b, const int rows, const int pixels,
    const struct woven_numbers *n, vi (*column)[WOVEN_GROUPS][4], const size_t apart, unsigned char *out) {
    vi whole[WOVEN_HEIGHT][WOVEN_PIXELS][4];
    UNROLL for (int q = 0; q < 4; q++) {
        vi acc[WOVEN_HEIGHT][WOVEN_PIXELS];
        UNROLL for (int y = 0; y < rows; y++)
            UNROLL for (int x = 0; x < pixels; x++) acc[y][x] = n->bias[q];
        UNROLL for (int g = 0; g < u8_woven_groups(a, rows); g++)
            UNROLL for (int s = 0; s < a->S; s++)
                UNROLL for (int y = 0; y < rows; y++) {
                    const int r = g * WOVEN_ROWS - y * a->stride_y;
                    if (r <= -WOVEN_ROWS || r >= a->R) continue;
                    const vi weight = n->weights[y][g][s][q];
                    UNROLL for (int x = 0; x < pixels; x++)
                        acc[y][x] = woven_dot(acc[y][x], column[x * a->stride_x + s][g][q], weight);
                }
        UNROLL for (int y = 0; y < rows; y++)
            UNROLL for (int x = 0; x < pixels; x++)
                whole[y][x][q] = rounded_to_ints(to_floats(acc[y][x]) * n->scale[q]);
    }
    UNROLL for (int y = 0; y < rows; y++)
        UNROLL for (int x = 0; x < pixels; x++)
            store_woven(out + (size_t)y * a->out_row + (size_t)x * a->out_pixel,
                        packed_bytes(a->requantize, whole[y][x]), b, apart);
}

/* a column of the input under so many rows of outputs; rows below the kernel are not read */
INLINE void u8_woven_column(
    const struct quantized_depthwise *a, const struct woven_bytes b, const int rows, const size_t apart,
    const unsigned char *in, vi (*column)[4]) {
    const int last = (rows - 1) * a->stride_y + a->R - 1;
    UNROLL for (int g = 0; g < u8_woven_groups(a, rows); g++) {
        all_u8 v[WOVEN_ROWS];
        UNROLL for (int i = 0; i < WOVEN_ROWS; i++) {
            const int r = g * WOVEN_ROWS + i < last ? g * WOVEN_ROWS + i : last;
            v[i] = load_woven(in + (size_t)r * a->in_row, b, apart);
        }
        weave(v, column[g]);
    }
}

/* tiles of `rows` rows, in each of as many places as a vector has bytes of */
INLINE void u8_woven_row(
    const struct quantized_depthwise *a, const struct woven_bytes b, const int rows, const unsigned char *in,
    const struct woven_numbers *n, unsigned char *out) {
    const int runs = (a->width + WOVEN_RUN - 1) / WOVEN_RUN, pixels = (a->width + runs - 1) / runs;
    const int tiles = (pixels + WOVEN_PIXELS - 1) / WOVEN_PIXELS, tile = (pixels + tiles - 1) / tiles;
    const int columns = (pixels - 1) * a->stride_x + a->S, kept = a->S - a->stride_x;
    const size_t in_apart = (size_t)rows * a->stride_y * a->in_row, out_apart = (size_t)rows * a->out_row;
    vi column[WOVEN_COLUMNS][WOVEN_GROUPS][4];
    for (int x = 0; x < a->width; x += pixels) {
        const int at = x + pixels <= a->width ? x : a->width - pixels;
        const int first = x == 0 || at < x ? 0 : kept; /* column that is not there yet */
        if (first)
            UNROLL for (int j = 0; j < kept; j++)
                UNROLL for (int g = 0; g < u8_woven_groups(a, rows); g++)
                    UNROLL for (int q = 0; q < 4; q++) column[j][g][q] = column[pixels * a->stride_x + j][g][q];
        const unsigned char *p = in + (size_t)at * a->stride_x * a->in_pixel;
        for (int j = first; j < columns; j++)
            u8_woven_column(a, b, rows, in_apart, p + (size_t)j * a->in_pixel, column[j]);
        UNROLL for (int i = 0; i < pixels; i += tile)
            u8_woven_tile(a, b, rows, i + tile <= pixels ? tile : pixels - i, n, column + i * a->stride_x, out_apart,
                          out + (size_t)(at + i) * a->out_pixel);
    }
}

/* `count` channels of all images, as many as a vector has bytes or fewer */
INLINE void u8_woven_channels(
    const struct quantized_depthwise *a, const int count, const unsigned char *in, const signed char *w,
    const int *bias, const float *scale, unsigned char *out) {
    const int rows = u8_woven_height(a), tiles = a->rows / rows;
    const int most = WOVEN_CHANNELS / count < tiles ? WOVEN_CHANNELS / count : tiles;
    const int turns = (a->rows + rows * most - 1) / (rows * most);
    const struct woven_bytes b = {count, (a->rows + rows * turns - 1) / (rows * turns)}, one = {count, 1};
    const int height = rows * b.parts, rest = b.parts > 1 ? 0 : a->rows % rows;
    struct woven_numbers n;
    u8_woven_prepare(a, b, rows, w, bias, scale, &n);
    for (int i = 0; i < a->images; i++) {
        const unsigned char *p = in + (size_t)i * a->in_image;
        unsigned char *q = out + (size_t)i * a->out_image;
        for (int y = 0; y < a->rows - rest; y += height) {
            const int at = y + height <= a->rows ? y : a->rows - height;
            u8_woven_row(a, b, rows, p + (size_t)at * a->stride_y * a->in_row, &n, q + (size_t)at * a->out_row);
        }
        const int last = a->rows - 1;
        if (rest)
            u8_woven_row(a, one, 1, p + (size_t)last * a->stride_y * a->in_row, &n, q + (size_t)last * a->out_row);
    }
}

/* the channels that it does, from the first on */
INLINE int u8_woven_depthwise(
    const struct quantized_depthwise *a, const unsigned char *in, const signed char *w, const int *bias,
    const float *scale, unsigned char *out) {
    const int rest = a->channels % WOVEN_CHANNELS, whole = a->channels - rest;
    for (int c = 0; c < whole; c += WOVEN_CHANNELS)
        u8_woven_channels(a, WOVEN_CHANNELS, in + c, w + c, bias + c, scale + c, out + c);
    if (VL < 16) return whole;
    if (rest) u8_woven_channels(a, rest, in + whole, w + whole, bias + whole, scale + whole, out + whole);
    return a->channels;
}
#endif
