/*
 * statethread.c - changesets to state.db, all that queued up in one
 * transaction.
 */
#include "server/statethread.h"

#include <stdlib.h>

#include "server/logger.h"
#include "server/worker.h"

struct statethread {
    struct worker *worker;
    struct statedb *db;
    void (*on_persisted)(void *context, raft_index index);
    void *context;
    struct changeset **changes; /* the worker's own */
    size_t changes_capacity;
};

struct state_job {
    struct job job;
    struct statethread *owner;
    struct changeset *changes; /* NULL: call */
    void (*call)(void *context, struct statedb *db);
    void (*done)(void *context);
    void *context;
};

static void write_gathered(struct statethread *t, size_t n)
{
    if (statedb_write(t->db, t->changes, n) != STATEDB_OK) {
        log_die("writing state.db failed: %s; the process ends; nothing "
                "acknowledged is lost, the Raft log has it: fix the disk and "
                "start again",
                statedb_error(t->db));
    }
}

static void run(void *context, const struct job_list *jobs)
{
    struct statethread *t = context;
    struct job *j;
    size_t n = 0;

    STAILQ_FOREACH(j, jobs, link)
    {
        struct state_job *sj = (struct state_job *)j;

        if (sj->changes == NULL) {
            write_gathered(t, n); /* in order */
            n = 0;
            sj->call(sj->context, t->db);
            continue;
        }
        if (n == t->changes_capacity) {
            t->changes_capacity = n > 0 ? n * 2 : 16;
            t->changes = mem_realloc(t->changes, t->changes_capacity,
                                     sizeof(*t->changes));
        }
        t->changes[n++] = sj->changes;
    }
    write_gathered(t, n);
}

static void done_job(struct job *j)
{
    struct state_job *sj = (struct state_job *)j;

    if (sj->changes == NULL) {
        sj->done(sj->context);
    } else {
        sj->owner->on_persisted(sj->owner->context,
                                changeset_index(sj->changes));
        changeset_free(sj->changes);
    }
    free(sj);
}

struct statethread *statethread_new(struct event_base *base, struct statedb *db,
                                    void (*on_persisted)(void *context,
                                                         raft_index index),
                                    void *context)
{
    struct statethread *t = mem_alloc(1, sizeof(*t));
    struct worker_config config = {.name = "state", .run = run, .context = t};

    t->db = db;
    t->on_persisted = on_persisted;
    t->context = context;
    t->worker = worker_new(base, &config);
    return t;
}

void statethread_write(struct statethread *t, struct changeset *c)
{
    struct state_job *sj = mem_alloc(1, sizeof(*sj));

    sj->job.done = done_job;
    sj->owner = t;
    sj->changes = c;
    worker_submit(t->worker, &sj->job);
}

void statethread_call(struct statethread *t,
                      void (*call)(void *context, struct statedb *db),
                      void (*done)(void *context), void *context)
{
    struct state_job *sj = mem_alloc(1, sizeof(*sj));

    sj->job.done = done_job;
    sj->owner = t;
    sj->call = call;
    sj->done = done;
    sj->context = context;
    worker_submit(t->worker, &sj->job);
}

void statethread_free(struct statethread *t)
{
    if (t == NULL) {
        return;
    }
    worker_free(t->worker);
    free(t->changes);
    free(t);
}
