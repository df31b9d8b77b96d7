/* A clock of the day that is some seconds off, for a process that is started with this library. How many, stands in
   the eight bytes of the file that CLOCK_OFF names, and may change at any time. The monotonic clock is left alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const long long right = 0;
static const volatile long long *off;

static time_t seconds(void) {
    if (!off) {
        const char *file = getenv("CLOCK_OFF");
        int descriptor = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
        void *shared = descriptor < 0 ? MAP_FAILED : mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, descriptor, 0);
        off = shared == MAP_FAILED ? &right : shared;
    }
    return (time_t)*off;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int answer = (int)syscall(SYS_clock_gettime, clock, now);
    if (answer == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += seconds();
    return answer;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}
