/* What a core can do at best, measured: multiply-adds, reading, waiting for another thread. Needs vector.h; the
   including file defines CHAINS and, for POSIX's clock and sched_yield, _POSIX_C_SOURCE.

   Each probe runs in `threads` threads at once, that meet at `gate` and start together; it returns the seconds from
   there to its own end. */
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

struct gate {
    _Alignas(64) atomic_int arrived; /* on a cache line each, or every arrival would disturb those that wait */
    _Alignas(64) atomic_int turn;
};

/* A spin barrier: the last to arrive starts the next turn. Waiting, a thread gives up its core now and then, for on a
   machine of one core the other could not come otherwise. */
static void meet(struct gate *gate, const int threads) {
    const int turn = atomic_load(&gate->turn);
    if (atomic_fetch_add(&gate->arrived, 1) == threads - 1) {
        atomic_store(&gate->arrived, 0);
        atomic_store(&gate->turn, turn + 1);
        return;
    }
    for (int spins = 1; atomic_load_explicit(&gate->turn, memory_order_acquire) == turn; spins++)
        if (spins % 65536 == 0) sched_yield();
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile float factor = 0.5f; /* unknown to the compiler, as the sums are that it must not drop */
static volatile float sink;

/* steps x CHAINS x VL multiply-adds; each chain waits for itself alone */
double probe_fma(const long steps, const int threads, struct gate *gate) {
    const vf a = splat(factor);
    vf acc[CHAINS];
    UNROLL for (int k = 0; k < CHAINS; k++) acc[k] = splat((float)k);
    meet(gate, threads);
    const double start = now();
    for (long i = 0; i < steps; i++)
        UNROLL for (int k = 0; k < CHAINS; k++) acc[k] = acc[k] * a + a;
    const double seconds = now() - start;
    float total = 0;
    UNROLL for (int k = 0; k < CHAINS; k++) total += vsum(acc[k]);
    sink = total;
    return seconds;
}

/* `passes` times over `floats` floats from `in`, a multiple of 8 vectors, each loaded once and added up */
double probe_read(const float *in, const long floats, const long passes, const int threads, struct gate *gate) {
    vf acc[8];
    UNROLL for (int k = 0; k < 8; k++) acc[k] = splat(0);
    meet(gate, threads);
    const double start = now();
    for (long pass = 0; pass < passes; pass++)
        for (long i = 0; i < floats; i += 8 * VL)
            UNROLL for (int k = 0; k < 8; k++) acc[k] += load(in + i + k * VL);
    const double seconds = now() - start;
    float total = 0;
    UNROLL for (int k = 0; k < 8; k++) total += vsum(acc[k]);
    sink = total;
    return seconds;
}

/* `times` meetings of `threads` threads */
double probe_barrier(const long times, const int threads, struct gate *gate) {
    meet(gate, threads);
    const double start = now();
    for (long i = 0; i < times; i++) meet(gate, threads);
    return now() - start;
}
