/*
 * session.c - what clients do, and what they may conclude from the answers.
 */
#include "tests/sim/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/cluster.h"

#define TRIES_MAX 6

static const struct {
    const char *name;
    bool is_write;
    bool may_repeat; /* though its outcome is unknown */
} kinds[] = {
    [OP_PUT] = {"put", true, false},
    [OP_DELETE] = {"delete", true, false},
    [OP_GET] = {"get", false, true},
    [OP_RANGE] = {"range", false, true},
    [OP_LOCAL_RANGE] = {"local range", false, true},
    [OP_OLD_RANGE] = {"old range", false, true},
    [OP_GRANT] = {"grant", true, false},
    [OP_REVOKE] = {"revoke", true, false},
    [OP_KEEP_ALIVE] = {"keep-alive", false, true},
    [OP_TIME_TO_LIVE] = {"time-to-live", false, true},
    [OP_ACQUIRE] = {"acquire", true, true},
    [OP_RELEASE] = {"release", true, true},
};

const char *op_name(enum op_kind kind)
{
    return kinds[kind].name;
}

bool op_is_write(enum op_kind kind)
{
    return kinds[kind].is_write;
}

static struct session *session_of(struct cluster *c, const struct op *op)
{
    return &c->sessions[op->client];
}

static bool draws(struct cluster *c, unsigned percent)
{
    return cluster_chance(c, percent * 10000);
}

/* ---- sending
 * ------------------------------------------------------------------- */

static void send(struct cluster *c, uint64_t number)
{
    struct op *op = &c->ops[number];
    const struct session *s = session_of(c, op);
    unsigned to = draws(c, 70)
                      ? s->hint
                      : (unsigned)cluster_between(c, 0, c->options.n_nodes - 1);
    uint64_t attempt = cluster_attempt(c, number);
    uint64_t patience_us = c->options.patience_us + op->wait_ms * 1000;

    op->attempt = attempt;
    op->tries++;
    TRACE(c, "c%u %s %s #%" PRIu64 " try %" PRIu64 " at n%u", op->client,
          op_name(op->kind), op->key, number, attempt, to + 1);
    cluster_put(c, EVENT_REQUEST, to, cluster_between(c, 10, 2000), 0, attempt);
    cluster_put(c, EVENT_TIMEOUT, op->client, patience_us, number, attempt);
    /* What a client no longer waits for, its member hears of. */
    cluster_put(c, EVENT_GIVE_UP, to,
                patience_us + cluster_between(c, 100, 1000000), 0, attempt);
}

static struct op *op_new(struct cluster *c, unsigned client, enum op_kind kind)
{
    struct op *op;

    if (c->n_ops == c->room_ops) {
        c->room_ops = 2 * c->room_ops + 64;
        c->ops = raft_realloc(c->ops, c->room_ops, sizeof *c->ops);
    }
    op = &c->ops[c->n_ops++];
    *op = (struct op){.kind = kind,
                      .client = client,
                      .begin_us = cluster_now(c),
                      .floor = c->revision_seen};
    return op;
}

static void begin(struct cluster *c, struct op *op)
{
    uint64_t number = (uint64_t)(op - c->ops);
    struct session *s = session_of(c, op);

    if (op->is_keepalive) {
        s->keepalive = number;
    } else {
        s->op = number;
    }
    send(c, number);
}

/* ---- who does what
 * ------------------------------------------------------------- */

static void draw_value(struct cluster *c, struct op *op)
{
    (void)snprintf(op->value, sizeof op->value, "v%zu", c->n_ops);
    op->value_padding =
        draws(c, 30) ? cluster_between(c, 0, c->options.data_size_max) : 0;
    op->previous = draws(c, 50);
}

static void use_keys(struct cluster *c, unsigned k)
{
    const struct options *o = &c->options;
    unsigned key = (unsigned)cluster_between(c, 1, o->n_keys);
    struct op *op;

    if (draws(c, o->write_percent)) {
        op = op_new(c, k, draws(c, 75) ? OP_PUT : OP_DELETE);
        draw_value(c, op);
    } else if (draws(c, 60)) {
        op = op_new(c, k, OP_GET);
    } else {
        static const enum op_kind ranges[] = {OP_RANGE, OP_LOCAL_RANGE,
                                              OP_OLD_RANGE};

        op = op_new(c, k, ranges[cluster_between(c, 0, 2)]);
        if (op->kind == OP_OLD_RANGE) {
            op->revision = (int64_t)cluster_between(
                c, 1, (uint64_t)(c->revision_seen > 0 ? c->revision_seen : 1));
        }
        (void)snprintf(op->key, sizeof op->key, "%s",
                       draws(c, 70) ? "k/" : "g/");
        begin(c, op);
        return;
    }
    (void)snprintf(op->key, sizeof op->key, "k/%u", key);
    begin(c, op);
}

static void grant(struct cluster *c, unsigned k)
{
    struct op *op = op_new(c, k, OP_GRANT);

    op->lease = 0x1000 + (int64_t)c->n_ops;
    op->ttl_s = (int64_t)cluster_between(c, 1, (uint64_t)c->options.ttl_max_s);
    begin(c, op);
}

static void forget_lease(struct session *s)
{
    s->lease = 0;
    s->holds = false;
}

static void use_lease(struct cluster *c, unsigned k)
{
    struct session *s = &c->sessions[k];
    unsigned draw = (unsigned)cluster_between(c, 0, 99);
    struct op *op;

    if (s->lease == 0) {
        grant(c, k);
        return;
    }
    if (draw < 10) {
        forget_lease(s); /* it has to end by itself */
        grant(c, k);
        return;
    }
    op = op_new(c, k,
                draw < 60   ? OP_PUT
                : draw < 75 ? OP_TIME_TO_LIVE
                : draw < 90 ? OP_RANGE
                            : OP_REVOKE);
    op->lease = s->lease;
    (void)snprintf(op->key, sizeof op->key, "e/");
    if (op->kind == OP_PUT) {
        (void)snprintf(op->key, sizeof op->key, "e/%u",
                       (unsigned)cluster_between(c, 1, c->options.n_keys));
        draw_value(c, op);
    } else if (op->kind == OP_REVOKE) {
        forget_lease(s);
    }
    begin(c, op);
}

static void acquire(struct cluster *c, unsigned k)
{
    struct session *s = &c->sessions[k];
    struct op *op = op_new(c, k, OP_ACQUIRE);

    s->lock = (unsigned)cluster_between(c, 1, c->options.n_locks);
    (void)snprintf(op->key, sizeof op->key, "l/%u", s->lock);
    op->lease = s->lease;
    if (s->lease == 0) {
        op->lease = 0x1000 + (int64_t)c->n_ops;
        op->ttl_s =
            (int64_t)cluster_between(c, 1, (uint64_t)c->options.ttl_max_s);
    }
    op->try = draws(c, 30);
    op->wait_ms = draws(c, 50) ? cluster_between(c, 1, 3000) : 0;
    begin(c, op);
}

/* A write that only the holder of the lock may do. */
static void write_guarded(struct cluster *c, unsigned k)
{
    const struct session *s = &c->sessions[k];
    struct op *op = op_new(c, k, OP_PUT);

    (void)snprintf(op->key, sizeof op->key, "g/%u", s->lock);
    memcpy(op->fence_key, s->lock_key, sizeof op->fence_key);
    op->token = s->token;
    op->fenced = true;
    draw_value(c, op);
    begin(c, op);
}

static void release(struct cluster *c, unsigned k)
{
    struct session *s = &c->sessions[k];
    struct op *op = op_new(c, k, OP_RELEASE);

    memcpy(op->key, s->lock_key, sizeof op->key);
    op->token = s->token;
    op->revoke_lease = draws(c, 30);
    s->holds = false;
    if (op->revoke_lease) {
        s->lease = 0;
    }
    begin(c, op);
}

static void use_lock(struct cluster *c, unsigned k)
{
    struct session *s = &c->sessions[k];
    unsigned draw = (unsigned)cluster_between(c, 0, 99);

    if (s->token != 0 && !s->holds && draw < 30) {
        write_guarded(c, k); /* as one who was paused does (I8) */
        return;
    }
    if (s->holds && draw < 60) {
        write_guarded(c, k);
    } else if (s->holds && draw < 90) {
        release(c, k);
    } else if (s->holds) {
        forget_lease(s); /* as if it had died */
        acquire(c, k);
    } else if (s->lease == 0 && draw < 65) {
        grant(c, k);
    } else {
        acquire(c, k);
    }
}

void session_begin(struct cluster *c, unsigned client)
{
    struct session *s = &c->sessions[client];

    if (c->is_quiet || s->op != 0) {
        return;
    }
    /* Past the end of its lease a client may notice, or not. */
    if (s->lease != 0 && cluster_now(c) >= s->safe_until_us && draws(c, 50)) {
        forget_lease(s);
    }
    switch (s->role) {
    case 0:
        use_keys(c, client);
        break;
    case 1:
        use_lease(c, client);
        break;
    default:
        use_lock(c, client);
    }
}

static void keepalive_later(struct cluster *c, unsigned client)
{
    struct session *s = &c->sessions[client];

    if (!s->keepalive_due) {
        s->keepalive_due = true;
        cluster_put(c, EVENT_KEEPALIVE, client,
                    (uint64_t)s->ttl_s * 1000000 / 3, 0, 0);
    }
}

void session_keepalive(struct cluster *c, unsigned client)
{
    struct session *s = &c->sessions[client];
    struct op *op;

    s->keepalive_due = false;
    if (s->lease == 0 || s->keepalive != 0 || c->is_quiet) {
        return;
    }
    op = op_new(c, client, OP_KEEP_ALIVE);
    op->lease = s->lease;
    op->ttl_s = s->ttl_s;
    op->is_keepalive = true;
    begin(c, op);
}

/* ---- leases as seen from outside
 * ----------------------------------------------- */

/* So long at least, by any clock that a leader may have. */
static uint64_t shortest_us(const struct cluster *c, int64_t ttl_s)
{
    return (uint64_t)ttl_s * 1000000 * 100 / (100 + c->options.drift_percent);
}

static struct lease_record *record_of(struct cluster *c, int64_t id)
{
    for (size_t i = c->n_leases; i > 0; i--) {
        if (c->leases[i - 1].id == id) {
            return &c->leases[i - 1];
        }
    }
    if (c->n_leases == c->room_leases) {
        c->room_leases = 2 * c->room_leases + 16;
        c->leases = raft_realloc(c->leases, c->room_leases, sizeof *c->leases);
    }
    c->leases[c->n_leases] = (struct lease_record){.id = id};
    return &c->leases[c->n_leases++];
}

/* I2: clocks of milliseconds are this coarse. */
#define COARSE_US 2000

static void check_expiry(struct cluster *c, const struct lease_record *r)
{
    if (r->ended_us != 0 && r->ttl_s > 0 &&
        r->ended_us + COARSE_US < r->renewed_us + shortest_us(c, r->ttl_s)) {
        oracle_fail(&c->oracle,
                    "I2: lease %" PRIx64 " of %" PRId64
                    " s, renewed at %" PRIu64 " us, was ended at %" PRIu64
                    " us",
                    r->id, r->ttl_s, r->renewed_us, r->ended_us);
    }
}

static void note_renewal(struct cluster *c, const struct op *op, int64_t ttl_s)
{
    struct lease_record *r = record_of(c, op->lease);

    r->ttl_s = ttl_s;
    if (model_lease(&c->model, op->lease) != NULL) {
        r->ended_us = 0; /* that was a life before */
    }
    if (op->begin_us > r->renewed_us) {
        r->renewed_us = op->begin_us;
    }
    check_expiry(c, r);
}

void session_expired(struct cluster *c, int64_t lease)
{
    struct lease_record *r = record_of(c, lease);

    c->figures.expiries++;
    r->ended_us = cluster_now(c);
    check_expiry(c, r);
}

/* ---- what an answer means
 * ------------------------------------------------------ */

/* O10, as the clients see it: two never count on the same lock at a time. */
static void check_holders(struct cluster *c, unsigned client)
{
    const struct session *s = &c->sessions[client];
    uint64_t now_us = cluster_now(c);

    for (unsigned k = 0; k < c->options.n_clients; k++) {
        const struct session *o = &c->sessions[k];

        if (k != client && s->holds && o->holds && s->lock == o->lock &&
            now_us < s->safe_until_us && now_us < o->safe_until_us) {
            oracle_fail(&c->oracle,
                        "O10: c%u and c%u hold lock l/%u with tokens %" PRId64
                        " and %" PRId64,
                        client, k, s->lock, s->token, o->token);
        }
    }
}

static void take_lease(struct cluster *c, const struct op *op, int64_t ttl_s)
{
    struct session *s = session_of(c, op);

    note_renewal(c, op, ttl_s);
    if (s->lease != 0 && s->lease != op->lease) {
        return;
    }
    s->lease = op->lease;
    s->ttl_s = ttl_s;
    if (op->begin_us + shortest_us(c, ttl_s) > s->safe_until_us ||
        op->kind != OP_KEEP_ALIVE) {
        s->safe_until_us = op->begin_us + shortest_us(c, ttl_s);
    }
    keepalive_later(c, op->client);
}

static void take_lock(struct cluster *c, const struct op *op)
{
    char key[2 * MODEL_KEY_SIZE];
    struct session *s = session_of(c, op);

    if (op->ttl_s > 0) {
        take_lease(c, op, op->answer.ttl_s);
    }
    if (s->lease != op->lease || !op->answer.acquired) {
        return;
    }
    c->figures.grants_of_locks++;
    s->holds = true;
    s->token = op->answer.token;
    ASSERT((size_t)snprintf(key, sizeof key, "%s/%" PRIx64, op->key,
                            op->lease) < sizeof s->lock_key);
    memcpy(s->lock_key, key, sizeof s->lock_key);
    check_holders(c, op->client);
}

/* I3: nobody is told that a lease is gone which it may count on. */
static void check_gone(struct cluster *c, const struct op *op)
{
    const struct lease_record *r = record_of(c, op->lease);

    if (model_lease(&c->model, op->lease) != NULL &&
        cluster_now(c) < r->renewed_us + shortest_us(c, r->ttl_s)) {
        oracle_fail(&c->oracle,
                    "I3: lease %" PRIx64 " is alive, and c%u is told that it "
                    "is not",
                    op->lease, op->client);
    }
}

static void take_keepalive(struct cluster *c, const struct op *op)
{
    struct session *s = session_of(c, op);

    if (s->lease != op->lease) {
        return; /* has another one by now */
    }
    if (op->answer.ttl_s > 0) {
        take_lease(c, op, op->answer.ttl_s);
        check_holders(c, op->client);
    } else {
        check_gone(c, op);
        forget_lease(s);
    }
}

/* The effects of an answer on the client. */
static void conclude(struct cluster *c, const struct op *op)
{
    struct session *s = session_of(c, op);
    const struct op_answer *a = &op->answer;

    switch (op->kind) {
    case OP_GRANT:
        if (a->status == ST_OK) {
            s->lease = 0;
            take_lease(c, op, a->ttl_s);
        }
        break;
    case OP_KEEP_ALIVE:
        take_keepalive(c, op);
        break;
    case OP_ACQUIRE:
        if (a->status == ST_OK) {
            take_lock(c, op);
        } else if (a->status == ST_LEASE_NOT_FOUND) {
            forget_lease(s);
        }
        break;
    case OP_PUT:
        if (a->status == ST_FENCED) {
            s->holds = false;
            s->token = 0;
            c->figures.fenced++;
        } else if (a->status == ST_LEASE_NOT_FOUND) {
            forget_lease(s);
        }
        break;
    default:
        break;
    }
}

/* ---- the end of an operation
 * --------------------------------------------------- */

static void end(struct cluster *c, struct op *op, enum op_end how)
{
    struct session *s = session_of(c, op);

    op->end = how;
    op->end_us = cluster_now(c);
    if (op->is_keepalive) {
        s->keepalive = 0;
        if (how != OP_DONE && s->lease == op->lease) {
            keepalive_later(c, op->client);
        }
        return;
    }
    s->op = 0;
    if (op->kind == OP_ACQUIRE && how != OP_DONE) {
        forget_lease(s); /* it may hold it, or come to: give all up */
    }
    cluster_put(c, EVENT_CLIENT, op->client,
                cluster_between(c, 0, c->options.think_us), 0, 0);
}

/* O8: it shows all that was seen before it began, and a change is newer. */
static void check_revision(struct cluster *c, const struct op *op)
{
    const struct op_answer *a = &op->answer;
    bool changed =
        a->status == ST_OK &&
        (op->kind == OP_PUT || (op->kind == OP_DELETE && a->count > 0));

    if (op->kind == OP_LOCAL_RANGE || op->kind == OP_OLD_RANGE ||
        op->kind == OP_KEEP_ALIVE || op->kind == OP_TIME_TO_LIVE) {
        return;
    }
    if (a->revision < op->floor + changed) {
        oracle_fail(&c->oracle,
                    "O8: %s #%zu answers revision %" PRId64 ", but %" PRId64
                    " was seen before it began",
                    op_name(op->kind), (size_t)(op - c->ops), a->revision,
                    op->floor);
    }
    if (a->revision > c->revision_seen) {
        c->revision_seen = a->revision;
    }
}

static void count(struct cluster *c, const struct op *op)
{
    switch (op->kind) {
    case OP_PUT:
    case OP_DELETE:
        c->figures.writes++;
        break;
    case OP_ACQUIRE:
    case OP_RELEASE:
        c->figures.lock_ops++;
        break;
    case OP_GET:
    case OP_RANGE:
    case OP_LOCAL_RANGE:
    case OP_OLD_RANGE:
        c->figures.reads++;
        break;
    default:
        c->figures.lease_ops++;
    }
}

static void finish(struct cluster *c, struct op *op, const struct op_answer *a)
{
    op->answer = *a;
    count(c, op);
    TRACE(c,
          "c%u %s #%zu: status %d revision %" PRId64 " ttl %" PRId64
          " token %" PRId64 "%s",
          op->client, op_name(op->kind), (size_t)(op - c->ops), (int)a->status,
          a->revision, a->ttl_s, a->token, a->acquired ? " acquired" : "");
    check_revision(c, op);
    conclude(c, op);
    end(c, op, OP_DONE);
}

static void try_again(struct cluster *c, struct op *op, bool refused)
{
    struct session *s = session_of(c, op);

    s->hint = (unsigned)cluster_between(c, 0, c->options.n_nodes - 1);
    if (op->tries < TRIES_MAX && (refused || kinds[op->kind].may_repeat)) {
        send(c, (uint64_t)(op - c->ops));
        return;
    }
    c->figures.refused += refused;
    c->figures.unknown += !refused;
    /* An earlier try may be on its way. */
    end(c, op,
        refused && !kinds[op->kind].may_repeat ? OP_REFUSED : OP_UNKNOWN);
}

void session_answer(struct cluster *c, uint64_t attempt)
{
    struct op *op = &c->ops[c->attempts[attempt].op];
    const struct op_answer *a = &c->attempts[attempt].answer;

    if (op->attempt != attempt || op->end != OP_OPEN) {
        return;
    }
    if (a->not_applied || a->unknown) {
        try_again(c, op, a->not_applied);
    } else {
        finish(c, op, a);
    }
}

void session_timeout(struct cluster *c, uint64_t number, uint64_t attempt)
{
    struct op *op = &c->ops[number];

    if (op->attempt == attempt && op->end == OP_OPEN) {
        try_again(c, op, false);
    }
}
