/* Convolution of float16: in vectors, of halves where these are computed with. */

#include "plain_conv_f16.h"

INLINE void f16_tile_conv(
    const struct tile_conv *a, const unsigned short *in, const unsigned short *w, const float *bias,
    const unsigned short *sum, unsigned short *out) {
    f16_plain_conv(a, in, w, bias, sum, out);
}
