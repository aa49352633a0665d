/* The most multiply-adds that a core does: CHAINS independent chains of `rounds` fused ones, each of
   VL floats. 24 chains (12 where there are 16 registers) hide the latency of any core's FMA units. */
void peak_run(long rounds, const float *factors, float *out);

void peak_run(long rounds, const float *factors, float *out) {
    const vf a = splat(factors[0]), b = splat(factors[1]);
    vf sums[CHAINS], all = {0};
    UNROLL for (int k = 0; k < CHAINS; k++) sums[k] = splat((float)k);
    for (long i = 0; i < rounds; i++) {
        UNROLL for (int k = 0; k < CHAINS; k++) sums[k] = sums[k] * a + b;
    }
    UNROLL for (int k = 0; k < CHAINS; k++) all += sums[k];
    store(out, all);
}
