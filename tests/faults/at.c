// Loaded before a program: at its N-th operation on files the program is sent a signal, or operations fail as on a full or broken disk.
//
//     cc -O2 -fPIC -shared -o at.so tests/faults/at.c
//     LD_PRELOAD=./at.so FAULT_AT=120 FAULT_SIGNAL=9 hbat train …                    killed at the 120th
//     LD_PRELOAD=./at.so FAULT_AT=120 FAULT_UNTIL=140 FAULT_ERRNO=28 hbat train …    from the 120th to the 140th the disk is full
//     LD_PRELOAD=./at.so FAULT_COUNT=count hbat train …                              writes down how many there were
//
// Operations are those that change what is on the disk. Of the writes that follow each other into one file every 16th counts.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long count, at, until, failure, signal_number;
static int last_file = -1, writes;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void) {
    at = number("FAULT_AT");
    until = number("FAULT_UNTIL");
    failure = number("FAULT_ERRNO");
    signal_number = number("FAULT_SIGNAL");
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", count);
        fclose(file);
    }
}

// Counts an operation; whether it is to fail.
static int faulty(void) {
    long now = __sync_add_and_fetch(&count, 1);
    if (at == 0 || now < at) return 0;
    if (failure && now <= until) {
        errno = (int)failure;
        return 1;
    }
    if (signal_number && now == at) {
        kill(getpid(), (int)signal_number);
        // A kill comes at once; what can be caught is caught by another thread.
        usleep(3000);
    }
    return 0;
}

static int other_than_a_write(void) {
    last_file = -1;
    return faulty();
}

// Files, no pipes or terminals.
static int is_file(int fd) {
    struct stat status;
    return fd > 2 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

static int write_is_faulty(int fd) {
    if (!is_file(fd)) return 0;
    writes = fd == last_file ? writes + 1 : 0;
    last_file = fd;
    return writes % 16 == 0 && faulty();
}

#define INSTEAD(result, name, parameters, arguments, check)                     \
    result name parameters {                                                    \
        static result(*real) parameters;                                        \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);        \
        return (check) ? -1 : real arguments;                                   \
    }

INSTEAD(ssize_t, write, (int fd, const void *bytes, size_t n), (fd, bytes, n), write_is_faulty(fd))
INSTEAD(int, rename, (const char *from, const char *to), (from, to), other_than_a_write())
INSTEAD(int, fsync, (int fd), (fd), other_than_a_write())
INSTEAD(int, fdatasync, (int fd), (fd), other_than_a_write())
INSTEAD(int, ftruncate64, (int fd, off64_t n), (fd, n), other_than_a_write())
INSTEAD(int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags), other_than_a_write())
INSTEAD(int, unlink, (const char *path), (path), other_than_a_write())
INSTEAD(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags), other_than_a_write())
INSTEAD(int, mkdir, (const char *path, mode_t mode), (path, mode), other_than_a_write())
