/*
 * request.c - a client's operation at a member. The waiting for locks follows
 * server/svc_lock.c, where the states are explained.
 */
#include "tests/sim/request.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/lock.h"
#include "tests/sim/cluster.h"

enum request_state { PROPOSED, READING, ASKING, WAITING, LEAVING };

struct request {
    struct node_proposal proposal; /* first: done() gets this */
    struct node_read read;
    struct node_lease_query query;
    struct arena arena;
    struct process *process;
    struct request *next, *previous;
    uint64_t attempt;
    enum request_state state;
    bool closed; /* the client is gone */
    /* of a lock: */
    struct slice name, key;
    int64_t token, lease, ttl_s;
    bool own_lease;
    uint64_t renew_ms;
};

/* A renewal for a waiter; it ends by itself. */
struct renewal {
    struct node_lease_query query;
};

static struct op *op_of(const struct request *rq)
{
    struct cluster *c = rq->process->cluster;

    return &c->ops[c->attempts[rq->attempt].op];
}

static struct request *request_new(struct process *p, uint64_t attempt)
{
    struct request *rq = mem_alloc(1, sizeof *rq);

    arena_init(&rq->arena);
    rq->process = p;
    rq->attempt = attempt;
    rq->next = p->requests;
    if (p->requests != NULL) {
        p->requests->previous = rq;
    }
    p->requests = rq;
    return rq;
}

static void request_free(struct request *rq)
{
    if (rq->previous != NULL) {
        rq->previous->next = rq->next;
    } else {
        rq->process->requests = rq->next;
    }
    if (rq->next != NULL) {
        rq->next->previous = rq->previous;
    }
    arena_release(&rq->arena);
    free(rq);
}

static void answer(struct request *rq, const struct op_answer *a)
{
    struct process *p = rq->process;

    if (!p->dying && !rq->closed) {
        cluster_answer(p->cluster, p, rq->attempt, a);
    }
}

/* ---- what a state machine said, compared with the model
 * ------------------------- */

static uint64_t value_of(const Mvccpb__KeyValue *kv)
{
    return kv != NULL ? model_value(kv->value.data, kv->value.len) : 0;
}

static void check_outcome(const struct request *rq, enum status st,
                          const struct applied *r)
{
    struct process *p = rq->process;
    struct cluster *c = p->cluster;
    raft_index index = applier_index(p->applier);
    const struct model_outcome *m;

    process_look(p);
    if (c->oracle.failed || index > c->model.index) {
        oracle_fail(&c->oracle,
                    "O6: n%" PRIu64 " answers %" PRIu64
                    ", which is not committed",
                    p->id, index);
        return;
    }
    m = &c->model.outcomes[index];
    if (m->incarnation != p->incarnation ||
        m->request != rq->proposal.request || m->status != st ||
        m->revision != r->revision) {
        oracle_fail(&c->oracle,
                    "O8: n%" PRIu64 " answers %s with status %d at revision "
                    "%" PRId64 ", entry %" PRIu64 " gave %d at %" PRId64,
                    p->id, op_name(op_of(rq)->kind), (int)st, r->revision,
                    index, (int)m->status, m->revision);
    }
}

static void take_outcome(const struct request *rq, const struct applied *r,
                         struct op_answer *a)
{
    const struct op *op = op_of(rq);

    a->revision = r->revision;
    if (a->status != ST_OK) {
        return;
    }
    switch (op->kind) {
    case OP_PUT:
        a->value = value_of(r->put.prev_kv);
        break;
    case OP_DELETE:
        a->count = r->delete_range.deleted;
        a->value = r->delete_range.n_prev_kvs > 0
                       ? value_of(r->delete_range.prev_kvs[0])
                       : 0;
        break;
    case OP_GRANT:
        a->ttl_s = r->lease_grant.ttl;
        break;
    case OP_ACQUIRE:
        a->acquired = r->lock_acquire.acquired;
        a->token = r->lock_acquire.token;
        a->ttl_s = r->lock_acquire.ttl;
        break;
    default:
        break;
    }
}

static struct op_answer answer_of(const struct request *rq, enum status st,
                                  const struct applied *result)
{
    struct op_answer a = {.status = st};

    if (result != NULL) {
        check_outcome(rq, st, result);
        take_outcome(rq, result, &a);
    } else {
        a.not_applied = st == ST_NO_LEADER || st == ST_TOO_MANY_REQUESTS ||
                        st == ST_STOPPED;
        a.unknown = !a.not_applied;
    }
    return a;
}

/* ---- writes
 * -------------------------------------------------------------------- */

static void write_done(struct node_proposal *proposal, enum status st,
                       const struct applied *result)
{
    struct request *rq = (struct request *)proposal;

    if (!rq->process->dying) {
        struct op_answer a = answer_of(rq, st, result);

        answer(rq, &a);
    }
    request_free(rq);
}

static void propose(struct request *rq, Pawl__Command__V1__Command *cmd)
{
    struct process *p = rq->process;

    node_propose(p->node, &rq->proposal, cmd, &rq->arena, false);
    cluster_name_request(p->cluster, p->incarnation, rq->proposal.request,
                         rq->attempt);
}

static ProtobufCBinaryData text(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)s}; /* only read */
}

static void start_put(struct request *rq, const struct op *op,
                      Pawl__Command__V1__Command *cmd)
{
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    size_t size = strlen(op->value);

    put.key = text(op->key);
    put.value.len = size + op->value_padding;
    put.value.data = arena_alloc(&rq->arena, put.value.len + 1);
    memcpy(put.value.data, op->value, size);
    put.lease = op->lease;
    put.prev_kv = op->previous;
    cmd->change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_PUT;
    cmd->put = &put;
    propose(rq, cmd);
}

static void start_delete(struct request *rq, const struct op *op,
                         Pawl__Command__V1__Command *cmd)
{
    Etcdserverpb__DeleteRangeRequest del =
        ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;

    del.key = text(op->key);
    del.prev_kv = true;
    cmd->change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_DELETE_RANGE;
    cmd->delete_range = &del;
    propose(rq, cmd);
}

static void start_lease(struct request *rq, const struct op *op,
                        Pawl__Command__V1__Command *cmd)
{
    Pawl__Command__V1__LeaseGrant grant = PAWL__COMMAND__V1__LEASE_GRANT__INIT;
    Pawl__Command__V1__LeaseRevoke revoke =
        PAWL__COMMAND__V1__LEASE_REVOKE__INIT;

    if (op->kind == OP_GRANT) {
        grant.id = op->lease;
        grant.ttl = op->ttl_s;
        cmd->change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_GRANT;
        cmd->lease_grant = &grant;
    } else {
        revoke.id = op->lease;
        cmd->change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_REVOKE;
        cmd->lease_revoke = &revoke;
    }
    propose(rq, cmd);
}

static void start_release(struct request *rq, const struct op *op,
                          Pawl__Command__V1__Command *cmd)
{
    Pawl__Command__V1__LockRelease release =
        PAWL__COMMAND__V1__LOCK_RELEASE__INIT;

    release.key = text(op->key);
    release.token = op->token;
    release.revoke_lease = op->revoke_lease;
    cmd->change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_RELEASE;
    cmd->lock_release = &release;
    propose(rq, cmd);
}

/* ---- locks
 * --------------------------------------------------------------------- */

static void leave(struct request *rq, bool full_release);

static void left(struct node_proposal *proposal, enum status st,
                 const struct applied *result)
{
    struct request *rq = (struct request *)proposal;
    struct op_answer a = {.status = ST_LOCK_WAIT_TIMEOUT};

    if (rq->process->dying) {
        request_free(rq);
        return;
    }
    if (result == NULL) {
        a = answer_of(rq, st, NULL);
        a.not_applied = false; /* the acquire was applied */
        a.unknown = true;
    } else {
        check_outcome(rq, st, result);
        a.revision = result->revision;
        if (result->lock_release.holds) { /* the grant came first */
            a.status = ST_OK;
            a.acquired = true;
            a.token = rq->token;
            a.ttl_s = rq->ttl_s;
        }
    }
    answer(rq, &a);
    request_free(rq);
}

static void leave(struct request *rq, bool full_release)
{
    struct process *p = rq->process;
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LockRelease release =
        PAWL__COMMAND__V1__LOCK_RELEASE__INIT;

    release.key.data = (uint8_t *)rq->key.data; /* only read */
    release.key.len = rq->key.size;
    release.token = rq->token;
    release.only_if_waiting = !full_release;
    release.revoke_lease = rq->own_lease;
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_RELEASE;
    cmd.lock_release = &release;
    rq->state = LEAVING;
    rq->proposal.done = left;
    node_propose(p->node, &rq->proposal, &cmd, &rq->arena, true);
    cluster_name_request(
        p->cluster, p->incarnation, rq->proposal.request,
        cluster_attempt(p->cluster, p->cluster->attempts[rq->attempt].op));
}

static void start_waiting(struct request *rq)
{
    const struct op *op = op_of(rq);
    struct process *p = rq->process;

    rq->state = WAITING;
    rq->renew_ms = node_now_ms(p->node);
    if (op->wait_ms > 0) {
        cluster_put(p->cluster, EVENT_GIVE_UP, (unsigned)p->id - 1,
                    op->wait_ms * 1000, 1, rq->attempt);
    }
    if (rq->closed) { /* gone before it began */
        leave(rq, false);
    }
}

static void acquired(struct node_proposal *proposal, enum status st,
                     const struct applied *result)
{
    struct request *rq = (struct request *)proposal;
    struct op_answer a;

    if (rq->process->dying) {
        request_free(rq);
        return;
    }
    a = answer_of(rq, st, result);
    if (result != NULL && st == ST_OK) {
        rq->token = a.token;
        rq->ttl_s = a.ttl_s;
        rq->lease = result->lock_acquire.lease;
        rq->key.data = arena_copy(&rq->arena, result->lock_acquire.key.data,
                                  result->lock_acquire.key.size);
        rq->key.size = result->lock_acquire.key.size;
        if (result->lock_acquire.queued ||
            (rq->closed && result->lock_acquire.acquired)) {
            start_waiting(rq);
            return;
        }
    }
    answer(rq, &a);
    request_free(rq);
}

static void start_acquire(struct request *rq, const struct op *op,
                          Pawl__Command__V1__Command *cmd)
{
    Pawl__Command__V1__LockAcquire acquire =
        PAWL__COMMAND__V1__LOCK_ACQUIRE__INIT;

    rq->name.data = arena_copy(&rq->arena, op->key, strlen(op->key));
    rq->name.size = strlen(op->key);
    rq->own_lease = op->ttl_s > 0;
    acquire.name = text(op->key);
    acquire.lease = op->lease;
    acquire.ttl = op->ttl_s;
    acquire.try_ = op->try;
    cmd->change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_ACQUIRE;
    cmd->lock_acquire = &acquire;
    rq->proposal.done = acquired;
    propose(rq, cmd);
}

/* Its turn, or its key is gone? */
static void look_at_waiter(struct request *rq)
{
    struct process *p = rq->process;
    struct kv *kv = applier_kv(p->applier);
    struct kv_change pair;
    struct lock_state state;
    struct op_answer a = {.status = ST_LOCK_LOST, .revision = kv_revision(kv)};

    if (kv_get(kv, rq->key, &pair) && pair.create_revision == rq->token) {
        lock_inspect(kv, rq->name, &state);
        if (state.token != rq->token) {
            return;
        }
        a.status = ST_OK;
        a.acquired = true;
        a.token = rq->token;
        a.ttl_s = rq->ttl_s;
    }
    process_look(p);
    answer(rq, &a);
    if (rq->state == WAITING) {
        request_free(rq);
    } else {
        rq->closed = true; /* was told */
    }
}

static void on_changes(void *context, const struct kv_change *changes, size_t n)
{
    struct process *p = context;
    struct request *rq, *next;
    bool deleted = false;

    for (size_t i = 0; i < n; i++) {
        deleted |= changes[i].deleted;
    }
    for (rq = deleted ? p->requests : NULL; rq != NULL; rq = next) {
        next = rq->next;
        if (rq->state == WAITING || (rq->state == LEAVING && !rq->closed)) {
            look_at_waiter(rq);
        }
    }
}

void requests_listen(struct process *p)
{
    node_listen(p->node, on_changes, p);
}

static void renewed(struct node_lease_query *q, enum status st, int64_t ttl_s,
                    int64_t granted_ttl_s)
{
    (void)st; /* the next one follows */
    (void)ttl_s;
    (void)granted_ttl_s;
    free(q);
}

/* Nobody else renews a lease that was granted for a waiting call. */
void requests_tick(struct process *p)
{
    uint64_t now_ms = node_now_ms(p->node);

    for (struct request *rq = p->requests; rq != NULL; rq = rq->next) {
        struct renewal *r;

        if (rq->state != WAITING || !rq->own_lease || now_ms < rq->renew_ms) {
            continue;
        }
        rq->renew_ms = now_ms + (uint64_t)rq->ttl_s * 1000 / 3;
        r = mem_alloc(1, sizeof *r);
        r->query = (struct node_lease_query){
            .renew = true, .id = rq->lease, .done = renewed};
        node_lease_query(p->node, &r->query);
    }
}

/* ---- reads
 * --------------------------------------------------------------------- */

/* Ask the store, and the model the same. */
static struct op_answer serve(struct process *p, const struct op *op,
                              struct arena *arena)
{
    struct cluster *c = p->cluster;
    struct kv *kv = applier_kv(p->applier);
    Etcdserverpb__RangeRequest rq = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RangeResponse rs = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    struct op_answer a = {.revision = kv_revision(kv)};
    int64_t revision = op->revision > 0 ? op->revision : a.revision;
    char end[MODEL_KEY_SIZE];
    uint64_t hash = 0, expected = 0;
    size_t n;

    (void)snprintf(end, sizeof end, "%s", op->key);
    end[strlen(end) - 1]++;
    rq.key = text(op->key);
    rq.revision = op->revision;
    if (op->kind != OP_GET) {
        rq.range_end = text(end);
    }
    a.status = kv_range(kv, &rq, arena, &rs);
    if (a.status != ST_OK || c->oracle.failed) {
        return a;
    }
    for (size_t i = 0; i < rs.n_kvs; i++) {
        const Mvccpb__KeyValue *x = rs.kvs[i];

        hash = model_mix(hash, (struct slice){x->key.data, x->key.len},
                         value_of(x), x->create_revision, x->mod_revision,
                         x->version, x->lease);
    }
    if (op->kind == OP_GET) {
        const struct model_pair *m = model_at(&c->model, op->key, revision);

        a.value = rs.n_kvs > 0 ? value_of(rs.kvs[0]) : 0;
        n = m != NULL;
        expected = m == NULL ? 0
                             : model_mix(0,
                                         (struct slice){(const uint8_t *)m->key,
                                                        strlen(m->key)},
                                         m->value, m->create_revision,
                                         m->mod_revision, m->version, m->lease);
    } else {
        n = model_range(&c->model, op->key, revision, &expected);
        a.value = hash;
    }
    a.count = (int64_t)rs.n_kvs;
    if (n != rs.n_kvs || hash != expected) {
        oracle_fail(&c->oracle,
                    "O8: n%" PRIu64
                    " shows %zu pairs of %s at revision %" PRId64 " (%" PRId64
                    "), which had %zu, or others",
                    p->id, rs.n_kvs, op->key, revision, a.revision, n);
    }
    return a;
}

static void read_done(struct node_read *r, enum status st)
{
    struct request *rq =
        (struct request *)((char *)r - offsetof(struct request, read));
    struct op_answer a = {.status = st, .not_applied = st != ST_OK};

    if (!rq->process->dying) {
        if (st == ST_OK) {
            process_look(rq->process);
            a = serve(rq->process, op_of(rq), &rq->arena);
        }
        answer(rq, &a);
    }
    request_free(rq);
}

static void query_done(struct node_lease_query *q, enum status st,
                       int64_t ttl_s, int64_t granted_ttl_s)
{
    struct request *rq =
        (struct request *)((char *)q - offsetof(struct request, query));
    struct op_answer a = {
        .status = st, .not_applied = st != ST_OK, .ttl_s = ttl_s};

    (void)granted_ttl_s;
    if (!rq->process->dying) {
        answer(rq, &a);
    }
    request_free(rq);
}

/* Served at once, from what is here. */
static void serve_locally(struct process *p, uint64_t attempt)
{
    struct cluster *c = p->cluster;
    const struct op *op = &c->ops[c->attempts[attempt].op];
    uint64_t n_errors = disk_errors(p->disk);
    struct op_answer a;
    struct arena arena;

    arena_init(&arena);
    a = serve(p, op, &arena);
    arena_release(&arena);
    if (a.status == ST_COMPACTED) {
        const char *error = statedb_fetch_error(p->statedb);

        process_die(p, error != NULL ? error : "an old value is not there",
                    n_errors);
        return;
    }
    cluster_answer(c, p, attempt, &a);
}

/* ---- start and end
 * ------------------------------------------------------------- */

static void start_write(struct request *rq, const struct op *op)
{
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__Fence fence = PAWL__COMMAND__V1__FENCE__INIT;
    struct process *p = rq->process;

    rq->state = PROPOSED;
    rq->proposal.done = write_done;
    if (cluster_chance(p->cluster, 300000)) {
        rq->proposal.give_up_ms =
            node_now_ms(p->node) + cluster_between(p->cluster, 1, 2000);
    }
    if (op->fenced) {
        fence.key = text(op->fence_key);
        fence.token = op->token;
        cmd.fence = &fence;
    }
    switch (op->kind) {
    case OP_PUT:
        start_put(rq, op, &cmd);
        break;
    case OP_DELETE:
        start_delete(rq, op, &cmd);
        break;
    case OP_ACQUIRE:
        start_acquire(rq, op, &cmd);
        break;
    case OP_RELEASE:
        start_release(rq, op, &cmd);
        break;
    default:
        start_lease(rq, op, &cmd);
    }
}

void request_start(struct process *p, uint64_t attempt)
{
    const struct op *op = &p->cluster->ops[p->cluster->attempts[attempt].op];
    struct request *rq;

    if (op->kind == OP_LOCAL_RANGE || op->kind == OP_OLD_RANGE) {
        serve_locally(p, attempt);
        return;
    }
    rq = request_new(p, attempt);
    switch (op->kind) {
    case OP_GET:
    case OP_RANGE:
        rq->state = READING;
        rq->read.done = read_done;
        node_read(p->node, &rq->read);
        break;
    case OP_KEEP_ALIVE:
    case OP_TIME_TO_LIVE:
        rq->state = ASKING;
        rq->query.renew = op->kind == OP_KEEP_ALIVE;
        rq->query.id = op->lease;
        rq->query.done = query_done;
        node_lease_query(p->node, &rq->query);
        break;
    default:
        start_write(rq, op);
    }
    process_wake(p);
}

static struct request *find(struct process *p, uint64_t attempt)
{
    struct request *rq = p->requests;

    while (rq != NULL && rq->attempt != attempt) {
        rq = rq->next;
    }
    return rq;
}

void request_wait_is_over(struct process *p, uint64_t attempt)
{
    struct request *rq = find(p, attempt);

    if (rq != NULL && rq->state == WAITING) {
        leave(rq, false);
        process_wake(p);
    }
}

void request_close(struct process *p, uint64_t attempt)
{
    struct request *rq = find(p, attempt);

    if (rq == NULL) {
        return;
    }
    rq->closed = true;
    switch (rq->state) {
    case PROPOSED:
        if (op_of(rq)->kind == OP_ACQUIRE) {
            return; /* it leaves once it is applied */
        }
        node_forget(p->node, &rq->proposal);
        request_free(rq);
        break;
    case READING:
        node_read_cancel(&rq->read);
        request_free(rq);
        break;
    case ASKING:
        node_lease_cancel(&rq->query);
        request_free(rq);
        break;
    case WAITING:
        leave(rq, false);
        process_wake(p);
        break;
    case LEAVING:
        break;
    }
}

void requests_drop(struct process *p)
{
    while (p->requests != NULL) {
        request_free(p->requests);
    }
}
