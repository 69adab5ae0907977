/*
 * check.c - what holds after every call into the core, whatever the call was.
 * Cheap claims always; scans of the log in test builds.
 */
#include "raft/internal.h"

static void check_past(const struct raft *r)
{
    const struct past *past = &r->past;

    ASSERT(r->current_term >= past->current_term);
    ASSERT(r->commit_index >= past->commit_index);
    ASSERT(r->last_applied >= past->last_applied);
    if (r->current_term == past->current_term && past->voted_for != 0) {
        ASSERT(r->voted_for == past->voted_for); /* one vote a term: 3.4 */
    }
}

static void check_log(const struct raft *r)
{
    const struct log *l = &r->log;

    ASSERT(l->prev_index <= r->last_applied);
    ASSERT(r->last_applied <= r->commit_index);
    ASSERT(r->last_applied <= l->stable_index);
    ASSERT(r->commit_index <= log_last_index(l));
    ASSERT(l->stable_index <= l->handed_index);
    ASSERT(l->handed_index <= log_last_index(l));
    ASSERT(l->truncate_from == 0 || l->truncate_from > l->stable_index);
    ASSERT(r->leader_match <= log_last_index(l));
    ASSERT(l->stable_batch <= l->last_batch);
    ASSERT(l->n_batches == l->last_batch - l->stable_batch);
    ASSERT(log_last_term(l) <= r->current_term);
}

static void check_progress(const struct raft *r, const struct progress *p)
{
    ASSERT(p->next_index > p->match_index);
    ASSERT(p->match_index <= log_last_index(&r->log));
    ASSERT(p->next_index <= log_last_index(&r->log) + 1);
    ASSERT(p->window_n <= p->window_capacity);
    if (p->id == r->config.id) {
        ASSERT(p->match_index == r->log.stable_index);
    } else if (p->state == RAFT_PROGRESS_REPLICATE) {
        ASSERT((p->window_n == 0) == (p->next_index == p->match_index + 1));
    } else {
        ASSERT(p->window_n == 0);
    }
    if (p->state == RAFT_PROGRESS_SNAPSHOT) {
        ASSERT(p->next_index == p->match_index + 1);
        ASSERT(!p->nudge && !p->probe_sent);
    }
}

static void check_restore(const struct raft *r)
{
    ASSERT(!r->is_installing || r->restore != NULL);
    ASSERT(!r->is_installing || !log_is_restoring(&r->log));
    ASSERT((r->restore != NULL) == snapshot_is_restoring(r));
    ASSERT(r->restore == NULL || r->role == RAFT_FOLLOWER);
}

/* The first configuration holds where the log begins, so that none that is
 * rolled back leaves us without one (C2, C4). */
static void check_configs(const struct raft *r)
{
    const struct config_history *h = &r->configs;

    ASSERT(h->n > 0);
    ASSERT(h->items[0].index <= r->log.prev_index);
    ASSERT(config_history_newest_index(h) <= log_last_index(&r->log));
    ASSERT(!r->is_removed || r->was_member);
    for (size_t i = 1; i < h->n; i++) {
        ASSERT(h->items[i].index > r->log.prev_index);
    }
}

static void check_role(const struct raft *r)
{
    switch (r->role) {
    case RAFT_FOLLOWER:
        ASSERT(r->leader_id != r->config.id);
        ASSERT(r->n_progress == 0);
        break;
    case RAFT_PRE_CANDIDATE:
        ASSERT(r->leader_id == 0);
        ASSERT(r->n_progress == 0);
        break;
    case RAFT_CANDIDATE:
        ASSERT(r->leader_id == 0);
        ASSERT(r->voted_for == r->config.id);
        ASSERT(r->n_progress == 0);
        break;
    case RAFT_LEADER:
        ASSERT(r->leader_id == r->config.id);
        ASSERT(r->voted_for == r->config.id);
        ASSERT(log_last_term(&r->log) == r->current_term);
        ASSERT(r->n_progress == raft_members(r)->n_servers);
        ASSERT(!r->election.resigns || r->election.resign_at <= r->now);
        for (size_t i = 0; i < r->n_progress; i++) {
            check_progress(r, &r->progress[i]);
        }
        break;
    }
}

static void check_reads(const struct raft *r)
{
    ASSERT(r->reads.n_begun <= r->reads.asked.n);
    ASSERT(r->role == RAFT_LEADER || r->reads.asked.n == 0);
    ASSERT(r->reads.forwarded.n == 0 ||
           (r->role == RAFT_FOLLOWER && r->leader_id != 0));
}

#ifdef PAWL_SLOW_ASSERTS
static void check_scans(const struct raft *r)
{
    raft_index last = log_last_index(&r->log);
    size_t uncommitted = 0;

    for (raft_index i = log_first_index(&r->log); i <= last; i++) {
        const struct raft_entry *e = log_at(&r->log, i);

        ASSERT(e->index == i);
        ASSERT(e->term >= log_term(&r->log, i - 1));
        if (r->role == RAFT_LEADER && i > r->commit_index &&
            i > r->term_first_index && e->type == RAFT_ENTRY_COMMAND) {
            uncommitted += e->size;
        }
    }
    ASSERT(uncommitted == r->uncommitted_bytes);
    for (size_t i = 0; i < r->n_progress; i++) {
        const struct progress *p = &r->progress[i];
        size_t bytes = 0;

        for (size_t k = 0; k < p->window_n; k++) {
            bytes += p->window[(p->window_head + k) % p->window_capacity].bytes;
        }
        ASSERT(bytes == p->window_bytes);
    }
}
#endif

void check_all(struct raft *r)
{
    check_past(r);
    check_log(r);
    check_restore(r);
    check_configs(r);
    check_role(r);
    check_reads(r);
#ifdef PAWL_SLOW_ASSERTS
    check_scans(r);
#endif
    r->past = (struct past){r->current_term, r->voted_for, r->commit_index,
                            r->last_applied};
}
