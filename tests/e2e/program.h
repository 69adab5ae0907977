/*
 * program.h - what the main() of each test program does: the seed, the suite.
 */
#ifndef E2E_PROGRAM_H
#define E2E_PROGRAM_H

#include <check.h>

#include "proto/base.h"

/*
 * The run's seed: SEED from the environment (0x5eed), else a random one.
 * Printed at its first use.
 */
uint64_t program_seed(void);

struct random {
    uint64_t state;
};

/* Stream number which of the run's seed. */
struct random random_stream(uint64_t which);
uint64_t random_below(struct random *r, uint64_t bound);

/*
 * Run all; the exit status. A directory that a test watches and does not
 * unwatch before its end, however that came, is kept and the ends of its *.log
 * are printed.
 */
int program_run(Suite *s);
void program_watch(const char *dir);
void program_unwatch(const char *dir);

#endif
