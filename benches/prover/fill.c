// The fastest loops known that do a strategy's work, in pages of 4 KiB: fill FILE STRATEGY BYTES enters a cgroup by its FILE
// (tasks or cgroup.procs), fills BYTES (a multiple of 8 MiB) and prints the bytes a second. Built for the processor it runs on.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

// Made present at once: what is written then is in the cache. More and less are slower.
#define PIECE ((size_t)256 << 10)
#define PAGE ((size_t)4096)
#define WORDS (PAGE / 8)
#define STRIDE 0x9e3779b97f4a7c15
#define CHILDREN 32

static void must(int right, const char *what) {
    if (!right) {
        perror(what);
        _exit(1);
    }
}

static uint64_t mixed(uint64_t n) {
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
    n = (n ^ n >> 27) * 0x94d049bb133111eb;
    return n ^ n >> 31;
}

static uint64_t noise[16][WORDS];

static void write_piece(char kind, size_t offset, uint8_t *bytes, size_t length) {
    uint64_t *words = (uint64_t *)bytes;
    if (kind == 'p') {
        uint64_t word = (offset / 8 + 1) * STRIDE;
        for (size_t i = 0; i < length / 8; i++, word += STRIDE) words[i] = word;
    } else if (kind == 'r') {
        for (size_t page = 0; page < length / PAGE; page++) {
            uint64_t own = mixed((offset / PAGE + page + 1) * STRIDE), *made = noise[page % 16];
            for (size_t i = 0; i < WORDS; i++) words[page * WORDS + i] = made[i] ^ own;
        }
    } else {
        memset(bytes, 0xa5, length);
    }
}

static void fill(char kind, uint8_t *memory, size_t from, size_t to) {
    for (size_t at = from; at < to; at += PIECE) {
        size_t length = to - at < PIECE ? to - at : PIECE;
        must(!madvise(memory + at, length, MADV_POPULATE_WRITE), "madvise");
        write_piece(kind, at, memory + at, length);
    }
}

// At four places in turn, since processors fetch ahead within a page only.
static int holds(const uint64_t *words, size_t count) {
    size_t part = count / 4, block = 64;
    uint64_t wrong = 0;
    for (size_t at = 0; at < part; at += block)
        for (size_t stream = 0; stream < 4; stream++) {
            size_t first = stream * part + at;
            uint64_t word = (first + 1) * STRIDE;
            for (size_t i = first; i < first + block; i++, word += STRIDE) wrong |= words[i] ^ word;
        }
    return !wrong;
}

static void file(size_t bytes) {
    static uint8_t piece[PIECE];
    memset(piece, 0xa5, PIECE);
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    must(fd >= 0, "/dev/shm");
    for (size_t at = 0; at < bytes; at += PIECE) must(pwrite(fd, piece, PIECE, at) == PIECE, "pwrite");
}

// One process after the other fills its part and keeps it.
static void family(uint8_t *memory, size_t bytes) {
    for (size_t i = 0, part = bytes / CHILDREN; i < CHILDREN; i++) {
        int done[2];
        char word;
        must(!pipe(done), "pipe");
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            fill('f', memory, i * part, (i + 1) * part);
            must(write(done[1], "", 1) == 1, "write");
            for (;;) pause();
        }
        must(read(done[0], &word, 1) == 1, "read");
        close(done[0]);
        close(done[1]);
    }
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const char *strategy = argv[2];
    size_t bytes = strtoull(argv[3], NULL, 10);
    int tasks = open(argv[1], O_WRONLY);
    must(tasks >= 0 && write(tasks, "0", 1) == 1, argv[1]);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    sched_setaffinity(0, sizeof here, &here);
    for (size_t i = 0; i < 16 * WORDS; i++) noise[i / WORDS][i % WORDS] = mixed(-(i + 1) * STRIDE);
    int sharing = strcmp(strategy, "shm") ? MAP_PRIVATE : MAP_SHARED;
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(memory != MAP_FAILED, "mmap");
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    if (!strcmp(strategy, "mlock")) must(!mlock2(memory, bytes, MLOCK_ONFAULT), "mlock2");
    double began = seconds();
    if (!strcmp(strategy, "file")) {
        file(bytes);
    } else if (!strcmp(strategy, "fork")) {
        family(memory, bytes);
    } else {
        fill(*strategy, memory, 0, bytes / 2);
        if (*strategy == 'p' && !holds((uint64_t *)memory, bytes / 16)) return 1;
        fill(*strategy, memory, bytes / 2, bytes);
    }
    printf("%f\n", bytes / (seconds() - began));
}
