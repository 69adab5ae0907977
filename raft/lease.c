/*
 * lease.c - reads without a round of heartbeats: the log is the lease (after
 * LeaseGuard, Davis et al. 2025). README.md has the argument why it is safe.
 *
 * A leader answers reads by itself while its newest committed entry of its own
 * term is younger than lease_ticks. That entry is in the log of every later
 * leader, and was appended before that one was elected; so a later leader
 * commits nothing until lease_ticks, by any clock that runs within the bound,
 * have passed since its election.
 *
 *      old leader      append e ....... lease by e ........|
 *                         |                                |
 *      new leader         | < elected ...... defers ...........| commits
 */
#include "raft/internal.h"

static uint64_t deferral_ticks(const struct raft *r)
{
    uint64_t lease = r->config.lease_ticks;
    uint64_t drift = (lease * r->config.lease_drift_permille + 999) / 1000;

    return lease + drift + 1; /* 1: the tick in which we were elected */
}

void lease_begin(struct raft *r)
{
    struct lease *l = &r->lease;

    ASSERT(r->role == RAFT_LEADER);
    raft_free(l->marks);
    *l = (struct lease){0};
    if (r->config.lease_ticks > 0) {
        l->marks = raft_alloc(r->config.lease_ticks, sizeof(*l->marks));
    }
}

void lease_end(struct raft *r)
{
    raft_free(r->lease.marks);
    r->lease = (struct lease){0};
}

bool lease_may_commit(const struct raft *r)
{
    const struct lease *l = &r->lease;

    return r->config.lease_ticks == 0 ||
           (l->defers && r->now - l->defers_from >= deferral_ticks(r));
}

/*
 * The clock was read. For a new leader it is the first time that is certainly
 * later than its election: before, `now` may be behind by as long as the
 * process was stopped.
 */
void lease_clock(struct raft *r)
{
    if (r->role == RAFT_LEADER && !r->lease.defers) {
        r->lease.defers = true;
        r->lease.defers_from = r->now;
    }
}

static struct lease_mark *mark_at(const struct raft *r, size_t i)
{
    ASSERT(i < r->lease.n);
    return &r->lease.marks[(r->lease.head + i) % r->config.lease_ticks];
}

static void drop_oldest(struct raft *r)
{
    r->lease.head = (r->lease.head + 1) % r->config.lease_ticks;
    r->lease.n--;
}

/* `now` may be behind: then the lease by this entry ends the earlier. */
void lease_appended(struct raft *r, raft_index index)
{
    struct lease *l = &r->lease;

    if (r->config.lease_ticks == 0) {
        return;
    }
    l->appended_at = r->now;
    if (l->n > 0 && mark_at(r, l->n - 1)->tick == r->now) {
        mark_at(r, l->n - 1)->last_index = index;
        return;
    }
    /* What is too old to be a lease when it commits need not be known: so one
     * mark a tick is enough room. */
    while (l->n > 0 && r->now - mark_at(r, 0)->tick >= r->config.lease_ticks) {
        drop_oldest(r);
    }
    ASSERT(l->n < r->config.lease_ticks);
    l->n++;
    *mark_at(r, l->n - 1) = (struct lease_mark){r->now, index, index};
}

void lease_committed(struct raft *r)
{
    struct lease *l = &r->lease;

    while (l->n > 0 && mark_at(r, 0)->first_index <= r->commit_index) {
        l->is_held = true;
        l->held_since = mark_at(r, 0)->tick;
        if (mark_at(r, 0)->last_index > r->commit_index) {
            break; /* some of that tick's are still to come */
        }
        drop_oldest(r);
    }
}

bool lease_is_valid(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->lease.is_held &&
           r->now - r->lease.held_since < r->config.lease_ticks;
}

/* Reads keep the lease: an entry in good time, if nobody writes anyway. */
bool lease_is_half_over(const struct raft *r)
{
    return r->config.lease_ticks > 0 && r->role == RAFT_LEADER &&
           2 * (r->now - r->lease.appended_at) >= r->config.lease_ticks;
}
