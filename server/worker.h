/*
 * worker.h - the one way across threads: jobs go to a worker thread in order,
 * and come back, done, to the main loop in the same order.
 *
 * The worker takes everything that is queued as one batch: while one batch is
 * at the disk the next one gathers, so batches grow with the load by
 * themselves and one client alone never waits for company.
 */
#ifndef PAWL_WORKER_H
#define PAWL_WORKER_H

#include <event2/event.h>
#include <sys/queue.h>

#include "proto/base.h"

struct job {
    STAILQ_ENTRY(job) link;
    void (*done)(struct job *j); /* on the main thread; frees the job */
};

STAILQ_HEAD(job_list, job);

struct worker_config {
    const char *name; /* of the thread, at most 15 characters */
    /* Worker thread. Do all jobs of the list, as one batch. */
    void (*run)(void *context, const struct job_list *jobs);
    /* Worker thread, after each batch was reported done and again while the
     * queue is empty: one bounded step of background work; true if there is
     * more. May be NULL. */
    bool (*tidy)(void *context);
    void *context;
};

struct worker;

struct worker *worker_new(struct event_base *base,
                          const struct worker_config *config);
/* Main thread. */
void worker_submit(struct worker *w, struct job *j);
/* Wait for what is queued, run its done callbacks, end the thread. */
void worker_free(struct worker *w);

#endif
