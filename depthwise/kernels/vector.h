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
#define ROLLED
#else
#define UNROLL _Pragma("GCC unroll 64")
#define ROLLED _Pragma("GCC unroll 1") /* gcc unrolls short loops whose sums then do not stay in their registers */
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
#define ROLLED
#endif

/* Vectors in registers, and as they lie anywhere among floats. gcc keeps a sum in one register only if all that it was
   and becomes has one alignment. */
#if VL == 1
typedef float vf, vf_anywhere;
typedef int vi; /* a mask is 0 or 1 */
#else
typedef float vf __attribute__((vector_size(VL * 4)));
typedef int vi __attribute__((vector_size(VL * 4)));
typedef vf vf_anywhere __attribute__((aligned(4), may_alias));
typedef vi vi_anywhere __attribute__((aligned(4), may_alias));
#endif

INLINE vf load(const float *p) { return *(const vf_anywhere *)p; }
INLINE void store(float *p, vf v) { *(vf_anywhere *)p = v; }
INLINE vf splat(float x) { return x - (vf){0}; }

/* gcc has no word in its vector extensions for some instructions of x86, and goes through memory or lane by lane where
   clang finds them in plain C; a wide load then waits for the narrow stores before it. They are named for it. */
#if VL > 1 && defined(__GNUC__) && !defined(__clang__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector) /* from gcc 12 on; older ones take the plain C */
#define GCC
#endif
#endif
#if defined(GCC)
#pragma GCC optimize("no-gcse") /* it carries the numbers of an activation on the stack from tile to tile */
#if VL == 16 && defined(__AVX512DQ__)
#define GCC_AVX512
#elif VL == 8 && defined(__AVX__)
#define GCC_AVX
#elif VL == 4 && defined(__SSE__)
#define GCC_SSE
#endif
#endif

/* No vector is in a register here. So gcc does not keep the numbers of an activation in registers across a tile that
   needs all of them: it put sums on the stack for their sake. */
INLINE void free_registers(void) {
#if defined(GCC_AVX512)
    __asm__ volatile("" ::: "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
                     "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
#endif
#if defined(GCC_AVX512) || defined(GCC_AVX) || defined(GCC_SSE)
    __asm__ volatile("" ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                     "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#endif
}

/* v, in a register: gcc else loads it again from memory for each of two uses */
INLINE vf held(vf v) {
#if defined(GCC_AVX512)
    __asm__("" : "+v"(v));
#elif defined(GCC_AVX) || defined(GCC_SSE)
    __asm__("" : "+x"(v));
#endif
    return v;
}

/* v, rounded: no multiplication before it becomes one instruction with an addition after it */
#if VL == 1 || !(defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || defined(__wasm__))
INLINE vf rounded(vf v) {
    volatile vf kept = v;
    return kept;
}
#else
INLINE vf rounded(vf v) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#elif !defined(__wasm__) /* which has no such instruction */
    __asm__("" : "+x"(v));
#endif
    return v;
}
#endif

/* Runs of neighbouring floats: `runs` of `count`, which lie `apart` from each other in memory, each from a multiple of
   `width` lanes on. All but `apart` are literals; other lanes are zero, or are not stored. */
#if defined(GCC)
/* by parts of 4 and 8 lanes, for gcc would go through memory */
typedef float v4 __attribute__((vector_size(16)));
typedef v4 v4_anywhere __attribute__((aligned(4), may_alias));
struct runs { size_t apart; int runs, width, count; };

/* what is left of a run from a lane on, and where that lies */
INLINE int run_left(const struct runs a, const int lane) {
    return lane / a.width < a.runs ? a.count - lane % a.width : 0;
}
INLINE size_t run_place(const struct runs a, const int lane) { return lane / a.width * a.apart + lane % a.width; }

/* the part that begins at `lane` */
INLINE v4 load4(const float *p, const struct runs a, const int lane) {
    if (run_left(a, lane) >= 4) return *(const v4_anywhere *)(p + run_place(a, lane));
    v4 v = {0};
    UNROLL for (int i = lane; i < lane + 4; i++)
        if (run_left(a, i) > 0) v[i % 4] = p[run_place(a, i)];
    return v;
}
INLINE void store4(float *p, const v4 v, const struct runs a, const int lane) {
    if (run_left(a, lane) >= 4) {
        *(v4_anywhere *)(p + run_place(a, lane)) = v;
        return;
    }
    UNROLL for (int i = lane; i < lane + 4; i++)
        if (run_left(a, i) > 0) p[run_place(a, i)] = v[i % 4];
}
#if VL == 4
#define load_lanes load4
#define store_lanes store4
#else
typedef float v8 __attribute__((vector_size(32)));
typedef v8 v8_anywhere __attribute__((aligned(4), may_alias));
INLINE v8 load8(const float *p, const struct runs a, const int lane) {
    if (run_left(a, lane) >= 8) return *(const v8_anywhere *)(p + run_place(a, lane));
    return __builtin_shufflevector(load4(p, a, lane), load4(p, a, lane + 4), 0, 1, 2, 3, 4, 5, 6, 7);
}
INLINE void store8(float *p, const v8 v, const struct runs a, const int lane) {
    if (run_left(a, lane) >= 8) {
        *(v8_anywhere *)(p + run_place(a, lane)) = v;
        return;
    }
    store4(p, __builtin_shufflevector(v, v, 0, 1, 2, 3), a, lane);
    store4(p, __builtin_shufflevector(v, v, 4, 5, 6, 7), a, lane + 4);
}
#if VL == 8
#define load_lanes load8
#define store_lanes store8
#else
INLINE vf load_lanes(const float *p, const struct runs a, const int lane) {
    return __builtin_shufflevector(load8(p, a, lane), load8(p, a, lane + 8), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
                                   13, 14, 15);
}
INLINE void store_lanes(float *p, const vf v, const struct runs a, const int lane) {
    store8(p, __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), a, lane);
    store8(p, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15), a, lane + 8);
}
#endif
#endif

INLINE vf load_runs(const float *p, const size_t apart, const int runs, const int width, const int count) {
    if (count == VL) return load(p);
    return load_lanes(p, (struct runs){apart, runs, width, count}, 0);
}
INLINE void store_runs(float *p, const vf v, const size_t apart, const int runs, const int width, const int count) {
    if (count == VL) store(p, v);
    else store_lanes(p, v, (struct runs){apart, runs, width, count}, 0);
}
#else
INLINE vf load_runs(const float *p, const size_t apart, const int runs, const int width, const int count) {
    if (count == VL) return load(p);
    float lanes[VL] = {0};
    UNROLL for (int i = 0; i < runs; i++) memcpy(lanes + i * width, p + i * apart, (size_t)count * sizeof(float));
    return load(lanes);
}
INLINE void store_runs(float *p, const vf v, const size_t apart, const int runs, const int width, const int count) {
    float lanes[VL];
    store(lanes, v);
    UNROLL for (int i = 0; i < runs; i++) memcpy(p + i * apart, lanes + i * width, (size_t)count * sizeof(float));
}
#endif

/* The first `count` floats, a literal up to VL; lanes past them are zero, or are not written. */
INLINE vf load_part(const float *p, const int count) { return load_runs(p, 0, 1, VL, count); }
INLINE void store_part(float *p, const vf v, const int count) { store_runs(p, v, 0, 1, VL, count); }

/* the first n floats over and over; n is a literal, a power of two up to VL */
INLINE vf repeat(const float *p, const int n) {
    if (n == 1) return splat(*p);
    if (n == VL) return load(p);
#if defined(GCC)
    if (n == 2) {
        typedef long long pairs __attribute__((vector_size(VL * 4)));
        long long pair;
        memcpy(&pair, p, sizeof pair);
        return (vf)(pair + (pairs){0});
    }
#if defined(GCC_AVX512)
    if (n == 4) return __builtin_ia32_broadcastf32x4_512(*(const v4_anywhere *)p, (vf){0}, -1);
    return __builtin_ia32_broadcastf32x8_512_mask(*(const v8_anywhere *)p, (vf){0}, -1);
#endif
#endif
    return load_runs(p, 0, VL / n, n, n);
}

/* lane i is the one numbered from[i], of a up to VL and of b from there on; `from` holds literals */
#if VL > 1
INLINE vf pick(const vf a, const vf b, const int *from) {
#if defined(GCC)
    return __builtin_shuffle(a, b, *(const vi_anywhere *)from);
#else
    vf v;
    UNROLL for (int i = 0; i < VL; i++) v[i] = from[i] < VL ? a[from[i]] : b[from[i] - VL];
    return v;
#endif
}
#endif

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
/* a > b ? a : b and a < b ? a : b, which are b where one is NaN: an instruction of x86, and WebAssembly's pmax. ARM's
   gives NaN where one is. */
#if defined(HAS_MAXIMUM) && VL > 1
INLINE vf larger(vf a, vf b) { return __builtin_elementwise_maximum(a, b); }
INLINE vf smaller(vf a, vf b) { return __builtin_elementwise_minimum(a, b); }
#elif defined(GCC_AVX512)
INLINE vf larger(vf a, vf b) { return __builtin_ia32_maxps512_mask(a, b, a, -1, 4); }
INLINE vf smaller(vf a, vf b) { return __builtin_ia32_minps512_mask(a, b, a, -1, 4); }
#elif defined(GCC_AVX)
INLINE vf larger(vf a, vf b) { return __builtin_ia32_maxps256(a, b); }
INLINE vf smaller(vf a, vf b) { return __builtin_ia32_minps256(a, b); }
#elif defined(GCC_SSE)
INLINE vf larger(vf a, vf b) { return __builtin_ia32_maxps(a, b); }
INLINE vf smaller(vf a, vf b) { return __builtin_ia32_minps(a, b); }
#else
INLINE vf larger(vf a, vf b) { return blend((vi)(a > b), a, b); }
INLINE vf smaller(vf a, vf b) { return blend((vi)(a < b), a, b); }
#endif

/* The larger and the smaller of two numbers, NaN where one is, as PyTorch has them: a is looked at, for one more
   instruction where a mask can say which lanes are computed (VL 16), two elsewhere, and none where it is a literal. */
#if defined(HAS_MAXIMUM) && VL > 1
INLINE vf vmax(vf a, vf b) { return larger(a, b); }
INLINE vf vmin(vf a, vf b) { return smaller(a, b); }
#elif VL == 16 || VL == 1
INLINE vf vmax(vf a, vf b) { return blend((vi)(a != a), a, larger(a, b)); }
INLINE vf vmin(vf a, vf b) { return blend((vi)(a != a), a, smaller(a, b)); }
#else
INLINE vf vmax(vf a, vf b) { return (vf)((vi)(a != a) | (vi)larger(a, b)); }
INLINE vf vmin(vf a, vf b) { return (vf)((vi)(a != a) | (vi)smaller(a, b)); }
#endif

INLINE float vsum(vf v) {
    float lanes[VL], total = 0;
    store(lanes, v);
    UNROLL for (int i = 0; i < VL; i++) total += lanes[i];
    return total;
}
