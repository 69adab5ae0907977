/*
 * bench_store.c - how fast raft.db takes entries, beside what the disk does
 * by itself. Not part of make check.
 *
 *     bench_store [directory [seconds]]
 */
#include "raft/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DATA_SIZE 256
#define ROWS_MAX 1024
#define SAMPLES_MAX 2000000

struct bench {
    const char *directory;
    double seconds;
    uint8_t data[DATA_SIZE];
    double *samples; /* seconds a transaction */
    size_t n_samples;
};

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_store: %s\n", what);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(struct bench *b, const char *name, double took, size_t rows)
{
    double n = (double)b->n_samples;

    qsort(b->samples, b->n_samples, sizeof *b->samples, compare);
    (void)printf("%-24s %8.0f txn/s %9.0f rows/s  p50 %6.0f us  p99 %6.0f us"
                 "  max %6.1f ms\n",
                 name, n / took, n * (double)rows / took,
                 b->samples[b->n_samples / 2] * 1e6,
                 b->samples[b->n_samples * 99 / 100] * 1e6,
                 b->samples[b->n_samples - 1] * 1e3);
}

/* Overwrite 4 KiB in a file of full size and fdatasync: the disk's own rate. */
static void bench_raw(struct bench *b)
{
    static uint8_t page[4096];
    char path[4096];
    double begin, end;
    int fd;

    (void)snprintf(path, sizeof path, "%s/raw", b->directory);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; fd >= 0 && i < 2000; i++) {
        if (write(fd, page, sizeof page) != (ssize_t)sizeof page) {
            die("write");
        }
    }
    if (fd < 0 || fsync(fd) != 0) {
        die(path);
    }
    b->n_samples = 0;
    begin = end = now();
    while (end - begin < b->seconds && b->n_samples < SAMPLES_MAX) {
        double before = end;

        if (pwrite(fd, page, sizeof page, (off_t)(b->n_samples % 2000) * 4096) <
                0 ||
            fdatasync(fd) != 0) {
            die("write");
        }
        end = now();
        b->samples[b->n_samples++] = end - before;
    }
    report(b, "raw 4 KiB + fdatasync", end - begin, 1);
    (void)close(fd);
    (void)unlink(path);
}

static void bench_rows(struct bench *b, size_t rows)
{
    char path[4096], name[64], error[512];
    struct store_options options = {
        .path = path, .cluster_id = 1, .member_id = 1, .create = true};
    struct raft_hard_state hard_state = {.term = 1, .voted_for = 1};
    struct raft_entry entries[ROWS_MAX];
    struct store_batch batch = {
        .entries = entries, .n_entries = rows, .hard_state = &hard_state};
    struct store_content content;
    struct store *s;
    double begin, end;
    raft_index index = 1;

    (void)snprintf(path, sizeof path, "%s/raft-%zu.db", b->directory, rows);
    if (store_open(&options, &s, error, sizeof error) != STORE_OK) {
        die(error);
    }
    b->n_samples = 0;
    begin = end = now();
    while (end - begin < b->seconds && b->n_samples < SAMPLES_MAX) {
        double before = end;

        for (size_t i = 0; i < rows; i++) {
            entries[i] = (struct raft_entry){index++, 1, RAFT_ENTRY_COMMAND,
                                             DATA_SIZE, b->data};
        }
        hard_state.commit = index - 1;
        if (store_write(s, &batch, 1) != STORE_OK) {
            die(store_error(s));
        }
        end = now();
        b->samples[b->n_samples++] = end - before;
    }
    (void)snprintf(name, sizeof name, "%zu rows a transaction", rows);
    report(b, name, end - begin, rows);
    store_close(s);

    begin = now();
    if (store_open(&options, &s, error, sizeof error) != STORE_OK) {
        die(error);
    }
    end = now();
    (void)printf("    open %.1f ms", (end - begin) * 1e3);
    begin = now();
    if (store_load(s, &content) != STORE_OK) {
        die(store_error(s));
    }
    end = now();
    (void)printf(", load of %zu entries %.1f ms\n", content.n_entries,
                 (end - begin) * 1e3);
    store_content_release(&content);
    store_close(s);
}

int main(int argc, char **argv)
{
    static const size_t rows[] = {1, 8, 64, 512};
    char directory[] = "./bench-store-XXXXXX";
    struct bench b = {.directory = argc > 1 ? argv[1] : mkdtemp(directory),
                      .seconds = argc > 2 ? strtod(argv[2], NULL) : 2};

    b.samples = malloc(SAMPLES_MAX * sizeof *b.samples);
    if (b.directory == NULL || b.samples == NULL) {
        die("no directory or no memory");
    }
    memset(b.data, 'x', sizeof b.data);
    bench_raw(&b);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bench_rows(&b, rows[i]);
    }
    free(b.samples);
    return 0;
}
