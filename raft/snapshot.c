/*
 * snapshot.c - members that need entries which the log has cut away, and a log
 * that begins anew behind a snapshot (5). The snapshot's data never comes here:
 * the driver carries it, and says what came of that.
 *
 *                 raft_restore_begin()        raft_restore_end()
 *      (nothing) -------------------> installing ----------> restoring
 *          ^                              | failed             | stable
 *          +------------------------------+--------------------+
 *
 * installing   the state machine is neither old nor new: nothing is applied
 * restoring    it is the new one, durably, and the log in memory follows it; on
 *              disk is still the old log
 *
 * In neither state does the member campaign (A11, D9) or acknowledge an entry
 * (what a restoring one has to say waits for the disk). A crash while restoring
 * leaves a state that is ahead of the log: snapshot_start() then does what was
 * lost.
 */
#include "raft/internal.h"

/* ---- the leader -------------------------------------------------------------
 */

static void add_needy(struct raft *r, raft_id id)
{
    if (r->n_needy == r->needy_capacity) {
        r->needy_capacity = 2 * r->needy_capacity + 4;
        r->needy = raft_realloc(r->needy, r->needy_capacity, sizeof(*r->needy));
    }
    r->needy[r->n_needy++] = id;
}

/* Not to one that is not there: it could not take it. */
void snapshot_ask(struct raft *r, struct progress *p)
{
    if (p->state != RAFT_PROGRESS_SNAPSHOT) {
        progress_become_snapshot(p);
        p->retry_at = r->now;
    }
    if (r->now >= p->retry_at && replication_is_recent(r, p)) {
        p->retry_at = UINT64_MAX;
        add_needy(r, p->id);
    }
}

void raft_snapshot_sent(struct raft *r, raft_id to, raft_index index, bool ok)
{
    struct progress *p = replication_progress(r, to);

    ASSERT(!r->ready_pending);
    if (r->role != RAFT_LEADER || p == NULL ||
        p->state != RAFT_PROGRESS_SNAPSHOT) {
        return; /* of another leadership, or it got what it needs otherwise */
    }
    if (ok && index <= log_last_index(&r->log)) {
        index = index > p->match_index ? index : p->match_index;
        progress_become_probe(p, index + 1);
    } else {
        p->retry_at = r->now + r->config.election_ticks;
    }
    check_all(r);
}

/* ---- the follower -----------------------------------------------------------
 */

bool snapshot_is_restoring(const struct raft *r)
{
    return r->is_installing || log_is_restoring(&r->log);
}

void snapshot_release(struct raft *r)
{
    if (r->restore != NULL) {
        raft_configuration_release(&r->restore->configuration);
        raft_free(r->restore);
        r->restore = NULL;
    }
}

static void keep(struct raft *r, const struct raft_snapshot *s)
{
    ASSERT(r->restore == NULL);
    r->restore = raft_alloc(1, sizeof(*r->restore));
    *r->restore = (struct raft_snapshot){.index = s->index, .term = s->term};
    config_copy(&r->restore->configuration, &s->configuration);
}

static bool log_holds(const struct raft *r, const struct raft_snapshot *s)
{
    return s->index >= r->log.prev_index &&
           s->index <= log_last_index(&r->log) &&
           log_term(&r->log, s->index) == s->term;
}

/*
 * What is committed here, or agreed with the leader of this term, stays: a
 * snapshot that says otherwise is wrong.
 */
static bool fits_our_log(const struct raft *r, const struct raft_snapshot *s)
{
    raft_index agreed = r->commit_index;

    agreed = r->leader_match > agreed ? r->leader_match : agreed;
    return s->index > agreed || log_holds(r, s);
}

enum raft_status raft_restore_begin(struct raft *r,
                                    const struct raft_snapshot *s)
{
    ASSERT(!r->ready_pending);
    if (r->role == RAFT_LEADER || s->index <= r->commit_index) {
        return RAFT_STALE_SNAPSHOT;
    }
    if (s->index >= INT64_MAX || s->term >= INT64_MAX || s->term == 0 ||
        s->term < log_term(&r->log, r->commit_index) ||
        !config_is_sane(&s->configuration) || !fits_our_log(r, s)) {
        return RAFT_BAD_SNAPSHOT;
    }
    if (snapshot_is_restoring(r)) {
        return RAFT_BUSY;
    }
    if (s->term > r->current_term || r->role != RAFT_FOLLOWER) {
        election_become_follower(
            r, s->term > r->current_term ? s->term : r->current_term, 0);
    }
    keep(r, s);
    r->is_installing = true;
    check_all(r);
    return RAFT_OK;
}

/* What we said to hold, and what we will say, is on disk when the new log is.
 */
static void hold_acknowledgements(struct raft *r)
{
    for (size_t i = 0; i < r->outbox.n; i++) {
        struct outgoing *o = &r->outbox.items[i];

        if (o->message.type == RAFT_APPEND_ENTRIES_RESPONSE &&
            o->batch < r->log.restore_batch) {
            o->batch = r->log.restore_batch;
        }
    }
}

static void begin_anew(struct raft *r)
{
    const struct raft_snapshot *s = r->restore;
    bool keeps_tail = log_restore(&r->log, s->index, s->term);

    config_history_restore(&r->configs, s->index, &s->configuration,
                           keeps_tail);
}

void raft_restore_end(struct raft *r, bool ok)
{
    const struct raft_snapshot *s = r->restore;

    ASSERT(!r->ready_pending);
    ASSERT(r->is_installing);
    r->is_installing = false;
    if (!ok) {
        snapshot_release(r);
        check_all(r);
        return;
    }
    ASSERT(s->index > r->last_applied);
    ASSERT(fits_our_log(r, s));
    begin_anew(r);
    hold_acknowledgements(r);
    if (r->leader_match > log_last_index(&r->log)) {
        r->leader_match = log_last_index(&r->log);
    }
    replication_commit_to(r, s->index);
    r->last_applied = s->index;
    if (r->leader_id != 0) {
        raft_send(r,
                  (struct raft_message){
                      .type = RAFT_APPEND_ENTRIES_RESPONSE,
                      .to = r->leader_id,
                      .log_index = s->index,
                  },
                  log_batch_of(&r->log, s->index));
    }
    check_all(r);
}

enum raft_status raft_restore(struct raft *r, const struct raft_snapshot *s)
{
    enum raft_status st = raft_restore_begin(r, s);

    if (st == RAFT_OK) {
        raft_restore_end(r, true);
    }
    return st;
}

/* ---- both -------------------------------------------------------------------
 */

/* The state was replaced, and then the power failed before the log was. */
void snapshot_start(struct raft *r, const struct raft_start *start)
{
    const struct raft_snapshot *s = start->snapshot;

    if (s == NULL || s->index <= r->log.prev_index || log_holds(r, s)) {
        return;
    }
    ASSERT(s->index <= start->last_applied);
    ASSERT(s->index > start->hard_state.commit);
    keep(r, s);
    begin_anew(r);
}

void snapshot_stable(struct raft *r)
{
    if (!snapshot_is_restoring(r)) {
        snapshot_release(r);
    }
}
