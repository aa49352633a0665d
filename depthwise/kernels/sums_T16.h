/* What convolutions sum up in. In floats: each product is exact, each sum rounded once. In halves (F16_SUMS, of float16
   alone): a product and what it is added to are rounded once, to a half, and so is what two sums are added up to. */

#include "lanes_T16.h"

#if !defined(T16_OWN_SUMS)
INLINE float T16_multiply_add(const float x, const float w, const float sum) { return fmaf(x, w, sum); }

typedef struct two T16_operand, T16_sums;
INLINE T16_operand T16_load_operand(const unsigned short *p, const int count) { return T16_load_two(p, count); }
INLINE T16_operand T16_load_weights(const T16_tap *w) { return T16_load_tap(w); }
INLINE T16_operand T16_load_pairs(const unsigned short *p) {
    const vu pairs = load_pairs(p, VL);
    return (struct two){T16_first(pairs), T16_second(pairs)};
}
INLINE T16_operand T16_splat_pair(const unsigned short *p) { return T16_splat_two(p); }
INLINE T16_sums T16_add_products(const T16_operand x, const T16_operand w, const T16_sums sums) {
    return (struct two){sums.first + x.first * w.first, sums.second + x.second * w.second};
}
INLINE T16_sums T16_no_sums(void) { return (struct two){splat(0), splat(0)}; }
INLINE T16_sums T16_start(const struct two bias) { return bias; }
INLINE struct two T16_total(const T16_sums sums) { return sums; }
INLINE vf T16_join(const T16_sums sums) { return sums.first + sums.second; }
INLINE float T16_start_float(const float bias) { return bias; }
INLINE float T16_join_floats(const float even, const float odd) { return T16_flush(even + odd); }
#endif
