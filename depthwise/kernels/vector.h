/* Vectors of VL floats, in GCC's and clang's vector extensions: one source for AVX-512, AVX2, NEON and
   WebAssembly. The including file defines VL (16, 8, 4 or 1) and includes <math.h> and <string.h>. With VL 1 all of
   it is plain C11 on floats, for whatever compiler there is; NET_PLAIN keeps GCC and clang to that, too.

   Letters: n batch, c input channel, k output channel, y x output pixel, r s kernel tap. */

#if (defined(__GNUC__) || defined(__clang__)) && !defined(NET_PLAIN)
#define INLINE static inline __attribute__((always_inline, unused))
#define NOINLINE static __attribute__((noinline, unused))
#define PREFETCH(address, near) __builtin_prefetch(address, 0, near) /* 3 for the first cache, 2 for the second */
#define ANYWHERE __attribute__((aligned(4), may_alias)) /* among floats, where an 8-byte number is not aligned */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif
#else
#if VL > 1
#error this C needs the vector extensions of GCC and clang: compile the network for "portable", or link its library
#endif
#define INLINE static inline
#define NOINLINE static
#define PREFETCH(address, near) ((void)(address))
#define ANYWHERE
#define UNROLL
#endif

#if VL == 1
typedef float vf;
typedef int vi; /* a mask is 0 or 1 */
#else
typedef float vf __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int vi __attribute__((vector_size(VL * 4), aligned(4), may_alias));
#endif

INLINE vf load(const float *p) { return *(const vf *)p; }
INLINE void store(float *p, vf v) { *(vf *)p = v; }
INLINE vf splat(float x) { return x - (vf){0}; }

/* The first `count` floats, a literal up to VL; lanes past them are zero, or are not written. */
INLINE vf load_part(const float *p, const int count) {
    if (count == VL) return load(p);
    vf v = {0};
    memcpy(&v, p, (size_t)count * sizeof(float));
    return v;
}
INLINE void store_part(float *p, vf v, const int count) {
    if (count == VL) store(p, v);
    else memcpy(p, &v, (size_t)count * sizeof(float));
}

/* Where an element lies, along the first axes of an array with these strides. */
INLINE size_t at2(const int *stride, const int i0, const int i1) {
    return (size_t)i0 * stride[0] + (size_t)i1 * stride[1];
}
INLINE size_t at3(const int *stride, const int i0, const int i1, const int i2) {
    return at2(stride, i0, i1) + (size_t)i2 * stride[2];
}
INLINE size_t at4(const int *stride, const int i0, const int i1, const int i2, const int i3) {
    return at3(stride, i0, i1, i2) + (size_t)i3 * stride[3];
}
INLINE size_t at5(const int *stride, const int i0, const int i1, const int i2, const int i3, const int i4) {
    return at4(stride, i0, i1, i2, i3) + (size_t)i4 * stride[4];
}
INLINE size_t at6(
    const int *stride, const int i0, const int i1, const int i2, const int i3, const int i4, const int i5) {
    return at5(stride, i0, i1, i2, i3, i4) + (size_t)i5 * stride[5];
}

/* mask lanes are 0 or -1, as comparisons give them */
#if VL == 1
INLINE vf blend(vi mask, vf yes, vf no) { return mask ? yes : no; }
#else
INLINE vf blend(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
#endif

#if defined(__has_builtin) && defined(__aarch64__)
#if __has_builtin(__builtin_elementwise_maximum)
#define HAS_MAXIMUM
#endif
#endif
/* The larger and the smaller of two numbers, NaN where one is, as PyTorch has them. ARM has an instruction for each.
   maxps and WebAssembly's pmax are a > b ? a : b, which passes on the NaN of b, so that a alone is looked at: one more
   instruction where a mask can say which lanes are computed (VL 16), two elsewhere, and none where a is a literal. */
#if defined(HAS_MAXIMUM) && VL > 1
INLINE vf vmax(vf a, vf b) { return __builtin_elementwise_maximum(a, b); }
INLINE vf vmin(vf a, vf b) { return __builtin_elementwise_minimum(a, b); }
#elif VL == 16 || VL == 1
INLINE vf vmax(vf a, vf b) { return blend((vi)(a != a), a, blend((vi)(a > b), a, b)); }
INLINE vf vmin(vf a, vf b) { return blend((vi)(a != a), a, blend((vi)(a < b), a, b)); }
#else
INLINE vf vmax(vf a, vf b) { return (vf)((vi)(a != a) | (vi)blend((vi)(a > b), a, b)); }
INLINE vf vmin(vf a, vf b) { return (vf)((vi)(a != a) | (vi)blend((vi)(a < b), a, b)); }
#endif

INLINE float vsum(vf v) {
    float lanes[VL], total = 0;
    store(lanes, v);
    UNROLL for (int i = 0; i < VL; i++) total += lanes[i];
    return total;
}
