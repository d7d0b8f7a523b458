/* What is physically to be had: posix_spawn in a loop, and nothing else.
 *
 *   floor burst INSTANT_NS COUNT PROGRAM [ARG...]      sleep until the instant, spawn COUNT at once, reap them
 *   floor each FIRST_S COUNT PROGRAM [ARG...]          one at each whole second, COUNT times
 *   floor queue COUNT IN_FLIGHT RECORDS PROGRAM [ARG...]  COUNT runs, IN_FLIGHT at a time, one record written for each;
 *                                                      prints the seconds from the first spawn to the last reap
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static posix_spawn_file_actions_t quiet;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long long now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (long long)now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void sleep_until_ns(long long instant_ns) {
    struct timespec until = {instant_ns / 1000000000ll, instant_ns % 1000000000ll};
    while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

static pid_t spawn(char **argv) {
    pid_t pid;
    errno = posix_spawn(&pid, argv[0], &quiet, NULL, argv, environ);
    if (errno) fail(argv[0]);
    return pid;
}

static int burst(long long instant_ns, int count, char **argv) {
    sleep_until_ns(instant_ns);
    for (int i = 0; i < count; i++) spawn(argv);
    for (int i = 0; i < count; i++)
        if (wait(NULL) < 0) fail("wait");
    return 0;
}

static int each(long long first_s, int count, char **argv) {
    for (int i = 0; i < count; i++) {
        sleep_until_ns((first_s + i) * 1000000000ll);
        spawn(argv);
        if (wait(NULL) < 0) fail("wait");
    }
    return 0;
}

static int queue(int count, int in_flight, const char *records, char **argv) {
    int file = open(records, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
    if (file < 0) fail(records);
    char line[128];
    long long begin_ns = now_ns(CLOCK_MONOTONIC);
    int started = 0, status;
    while (started < in_flight && started < count) spawn(argv), started++;
    for (int ended = 0; ended < count; ended++) {
        pid_t pid = wait(&status);
        if (pid < 0) fail("wait");
        if (started < count) spawn(argv), started++;
        int bytes = snprintf(line, sizeof line, "{\"pid\":%d,\"status\":%d,\"ended_ns\":%lld}\n", (int)pid, status,
                             now_ns(CLOCK_REALTIME));
        if (write(file, line, (size_t)bytes) != bytes) fail("write");
    }
    printf("%.6f\n", (double)(now_ns(CLOCK_MONOTONIC) - begin_ns) / 1e9);
    return 0;
}

int main(int argc, char **argv) {
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    if (argc > 4 && !strcmp(argv[1], "burst")) return burst(atoll(argv[2]), atoi(argv[3]), argv + 4);
    if (argc > 4 && !strcmp(argv[1], "each")) return each(atoll(argv[2]), atoi(argv[3]), argv + 4);
    if (argc > 5 && !strcmp(argv[1], "queue")) return queue(atoi(argv[2]), atoi(argv[3]), argv[4], argv + 5);
    fprintf(stderr, "usage: floor burst|each|queue ... (see the top of floor.c)\n");
    return 2;
}
