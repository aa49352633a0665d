/* Pooling of regions whose bins move (depthwise/layers/roi.py).

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

struct deform_roi_pool {
    int boxes_count, images, channels, in_rows, in_width, bins, samples;
    float scale, gamma;
    int in_image, in_row, in_pixel, offset_image, offset_row, offset_pixel, out_image, out_row, out_pixel;
};

INLINE void f32_deform_roi_pool_naive(
    const struct deform_roi_pool *a, const float *in, const float *boxes, const float *offsets, float *out) {
    for (int i = 0; i < a->boxes_count; i++)
    for (int p = 0; p < a->bins; p++)
    for (int q = 0; q < a->bins; q++)
    for (int c = 0; c < a->channels; c++) {
        const struct roi_box box = roi_box(a->images, a->scale, boxes + 5 * i);
        const float *o =
            offsets + (size_t)i * a->offset_image + (size_t)p * a->offset_row + (size_t)q * a->offset_pixel;
        float total = box.image < 0 ? NAN : 0;
        for (int u = 0; u < a->samples; u++)
        for (int v = 0; v < a->samples; v++) {
            const struct roi_point y = roi_point(
                a->in_rows, roi_position(a->bins * a->samples, box.y, box.height, p * a->samples + u, o[0] * a->gamma));
            const struct roi_point x = roi_point(
                a->in_width, roi_position(a->bins * a->samples, box.x, box.width, q * a->samples + v, o[1] * a->gamma));
            if (box.image < 0 || !y.inside || !x.inside) continue;
            const float *plane = in + (size_t)box.image * a->in_image + c;
            const float *above = plane + (size_t)y.before * a->in_row, *below = plane + (size_t)y.behind * a->in_row;
            const float *row[2] = {above, below};
            for (int k = 0; k < 4; k++) {
                const float weight = (k / 2 ? y.part : 1 - y.part) * (k % 2 ? x.part : 1 - x.part);
                total += weight * row[k / 2][(size_t)(k % 2 ? x.behind : x.before) * a->in_pixel];
            }
        }
        out[(size_t)i * a->out_image + (size_t)p * a->out_row + (size_t)q * a->out_pixel + c]
            = total / (float)(a->samples * a->samples);
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
    const struct deform_roi_pool *a, const struct roi_box box, const int p, const int q, const float *in,
    const float *offset, float *out) {
    const int whole = a->channels - a->channels % VL, points = a->bins * a->samples;
    memset(out, 0, (size_t)a->channels * sizeof(float));
    for (int u = 0; u < a->samples; u++) {
        const float down = roi_position(points, box.y, box.height, p * a->samples + u, offset[0] * a->gamma);
        const struct roi_point y = roi_point(a->in_rows, down);
        const float *above = in + (size_t)y.before * a->in_row, *below = in + (size_t)y.behind * a->in_row;
        for (int v = 0; v < a->samples; v++) {
            const float right = roi_position(points, box.x, box.width, q * a->samples + v, offset[1] * a->gamma);
            const struct roi_point x = roi_point(a->in_width, right);
            const int before = x.before * a->in_pixel, behind = x.behind * a->in_pixel;
            const float weights[4] = {(1 - y.part) * (1 - x.part), (1 - y.part) * x.part, y.part * (1 - x.part),
                                      y.part * x.part};
            if (!y.inside || !x.inside) continue;
            for (int c = 0; c < whole; c += VL) roi_add(VL, above + c, below + c, before, behind, weights, out + c);
            if (a->channels > whole)
                roi_add(a->channels - whole, above + whole, below + whole, before, behind, weights, out + whole);
        }
    }
    for (int c = 0; c < a->channels; c++) out[c] /= (float)(a->samples * a->samples);
}

INLINE void f32_deform_roi_pool(
    const struct deform_roi_pool *a, const float *in, const float *boxes, const float *offsets, float *out) {
    for (int i = 0; i < a->boxes_count; i++) {
        const struct roi_box box = roi_box(a->images, a->scale, boxes + 5 * i);
        for (int p = 0; p < a->bins; p++)
        for (int q = 0; q < a->bins; q++) {
            const float *o = offsets + (size_t)i * a->offset_image + (size_t)p * a->offset_row;
            float *to = out + (size_t)i * a->out_image + (size_t)p * a->out_row + (size_t)q * a->out_pixel;
            if (box.image >= 0)
                roi_bin(a, box, p, q, in + (size_t)box.image * a->in_image, o + (size_t)q * a->offset_pixel, to);
            else
                for (int c = 0; c < a->channels; c++) to[c] = NAN;
        }
    }
}
