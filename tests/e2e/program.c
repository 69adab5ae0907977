/*
 * program.c - seed, suite, and what is left of a test that failed.
 */
#include "program.h"

#include <glob.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WATCHED_MAX 32
#define LOG_TAIL_BYTES 3000

static uint64_t seed;

/* Shared with the processes that Check forks, one after the other. */
static char (*watched)[256];

uint64_t program_seed(void)
{
    const char *given = getenv("SEED");

    if (seed == 0) {
        seed = given != NULL ? strtoull(given, NULL, 0) : random_u64() >> 32;
        seed |= 1; /* never 0 */
        printf("SEED=0x%" PRIx64 "\n", seed);
    }
    return seed;
}

/* splitmix64 */
static uint64_t next(struct random *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

struct random random_stream(uint64_t which)
{
    struct random r = {program_seed() * 1000003 + which};

    (void)next(&r);
    return r;
}

uint64_t random_below(struct random *r, uint64_t bound)
{
    return next(r) % bound;
}

/* ---- what a failed test leaves
 * ------------------------------------------------ */

static void replace_watched(const char *old, const char *new)
{
    for (size_t i = 0; i < WATCHED_MAX; i++) {
        if (strcmp(watched[i], old) == 0) {
            snprintf(watched[i], sizeof(watched[i]), "%s", new);
            return;
        }
    }
}

void program_watch(const char *dir)
{
    replace_watched("", dir);
}

void program_unwatch(const char *dir)
{
    replace_watched(dir, "");
}

static void show_end(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[1024];

    if (f == NULL) {
        return;
    }
    printf("---- end of %s\n", path);
    if (fseek(f, -LOG_TAIL_BYTES, SEEK_END) == 0) {
        (void)!fgets(line, sizeof(line), f); /* the rest of a line */
    }
    while (fgets(line, sizeof(line), f) != NULL) {
        fputs(line, stdout);
    }
    fclose(f);
}

static void show_watched(void)
{
    for (size_t i = 0; i < WATCHED_MAX; i++) {
        char pattern[300];
        glob_t logs;

        if (watched[i][0] == '\0') {
            continue;
        }
        snprintf(pattern, sizeof(pattern), "%s/*.log", watched[i]);
        if (glob(pattern, 0, NULL, &logs) == 0) {
            for (size_t j = 0; j < logs.gl_pathc; j++) {
                show_end(logs.gl_pathv[j]);
            }
            globfree(&logs);
        }
        printf("kept: %s\n", watched[i]);
    }
}

int program_run(Suite *s)
{
    SRunner *sr;
    int failed;

    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    watched = mmap(NULL, WATCHED_MAX * sizeof(*watched), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(watched != MAP_FAILED);
    (void)program_seed(); /* printed before anything happens */
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    show_watched();
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
