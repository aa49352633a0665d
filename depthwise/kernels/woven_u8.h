/* Bytes of several rows, woven: a lane holds what one channel has in each of them, so that one instruction adds up the
   products of all. The channels of one vector of bytes are four vectors then. Parts of 128 bits are woven each by
   itself: of every part, vector q has channels 4 q to 4 q + 3. packed_bytes (bytes.h) undoes it. */

#include "dot_u8.h"

#if defined(PACKS_BYTES)
#define WOVEN
enum { WOVEN_CHANNELS = VL * 4 };
#if defined(DOT_FOURS)
enum { WOVEN_ROWS = 4 };
#else
enum { WOVEN_ROWS = 2 }; /* as 16 bits each */
#endif

/* one of both vectors by turns, over all parts: `list` of the first place in each, which lie `part` apart */
#if VL == 16
#define IN_EACH_PART(list, at, part) list(at), list(at + part), list(at + 2 * part), list(at + 3 * part)
#elif VL == 8
#define IN_EACH_PART(list, at, part) list(at), list(at + part)
#else
#define IN_EACH_PART(list, at, part) list(at)
#endif
#define TURNS(i, other) (i), (i) + (other)
#define FOUR_SHORTS(i) TURNS(i, VL * 2), TURNS(i + 1, VL * 2), TURNS(i + 2, VL * 2), TURNS(i + 3, VL * 2)
#define FOUR_BYTES(i) TURNS(i, VL * 4), TURNS(i + 1, VL * 4), TURNS(i + 2, VL * 4), TURNS(i + 3, VL * 4)
#define EIGHT_BYTES(i) FOUR_BYTES(i), FOUR_BYTES(i + 4)

INLINE all_u8 low_bytes(const all_u8 a, const all_u8 b) {
    return __builtin_shufflevector(a, b, IN_EACH_PART(EIGHT_BYTES, 0, 16));
}
INLINE all_u8 high_bytes(const all_u8 a, const all_u8 b) {
    return __builtin_shufflevector(a, b, IN_EACH_PART(EIGHT_BYTES, 8, 16));
}
INLINE vi low_shorts(const all_u8 a, const all_u8 b) {
    return (vi)__builtin_shufflevector((all_s16)a, (all_s16)b, IN_EACH_PART(FOUR_SHORTS, 0, 8));
}
INLINE vi high_shorts(const all_u8 a, const all_u8 b) {
    return (vi)__builtin_shufflevector((all_s16)a, (all_s16)b, IN_EACH_PART(FOUR_SHORTS, 4, 8));
}

/* two rows, each byte as 16 bits */
INLINE void weave_pair(const all_u8 one, const all_u8 two, vi q[4]) {
    const all_u8 low = low_bytes(one, two), high = high_bytes(one, two), zero = {0};
    q[0] = (vi)low_bytes(low, zero), q[1] = (vi)high_bytes(low, zero);
    q[2] = (vi)low_bytes(high, zero), q[3] = (vi)high_bytes(high, zero);
}
/* the same of bytes with a sign */
INLINE void weave_signed_pair(const all_u8 one, const all_u8 two, vi q[4]) {
    const all_u8 low = low_bytes(one, two), high = high_bytes(one, two), zero = {0};
    q[0] = (vi)((all_s16)low_bytes(zero, low) >> 8), q[1] = (vi)((all_s16)high_bytes(zero, low) >> 8);
    q[2] = (vi)((all_s16)low_bytes(zero, high) >> 8), q[3] = (vi)((all_s16)high_bytes(zero, high) >> 8);
}

#if defined(DOT_FOURS)
INLINE void weave(const all_u8 rows[WOVEN_ROWS], vi q[4]) {
    const all_u8 low = low_bytes(rows[0], rows[1]), high = high_bytes(rows[0], rows[1]);
    const all_u8 lower = low_bytes(rows[2], rows[3]), higher = high_bytes(rows[2], rows[3]);
    q[0] = low_shorts(low, lower), q[1] = high_shorts(low, lower);
    q[2] = low_shorts(high, higher), q[3] = high_shorts(high, higher);
}
INLINE void weave_signed(const all_u8 rows[WOVEN_ROWS], vi q[4]) { weave(rows, q); }
INLINE vi woven_dot(const vi acc, const vi x, const vi w) { return dot4(acc, x, w); }
#else
INLINE void weave(const all_u8 rows[WOVEN_ROWS], vi q[4]) { weave_pair(rows[0], rows[1], q); }
INLINE void weave_signed(const all_u8 rows[WOVEN_ROWS], vi q[4]) { weave_signed_pair(rows[0], rows[1], q); }
INLINE vi woven_dot(const vi acc, const vi x, const vi w) { return acc + add_pairs((all_s16)x, (all_s16)w); }
#endif

/* where channel c of a vector of bytes lies, as lanes of the four that it is woven to */
INLINE int woven_place(const int c) { return c % 16 / 4 * VL + c / 16 * 4 + c % 4; }

/* What a vector of bytes holds: `count` bytes of each of `parts` places, one after the other. Both are literals; fewer
   bytes than a vector has are for AVX-512, which can leave some alone. */
struct woven_bytes {
    int count, parts;
};
#if VL == 16
typedef char masked_s8 __attribute__((vector_size(64)));
INLINE unsigned long long woven_mask(const struct woven_bytes b, const int part) {
    return (~0ull >> (64 - b.count)) << part * b.count;
}
#endif

/* the bytes of places from p on that lie `apart` */
INLINE all_u8 load_woven(const unsigned char *p, const struct woven_bytes b, const size_t apart) {
#if VL == 16
    if (b.count < WOVEN_CHANNELS && b.count % 16 == 0) {
        unsigned char lanes[WOVEN_CHANNELS] = {0};
        UNROLL for (int i = 0; i < b.parts; i++) memcpy(lanes + i * b.count, p + (size_t)i * apart, (size_t)b.count);
        return *(const all_u8_anywhere *)lanes;
    }
    if (b.count < WOVEN_CHANNELS) {
        masked_s8 v = {0};
        UNROLL for (int i = 0; i < b.parts; i++)
            v = __builtin_ia32_loaddquqi512_mask(
                (const masked_s8 *)(p + (size_t)i * apart - i * b.count), v, woven_mask(b, i));
        return (all_u8)v;
    }
#endif
    (void)b, (void)apart;
    return *(const all_u8_anywhere *)p;
}
INLINE void store_woven(unsigned char *p, const all_u8 v, const struct woven_bytes b, const size_t apart) {
#if VL == 16
    if (b.count < WOVEN_CHANNELS && b.count % 16 == 0) {
        unsigned char lanes[WOVEN_CHANNELS];
        *(all_u8_anywhere *)lanes = v;
        UNROLL for (int i = 0; i < b.parts; i++) memcpy(p + (size_t)i * apart, lanes + i * b.count, (size_t)b.count);
        return;
    }
    if (b.count < WOVEN_CHANNELS) {
        UNROLL for (int i = 0; i < b.parts; i++)
            __builtin_ia32_storedquqi512_mask(
                (masked_s8 *)(p + (size_t)i * apart - i * b.count), (masked_s8)v, woven_mask(b, i));
        return;
    }
#endif
    (void)b, (void)apart;
    *(all_u8_anywhere *)p = v;
}
#endif
