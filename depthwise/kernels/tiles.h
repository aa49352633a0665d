/* AMX: eight tiles of up to 16 rows of 64 bytes, by number. A program may use them once the system has lent them
   (permission.h); each kernel configures them for itself, and releases them, so that threads need nothing more. */

#if defined(__AMX_TILE__)
struct tile_shapes {
    unsigned char palette, start, zero[14];
    unsigned short bytes[16];
    unsigned char rows[16];
};

/* 0 to 3: sums, of `pixels` rows of 16; 4 and 5: inputs, of `pixels` rows of 4 * `depth` bytes; 6 and 7: weights, of
   `depth` rows of 64 bytes */
INLINE void configure_tiles(const int pixels, const int depth) {
    struct tile_shapes shapes = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        shapes.rows[t] = (unsigned char)(t < 6 ? pixels : depth);
        shapes.bytes[t] = (unsigned short)(t == 4 || t == 5 ? 4 * depth : 64);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}
INLINE void release_tiles(void) { __asm__ volatile("tilerelease"); }

/* Rows lie `apart` bytes from each other. */
#define LOAD_TILE(T, p, apart) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #T : : "r"(p), "r"((size_t)(apart)))
#define STORE_TILE(T, p, apart) __asm__ volatile(TILE_TO(T) : : "r"(p), "r"((size_t)(apart)) : "memory")
#define TILE_TO(T) "tilestored %%tmm" #T ", (%0,%1,1)"
/* sums += inputs * weights, of bfloat16 */
#define MULTIPLY_BF16(sums, in, w) __asm__ volatile("tdpbf16ps %%tmm" #w ", %%tmm" #in ", %%tmm" #sums : :)
/* sums += inputs * weights, of bytes, weights with a sign */
#define MULTIPLY_U8(sums, in, w) __asm__ volatile("tdpbusd %%tmm" #w ", %%tmm" #in ", %%tmm" #sums : :)
#endif
