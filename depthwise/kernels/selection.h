/* Along an axis: where extremes lie, sorting, running totals, elements taken by their places.

   Lines of `count` elements along the axis, x_step and y_step floats apart, for each of n[0] x n[1] x n[2] others.
   Places are whole numbers, which floats hold up to 2^24. A NaN is an extreme, and larger than all when sorted. */

#include "reduce.h"

/* mask lanes are -1 where b takes the place of a */
INLINE vi vbeats(const int function, const vf b, const vf a) {
    const vi beyond = function == REDUCE_MAX ? (vi)(b > a) : (vi)(b < a);
    return beyond | ((vi)(b != b) & (vi)(a == a));
}
INLINE int beats(const int function, const float b, const float a) {
    return (function == REDUCE_MAX ? b > a : b < a) || (b != b && a == a);
}

/* y = where in a line its extreme lies, the first of equal ones */
struct arg_reduce {
    int function, n[3], count, x_stride[3], x_step, y_stride[3];
};

INLINE float f32_arg_reduce_line(const int function, const int count, const int step, const float *x) {
    int at = 0;
    for (int i = 1; i < count; i++)
        if (beats(function, x[(size_t)i * step], x[(size_t)at * step])) at = i;
    return (float)at;
}

INLINE void f32_arg_reduce_naive(const struct arg_reduce *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
        y[at3(a->y_stride, i0, i1, i2)] =
            f32_arg_reduce_line(a->function, a->count, a->x_step, x + at3(a->x_stride, i0, i1, i2));
}

/* a line of neighbours: each lane finds its own first extreme, and of these the first is taken */
INLINE float f32_arg_reduce_run(const int function, const int count, const float *x) {
    const float none = reduce_start(function); /* beats nothing */
    const int tail = count % VL, whole = count - tail;
    float numbers[VL];
    UNROLL for (int i = 0; i < VL; i++) numbers[i] = (float)i;
    const vf lanes = load(numbers);
    vf best = load_or(x, count < VL ? count : VL, none), at = lanes;
    for (int i = VL; i < whole; i += VL) {
        const vf v = load(x + i);
        const vi better = vbeats(function, v, best);
        best = blend(better, v, best);
        at = blend(better, lanes + (float)i, at);
    }
    if (tail && whole) {
        const vf v = load_or(x + whole, tail, none);
        const vi better = vbeats(function, v, best);
        best = blend(better, v, best);
        at = blend(better, lanes + (float)whole, at);
    }
    const vf extreme = splat(reduce_lanes(function, best));
    const vi holds = (vi)(best == extreme) | ((vi)(best != best) & (vi)(extreme != extreme));
    return reduce_lanes(REDUCE_MIN, blend(holds, at, splat(INFINITY)));
}

/* `lanes` lines side by side */
INLINE void f32_arg_reduce_lanes(
    const int function, const int lanes, const int count, const int step, const float *x, float *y) {
    vf best = load_part(x, lanes), at = {0};
    for (int i = 1; i < count; i++) {
        const vf v = load_part(x + (size_t)i * step, lanes);
        const vi better = vbeats(function, v, best);
        best = blend(better, v, best);
        at = blend(better, splat((float)i), at);
    }
    store_part(y, at, lanes);
}

INLINE void f32_arg_reduce(const struct arg_reduce *a, const float *x, float *y) {
    const int tail = a->n[2] % VL, whole = a->n[2] - tail;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++) {
        const float *p = x + at2(a->x_stride, i0, i1);
        float *q = y + at2(a->y_stride, i0, i1);
        if (a->x_stride[2] == 1 && a->y_stride[2] == 1) {
            for (int i2 = 0; i2 < whole; i2 += VL)
                f32_arg_reduce_lanes(a->function, VL, a->count, a->x_step, p + i2, q + i2);
            if (tail) f32_arg_reduce_lanes(a->function, tail, a->count, a->x_step, p + whole, q + whole);
            continue;
        }
        for (int i2 = 0; i2 < a->n[2]; i2++) {
            const float *line = p + (size_t)i2 * a->x_stride[2];
            q[(size_t)i2 * a->y_stride[2]] = a->x_step == 1
                                                 ? f32_arg_reduce_run(a->function, a->count, line)
                                                 : f32_arg_reduce_line(a->function, a->count, a->x_step, line);
        }
    }
}

/* y = the first `taken` of each line, sorted from the largest or the smallest on, or their places in it; equal ones
   stay in their order. `scratch` holds 4 * count floats. */
struct top_k {
    int largest, places, n[3], count, taken, x_stride[3], x_step, y_stride[3], y_step;
};

INLINE int sorts_before(const int largest, const float a, const float b) {
    return largest ? a > b || (a != a && b == b) : a < b || (b != b && a == a);
}

/* which are still there is kept in scratch: the best of these, one after the other */
INLINE void f32_top_k_naive(const struct top_k *a, const float *x, float *scratch, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *line = x + at3(a->x_stride, i0, i1, i2);
        for (int i = 0; i < a->count; i++) scratch[i] = 1;
        for (int k = 0; k < a->taken; k++) {
            int best = -1;
            for (int i = 0; i < a->count; i++)
                if (scratch[i] && (best < 0 || sorts_before(a->largest, line[(size_t)i * a->x_step],
                                                            line[(size_t)best * a->x_step])))
                    best = i;
            scratch[best] = 0;
            y[at3(a->y_stride, i0, i1, i2) + (size_t)k * a->y_step] =
                a->places ? (float)best : line[(size_t)best * a->x_step];
        }
    }
}

/* places[0] ... places[taken - 1], by insertion: few of many elements get further than one comparison */
INLINE void f32_top_k_insert(
    const int largest, const int count, const int taken, const int step, const float *x, float *places) {
    int held = 0;
    for (int i = 0; i < count; i++) {
        const float v = x[(size_t)i * step];
        if (held == taken && !sorts_before(largest, v, x[(size_t)places[taken - 1] * step])) continue;
        int k = held < taken ? held++ : taken - 1;
        for (; k > 0 && sorts_before(largest, v, x[(size_t)places[k - 1] * step]); k--) places[k] = places[k - 1];
        places[k] = (float)i;
    }
}

/* A number and its place as one whole number, which sorts as they do: NaN after all, zeros of both signs as equals. */
typedef unsigned long long ANYWHERE sort_key;

INLINE sort_key sort_key_of(const int largest, const float v, const int place) {
    const float number = v + 0.0f; /* -0 is 0 */
    unsigned bits;
    memcpy(&bits, &number, sizeof bits);
    const unsigned rank = v != v ? ~0u : bits ^ (bits >> 31 ? ~0u : 1u << 31);
    return (sort_key)(largest ? ~rank : rank) << 32 | (unsigned)place;
}

/* runs of RUN, by comparisons that are the same for all keys; the last one, which is shorter, by insertion */
enum { RUN = 4 };
INLINE void sort_pair(sort_key *a, sort_key *b) {
    const sort_key first = *a, second = *b;
    *a = first < second ? first : second;
    *b = first < second ? second : first;
}
INLINE void sort_runs(const int count, sort_key *keys) {
    const int whole = count - count % RUN;
    for (sort_key *k = keys; k < keys + whole; k += RUN) {
        sort_pair(k, k + 1), sort_pair(k + 2, k + 3);
        sort_pair(k, k + 2), sort_pair(k + 1, k + 3);
        sort_pair(k + 1, k + 2);
    }
    for (int i = whole + 1; i < count; i++)
        for (int k = i; k > whole; k--) sort_pair(keys + k - 1, keys + k);
}

/* two runs of one length into one, from both ends at once; no branch has to be guessed by the processor */
INLINE void sort_merge_equals(const int run, const sort_key *from, sort_key *to) {
    const sort_key *left = from, *right = from + run, *left_end = right - 1, *right_end = right + run - 1;
    for (int k = 0; k < run; k++) {
        const sort_key a = *left, b = *right, c = *left_end, d = *right_end;
        const int second = b < a, first = d < c;
        to[k] = second ? b : a;
        to[2 * run - 1 - k] = first ? c : d;
        right += second;
        left += !second;
        left_end -= first;
        right_end -= !first;
    }
}

/* two runs into one */
INLINE void sort_merge(const sort_key *left, const sort_key *const middle, const sort_key *const end, sort_key *to) {
    const sort_key *right = middle;
    while (left < middle && right < end) {
        const sort_key a = *left, b = *right;
        const int second = b < a;
        *to++ = second ? b : a;
        right += second;
        left += !second;
    }
    while (left < middle) *to++ = *left++;
    while (right < end) *to++ = *right++;
}

/* sorted keys of a line, in the first or the second `count` of keys */
INLINE const sort_key *f32_sort(
    const int largest, const int count, const int step, const float *x, sort_key *keys) {
    sort_key *from = keys, *to = keys + count;
    for (int i = 0; i < count; i++) from[i] = sort_key_of(largest, x[(size_t)i * step], i);
    sort_runs(count, from);
    for (int run = RUN; run < count; run *= 2) {
        for (int start = 0; start < count; start += 2 * run) {
            const int middle = start + run < count ? start + run : count;
            const int end = middle + run < count ? middle + run : count;
            if (end - start == 2 * run) sort_merge_equals(run, from + start, to + start);
            else sort_merge(from + start, from + middle, from + end, to + start);
        }
        sort_key *const swapped = from;
        from = to;
        to = swapped;
    }
    return from;
}

INLINE void f32_top_k(const struct top_k *a, const float *x, float *scratch, float *y) {
    const int few = a->taken <= 8 || a->taken <= a->count / 16;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++) {
        const float *line = x + at3(a->x_stride, i0, i1, i2);
        float *q = y + at3(a->y_stride, i0, i1, i2);
        const sort_key *sorted = (const sort_key *)scratch;
        if (few) f32_top_k_insert(a->largest, a->count, a->taken, a->x_step, line, scratch);
        else sorted = f32_sort(a->largest, a->count, a->x_step, line, (sort_key *)scratch);
        for (int k = 0; k < a->taken; k++) {
            const int place = few ? (int)scratch[k] : (int)(unsigned)sorted[k];
            q[(size_t)k * a->y_step] = a->places ? (float)place : line[(size_t)place * a->x_step];
        }
    }
}

/* y[i] = x[0] combined with all up to x[i], kept in double precision as PyTorch keeps it */
struct cumulate {
    int function, n[3], count, x_stride[3], x_step, y_stride[3], y_step;
};

INLINE double combine(const int function, const double total, const double v) {
    if (function == REDUCE_MAX) return v > total || v != v ? v : total;
    if (function == REDUCE_MIN) return v < total || v != v ? v : total;
    return function == REDUCE_PRODUCT ? total * v : total + v;
}

/* `lanes` lines side by side, or one */
INLINE void f32_cumulate_lanes(const struct cumulate *a, const int lanes, const float *x, float *y) {
    double total[VL];
    for (int k = 0; k < lanes; k++) total[k] = (double)reduce_start(a->function);
    for (int i = 0; i < a->count; i++)
        for (int k = 0; k < lanes; k++) {
            total[k] = combine(a->function, total[k], (double)x[(size_t)i * a->x_step + k]);
            y[(size_t)i * a->y_step + k] = (float)total[k];
        }
}

INLINE void f32_cumulate_naive(const struct cumulate *a, const float *x, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
        f32_cumulate_lanes(a, 1, x + at3(a->x_stride, i0, i1, i2), y + at3(a->y_stride, i0, i1, i2));
}

INLINE void f32_cumulate(const struct cumulate *a, const float *x, float *y) {
    const int wide = a->x_stride[2] == 1 && a->y_stride[2] == 1;
    const int tail = wide ? a->n[2] % VL : a->n[2], whole = a->n[2] - tail;
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++) {
        const float *p = x + at2(a->x_stride, i0, i1);
        float *q = y + at2(a->y_stride, i0, i1);
        for (int i2 = 0; i2 < whole; i2 += VL) f32_cumulate_lanes(a, VL, p + i2, q + i2);
        for (int i2 = whole; i2 < a->n[2]; i2++)
            f32_cumulate_lanes(a, 1, p + (size_t)i2 * a->x_stride[2], q + (size_t)i2 * a->y_stride[2]);
    }
}

/* y[i0]...[i5] = x[i0]...[at]...[i5], at = index[i0]...[i5] along the axis of `size` elements whose stride is x_step;
   the stride of x along it is 0. A place below 0 counts from the end; NaN where there is none. */
struct take_along {
    int n[6], size, x_stride[6], x_step, index_stride[6], y_stride[6];
};

INLINE void f32_take_along_naive(const struct take_along *a, const float *x, const float *index, float *y) {
    for (int i0 = 0; i0 < a->n[0]; i0++)
    for (int i1 = 0; i1 < a->n[1]; i1++)
    for (int i2 = 0; i2 < a->n[2]; i2++)
    for (int i3 = 0; i3 < a->n[3]; i3++)
    for (int i4 = 0; i4 < a->n[4]; i4++)
    for (int i5 = 0; i5 < a->n[5]; i5++) {
        const float place = index[at6(a->index_stride, i0, i1, i2, i3, i4, i5)];
        const float at = place < 0 ? place + (float)a->size : place;
        const int inside = at >= 0 && at < (float)a->size;
        y[at6(a->y_stride, i0, i1, i2, i3, i4, i5)] =
            inside ? x[at6(a->x_stride, i0, i1, i2, i3, i4, i5) + (size_t)at * a->x_step] : NAN;
    }
}

/* reads that no vector does at once: the loops are all there is */
INLINE void f32_take_along(const struct take_along *a, const float *x, const float *index, float *y) {
    f32_take_along_naive(a, x, index, y);
}
