/*
 * node.c - drives the core and the applier. Reads: noderead.c. Leases:
 * nodelease.c. Changes of the members: nodemember.c.
 */
#include "server/node.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/logger.h"
#include "server/nodeinternal.h"

/* A leader whose disk confirms nothing for so many election timeouts hands
 * leadership over (F8); a disk that is slow but moves is left alone (F9). */
#define DISK_STALL_ELECTIONS 5

/* state.db trails by at most this much before it is written. */
#define STATE_BYTES_MAX ((size_t)4 << 20)
#define STATE_DELAY_MS 500

/* A snapshot on its way holds the log's cut back by so many tails at most. */
#define HOLD_TAILS 10
#define HOLD_ENTRIES 10000

/* The term of a proposal that may be part of a snapshot: never lost, for all we
 * know, and never proposed again. */
#define TERM_UNKNOWN UINT64_MAX

#define SLOT_BITS 24

void node_config_defaults(struct node_config *c)
{
    *c = (struct node_config){
        .tick_ms = 50,
        .heartbeat_ms = 100,
        .election_ms = 1000,
        .request_timeout_ms = 7000,
        .log_keep_entries = 5000,
    };
}

static void configure_raft(const struct node_config *c, struct raft_config *rc)
{
    raft_config_defaults(rc);
    rc->id = c->id;
    rc->seed = c->seed;
    rc->heartbeat_ticks = c->heartbeat_ms / c->tick_ms;
    rc->election_ticks = c->election_ms / c->tick_ms;
    rc->disk_stall_ticks = DISK_STALL_ELECTIONS * rc->election_ticks;
}

static void tell_members(struct node *n)
{
    size_t count;
    const struct member *members = applier_members(n->applier, &count);

    if (count > 0) {
        n->env.members(n->env.context, members, count);
    }
}

/* Far apart for any two numbers (Fibonacci hashing). */
static uint64_t spread(uint64_t x)
{
    return x * UINT64_C(0x9e3779b97f4a7c15);
}

struct node *node_new(const struct node_config *config,
                      const struct node_env *env,
                      const struct raft_start *start, struct applier *applier)
{
    struct node *n = mem_alloc(1, sizeof(*n));
    struct raft_config rc;
    uint64_t numbers_from = spread(config->incarnation);

    ASSERT(config->incarnation != 0);
    configure_raft(config, &rc);
    n->config = *config;
    n->env = *env;
    n->applier = applier;
    n->raft = raft_new(&rc, start);
    n->digests = digests_new();
    n->state_taken_ms = env->now_ms(env->context);
    /* A reply to an earlier life of this member must not meet a request of
     * this one: numbers begin elsewhere each time. */
    n->generation = numbers_from >> (SLOT_BITS + 2);
    n->lease_request = numbers_from >> 2;
    arena_init(&n->arena);
    TAILQ_INIT(&n->waiting);
    TAILQ_INIT(&n->sent);
    TAILQ_INIT(&n->read_batches);
    tell_members(n);
    return n;
}

static void stop_proposals(struct proposal_list *list)
{
    struct node_proposal *p;

    while ((p = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, p, link);
        p->done(p, p->term != 0 ? ST_TIMEOUT : ST_STOPPED, NULL);
    }
}

void node_free(struct node *n)
{
    if (n == NULL) {
        return;
    }
    stop_proposals(&n->waiting);
    stop_proposals(&n->sent);
    node_reads_stop(n);
    node_leases_stop(n);
    raft_free_all(n->raft);
    digests_free(n->digests);
    arena_release(&n->arena);
    free(n->slots);
    free(n->free_slots);
    free(n);
}

/* ---- proposals -------------------------------------------------------------
 */

static void take_slot(struct node *n, struct node_proposal *p)
{
    size_t slot;

    if (n->n_free_slots == 0) {
        size_t old = n->n_slots;

        n->n_slots = old > 0 ? old * 2 : 64;
        ASSERT(n->n_slots <= (size_t)1 << SLOT_BITS);
        n->slots = mem_realloc(n->slots, n->n_slots, sizeof(*n->slots));
        n->free_slots =
            mem_realloc(n->free_slots, n->n_slots, sizeof(*n->free_slots));
        for (size_t i = n->n_slots; i > old; i--) {
            n->slots[i - 1] = NULL;
            n->free_slots[n->n_free_slots++] = (uint32_t)(i - 1);
        }
    }
    slot = n->free_slots[--n->n_free_slots];
    n->slots[slot] = p;
    p->request = (++n->generation << SLOT_BITS) | slot;
}

static struct node_proposal *find_proposal(struct node *n, uint64_t request)
{
    size_t slot = request & (((uint64_t)1 << SLOT_BITS) - 1);

    if (slot >= n->n_slots || n->slots[slot] == NULL ||
        n->slots[slot]->request != request) {
        return NULL;
    }
    return n->slots[slot];
}

static struct proposal_list *list_of(struct node *n,
                                     const struct node_proposal *p)
{
    return p->term == 0 ? &n->waiting : &n->sent;
}

void node_forget(struct node *n, struct node_proposal *p)
{
    size_t slot = p->request & (((uint64_t)1 << SLOT_BITS) - 1);

    ASSERT(slot < n->n_slots && n->slots[slot] == p);
    n->slots[slot] = NULL;
    n->free_slots[n->n_free_slots++] = (uint32_t)slot;
    TAILQ_REMOVE(list_of(n, p), p, link);
}

static void end_proposal(struct node *n, struct node_proposal *p,
                         enum status st, const struct applied *result)
{
    node_forget(n, p);
    p->done(p, st, result);
}

static void move_proposal(struct node *n, struct node_proposal *p,
                          raft_term term)
{
    TAILQ_REMOVE(list_of(n, p), p, link);
    p->term = term;
    TAILQ_INSERT_TAIL(list_of(n, p), p, link);
}

/* It certainly was not applied and is not on its way: wait for a leader. */
static void put_back(struct node *n, struct node_proposal *p)
{
    if (p->term != 0) {
        move_proposal(n, p, 0);
    }
}

static void set_out(struct node *n, struct node_proposal *p)
{
    ASSERT(p->term == 0);
    move_proposal(n, p, raft_term_now(n->raft));
}

static void forward_proposal(struct node *n, struct node_proposal *p,
                             raft_id leader)
{
    Pawl__Peer__V1__Forward item = PAWL__PEER__V1__FORWARD__INIT;
    ProtobufCBinaryData data = {p->size, (uint8_t *)p->data}; /* only read */

    item.request = p->request;
    if (p->is_change) {
        item.what_case = PAWL__PEER__V1__FORWARD__WHAT_MEMBER_CHANGE;
        item.member_change = data;
    } else {
        item.what_case = PAWL__PEER__V1__FORWARD__WHAT_PROPOSE;
        item.propose = data;
    }
    item.term = raft_term_now(n->raft);
    set_out(n, p);
    n->env.forward(n->env.context, leader, &item);
}

static enum status try_change(struct node *n, struct node_proposal *p)
{
    enum status why;

    switch (node_try_change(n, p->data, p->size, &why)) {
    case NODE_CHANGE_TAKEN:
        set_out(n, p);
        return ST_OK;
    case NODE_CHANGE_LATER:
        return ST_OK; /* the next tick tries again */
    default:
        return why;
    }
}

/*
 * Send p on its way if there is a leader. Returns ST_OK, also when it has to
 * wait, or why it cannot be taken.
 */
static enum status try_propose(struct node *n, struct node_proposal *p)
{
    raft_id leader = raft_leader(n->raft);
    raft_index index;

    if (leader == 0 || n->in_ready) {
        return ST_OK;
    }
    if (leader != n->config.id) {
        forward_proposal(n, p, leader);
        return ST_OK;
    }
    if (p->is_change) {
        return try_change(n, p);
    }
    switch (raft_propose(n->raft, p->data, p->size, &index)) {
    case RAFT_OK:
        set_out(n, p);
        return ST_OK;
    case RAFT_BUSY:
        return ST_TOO_MANY_REQUESTS;
    default:
        return ST_OK; /* not the leader after all: wait */
    }
}

/* In order. What callbacks start meanwhile waits for the next turn. */
static void propose_waiting(struct node *n)
{
    struct node_proposal *p, *next, *last;

    if (!n->propose_soon || raft_leader(n->raft) == 0) {
        return;
    }
    n->propose_soon = false;
    last = TAILQ_LAST(&n->waiting, proposal_list);
    for (p = TAILQ_FIRST(&n->waiting); p != NULL; p = next) {
        enum status st;

        next = p == last ? NULL : TAILQ_NEXT(p, link);
        st = try_propose(n, p);
        if (st != ST_OK && p->deadline_ms != UINT64_MAX) {
            end_proposal(n, p, st, NULL);
        }
    }
}

void node_propose(struct node *n, struct node_proposal *p,
                  Pawl__Command__V1__Command *cmd, struct arena *arena,
                  bool patient)
{
    uint8_t *data;

    node_number_proposal(n, p);
    cmd->member = n->config.id;
    cmd->incarnation = n->config.incarnation;
    cmd->request = p->request;
    p->size = protobuf_c_message_get_packed_size(&cmd->base);
    data = arena_alloc(arena, p->size);
    protobuf_c_message_pack(&cmd->base, data);
    p->data = data;
    p->is_change = false;
    node_queue_proposal(n, p, patient);
}

void node_number_proposal(struct node *n, struct node_proposal *p)
{
    take_slot(n, p);
}

void node_queue_proposal(struct node *n, struct node_proposal *p, bool patient)
{
    p->term = 0;
    p->deadline_ms =
        patient ? UINT64_MAX : node_now_ms(n) + n->config.request_timeout_ms;
    TAILQ_INSERT_TAIL(&n->waiting, p, link);
    n->propose_soon = true; /* see node_round() */
}

/*
 * An entry of a newer term was applied: whatever was proposed in an older term
 * and has not been applied by now never will be, because terms only rise along
 * the log. So it is safe to propose it again.
 */
static void put_back_lost(struct node *n, raft_term applied_term)
{
    struct node_proposal *p, *next;

    for (p = TAILQ_FIRST(&n->sent); p != NULL; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->term < applied_term) {
            put_back(n, p);
            n->propose_soon = true;
        }
    }
}

static bool is_overdue(const struct node_proposal *p, uint64_t now_ms)
{
    return p->deadline_ms <= now_ms ||
           (p->term == 0 && p->give_up_ms != 0 && p->give_up_ms <= now_ms);
}

static enum status overdue_status(const struct node *n,
                                  const struct node_proposal *p)
{
    if (p->is_change && p->term == 0 && raft_leader(n->raft) != 0) {
        return ST_UNHEALTHY; /* it waited for the one before */
    }
    return node_timeout_status(n, p->term != 0);
}

/* Ends one proposal of the list that is past its deadline; false: none is. */
static bool expire_one(struct node *n, struct proposal_list *list,
                       uint64_t now_ms)
{
    struct node_proposal *p;

    TAILQ_FOREACH(p, list, link)
    {
        if (is_overdue(p, now_ms)) {
            end_proposal(n, p, overdue_status(n, p), NULL);
            return true;
        }
    }
    return false;
}

static void expire_proposals(struct node *n, uint64_t now_ms)
{
    while (expire_one(n, &n->waiting, now_ms) ||
           expire_one(n, &n->sent, now_ms)) {
    }
}

enum status node_timeout_status(const struct node *n, bool under_way)
{
    if (!under_way) {
        return ST_NO_LEADER;
    }
    return raft_leader(n->raft) == 0 ? ST_TIMEOUT_LEADER_FAILED : ST_TIMEOUT;
}

/* ---- requests that other members forwarded ---------------------------------
 */

static Pawl__Peer__V1__ForwardStatus
propose_for(struct node *n, const Pawl__Peer__V1__Forward *item)
{
    raft_index index;

    if (item->term != raft_term_now(n->raft)) {
        return PAWL__PEER__V1__FORWARD_STATUS__FORWARD_NOT_LEADER;
    }
    switch (
        raft_propose(n->raft, item->propose.data, item->propose.len, &index)) {
    case RAFT_OK:
        return PAWL__PEER__V1__FORWARD_STATUS__FORWARD_OK;
    case RAFT_BUSY:
        return PAWL__PEER__V1__FORWARD_STATUS__FORWARD_BUSY;
    default:
        return PAWL__PEER__V1__FORWARD_STATUS__FORWARD_NOT_LEADER;
    }
}

void node_on_forward(struct node *n, raft_id from,
                     const Pawl__Peer__V1__Forward *item)
{
    Pawl__Peer__V1__ForwardResult result = PAWL__PEER__V1__FORWARD_RESULT__INIT;

    ASSERT(!n->in_ready);
    switch (item->what_case) {
    case PAWL__PEER__V1__FORWARD__WHAT_PROPOSE:
        result.request = item->request;
        result.term = item->term;
        result.status = propose_for(n, item);
        /* Taken ones are answered by being applied at the asker. */
        if (result.status != PAWL__PEER__V1__FORWARD_STATUS__FORWARD_OK) {
            n->env.forward_reply(n->env.context, from, &result);
        }
        break;
    case PAWL__PEER__V1__FORWARD__WHAT_MEMBER_CHANGE:
        node_forwarded_change(n, from, item);
        break;
    case PAWL__PEER__V1__FORWARD__WHAT_DIGEST:
        node_digest_heard(n, from, item);
        break;
    case PAWL__PEER__V1__FORWARD__WHAT_LEASE_KEEP_ALIVE:
        node_lease_query_for(n, from, item->request, true,
                             item->lease_keep_alive);
        break;
    case PAWL__PEER__V1__FORWARD__WHAT_LEASE_TIME_TO_LIVE:
        node_lease_query_for(n, from, item->request, false,
                             item->lease_time_to_live);
        break;
    default:
        break; /* of a newer pawl: the asker times out */
    }
}

void node_on_forward_result(struct node *n,
                            const Pawl__Peer__V1__ForwardResult *item)
{
    struct node_proposal *p = find_proposal(n, item->request);

    if (p == NULL) {
        node_lease_result(n, item);
    } else if (item->term != p->term) {
        return; /* a late answer: it has been sent again since */
    } else if (item->status ==
               PAWL__PEER__V1__FORWARD_STATUS__FORWARD_NOT_LEADER) {
        put_back(n, p);
    } else if (item->status == PAWL__PEER__V1__FORWARD_STATUS__FORWARD_BUSY) {
        end_proposal(n, p, ST_TOO_MANY_REQUESTS, NULL);
    } else if (item->status ==
               PAWL__PEER__V1__FORWARD_STATUS__FORWARD_REFUSED) {
        enum status why = status_of_text(item->error);

        end_proposal(n, p, why < STATUS_COUNT ? why : ST_NOT_APPLIED, NULL);
    }
}

/* ---- applying
 * ---------------------------------------------------------------- */

static void apply_entry(struct node *n, const struct raft_entry *e)
{
    struct kv *kv = applier_kv(n->applier);
    int64_t revision = kv_revision(kv);
    struct applied result;
    struct node_proposal *p = NULL;

    arena_reset(&n->arena);
    applier_apply(n->applier, e, &n->arena, &result);
    node_digest_applied(n);
    if (result.member == n->config.id &&
        result.incarnation == n->config.incarnation) {
        p = find_proposal(n, result.request);
    }
    if (p != NULL && result.half_done) {
        move_proposal(n, p, UINT64_MAX); /* the rest comes by itself */
    } else if (p != NULL) {
        end_proposal(n, p, result.status, &result);
    }
    if (n->listener != NULL && kv_revision(kv) != revision) {
        size_t n_changes;
        const struct kv_change *changes = kv_changes(kv, &n_changes);

        n->listener(n->listener_context, changes, n_changes);
    }
    if (e->type == RAFT_ENTRY_CONFIG) {
        node_members_applied(n);
        tell_members(n);
    }
    if (e->term > n->applied_term) {
        n->applied_term = e->term;
        put_back_lost(n, e->term);
    }
}

static void take_state(struct node *n)
{
    struct changeset *c;

    if (n->restoring) {
        return; /* what is being put in place is newer */
    }
    c = applier_take_changes(n->applier);

    n->state_taken_ms = node_now_ms(n);
    if (c != NULL) {
        n->state_writes++;
        n->env.state_write(n->env.context, c);
    }
}

static void maybe_take_state(struct node *n)
{
    size_t bytes = applier_changes_bytes(n->applier);

    if (bytes == 0 || n->state_writes > 0) {
        return; /* one at a time: the next gathers meanwhile */
    }
    if (bytes >= STATE_BYTES_MAX ||
        node_now_ms(n) - n->state_taken_ms >= STATE_DELAY_MS) {
        take_state(n);
    }
}

void node_flush_state(struct node *n)
{
    take_state(n);
}

/*
 * The log is cut only below what state.db has synced, and keeps a tail. Members
 * that lag further behind get a snapshot; while one is on its way, the log
 * waits for it, but not without bound: else a member that takes its snapshot
 * more slowly than others write would fill our memory (the next one is
 * fresher).
 */
static void maybe_compact(struct node *n, raft_index persisted)
{
    raft_index to = persisted, keep = n->config.log_keep_entries;
    raft_index hold = keep * HOLD_TAILS + HOLD_ENTRIES;

    if (to <= keep) {
        return;
    }
    to -= keep;
    if (n->env.snapshots == NULL && raft_all_match_index(n->raft) < to) {
        to = raft_all_match_index(n->raft); /* nobody could be helped behind */
    }
    if (n->log_hold != 0 && n->log_hold < to) {
        to = to - n->log_hold > hold ? to - hold : n->log_hold;
    }
    /* As much as the tail, so that cutting is done in large pieces. */
    if (to >= raft_first_index(n->raft) + keep) {
        log_line(LOG_DEBUG, "cut the log at entry %" PRIu64, to);
        raft_compact(n->raft, to);
        n->env.log_compact(n->env.context, to,
                           raft_configuration_at(n->raft, to));
    }
}

void node_persisted(struct node *n, raft_index index)
{
    ASSERT(n->state_writes > 0);
    n->state_writes--;
    applier_persisted(n->applier, index);
    maybe_compact(n, index);
}

/* ---- snapshots
 * ----------------------------------------------------------------- */

void node_snapshot_sent(struct node *n, raft_id to, raft_index index, bool ok)
{
    ASSERT(!n->in_ready);
    raft_snapshot_sent(n->raft, to, index, ok);
}

void node_hold_log(struct node *n, raft_index index)
{
    n->log_hold = index;
}

enum raft_status node_restore_begin(struct node *n,
                                    const struct raft_snapshot *s)
{
    enum raft_status st;

    ASSERT(!n->in_ready);
    st = raft_restore_begin(n->raft, s);
    n->restoring = n->restoring || st == RAFT_OK;
    return st;
}

/*
 * Those that were on their way: the snapshot may hold them, so an entry of a
 * newer term proves nothing any more (put_back_lost()); or they may yet be
 * applied and answered. Those without a deadline would wait for ever (D10).
 */
static void doubt_proposals(struct node *n)
{
    struct node_proposal *p, *next, *last;

    last = TAILQ_LAST(&n->sent, proposal_list);
    for (p = TAILQ_FIRST(&n->sent); p != NULL; p = next) {
        next = p == last ? NULL : TAILQ_NEXT(p, link);
        p->term = TERM_UNKNOWN;
        if (p->deadline_ms == UINT64_MAX) {
            end_proposal(n, p, ST_TIMEOUT, NULL);
        }
    }
}

void node_restore_end(struct node *n, bool ok, struct applier *loaded)
{
    ASSERT(!n->in_ready && n->restoring);
    n->restoring = false;
    if (!ok) {
        raft_restore_end(n->raft, false);
        return;
    }
    ASSERT(n->state_writes == 0);
    applier_exchange(n->applier, loaded);
    n->applied_term = applier_term(n->applier);
    n->in_ready = true; /* what callbacks start waits for the next turn */
    doubt_proposals(n);
    tell_members(n);
    if (n->listener != NULL) {
        n->listener(n->listener_context, NULL, 0);
    }
    node_reads_serve(n);
    n->in_ready = false;
    raft_restore_end(n->raft, true);
}

/* ---- role
 * ---------------------------------------------------------------------- */

static void notice_role(struct node *n)
{
    enum raft_role role = raft_role(n->raft);
    raft_id leader = raft_leader(n->raft);
    raft_term term = raft_term_now(n->raft);

    if (role == n->role && leader == n->leader && term == n->term) {
        return;
    }
    if (role == RAFT_LEADER && (n->role != RAFT_LEADER || term != n->term)) {
        log_line(LOG_INFO, "leading in term %" PRIu64, term);
        leases_start_clock(applier_leases(n->applier), node_now_ms(n),
                           n->config.election_ms);
    } else if (role != RAFT_LEADER && n->role == RAFT_LEADER) {
        log_line(LOG_WARN, "no longer leading; term %" PRIu64, term);
        leases_stop_clock(applier_leases(n->applier));
    }
    if (leader != n->leader && leader != 0 && leader != n->config.id) {
        log_line(LOG_INFO, "following %" PRIx64 " in term %" PRIu64, leader,
                 term);
    } else if (leader == 0 && n->leader != 0) {
        log_line(LOG_WARN, "lost the leader in term %" PRIu64, term);
    }
    n->role = role;
    n->leader = leader;
    n->term = term;
    n->propose_soon = true;
    node_leases_resend(n);
}

/* ---- the loop that matters
 * ------------------------------------------------------ */

static void handle_ready(struct node *n, const struct raft_ready *rd)
{
    if (rd->batch != 0) {
        n->env.log_append(n->env.context, rd);
    }
    if (rd->n_messages > 0) {
        n->env.send(n->env.context, rd->messages, rd->n_messages);
    }
    for (size_t i = 0; i < rd->n_committed; i++) {
        apply_entry(n, &rd->committed[i]);
    }
    for (size_t i = 0; i < rd->n_reads; i++) {
        node_read_result(n, &rd->reads[i]);
    }
    node_reads_serve(n);
    if (rd->n_snapshots > 0 && n->env.snapshots != NULL) {
        n->env.snapshots(n->env.context, rd->snapshots, rd->n_snapshots);
    }
}

void node_round(struct node *n)
{
    struct raft_ready rd;

    node_reads_start(n);
    propose_waiting(n);
    while (raft_ready(n->raft, &rd)) {
        n->in_ready = true; /* what callbacks start waits for the next turn */
        handle_ready(n, &rd);
        n->in_ready = false;
        raft_advance(n->raft);
        notice_role(n);
        node_reads_start(n);
        propose_waiting(n);
    }
    notice_role(n);
    node_digest_round(n);
    maybe_take_state(n);
}

/* ---- inputs
 * ---------------------------------------------------------------------- */

void node_tick(struct node *n)
{
    uint64_t now_ms = node_now_ms(n);

    raft_tick(n->raft);
    expire_proposals(n, now_ms);
    node_reads_tick(n, now_ms);
    node_leases_tick(n, now_ms);
    node_members_tick(n);
    n->propose_soon = !TAILQ_EMPTY(&n->waiting);
}

enum raft_status node_step(struct node *n, const struct raft_message *m)
{
    ASSERT(!n->in_ready);
    return raft_step(n->raft, m);
}

void node_stable(struct node *n, uint64_t batch)
{
    ASSERT(!n->in_ready);
    raft_stable(n->raft, batch);
}

void node_link_lost(struct node *n, raft_id id)
{
    if (!n->in_ready) { /* else we closed it ourselves */
        raft_suspect(n->raft, id);
    }
}

/* ---- questions
 * -------------------------------------------------------------------- */

struct raft *node_raft(struct node *n)
{
    return n->raft;
}

struct applier *node_applier(struct node *n)
{
    return n->applier;
}

uint64_t node_now_ms(const struct node *n)
{
    return n->env.now_ms(n->env.context);
}

uint64_t node_incarnation(const struct node *n)
{
    return n->config.incarnation;
}

void node_listen(struct node *n, node_listener *fn, void *context)
{
    n->listener = fn;
    n->listener_context = context;
}
