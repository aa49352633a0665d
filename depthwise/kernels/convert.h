/* What a library takes and gives in other types: whole numbers and booleans to floats, and back.

   Floats hold whole numbers up to 2^24 exactly. A number that a type cannot hold, NaN too, becomes its lowest, as
   conversions of x86 have it: C leaves that open. */

#include "vector.h"

/* y = x over six axes of n elements; strides are in elements of each. */
struct to_floats {
    int n[6], x_stride[6], y_stride[6];
};
struct from_floats {
    int n[6], x_stride[6], y_stride[6];
};

#define FOR(i, axis) for (int i = 0; i < a->n[axis]; i++)
#define FOR_RUNS FOR(i0, 0) FOR(i1, 1) FOR(i2, 2) FOR(i3, 3) FOR(i4, 4)
#define RUN_AT(stride) at5(stride, i0, i1, i2, i3, i4)
#define FROM (RUN_AT(a->x_stride) + (size_t)i * a->x_stride[5])
#define TO (RUN_AT(a->y_stride) + (size_t)i * a->y_stride[5])
#define EACH_NAIVE(convert) FOR_RUNS FOR(i, 5) y[TO] = convert(x[FROM])

/* Where both lie packed the innermost axis is a loop over neighbours, which the compiler makes vectors of. */
#define PACKED (a->x_stride[5] == 1 && a->y_stride[5] == 1)
#define RUN_PACKED(convert) FOR(i, 5) y[RUN_AT(a->y_stride) + i] = convert(x[RUN_AT(a->x_stride) + i])
#define EACH(convert) FOR_RUNS if (PACKED) RUN_PACKED(convert); else FOR(i, 5) y[TO] = convert(x[FROM])

INLINE float of_b8(const unsigned char x) { return x != 0; }

INLINE void b8_to_floats_naive(const struct to_floats *a, const unsigned char *x, float *y) { EACH_NAIVE(of_b8); }
INLINE void b8_to_floats(const struct to_floats *a, const unsigned char *x, float *y) { EACH(of_b8); }
INLINE void u8_to_floats_naive(const struct to_floats *a, const unsigned char *x, float *y) { EACH_NAIVE((float)); }
INLINE void u8_to_floats(const struct to_floats *a, const unsigned char *x, float *y) { EACH((float)); }
INLINE void s8_to_floats_naive(const struct to_floats *a, const signed char *x, float *y) { EACH_NAIVE((float)); }
INLINE void s8_to_floats(const struct to_floats *a, const signed char *x, float *y) { EACH((float)); }
INLINE void s16_to_floats_naive(const struct to_floats *a, const short *x, float *y) { EACH_NAIVE((float)); }
INLINE void s16_to_floats(const struct to_floats *a, const short *x, float *y) { EACH((float)); }
INLINE void s32_to_floats_naive(const struct to_floats *a, const int *x, float *y) { EACH_NAIVE((float)); }
INLINE void s32_to_floats(const struct to_floats *a, const int *x, float *y) { EACH((float)); }
INLINE void s64_to_floats_naive(const struct to_floats *a, const long long *x, float *y) { EACH_NAIVE((float)); }
INLINE void s64_to_floats(const struct to_floats *a, const long long *x, float *y) { EACH((float)); }

INLINE unsigned char b8_of(const float x) { return x != 0; }
INLINE unsigned char u8_of(const float x) { return x >= 0 && x < 0x1p8f ? (unsigned char)x : 0; }
INLINE signed char s8_of(const float x) { return x >= -0x1p7f && x < 0x1p7f ? (signed char)x : -128; }
INLINE short s16_of(const float x) { return x >= -0x1p15f && x < 0x1p15f ? (short)x : -32768; }
INLINE int s32_of(const float x) { return x >= -0x1p31f && x < 0x1p31f ? (int)x : -2147483647 - 1; }
INLINE long long s64_of(const float x) {
    return x >= -0x1p63f && x < 0x1p63f ? (long long)x : -9223372036854775807LL - 1;
}

INLINE void b8_from_floats_naive(const struct from_floats *a, const float *x, unsigned char *y) { EACH_NAIVE(b8_of); }
INLINE void b8_from_floats(const struct from_floats *a, const float *x, unsigned char *y) { EACH(b8_of); }
INLINE void u8_from_floats_naive(const struct from_floats *a, const float *x, unsigned char *y) { EACH_NAIVE(u8_of); }
INLINE void u8_from_floats(const struct from_floats *a, const float *x, unsigned char *y) { EACH(u8_of); }
INLINE void s8_from_floats_naive(const struct from_floats *a, const float *x, signed char *y) { EACH_NAIVE(s8_of); }
INLINE void s8_from_floats(const struct from_floats *a, const float *x, signed char *y) { EACH(s8_of); }
INLINE void s16_from_floats_naive(const struct from_floats *a, const float *x, short *y) { EACH_NAIVE(s16_of); }
INLINE void s16_from_floats(const struct from_floats *a, const float *x, short *y) { EACH(s16_of); }
INLINE void s32_from_floats_naive(const struct from_floats *a, const float *x, int *y) { EACH_NAIVE(s32_of); }
INLINE void s32_from_floats(const struct from_floats *a, const float *x, int *y) { EACH(s32_of); }
INLINE void s64_from_floats_naive(const struct from_floats *a, const float *x, long long *y) { EACH_NAIVE(s64_of); }
INLINE void s64_from_floats(const struct from_floats *a, const float *x, long long *y) { EACH(s64_of); }
