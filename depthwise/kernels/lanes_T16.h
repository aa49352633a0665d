/* Vectors of floats from numbers of 16 bits, and back. */

#include "T16.h"

/* `count` numbers, a literal up to VL */
INLINE vf T16_load(const unsigned short *p, const int count) {
    vh half = {0};
    memcpy(&half, p, (size_t)count * sizeof *p);
    return T16_floats(half);
}
INLINE void T16_store(unsigned short *p, const vf v, const int count) {
    const vh half = T16_halves(v);
    memcpy(p, &half, (size_t)count * sizeof *p);
}
