/*
 * raft.c - the life of a struct raft: what comes in finds its handler, what
 * must go out is gathered. The rules of Raft are in election.c, replication.c
 * and read.c; here is the one of 3.8: nothing leaves that vouches for what is
 * not on disk.
 */
#include "raft/internal.h"

const char *raft_status_text(enum raft_status st)
{
    switch (st) {
    case RAFT_OK:
        return "ok";
    case RAFT_NOT_LEADER:
        return "not the leader";
    case RAFT_BUSY:
        return "busy: try again later";
    case RAFT_NOT_READY:
        return "no leader is known";
    case RAFT_BAD_MESSAGE:
        return "bad message";
    case RAFT_BAD_MEMBER:
        return "no such voter";
    case RAFT_CHANGE_PENDING:
        return "a change of the members is under way: try again later";
    case RAFT_BAD_CONFIGURATION:
        return "bad configuration";
    case RAFT_STALE_SNAPSHOT:
        return "stale snapshot";
    case RAFT_BAD_SNAPSHOT:
        return "bad snapshot";
    }
    return "unknown status";
}

/* ---- life -----------------------------------------------------------------
 */

void raft_config_defaults(struct raft_config *c)
{
    *c = (struct raft_config){
        .election_ticks = 10,
        .heartbeat_ticks = 1,
        .append_bytes_max = (size_t)1 << 20,
        .inflight_messages_max = 256,
        .inflight_bytes_max = (size_t)16 << 20,
        .uncommitted_bytes_max = (size_t)64 << 20,
    };
}

static void load_log(struct raft *r, const struct raft_start *start)
{
    log_init(&r->log, start->first_prev_index, start->first_prev_term);
    config_history_init(&r->configs, start->first_prev_index,
                        start->configuration);
    for (size_t i = 0; i < start->n_entries; i++) {
        raft_append(r, &start->entries[i]);
    }
    log_all_is_stable(&r->log);
    snapshot_start(r, start);
}

static void load_state(struct raft *r, const struct raft_start *start)
{
    r->current_term = start->hard_state.term;
    r->term_stored = r->current_term;
    r->voted_for = start->hard_state.voted_for;
    if (r->current_term < log_last_term(&r->log) && r->restore != NULL) {
        r->current_term = log_last_term(&r->log);
        r->voted_for = 0;
        r->hard_state_dirty = true;
    }
    r->commit_index = start->hard_state.commit;
    r->commit_stored = r->commit_index;
    /* Only what is committed is applied or cut, so the hint may be raised. */
    if (r->commit_index < start->last_applied) {
        r->commit_index = start->last_applied;
    }
    r->last_applied = start->last_applied;

    membership_note(r);
    ASSERT(r->last_applied >= r->log.prev_index);
    ASSERT(r->commit_index <= log_last_index(&r->log));
    ASSERT(r->current_term >= log_last_term(&r->log));
}

struct raft *raft_new(const struct raft_config *config,
                      const struct raft_start *start)
{
    struct raft *r = raft_alloc(1, sizeof(*r));

    ASSERT(config->id != 0);
    ASSERT(config->heartbeat_ticks > 0);
    ASSERT(config->heartbeat_ticks < config->election_ticks);
    ASSERT(config->inflight_messages_max > 0);
    ASSERT(config->inflight_bytes_max > 0);
    r->config = *config;
    /* Equal seeds on several members would time out together: A18. */
    rng_init(&r->rng, config->seed ^ (config->id * 0x9e3779b97f4a7c15U));
    load_log(r, start);
    load_state(r, start);
    election_reset_timer(r);
    check_all(r);
    return r;
}

void raft_free_all(struct raft *r)
{
    if (r == NULL) {
        return;
    }
    replication_end(r);
    read_release(&r->reads);
    log_release(&r->log);
    config_history_release(&r->configs);
    snapshot_release(r);
    raft_free(r->election.granted);
    raft_free(r->election.hopeful);
    raft_free(r->needy);
    raft_free(r->scratch);
    raft_free(r->outbox.items);
    raft_free(r->out);
    raft_free(r);
}

/* ---- the log, with the configuration in it ---------------------------------
 */

const struct raft_configuration *raft_members(const struct raft *r)
{
    return config_history_newest(&r->configs);
}

void raft_append(struct raft *r, const struct raft_entry *e)
{
    struct raft_configuration c;
    bool ok;

    log_append(&r->log, e);
    if (e->type != RAFT_ENTRY_CONFIG) {
        return;
    }
    /* A server uses the newest configuration at once, committed or not. */
    ok = raft_configuration_decode(&c, e->data, e->size);
    ASSERT(ok); /* replication_append_is_sane() has tried it */
    config_history_push(&r->configs, e->index, &c);
    replication_configure(r);
}

void raft_compact(struct raft *r, raft_index index)
{
    ASSERT(!r->ready_pending);
    ASSERT(index <= r->last_applied);
    log_compact(&r->log, index);
    config_history_compact(&r->configs, index);
    check_all(r);
}

/* ---- messages out -----------------------------------------------------------
 */

uint64_t raft_vote_batch(const struct raft *r)
{
    return r->hard_state_dirty ? r->log.last_batch + 1 : r->hard_state_batch;
}

/* A later acknowledgement of the same kind says all that the earlier did. */
static bool merge(struct outgoing *last, const struct outgoing *next)
{
    struct raft_message *m = &last->message;

    if (m->type != next->message.type || m->to != next->message.to ||
        last->batch != next->batch || last->term != next->term) {
        return false;
    }
    if (m->type == RAFT_APPEND_ENTRIES_RESPONSE && !m->reject &&
        !next->message.reject) {
        if (m->log_index < next->message.log_index) {
            m->log_index = next->message.log_index;
        }
        return true;
    }
    if (m->type == RAFT_HEARTBEAT_RESPONSE) {
        if (m->context < next->message.context) {
            m->context = next->message.context;
        }
        return true;
    }
    return false;
}

void raft_send(struct raft *r, struct raft_message m, uint64_t batch)
{
    struct outbox *o = &r->outbox;
    uint64_t vote_batch = raft_vote_batch(r);
    struct outgoing next;

    m.from = r->config.id;
    m.term = m.term != 0 ? m.term : r->current_term;
    next = (struct outgoing){
        .message = m,
        .batch = batch > vote_batch ? batch : vote_batch,
        .term = r->current_term,
    };
    ASSERT(m.to != 0 && m.to != r->config.id);
    ASSERT(m.n_entries == 0);
    if (o->n > 0 && merge(&o->items[o->n - 1], &next)) {
        return;
    }
    if (next.batch > r->log.stable_batch && o->n >= OUTBOX_MAX) {
        return; /* the disk hangs; the network may lose messages as well */
    }
    if (o->n == o->capacity) {
        o->capacity = 2 * o->capacity + 16;
        o->items = raft_realloc(o->items, o->capacity, sizeof(*o->items));
    }
    o->items[o->n++] = next;
}

static bool asks_for_vote(const struct outgoing *o)
{
    return o->message.type == RAFT_PRE_VOTE ||
           o->message.type == RAFT_REQUEST_VOTE;
}

void raft_drop_vote_requests(struct raft *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->outbox.n; i++) {
        if (!asks_for_vote(&r->outbox.items[i])) {
            r->outbox.items[n++] = r->outbox.items[i];
        }
    }
    r->outbox.n = n;
}

/* Who made that message is no longer who we are (A6). */
static bool is_stale(const struct raft *r, const struct outgoing *o)
{
    if (o->term != r->current_term) {
        return true;
    }
    switch (o->message.type) {
    case RAFT_PRE_VOTE:
        return r->role != RAFT_PRE_CANDIDATE;
    case RAFT_REQUEST_VOTE:
        return r->role != RAFT_CANDIDATE;
    case RAFT_HEARTBEAT:
    case RAFT_TIMEOUT_NOW:
        return r->role != RAFT_LEADER;
    case RAFT_READ_INDEX:
        return r->leader_id != o->message.to;
    default:
        return false;
    }
}

/* The entries that a message claims to be on disk are, now that it leaves. */
static void check_vouched(const struct raft *r, const struct raft_message *m)
{
    /* A vote given later in the same term may still be on its way: what was
     * said before it does not stand for it. */
    ASSERT(r->term_stored == r->current_term);
    ASSERT(r->term_batch <= r->log.stable_batch);
    if (m->type == RAFT_REQUEST_VOTE ||
        (m->type == RAFT_REQUEST_VOTE_RESPONSE && !m->reject)) {
        ASSERT(raft_vote_batch(r) <= r->log.stable_batch);
    }
    if ((m->type == RAFT_APPEND_ENTRIES_RESPONSE && !m->reject) ||
        m->type == RAFT_PRE_VOTE || m->type == RAFT_REQUEST_VOTE) {
        ASSERT(m->log_index <= r->log.stable_index);
        ASSERT(!log_is_restoring(&r->log));
    }
}

struct raft_message *raft_out(struct raft *r, enum raft_message_type type,
                              raft_id to)
{
    struct raft_message *m;

    if (r->n_out == r->out_capacity) {
        r->out_capacity = 2 * r->out_capacity + 16;
        r->out = raft_realloc(r->out, r->out_capacity, sizeof(*r->out));
    }
    m = &r->out[r->n_out++];
    *m = (struct raft_message){
        .type = type, .from = r->config.id, .to = to, .term = r->current_term};
    return m;
}

/* Move out of the box what may leave, drop what is stale, keep the rest. */
static void release_messages(struct raft *r)
{
    struct outbox *o = &r->outbox;
    size_t kept = 0;

    for (size_t i = 0; i < o->n; i++) {
        const struct outgoing *next = &o->items[i];

        if (is_stale(r, next)) {
            continue;
        }
        if (next->batch > r->log.stable_batch) {
            o->items[kept++] = *next;
            continue;
        }
        check_vouched(r, &next->message);
        *raft_out(r, next->message.type, next->message.to) = next->message;
    }
    o->n = kept;
}

/* ---- ready, advance, stable -------------------------------------------------
 */

/*
 * A new commit index alone is no reason to write: it can be learnt again. In
 * company it costs one row and lets a restart apply without asking.
 */
static void gather_disk_work(struct raft *r, struct raft_ready *rd)
{
    if (!r->hard_state_dirty && !log_has_work(&r->log)) {
        return;
    }
    log_hand_out(&r->log, r->now, rd);
    if (rd->batch == r->log.restore_batch) {
        rd->restore = r->restore;
    }
    if (r->hard_state_dirty) {
        r->hard_state_batch = rd->batch;
    }
    if (r->term_stored != r->current_term) {
        r->term_stored = r->current_term;
        r->term_batch = rd->batch;
    }
    if (r->hard_state_dirty || r->commit_stored != r->commit_index) {
        rd->hard_state_changed = true;
        rd->hard_state = (struct raft_hard_state){r->current_term, r->voted_for,
                                                  r->commit_index};
        r->commit_stored = r->commit_index;
    }
    r->hard_state_dirty = false;
}

static void gather_messages(struct raft *r, struct raft_ready *rd)
{
    if (r->role == RAFT_LEADER) {
        read_begin_round(r);
        replication_heartbeats(r);
    }
    release_messages(r);
    if (r->role == RAFT_LEADER) {
        replication_fill(r);
    }
    rd->messages = r->n_out > 0 ? r->out : NULL;
    rd->n_messages = r->n_out;
}

/*
 * Committed says that a quorum has it synced; we may not yet be one of them.
 * What the state machine does with an entry must not outlive the entry: B8.
 */
static void gather_committed(struct raft *r, struct raft_ready *rd)
{
    raft_index to = r->commit_index;
    size_t bytes;

    to = to < r->log.stable_index ? to : r->log.stable_index;
    if (to <= r->last_applied || r->is_installing) {
        return;
    }
    rd->committed = log_at(&r->log, r->last_applied + 1);
    rd->n_committed =
        log_fit(&r->log, r->last_applied + 1, to, COMMITTED_ENTRIES_MAX,
                COMMITTED_BYTES_MAX, &bytes);
    r->n_committed_out = rd->n_committed;
}

bool raft_ready(struct raft *r, struct raft_ready *rd)
{
    ASSERT(!r->ready_pending);
    *rd = (struct raft_ready){0};
    election_campaign_alone(r);
    membership_proceed(r);
    gather_messages(r, rd);
    gather_disk_work(r, rd);
    gather_committed(r, rd);
    if (r->reads.n_results > 0) {
        rd->reads = r->reads.results;
        rd->n_reads = r->reads.n_results;
    }
    if (r->n_needy > 0) {
        rd->snapshots = r->needy;
        rd->n_snapshots = r->n_needy;
    }
    r->ready_pending = rd->batch != 0 || rd->n_messages > 0 ||
                       rd->n_committed > 0 || rd->n_reads > 0 ||
                       rd->n_snapshots > 0;
    check_all(r);
    return r->ready_pending;
}

void raft_advance(struct raft *r)
{
    ASSERT(r->ready_pending);
    r->ready_pending = false;
    r->last_applied += r->n_committed_out;
    r->n_committed_out = 0;
    r->n_out = 0;
    r->reads.n_results = 0;
    r->n_needy = 0;
    check_all(r);
}

void raft_stable(struct raft *r, uint64_t batch)
{
    ASSERT(!r->ready_pending);
    if (!log_stable(&r->log, batch)) {
        return;
    }
    snapshot_stable(r);
    if (r->role == RAFT_LEADER) {
        replication_stable(r);
    }
    election_stable(r);
    check_all(r);
}

/* ---- in
 * ----------------------------------------------------------------------- */

void raft_clock(struct raft *r, unsigned ticks)
{
    ASSERT(!r->ready_pending);
    for (; ticks > 0; ticks--) {
        r->now++;
        read_tick(r);
        election_tick(r);
    }
    check_all(r);
}

void raft_tick(struct raft *r)
{
    raft_clock(r, 1);
}

static bool is_from_leader(const struct raft_message *m)
{
    return m->type == RAFT_APPEND_ENTRIES || m->type == RAFT_HEARTBEAT ||
           m->type == RAFT_TIMEOUT_NOW;
}

/*
 * May a server that our configuration does not name say that?
 *
 * Requests are judged by the caller's configuration, not ours (4.1): ours may
 * be older, and then refusing the vote of a new member's candidacy, or the
 * entries of a new member as leader, would leave us behind for good. A removed
 * member that asks for votes is held off by pre-vote and by the leader's being
 * alive (4.2.3). All else is an answer or a wish, and those we count or serve
 * for members only.
 */
static bool may_be_stranger(const struct raft_message *m)
{
    return m->type == RAFT_PRE_VOTE || m->type == RAFT_REQUEST_VOTE ||
           m->type == RAFT_APPEND_ENTRIES || m->type == RAFT_HEARTBEAT;
}

/* What can be seen from a message alone. */
static bool is_well_formed(const struct raft *r, const struct raft_message *m)
{
    if (m->type < RAFT_PRE_VOTE || m->type > RAFT_READ_INDEX_RESPONSE) {
        return false;
    }
    if (m->to != r->config.id || m->from == m->to || m->from == 0 ||
        m->term == 0) {
        return false;
    }
    /* Stores count in 64 bits with a sign; nobody gets there honestly. */
    if (m->term >= INT64_MAX || m->log_index >= INT64_MAX) {
        return false;
    }
    if (m->type != RAFT_APPEND_ENTRIES && m->n_entries > 0) {
        return false;
    }
    if (m->type == RAFT_PRE_VOTE || m->type == RAFT_REQUEST_VOTE ||
        m->type == RAFT_APPEND_ENTRIES) {
        return (m->log_index == 0) == (m->log_term == 0) &&
               m->log_term <= m->term;
    }
    return true;
}

/* A member; or the leader, who may be removing itself; or whom we removed and
 * are telling so. */
static bool is_known(const struct raft *r, raft_id id)
{
    return config_find(raft_members(r), id) != CONFIG_NOBODY ||
           id == r->leader_id || membership_departing(r, id) != NULL;
}

/* What contradicts things that this term, or the whole cluster, agreed on. */
static bool fits_our_state(const struct raft *r, const struct raft_message *m)
{
    if (!may_be_stranger(m) && !is_known(r, m->from)) {
        return false;
    }
    if (m->term == r->current_term && is_from_leader(m) &&
        (r->role == RAFT_LEADER ||
         (r->leader_id != 0 && r->leader_id != m->from))) {
        return false; /* two leaders in a term */
    }
    if (m->term == r->current_term && r->role == RAFT_LEADER) {
        if (m->type == RAFT_APPEND_ENTRIES_RESPONSE && !m->reject) {
            return m->log_index <= log_last_index(&r->log);
        }
        if (m->type == RAFT_HEARTBEAT_RESPONSE) {
            return m->context <= r->reads.round;
        }
    }
    if (m->term >= r->current_term && m->type == RAFT_HEARTBEAT) {
        return m->commit <= log_last_index(&r->log); /* <= our match index */
    }
    if (m->term >= r->current_term && m->type == RAFT_APPEND_ENTRIES) {
        return replication_append_is_sane(r, m);
    }
    return true;
}

/* The sender lives in an earlier term: where it matters, tell it of ours. */
static void answer_old_term(struct raft *r, const struct raft_message *m)
{
    struct raft_message answer = {.to = m->from, .reject = true};

    switch (m->type) {
    case RAFT_REQUEST_VOTE:
        answer.type = RAFT_REQUEST_VOTE_RESPONSE;
        break;
    case RAFT_APPEND_ENTRIES:
    case RAFT_HEARTBEAT:
        /* Without an answer a leader whose term we have left behind would
         * never step down for us, nor we ever hear it: no progress. */
        answer.type = RAFT_APPEND_ENTRIES_RESPONSE;
        break;
    case RAFT_READ_INDEX:
        answer.type = RAFT_READ_INDEX_RESPONSE;
        answer.context = m->context;
        break;
    default:
        return;
    }
    raft_send(r, answer, 0);
}

/* False: the message ends here. */
static bool take_term(struct raft *r, const struct raft_message *m)
{
    /* A pre-vote, and the grant of one, speak of a term that may never be. */
    if (m->type == RAFT_PRE_VOTE ||
        (m->type == RAFT_PRE_VOTE_RESPONSE && !m->reject)) {
        return true;
    }
    if (m->term < r->current_term) {
        answer_old_term(r, m);
        return false;
    }
    if (m->term > r->current_term) {
        if (m->type == RAFT_REQUEST_VOTE && !m->force &&
            !r->config.no_check_quorum && election_leader_lives(r)) {
            return false; /* 4.2.3: not even its term */
        }
        election_become_follower(r, m->term, is_from_leader(m) ? m->from : 0);
    }
    return true;
}

static void dispatch(struct raft *r, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_PRE_VOTE:
        election_pre_vote(r, m);
        break;
    case RAFT_REQUEST_VOTE:
        election_request_vote(r, m);
        break;
    case RAFT_PRE_VOTE_RESPONSE:
    case RAFT_REQUEST_VOTE_RESPONSE:
        election_response(r, m);
        break;
    case RAFT_APPEND_ENTRIES:
        replication_append(r, m);
        break;
    case RAFT_APPEND_ENTRIES_RESPONSE:
        replication_append_response(r, m);
        break;
    case RAFT_HEARTBEAT:
        replication_heartbeat(r, m);
        break;
    case RAFT_HEARTBEAT_RESPONSE:
        replication_heartbeat_response(r, m);
        break;
    case RAFT_TIMEOUT_NOW:
        election_timeout_now(r, m);
        break;
    case RAFT_READ_INDEX:
        read_index_request(r, m);
        break;
    case RAFT_READ_INDEX_RESPONSE:
        read_index_response(r, m);
        break;
    }
}

enum raft_status raft_step(struct raft *r, const struct raft_message *m)
{
    ASSERT(!r->ready_pending);
    if (!is_well_formed(r, m) || !fits_our_state(r, m)) {
        return RAFT_BAD_MESSAGE;
    }
    if (take_term(r, m)) {
        if (r->role == RAFT_LEADER && m->term == r->current_term) {
            struct progress *p = replication_progress(r, m->from);

            if (p != NULL) {
                p->heard_at = r->now;
                p->is_heard = true;
            }
        }
        dispatch(r, m);
    }
    check_all(r);
    return RAFT_OK;
}

enum raft_status raft_propose(struct raft *r, const void *data, size_t size,
                              raft_index *index)
{
    struct raft_entry e = {.type = RAFT_ENTRY_COMMAND,
                           .term = r->current_term,
                           .size = size,
                           .data = data};

    ASSERT(!r->ready_pending);
    if (r->role != RAFT_LEADER) {
        return RAFT_NOT_LEADER;
    }
    /* One that is larger than the limit by itself gets its turn alone. */
    if (r->election.transferee != 0 || r->election.resigns ||
        (r->uncommitted_bytes > 0 &&
         (size > r->config.uncommitted_bytes_max ||
          r->uncommitted_bytes > r->config.uncommitted_bytes_max - size))) {
        return RAFT_BUSY;
    }
    e.index = log_last_index(&r->log) + 1;
    raft_append(r, &e);
    r->uncommitted_bytes += size;
    *index = e.index;
    check_all(r);
    return RAFT_OK;
}

enum raft_status raft_read(struct raft *r, uint64_t context)
{
    ASSERT(!r->ready_pending);
    if (r->role == RAFT_LEADER) {
        read_ask(r, r->config.id, context);
    } else if (r->leader_id != 0) {
        read_forward(r, context);
    } else {
        return RAFT_NOT_READY;
    }
    check_all(r);
    return RAFT_OK;
}

/* ---- questions
 * ------------------------------------------------------------------ */

enum raft_role raft_role(const struct raft *r)
{
    return r->role;
}

raft_id raft_leader(const struct raft *r)
{
    return r->leader_id;
}

raft_term raft_term_now(const struct raft *r)
{
    return r->current_term;
}

raft_id raft_voted_for(const struct raft *r)
{
    return r->voted_for;
}

raft_index raft_commit_index(const struct raft *r)
{
    return r->commit_index;
}

raft_index raft_last_applied(const struct raft *r)
{
    return r->last_applied;
}

raft_index raft_first_index(const struct raft *r)
{
    return log_first_index(&r->log);
}

raft_index raft_last_index(const struct raft *r)
{
    return log_last_index(&r->log);
}

raft_index raft_stable_index(const struct raft *r)
{
    return r->log.stable_index;
}

const struct raft_entry *raft_entry_at(const struct raft *r, raft_index i)
{
    if (i < log_first_index(&r->log) || i > log_last_index(&r->log)) {
        return NULL;
    }
    return log_at(&r->log, i);
}

const struct raft_configuration *raft_configuration_now(const struct raft *r)
{
    return raft_members(r);
}

const struct raft_configuration *raft_configuration_at(const struct raft *r,
                                                       raft_index index)
{
    ASSERT(index + 1 >= log_first_index(&r->log));
    ASSERT(index <= log_last_index(&r->log));
    return config_history_at(&r->configs, index);
}

bool raft_is_settled_leader(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->commit_index >= r->term_first_index;
}

raft_index raft_all_match_index(const struct raft *r)
{
    return r->role == RAFT_LEADER ? replication_all_match(r)
                                  : r->leader_all_match;
}

size_t raft_uncommitted_bytes(const struct raft *r)
{
    return r->uncommitted_bytes;
}

bool raft_progress_at(const struct raft *r, size_t i, struct raft_progress *p)
{
    const struct progress *q;

    if (r->role != RAFT_LEADER || i >= r->n_progress) {
        return false;
    }
    q = &r->progress[i];
    *p = (struct raft_progress){
        .id = q->id,
        .state = q->state,
        .match_index = q->match_index,
        .next_index = q->next_index,
        .inflight_messages = q->window_n,
        .recently_active = replication_is_recent(r, q),
    };
    return true;
}
