/* What threads.h takes of pthreads; Windows has the same under names of its own. */

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

typedef SRWLOCK pthread_mutex_t;
typedef CONDITION_VARIABLE pthread_cond_t;
typedef struct { HANDLE handle; void *(*run)(void *); void *argument; } pthread_t; /* stays where it was started */

static int pthread_mutex_init(pthread_mutex_t *mutex, const void *none) {
    return (void)none, InitializeSRWLock(mutex), 0;
}
static int pthread_mutex_destroy(pthread_mutex_t *mutex) { return (void)mutex, 0; }
static int pthread_mutex_lock(pthread_mutex_t *mutex) { return AcquireSRWLockExclusive(mutex), 0; }
static int pthread_mutex_unlock(pthread_mutex_t *mutex) { return ReleaseSRWLockExclusive(mutex), 0; }
static int pthread_cond_init(pthread_cond_t *condition, const void *none) {
    return (void)none, InitializeConditionVariable(condition), 0;
}
static int pthread_cond_destroy(pthread_cond_t *condition) { return (void)condition, 0; }
static int pthread_cond_signal(pthread_cond_t *condition) { return WakeConditionVariable(condition), 0; }
static int pthread_cond_broadcast(pthread_cond_t *condition) { return WakeAllConditionVariable(condition), 0; }
static int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    return !SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}

static DWORD WINAPI pthread_begin(void *thread) {
    const pthread_t *own = (const pthread_t *)thread;
    own->run(own->argument);
    return 0;
}
static int pthread_create(pthread_t *thread, const void *none, void *(*run)(void *), void *argument) {
    (void)none;
    thread->run = run;
    thread->argument = argument;
    thread->handle = CreateThread(NULL, 0, pthread_begin, thread, 0, NULL);
    return thread->handle ? 0 : (int)GetLastError();
}
static int pthread_join(pthread_t thread, void **none) {
    (void)none;
    WaitForSingleObject(thread.handle, INFINITE);
    return !CloseHandle(thread.handle);
}
#else
#include <pthread.h>
#endif
