/* Threads that do parts of one task at the same time. The including file defines NET_THREADS, the caller's own
   thread included, and includes <pthread.h> and <stddef.h>.

   Between two tasks the workers spin, for at most SPINS pauses (about a third of a millisecond), then they sleep: a
   barrier between two layers takes well under a microsecond, and an idle network burns nothing. */

typedef void (*net_task)(const void *network, int part);
typedef void (*net_parallel_for)(void *context, net_task task, const void *network, int parts);

enum { SPINS = 1 << 14 };

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__) || defined(__arm__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

/* All that is shared is read and written in one order that every thread sees: a worker that goes to sleep counts
   itself before it looks for a task, and the caller sets a task before it counts the sleepers. */
#define GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SET(x, value) __atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#define ADD(x, value) __atomic_add_fetch(&(x), value, __ATOMIC_SEQ_CST)

struct net_worker {
    pthread_t thread;
    struct net_pool *pool;
    int part;
};

struct net_pool {
    unsigned epoch; /* counts the tasks */
    int stopping;
    net_task task;
    const void *network;
    int parts;
    char apart_1[64];
    int unfinished; /* workers that have not done their part */
    char apart_2[64];
    int sleeping, waiting, busy; /* workers asleep; the caller asleep; a caller is here */
    pthread_mutex_t mutex;
    pthread_cond_t wake, done;
    struct net_worker workers[NET_THREADS];
};

static void *net_work(void *argument) {
    struct net_worker *worker = (struct net_worker *)argument;
    struct net_pool *pool = worker->pool;
    for (unsigned seen = 0;; seen++) {
        for (int i = 0; i < SPINS && GET(pool->epoch) == seen; i++) PAUSE();
        if (GET(pool->epoch) == seen) {
            pthread_mutex_lock(&pool->mutex);
            ADD(pool->sleeping, 1);
            while (GET(pool->epoch) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
            ADD(pool->sleeping, -1);
            pthread_mutex_unlock(&pool->mutex);
        }
        if (GET(pool->stopping)) return NULL;
        if (worker->part < pool->parts) pool->task(pool->network, worker->part);
        if (ADD(pool->unfinished, -1) == 0 && GET(pool->waiting)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

static void net_pool_begin(struct net_pool *pool, int workers) {
    SET(pool->unfinished, workers);
    ADD(pool->epoch, 1);
    if (GET(pool->sleeping)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

size_t net_pool_bytes(void);
int net_pool_start(void *memory);
void net_pool_stop(void *memory);
void net_pool_run(void *memory, net_task task, const void *network, int parts);

size_t net_pool_bytes(void) { return sizeof(struct net_pool); }

/* Stops the first `workers` threads, and waits for them. */
static void net_pool_join(struct net_pool *pool, int workers) {
    SET(pool->stopping, 1);
    net_pool_begin(pool, workers);
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
            net_pool_join(pool, i);
            return error;
        }
    }
    return 0;
}

void net_pool_stop(void *memory) { net_pool_join((struct net_pool *)memory, NET_THREADS - 1); }

/* Does all parts of a task. Where another caller's task is being done, this caller does its parts alone. */
void net_pool_run(void *memory, net_task task, const void *network, int parts) {
    struct net_pool *pool = (struct net_pool *)memory;
    if (__atomic_exchange_n(&pool->busy, 1, __ATOMIC_SEQ_CST)) {
        for (int part = 0; part < parts; part++) task(network, part);
        return;
    }
    pool->task = task;
    pool->network = network;
    pool->parts = parts;
    net_pool_begin(pool, NET_THREADS - 1);
    task(network, 0);
    for (int i = 0; i < SPINS && GET(pool->unfinished); i++) PAUSE();
    if (GET(pool->unfinished)) {
        pthread_mutex_lock(&pool->mutex);
        SET(pool->waiting, 1);
        while (GET(pool->unfinished)) pthread_cond_wait(&pool->done, &pool->mutex);
        SET(pool->waiting, 0);
        pthread_mutex_unlock(&pool->mutex);
    }
    SET(pool->busy, 0);
}
