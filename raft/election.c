/*
 * election.c - who leads: roles, terms, votes, timers (3.4), pre-vote and
 * check quorum (9.6, 6.2), transfer of leadership (3.10).
 *
 *                    timer                      quorum of pre-votes
 *      FOLLOWER -------------> PRE_CANDIDATE -----------------------+
 *        ^  |                    ^                                  v
 *        |  | told to (3.10)     +---------- timer ------------ CANDIDATE
 *        |  +---------------------------------------------------->  |
 *        |                                                          |
 *        |   a newer term, a leader, too many refusals     quorum   |
 *        +---- LEADER <------------------- of votes ----------------+
 *              (a leader also steps down when it hears no quorum)
 *
 * FOLLOWER       follows leader_id, or waits for one (0)
 * PRE_CANDIDATE  leader_id is 0; term and vote are untouched
 * CANDIDATE      voted for itself in current_term, which it began
 * LEADER         leader_id is its own; term and vote are on disk
 */
#include "raft/internal.h"

#include <string.h>

static bool may_move(enum raft_role from, enum raft_role to)
{
    switch (to) {
    case RAFT_FOLLOWER:
        return true;
    case RAFT_PRE_CANDIDATE:
    case RAFT_CANDIDATE:
        return from != RAFT_LEADER;
    case RAFT_LEADER:
        return from == RAFT_CANDIDATE;
    }
    return false;
}

static void move(struct raft *r, enum raft_role to)
{
    ASSERT(may_move(r->role, to));
    r->role = to;
}

static void follow(struct raft *r, raft_id leader)
{
    if (r->leader_id != leader) {
        read_lose_leader(r); /* before: it answers those who asked us */
        r->leader_id = leader;
    }
}

void election_reset_timer(struct raft *r)
{
    unsigned n = r->config.election_ticks;

    r->election.elapsed = 0;
    r->election.timeout = n + (unsigned)rng_below(&r->rng, n);
}

/* Term and vote change together or not at all (A2). */
static void set_term(struct raft *r, raft_term term, raft_id voted_for)
{
    ASSERT(term > r->current_term ||
           (term == r->current_term &&
            (r->voted_for == 0 || r->voted_for == voted_for)));
    if (term != r->current_term) {
        r->leader_match = 0;
    }
    if (term != r->current_term || voted_for != r->voted_for) {
        r->current_term = term;
        r->voted_for = voted_for;
        r->hard_state_dirty = true;
    }
}

void election_become_follower(struct raft *r, raft_term term, raft_id leader)
{
    ASSERT(term >= r->current_term);
    if (term > r->current_term) {
        set_term(r, term, 0);
        follow(r, 0); /* the same leader's reads do not outlive its term */
    }
    follow(r, leader);
    if (r->role == RAFT_LEADER) {
        replication_end(r);
        r->election.transferee = 0;
        r->election.resigns = false;
    }
    move(r, RAFT_FOLLOWER);
    election_reset_timer(r);
}

bool election_leader_lives(const struct raft *r)
{
    return r->role == RAFT_LEADER ||
           (r->leader_id != 0 &&
            r->election.elapsed < r->config.election_ticks);
}

/* ---- campaigns ------------------------------------------------------------
 */

/*
 * A learner never campaigns (A16). Nor does a member that has not applied a
 * configuration that is committed: it might count a quorum of servers that is
 * none any more (A11). Nor one whose state is being replaced, or whose log has
 * not caught up with that on disk (A11, D9), or one that could not store what
 * it would lead (F8).
 */
static bool may_campaign(const struct raft *r)
{
    return r->role != RAFT_LEADER && !snapshot_is_restoring(r) &&
           !raft_disk_is_stalled(r) &&
           config_is_voter(raft_members(r), r->config.id) &&
           !config_history_within(&r->configs, r->last_applied,
                                  r->commit_index);
}

/*
 * Ask all voters, in the name of term. The requests, and our own vote, wait
 * until batch is stable; with it all of our log is, so that the last entry
 * they name is a synced one (A5).
 */
static void ask_for_votes(struct raft *r, enum raft_message_type type,
                          raft_term term, bool force, uint64_t batch)
{
    const struct raft_configuration *c = raft_members(r);
    struct election *e = &r->election;
    struct raft_message m = {
        .type = type,
        .term = term,
        .log_index = log_last_index(&r->log),
        .log_term = log_last_term(&r->log),
        .force = force,
    };

    e->granted = raft_realloc(e->granted, c->n_servers, sizeof(*e->granted));
    e->hopeful = raft_realloc(e->hopeful, c->n_servers, sizeof(*e->hopeful));
    memset(e->granted, false, c->n_servers);
    memset(e->hopeful, true, c->n_servers);
    e->self_counted = false;
    e->self_batch = batch;
    raft_drop_vote_requests(r);
    for (size_t i = 0; i < c->n_servers; i++) {
        m.to = c->servers[i].id;
        if (m.to != r->config.id && c->servers[i].role != RAFT_LEARNER) {
            raft_send(r, m, batch);
        }
    }
}

static void become_pre_candidate(struct raft *r)
{
    uint64_t log_batch = log_batch_of(&r->log, log_last_index(&r->log));
    uint64_t vote_batch = raft_vote_batch(r);

    follow(r, 0);
    move(r, RAFT_PRE_CANDIDATE);
    election_reset_timer(r);
    ask_for_votes(r, RAFT_PRE_VOTE, r->current_term + 1, false,
                  log_batch > vote_batch ? log_batch : vote_batch);
}

static void become_candidate(struct raft *r, bool force)
{
    follow(r, 0);
    move(r, RAFT_CANDIDATE);
    election_reset_timer(r);
    set_term(r, r->current_term + 1, r->config.id);
    ask_for_votes(r, RAFT_REQUEST_VOTE, r->current_term, force,
                  raft_vote_batch(r));
}

static void become_leader(struct raft *r)
{
    ASSERT(r->voted_for == r->config.id);
    ASSERT(raft_vote_batch(r) <= r->log.stable_batch);
    ASSERT(r->log.stable_index == log_last_index(&r->log));
    move(r, RAFT_LEADER);
    r->leader_id = r->config.id;
    election_reset_timer(r);
    replication_begin(r);
}

static void campaign(struct raft *r, bool force)
{
    if (force || r->config.no_pre_vote) {
        become_candidate(r, force);
    } else {
        become_pre_candidate(r);
    }
    election_stable(r);
}

/* A sole voter waits for nobody, so it does not wait for a timer either. */
void election_campaign_alone(struct raft *r)
{
    if (r->role == RAFT_FOLLOWER && r->leader_id == 0 &&
        config_is_sole_voter(raft_members(r), r->config.id) &&
        may_campaign(r)) {
        become_candidate(r, false);
    }
}

static void count_votes(struct raft *r)
{
    const struct raft_configuration *c = raft_members(r);

    if (config_is_quorum(c, r->election.granted)) {
        if (r->role == RAFT_PRE_CANDIDATE) {
            become_candidate(r, false);
        } else {
            become_leader(r);
        }
    } else if (!config_is_quorum(c, r->election.hopeful)) {
        election_become_follower(r, r->current_term, 0);
    }
}

static void record_vote(struct raft *r, raft_id from, bool granted)
{
    size_t i = config_find(raft_members(r), from);

    if (i != CONFIG_NOBODY) {
        r->election.granted[i] = granted;
        r->election.hopeful[i] = granted;
        count_votes(r);
    }
}

/*
 * Our own vote is a vote like another: it counts once it is on disk. A won
 * pre-vote begins a candidacy, whose vote waits for a later batch.
 */
void election_stable(struct raft *r)
{
    struct election *e = &r->election;

    if ((r->role == RAFT_PRE_CANDIDATE || r->role == RAFT_CANDIDATE) &&
        !e->self_counted && e->self_batch <= r->log.stable_batch) {
        e->self_counted = true;
        election_reset_timer(r); /* the requests leave only now */
        record_vote(r, r->config.id, true);
    }
}

/* ---- asked for a vote -------------------------------------------------------
 */

/*
 * Would we vote for it? Nothing changes here, whatever the answer (9.6, A4).
 * A refusal carries our own term, so that a candidate that lags behind it
 * catches up instead of asking for ever in a term that is gone (A7).
 */
void election_pre_vote(struct raft *r, const struct raft_message *m)
{
    bool grant = m->term > r->current_term &&
                 log_is_up_to_date(&r->log, m->log_index, m->log_term) &&
                 (m->force || !election_leader_lives(r));
    struct raft_message answer = {
        .type = RAFT_PRE_VOTE_RESPONSE,
        .to = m->from,
        .term = grant ? m->term : r->current_term,
        .reject = !grant,
        .log_index = grant ? 0 : membership_without(r, m->from),
    };

    if (answer.term > 0) { /* a new member's refusal would have no term */
        raft_send(r, answer, 0);
    }
}

void election_request_vote(struct raft *r, const struct raft_message *m)
{
    bool is_free =
        r->voted_for == m->from || (r->voted_for == 0 && r->leader_id == 0);
    bool grant =
        is_free && log_is_up_to_date(&r->log, m->log_index, m->log_term);

    ASSERT(m->term == r->current_term);
    if (grant) {
        ASSERT(r->role == RAFT_FOLLOWER || r->role == RAFT_PRE_CANDIDATE);
        set_term(r, r->current_term, m->from);
        election_become_follower(r, r->current_term, r->leader_id);
    }
    raft_send(r,
              (struct raft_message){.type = RAFT_REQUEST_VOTE_RESPONSE,
                                    .to = m->from,
                                    .reject = !grant},
              0);
}

void election_response(struct raft *r, const struct raft_message *m)
{
    bool is_pre = m->type == RAFT_PRE_VOTE_RESPONSE;
    raft_term expected = r->current_term + (is_pre && !m->reject ? 1 : 0);

    if (is_pre && m->reject) {
        membership_told_removed(r, m->log_index);
    }
    /* Nobody can answer before our own vote is on disk: not even asked yet. */
    if (r->role == (is_pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE) &&
        m->term == expected && r->election.self_counted) {
        record_vote(r, m->from, !m->reject);
    }
}

/* ---- time
 * --------------------------------------------------------------------- */

static void leader_tick(struct raft *r)
{
    unsigned n = r->config.election_ticks;

    if (r->election.transferee != 0 && r->now - r->election.transfer_at >= n) {
        r->election.transferee = 0; /* it had its chance (A10) */
    }
    if (r->election.resigns && r->now - r->election.resign_at >= n) {
        election_become_follower(r, r->current_term, 0);
        return;
    }
    /* Others may have a disk that works (F8). */
    if (raft_disk_is_stalled(r) && !r->election.resigns &&
        !config_is_sole_voter(raft_members(r), r->config.id)) {
        election_resign(r);
    }
    /* Looked at every tick, not once per timeout: a leader that nobody
     * answers is gone n ticks after the last answer (A14). */
    if (!r->config.no_check_quorum && !replication_quorum_is_heard(r)) {
        election_become_follower(r, r->current_term, 0);
        return;
    }
    if (r->now - r->sampled_at >= n) {
        r->commit_then = r->commit_sample;
        r->commit_sample = r->commit_index;
        r->sampled_at = r->now;
    }
    if (++r->heartbeat_elapsed >= r->config.heartbeat_ticks) {
        r->heartbeat_elapsed = 0;
        r->heartbeat_due = true;
    }
}

/* To ask again would only raise the term: nobody was asked yet. */
static bool waits_for_disk(const struct raft *r)
{
    return (r->role == RAFT_PRE_CANDIDATE || r->role == RAFT_CANDIDATE) &&
           !r->election.self_counted;
}

void election_tick(struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        leader_tick(r);
        return;
    }
    if (r->election.elapsed < UINT32_MAX) {
        r->election.elapsed++;
    }
    if (r->election.elapsed >= r->election.timeout && !waits_for_disk(r) &&
        may_campaign(r)) {
        campaign(r, false);
    }
}

/* ---- transfer
 * ------------------------------------------------------------------- */

enum raft_status raft_transfer(struct raft *r, raft_id to)
{
    ASSERT(!r->ready_pending);
    if (r->role != RAFT_LEADER) {
        return RAFT_NOT_LEADER;
    }
    if (!config_stays_voter(raft_members(r), to)) {
        return RAFT_BAD_MEMBER;
    }
    if (to == r->config.id || to == r->election.transferee) {
        return RAFT_OK;
    }
    if (r->election.transferee != 0) {
        return RAFT_BUSY;
    }
    r->election.transferee = to;
    r->election.transfer_at = r->now;
    election_transfer_caught_up(r, replication_progress(r, to));
    check_all(r);
    return RAFT_OK;
}

void election_resign(struct raft *r)
{
    const struct progress *p = replication_furthest(r);

    ASSERT(r->role == RAFT_LEADER);
    r->election.resigns = true;
    r->election.resign_at = r->now;
    if (r->election.transferee == 0 && p != NULL) {
        r->election.transferee = p->id;
        r->election.transfer_at = r->now;
        election_transfer_caught_up(r, p);
    }
}

bool raft_disk_is_stalled(const struct raft *r)
{
    uint64_t handed_at;

    return r->config.disk_stall_ticks > 0 &&
           log_oldest_batch(&r->log, &handed_at) &&
           r->now - handed_at >= r->config.disk_stall_ticks;
}

/* Called whenever a follower's match index is known better. */
void election_transfer_caught_up(struct raft *r, const struct progress *p)
{
    if (p->id == r->election.transferee &&
        p->match_index == log_last_index(&r->log)) {
        raft_send(
            r, (struct raft_message){.type = RAFT_TIMEOUT_NOW, .to = p->id}, 0);
    }
}

/* Our leader asks us to take over: no pre-vote, and the votes that we ask for
 * are given although a leader lives (A9). */
void election_timeout_now(struct raft *r, const struct raft_message *m)
{
    if (r->role == RAFT_FOLLOWER && r->leader_id == m->from &&
        may_campaign(r)) {
        campaign(r, true);
    }
}
