/*
 * logthread.c - group commit of the core's batches, compaction when idle.
 */
#include "server/logthread.h"

#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "server/logger.h"
#include "server/worker.h"

/* Entries that one step of compaction deletes: bounded work between writes. */
#define COMPACT_STEP 1000
/* Entries that one step of scrubbing reads. */
#define SCRUB_STEP 500

struct logthread {
    struct worker *worker;
    struct store *store;
    struct ballot *ballot; /* NULL: none is kept */
    void (*on_stable)(void *context, uint64_t batch);
    void *context;

    /* The worker's own. */
    struct store_batch *batches;
    size_t batches_capacity;
    bool scrub_is_due;
    raft_index compact_to; /* 0: nothing to compact */
    struct raft_configuration compact_configuration;
};

/* One job: a batch to write, a place to compact to, or a request to scrub. */
struct log_job {
    struct job job;
    struct logthread *owner;
    uint64_t batch; /* 0: a compaction, or a scrub */
    struct store_batch write;
    struct raft_hard_state hard_state;
    raft_index compact_to;
    struct raft_configuration configuration;
};

static void check(struct logthread *t, enum store_status st, const char *what)
{
    if (st != STORE_OK) {
        log_die("%s failed: %s; the process ends so that nothing is "
                "acknowledged that may be lost; fix the disk and start again",
                what, store_error(t->store));
    }
}

static void copy_configuration(struct raft_configuration *to,
                               const struct raft_configuration *from)
{
    size_t size;
    uint8_t *bytes = raft_configuration_encode(from, &size);
    bool ok = raft_configuration_decode(to, bytes, size);

    ASSERT(ok);
    raft_free(bytes);
}

/* The log began anew: what it held before goes in small steps. */
static void compact_behind(struct logthread *t, const struct raft_snapshot *s)
{
    raft_configuration_release(&t->compact_configuration);
    t->compact_to = s->index;
    copy_configuration(&t->compact_configuration, &s->configuration);
}

/* Before anybody hears of the batches. */
static void keep_ballot(struct logthread *t, size_t n)
{
    const struct raft_hard_state *hs = NULL;
    int error;

    for (size_t i = 0; i < n; i++) {
        hs = t->batches[i].hard_state != NULL ? t->batches[i].hard_state : hs;
    }
    if (t->ballot == NULL || hs == NULL) {
        return;
    }
    error = ballot_keep(t->ballot, hs);
    if (error != 0) {
        log_die("writing %s failed: %s; the process ends so that no vote is "
                "given that may be lost; fix the disk and start again",
                t->ballot->path, strerror(error));
    }
}

static void run(void *context, const struct job_list *jobs)
{
    struct logthread *t = context;
    struct job *j;
    size_t n = 0;

    STAILQ_FOREACH(j, jobs, link)
    {
        struct log_job *lj = (struct log_job *)j;

        if (lj->batch == 0 && lj->compact_to == 0) {
            t->scrub_is_due = true;
            continue;
        }
        if (lj->batch == 0) {
            raft_configuration_release(&t->compact_configuration);
            t->compact_to = lj->compact_to;
            t->compact_configuration = lj->configuration;
            lj->configuration = (struct raft_configuration){0};
            continue;
        }
        if (n == t->batches_capacity) {
            t->batches_capacity = n > 0 ? n * 2 : 64;
            t->batches = mem_realloc(t->batches, t->batches_capacity,
                                     sizeof(*t->batches));
        }
        t->batches[n++] = lj->write;
        if (lj->write.restore != NULL) {
            compact_behind(t, lj->write.restore);
        }
    }
    if (n > 0) {
        check(t, store_write(t->store, t->batches, n), "writing the Raft log");
        keep_ballot(t, n);
    }
}

/* After the batch is reported: nobody waits for this. */
static bool tidy(void *context)
{
    struct logthread *t = context;
    size_t left = 0;

    check(t, store_checkpoint(t->store, false), "checkpointing the Raft log");
    if (t->scrub_is_due) {
        t->scrub_is_due = false;
        check(t, store_scrub(t->store, SCRUB_STEP), "checking the Raft log");
    }
    if (t->compact_to == 0) {
        return false;
    }
    check(t,
          store_compact(t->store, t->compact_to, &t->compact_configuration,
                        COMPACT_STEP, &left),
          "compacting the Raft log");
    if (left == 0) {
        t->compact_to = 0;
    }
    return left > 0;
}

static void done(struct job *j)
{
    struct log_job *lj = (struct log_job *)j;

    if (lj->batch != 0) {
        lj->owner->on_stable(lj->owner->context, lj->batch);
    }
    raft_configuration_release(&lj->configuration);
    free(lj);
}

struct logthread *
logthread_new(struct event_base *base, struct store *store,
              void (*on_stable)(void *context, uint64_t batch), void *context)
{
    struct logthread *t = mem_alloc(1, sizeof(*t));
    struct worker_config config = {
        .name = "log", .run = run, .tidy = tidy, .context = t};

    t->store = store;
    t->on_stable = on_stable;
    t->context = context;
    t->worker = worker_new(base, &config);
    return t;
}

static struct log_job *new_job(struct logthread *t)
{
    struct log_job *lj = mem_alloc(1, sizeof(*lj));

    lj->job.done = done;
    lj->owner = t;
    return lj;
}

void logthread_set_ballot(struct logthread *t, struct ballot *b)
{
    t->ballot = b;
}

void logthread_append(struct logthread *t, const struct raft_ready *rd)
{
    struct log_job *lj = new_job(t);

    ASSERT(rd->batch != 0);
    lj->batch = rd->batch;
    lj->hard_state = rd->hard_state;
    lj->write = (struct store_batch){
        .truncate_from = rd->truncate_from,
        .entries = rd->entries,
        .n_entries = rd->n_entries,
        .hard_state = rd->hard_state_changed ? &lj->hard_state : NULL,
        .restore = rd->restore,
    };
    worker_submit(t->worker, &lj->job);
}

void logthread_compact(struct logthread *t, raft_index index,
                       const struct raft_configuration *configuration)
{
    struct log_job *lj = new_job(t);

    copy_configuration(&lj->configuration, configuration);
    lj->compact_to = index;
    worker_submit(t->worker, &lj->job);
}

void logthread_scrub(struct logthread *t)
{
    worker_submit(t->worker, &new_job(t)->job);
}

void logthread_free(struct logthread *t)
{
    if (t == NULL) {
        return;
    }
    worker_free(t->worker);
    raft_configuration_release(&t->compact_configuration);
    free(t->batches);
    free(t);
}
