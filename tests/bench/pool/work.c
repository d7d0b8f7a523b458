// The work of the pool's benchmarks, in a program so small that what is measured is who starts it, and when.
//
//   work wait S cpu S ...            phases: sleep, or use so many seconds of CPU time (not of the clock)
//   work hold BYTES BYTES_PER_S S    take memory at that rate up to BYTES, keep it for S, end
//   work loop PERIOD_S COUNT CPU_S   a request every PERIOD_S; prints for each the ms from when it was due until it is done
//
// Steps are counted, not clocked: what stands still because it was frozen does not catch up afterwards.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define STEP_S 0.01

static double now_s(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void wait_s(double s) {
    struct timespec t = {(time_t)s, (long)((s - (time_t)s) * 1e9)};
    while (nanosleep(&t, &t)) {
    }
}

static void cpu_s(double s) {
    double until = now_s(CLOCK_PROCESS_CPUTIME_ID) + s;
    volatile unsigned long x = 1;
    while (now_s(CLOCK_PROCESS_CPUTIME_ID) < until)
        for (int i = 0; i < 20000; i++) x = x * 6364136223846793005UL + 1442695040888963407UL;
}

static int hold(double bytes, double per_s, double s) {
    char *all = mmap(NULL, (size_t)bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return 1;
    for (double at = 0; at < bytes;) {
        double to = at + per_s * STEP_S;
        if (to > bytes) to = bytes;
        memset(all + (size_t)at, 1, (size_t)to - (size_t)at);
        at = to;
        wait_s(STEP_S);
    }
    for (; s > 0; s -= STEP_S) wait_s(s < STEP_S ? s : STEP_S);
    return 0;
}

static int loop(double period_s, int count, double used_s) {
    double begin_s = now_s(CLOCK_MONOTONIC);
    for (int i = 1; i <= count; i++) {
        double due_s = begin_s + i * period_s;
        struct timespec t = {(time_t)due_s, (long)((due_s - (time_t)due_s) * 1e9)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) {
        }
        cpu_s(used_s);
        printf("%.3f\n", (now_s(CLOCK_MONOTONIC) - due_s) * 1e3);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "hold")) return hold(atof(argv[2]), atof(argv[3]), atof(argv[4]));
    if (argc == 5 && !strcmp(argv[1], "loop")) return loop(atof(argv[2]), atoi(argv[3]), atof(argv[4]));
    if (argc < 3 || argc % 2 == 0) return 2;
    for (int i = 1; i < argc; i += 2) {
        if (!strcmp(argv[i], "wait")) wait_s(atof(argv[i + 1]));
        else if (!strcmp(argv[i], "cpu")) cpu_s(atof(argv[i + 1]));
        else return 2;
    }
    return 0;
}
