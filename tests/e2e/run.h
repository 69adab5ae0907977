/*
 * run.h - what the clients of one run share: the servers, the newest revision
 * that anybody was told, counts, and what was found to be wrong.
 *
 * Clients run in threads of their own and never fail the test themselves: they
 * note a finding and go on. The main thread asserts at the end that there are
 * none.
 */
#ifndef E2E_RUN_H
#define E2E_RUN_H

#include "cluster.h"

struct run {
    struct cluster *cluster;
    atomic_bool stop;
    /* No call that begins now may be answered with an older one. */
    atomic_llong newest_revision;
    atomic_ullong acknowledged; /* writes of all kinds */
    atomic_uint findings;
};

/* Print it (the first few) and count it. */
void run_finding(struct run *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Main thread: the test fails if anything was found. */
void run_assert_clean(const struct run *r);
/* *highest = max(*highest, value) */
void raise_to(atomic_llong *highest, int64_t value);

/* What a failed write left behind. */
enum outcome {
    OUTCOME_ACKNOWLEDGED,
    OUTCOME_UNKNOWN, /* applied, or not, or not yet */
    OUTCOME_REFUSED  /* never to be seen */
};
enum outcome outcome_of(const struct answer *a);

/* ---- connections to all members, one thread's ------------------------------
 */

struct links {
    struct run *run;
    struct client *clients[CLUSTER_MAX];
    size_t n, current;
};

void links_open(struct links *l, struct run *r, uint64_t timeout_ms,
                size_t first);
void links_close(struct links *l);
struct client *links_current(struct links *l);
/* After a failure. */
void links_next(struct links *l);

#endif
