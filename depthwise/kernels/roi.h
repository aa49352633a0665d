/* Pooling of regions whose bins move (depthwise/layers/roi.py). Needs vector.h.

     out[i][p][q][c] = mean over samples x samples points of in[image][y][x][c], bilinear
     y = y1 + height * (p * samples + a + 0.5) / (bins * samples) - 0.5 + offsets[i][p][q][0] * gamma * height
     x = x1 + width  * (q * samples + b + 0.5) / (bins * samples) - 0.5 + offsets[i][p][q][1] * gamma * width

     boxes      rows of image, x1, y1, x2, y2, of which the last four are multiplied by `scale`
     bins       p and q; samples: a and b
     in_rows, in_width, in_image, in_row, in_pixel       the features'; offset_..., out_... likewise

   A point up to one pixel outside takes the value at the border, one farther out or not a number is 0. A box of an
   image that is not there pools to NaN, and reads nothing. */

#include "vector.h"

/* a box in pixels of the features; image is -1 if there is none of that number */
struct roi_box { int image; float y, x, height, width; };

INLINE struct roi_box roi_box(const int images, const float scale, const float *box) {
    const int known = box[0] >= 0 && box[0] < (float)images; /* its fraction is dropped, as torch drops it */
    const float x = box[1] * scale, y = box[2] * scale;
    return (struct roi_box){known ? (int)box[0] : -1, y, x, box[4] * scale - y, box[3] * scale - x};
}

/* where point `index` of all bins * samples along an axis lies, in a bin moved by `offset` box lengths */
INLINE float roi_position(
    const int points, const float first, const float length, const int index, const float offset) {
    return first + length * (((float)index + 0.5f) / (float)points) - 0.5f + offset * length;
}

/* along one axis: the pixel before a point, the pixel behind it, how far it is from the first; none: outside */
struct roi_point { int inside, before, behind; float part; };

INLINE struct roi_point roi_point(const int pixels, const float position) {
    if (!(position >= -1 && position <= (float)pixels)) return (struct roi_point){0, 0, 0, 0};
    const float last = (float)(pixels - 1), held = position < 0 ? 0 : position > last ? last : position;
    const int before = (int)held;
    return (struct roi_point){1, before, before + 1 < pixels ? before + 1 : before, held - (float)before};
}

INLINE void f32_deform_roi_pool_naive(
    const int boxes_count, const int images, const int channels, const int in_rows, const int in_width,
    const int bins, const int samples, const float scale, const float gamma, const int in_image, const int in_row,
    const int in_pixel, const int offset_image, const int offset_row, const int offset_pixel, const int out_image,
    const int out_row, const int out_pixel, const float *in, const float *boxes, const float *offsets, float *out) {
    for (int i = 0; i < boxes_count; i++)
    for (int p = 0; p < bins; p++)
    for (int q = 0; q < bins; q++)
    for (int c = 0; c < channels; c++) {
        const struct roi_box box = roi_box(images, scale, boxes + 5 * i);
        const float *o = offsets + (size_t)i * offset_image + (size_t)p * offset_row + (size_t)q * offset_pixel;
        float total = box.image < 0 ? NAN : 0;
        for (int a = 0; a < samples; a++)
        for (int b = 0; b < samples; b++) {
            const struct roi_point y = roi_point(
                in_rows, roi_position(bins * samples, box.y, box.height, p * samples + a, o[0] * gamma));
            const struct roi_point x = roi_point(
                in_width, roi_position(bins * samples, box.x, box.width, q * samples + b, o[1] * gamma));
            if (box.image < 0 || !y.inside || !x.inside) continue;
            const float *plane = in + (size_t)box.image * in_image + c;
            const float *above = plane + (size_t)y.before * in_row, *below = plane + (size_t)y.behind * in_row;
            const float *row[2] = {above, below};
            for (int k = 0; k < 4; k++) {
                const float weight = (k / 2 ? y.part : 1 - y.part) * (k % 2 ? x.part : 1 - x.part);
                total += weight * row[k / 2][(size_t)(k % 2 ? x.behind : x.before) * in_pixel];
            }
        }
        out[(size_t)i * out_image + (size_t)p * out_row + (size_t)q * out_pixel + c]
            = total / (float)(samples * samples);
    }
}

/* out += the four pixels around a point, `count` channels of each */
INLINE void roi_add(
    const int count, const float *above, const float *below, const int before, const int behind,
    const float *weights, float *out) {
    vf v = load_part(out, count);
    v += load_part(above + before, count) * weights[0];
    v += load_part(above + behind, count) * weights[1];
    v += load_part(below + before, count) * weights[2];
    v += load_part(below + behind, count) * weights[3];
    store_part(out, v, count);
}

/* The sum over a bin's points stays in `out`, which fits the first-level cache: the pixels and weights of a point are
   worked out once for all channels. */
INLINE void roi_bin(
    const int channels, const int in_rows, const int in_width, const int bins, const int samples,
    const float gamma, const int in_row, const int in_pixel, const struct roi_box box, const int p, const int q,
    const float *in, const float *offset, float *out) {
    const int whole = channels - channels % VL, points = bins * samples;
    memset(out, 0, (size_t)channels * sizeof(float));
    for (int a = 0; a < samples; a++) {
        const struct roi_point y
            = roi_point(in_rows, roi_position(points, box.y, box.height, p * samples + a, offset[0] * gamma));
        const float *above = in + (size_t)y.before * in_row, *below = in + (size_t)y.behind * in_row;
        for (int b = 0; b < samples; b++) {
            const struct roi_point x
                = roi_point(in_width, roi_position(points, box.x, box.width, q * samples + b, offset[1] * gamma));
            const int before = x.before * in_pixel, behind = x.behind * in_pixel;
            const float weights[4] = {(1 - y.part) * (1 - x.part), (1 - y.part) * x.part, y.part * (1 - x.part),
                                      y.part * x.part};
            if (!y.inside || !x.inside) continue;
            for (int c = 0; c < whole; c += VL) roi_add(VL, above + c, below + c, before, behind, weights, out + c);
            if (channels > whole)
                roi_add(channels - whole, above + whole, below + whole, before, behind, weights, out + whole);
        }
    }
    for (int c = 0; c < channels; c++) out[c] /= (float)(samples * samples);
}

INLINE void f32_deform_roi_pool(
    const int boxes_count, const int images, const int channels, const int in_rows, const int in_width,
    const int bins, const int samples, const float scale, const float gamma, const int in_image, const int in_row,
    const int in_pixel, const int offset_image, const int offset_row, const int offset_pixel, const int out_image,
    const int out_row, const int out_pixel, const float *in, const float *boxes, const float *offsets, float *out) {
    for (int i = 0; i < boxes_count; i++) {
        const struct roi_box box = roi_box(images, scale, boxes + 5 * i);
        for (int p = 0; p < bins; p++)
        for (int q = 0; q < bins; q++) {
            float *o = out + (size_t)i * out_image + (size_t)p * out_row + (size_t)q * out_pixel;
            if (box.image >= 0)
                roi_bin(channels, in_rows, in_width, bins, samples, gamma, in_row, in_pixel, box, p, q,
                        in + (size_t)box.image * in_image,
                        offsets + (size_t)i * offset_image + (size_t)p * offset_row + (size_t)q * offset_pixel, o);
            else
                for (int c = 0; c < channels; c++) o[c] = NAN;
        }
    }
}
