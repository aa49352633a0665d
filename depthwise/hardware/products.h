/* What a core can multiply of narrow types at best, measured as probes.h measures. The including file names one way by
   a macro, and has the headers before it: PROBE_HALVES (float16), PROBE_DOTS (four products of bytes a lane),
   PROBE_PAIRS (bytes as 16 bits, two products a lane), PROBE_BF16_TILES and PROBE_U8_TILES (AMX: net_tiles tells
   whether the system lends the tiles). */

#if defined(PROBE_BF16_TILES) || defined(PROBE_U8_TILES)
#if defined(PROBE_BF16_TILES)
#define PROBE_MULTIPLY MULTIPLY_BF16
#else
#define PROBE_MULTIPLY MULTIPLY_U8
#endif

/* steps x 4 products of whole tiles, as kernels have them: two of pixels by two of outputs */
double probe_products(const long steps, const int threads, struct gate *gate) {
    int numbers[16 * 16] __attribute__((aligned(64))) = {0};
    configure_tiles(16, 16);
    LOAD_TILE(0, numbers, 64);
    LOAD_TILE(1, numbers, 64);
    LOAD_TILE(2, numbers, 64);
    LOAD_TILE(3, numbers, 64);
    LOAD_TILE(4, numbers, 64);
    LOAD_TILE(5, numbers, 64);
    LOAD_TILE(6, numbers, 64);
    LOAD_TILE(7, numbers, 64);
    meet(gate, threads);
    const double start = now();
    for (long i = 0; i < steps; i++) {
        PROBE_MULTIPLY(0, 4, 6);
        PROBE_MULTIPLY(1, 4, 7);
        PROBE_MULTIPLY(2, 5, 6);
        PROBE_MULTIPLY(3, 5, 7);
    }
    STORE_TILE(0, numbers, 64); /* which waits for the products */
    const double seconds = now() - start;
    release_tiles();
    return seconds;
}
#else
#if defined(PROBE_HALVES)
typedef _Float16 probe_vector __attribute__((vector_size(VL * 4)));
INLINE probe_vector probe_numbers(void) { return (_Float16)factor - (probe_vector){0}; }
INLINE probe_vector probe_multiply(const probe_vector acc, const probe_vector a) { return acc * a + a; }
#else
typedef vi probe_vector;
INLINE probe_vector probe_numbers(void) { return (int)(4 * factor) - (vi){0}; }
INLINE probe_vector probe_multiply(const probe_vector acc, const probe_vector a) {
#if defined(PROBE_DOTS)
    return dot4(acc, a, a);
#else
    return acc + add_pairs((all_s16)acc, (all_s16)a); /* of the sum itself, or all chains would share one product */
#endif
}
#endif

/* steps x CHAINS multiply-adds of vectors; each chain waits for itself alone */
double probe_products(const long steps, const int threads, struct gate *gate) {
    const probe_vector a = probe_numbers();
    probe_vector acc[CHAINS];
    UNROLL for (int k = 0; k < CHAINS; k++) acc[k] = a;
    meet(gate, threads);
    const double start = now();
    for (long i = 0; i < steps; i++)
        UNROLL for (int k = 0; k < CHAINS; k++) acc[k] = probe_multiply(acc[k], a);
    const double seconds = now() - start;
    float total = 0;
    UNROLL for (int k = 0; k < CHAINS; k++) total += (float)acc[k][0];
    sink = total;
    return seconds;
}
#endif
