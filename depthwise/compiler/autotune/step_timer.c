/* The clock of an instrumented build: net_run notes the time before its first step and after each.
   STEPS is the number of steps. Not part of any library that is saved. */
#define _POSIX_C_SOURCE 199309L
#include <time.h>

void net_note(int steps);
void net_note_all(void);

long long net_times[STEPS + 1]; /* nanoseconds of a clock that never jumps */

void net_note(int steps) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    net_times[steps] = now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* What the notes cost on their own, with nothing between them. */
void net_note_all(void) {
    for (int i = 0; i <= STEPS; i++) net_note(i);
}
