/* Threads that do parts of one task at the same time. The including file defines NET_THREADS, the caller's own
   thread included, and NET_API, and includes <stddef.h>.

   Between two tasks the workers spin, for at most SPINS pauses (about a third of a millisecond), then they sleep: a
   barrier between two layers takes well under a microsecond, and an idle network burns nothing. */

#include "pthreads.h"
#include "tasks.h"

enum { SPINS = 1 << 14 };

#if !defined(__GNUC__)
#define PAUSE() YieldProcessor() /* Windows' */
#elif defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__) || defined(__arm__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

/* All that is shared is read and written in one order that every thread sees: a worker that goes to sleep counts
   itself before it looks for a task, and the caller sets a task before it counts the sleepers. */
#if defined(__GNUC__)
#define GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SET(x, value) __atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#define ADD(x, value) __atomic_add_fetch(&(x), value, __ATOMIC_SEQ_CST)
#define SWAP(x, value) __atomic_exchange_n(&(x), value, __ATOMIC_SEQ_CST)
#else /* Windows', whose LONG has the 32 bits of an int */
#define SHARED(x) ((volatile LONG *)&(x))
#define GET(x) InterlockedCompareExchange(SHARED(x), 0, 0)
#define SET(x, value) ((void)InterlockedExchange(SHARED(x), (LONG)(value)))
#define ADD(x, value) (InterlockedExchangeAdd(SHARED(x), (LONG)(value)) + (value))
#define SWAP(x, value) InterlockedExchange(SHARED(x), (LONG)(value))
#endif

/* Makes *x `to` where it is `from`, and tells whether it was. */
static int net_claim(unsigned *x, unsigned from, unsigned to) {
#if defined(__GNUC__)
    return __atomic_compare_exchange_n(x, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
#else
    return InterlockedCompareExchange(SHARED(*x), (LONG)to, (LONG)from) == (LONG)from;
#endif
}

enum { PARTS = 128, LINES = 128 }; /* more than the parts of any task; bytes that processors fetch together */

/* One part of tasks: the last task of which somebody took it, and the last of which it is done. It has cache lines of
   its own: whoever does it takes and ends it without waiting for others that do the same at that moment. */
struct net_part {
    unsigned taken, done;
    char apart[LINES - 2 * sizeof(unsigned)];
};

struct net_worker {
    pthread_t thread;
    struct net_pool *pool;
    int part;
};

struct net_pool {
    unsigned epoch; /* PARTS times the number of the task, and its parts */
    int stopping;
    net_task task;
    const void *network;
    int sleeping, waiting, busy; /* workers asleep; the caller asleep; a caller is here */
    char apart[LINES];
    struct net_part parts[NET_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t wake, done;
    struct net_worker workers[NET_THREADS];
};

/* Does a part of task `epoch` unless somebody took it. A part can only be taken of the task that is being done, for
   that ends with its last part; so it is after taking one that the task may be read. */
static void net_take(struct net_pool *pool, unsigned epoch, int part) {
    struct net_part *own = &pool->parts[part];
    const unsigned last = (unsigned)GET(own->taken);
    if (last == epoch || (unsigned)GET(pool->epoch) != epoch) return;
    if (!net_claim(&own->taken, last, epoch)) return;
    pool->task(pool->network, part);
    SET(own->done, epoch);
    if (GET(pool->waiting)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* Tells whether all parts of the task that is being done are. */
static int net_done(struct net_pool *pool) {
    const unsigned epoch = pool->epoch;
    for (int part = 0; part < (int)(epoch % PARTS); part++)
        if ((unsigned)GET(pool->parts[part].done) != epoch) return 0;
    return 1;
}

static void *net_work(void *argument) {
    struct net_worker *worker = (struct net_worker *)argument;
    struct net_pool *pool = worker->pool;
    unsigned seen = 0;
    while (!GET(pool->stopping)) {
        for (int i = 0; i < SPINS && (unsigned)GET(pool->epoch) == seen; i++) PAUSE();
        if ((unsigned)GET(pool->epoch) == seen) {
            pthread_mutex_lock(&pool->mutex);
            ADD(pool->sleeping, 1);
            while ((unsigned)GET(pool->epoch) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
            pthread_mutex_unlock(&pool->mutex);
        }
        seen = (unsigned)GET(pool->epoch);
        if (worker->part < (int)(seen % PARTS)) net_take(pool, seen, worker->part);
    }
    return NULL;
}

/* Lets the workers see a new task of a number of parts; with none they find nothing to take. */
static void net_begin(struct net_pool *pool, int parts) {
    SET(pool->epoch, (pool->epoch / PARTS + 1) * PARTS + (unsigned)parts);
    if (GET(pool->sleeping)) {
        pthread_mutex_lock(&pool->mutex);
        SET(pool->sleeping, 0);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

NET_API size_t net_pool_bytes(void);
NET_API int net_pool_start(void *memory);
NET_API void net_pool_stop(void *memory);
NET_API void net_pool_run(void *memory, net_task task, const void *network, int parts);

size_t net_pool_bytes(void) { return sizeof(struct net_pool); }

/* Stops the first `workers` threads, and waits for them. */
static void net_join(struct net_pool *pool, int workers) {
    SET(pool->stopping, 1);
    net_begin(pool, 0);
    for (int i = 0; i < workers; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_mutex_destroy(&pool->mutex);
    pthread_cond_destroy(&pool->wake);
    pthread_cond_destroy(&pool->done);
}

int net_pool_start(void *memory) {
    struct net_pool *pool = (struct net_pool *)memory;
    memset(pool, 0, sizeof *pool);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (int i = 0; i < NET_THREADS - 1; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].part = i + 1;
        const int error = pthread_create(&pool->workers[i].thread, NULL, net_work, &pool->workers[i]);
        if (error) {
            net_join(pool, i);
            return error;
        }
    }
    return 0;
}

void net_pool_stop(void *memory) { net_join((struct net_pool *)memory, NET_THREADS - 1); }

/* Does all parts of a task. Where another caller's task is being done, this caller does its parts alone. */
void net_pool_run(void *memory, net_task task, const void *network, int parts) {
    struct net_pool *pool = (struct net_pool *)memory;
    if (SWAP(pool->busy, 1)) {
        for (int part = 0; part < parts; part++) task(network, part);
        return;
    }
    pool->task = task;
    pool->network = network;
    net_begin(pool, parts);
    /* first one's own; where the system keeps a thread off its core, its part is not waited for */
    for (int part = 0; part < parts; part++) net_take(pool, pool->epoch, part);
    for (int i = 0; i < SPINS && !net_done(pool); i++) PAUSE();
    if (!net_done(pool)) {
        pthread_mutex_lock(&pool->mutex);
        SET(pool->waiting, 1);
        while (!net_done(pool)) pthread_cond_wait(&pool->done, &pool->mutex);
        SET(pool->waiting, 0);
        pthread_mutex_unlock(&pool->mutex);
    }
    SET(pool->busy, 0);
}
