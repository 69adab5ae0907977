/*
 * svc_lock.c - pawl.v1.Lock: Acquire, Release, Check.
 *
 * The queue and the grant are in the store (lock.h); here are only the calls
 * that wait for their turn. A waiter's life:
 *
 *     PROPOSED ──applied──► WAITING ──its key is the oldest──► granted
 *         │                    │
 *         │ caller gone        │ caller gone, or wait_ms passed
 *         ▼                    ▼
 *     PROPOSED, no call ──► LEAVING ──applied──► gone
 *
 * A waiter that leaves proposes the removal of its key "only if it still
 * waits". So the answer to its wait's end is decided by the log: if it became
 * the holder first, it is told so. And if a repeated call with the same lease
 * queued again elsewhere and was granted, the removal does not touch it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* The hash must not report out of memory by a status that nobody reads. */
#define uthash_fatal(text) abort()
#include <uthash.h>

#include "pawl.pb-c.h"
#include "server/lock.h"
#include "server/service.h"

enum waiter_state { PROPOSED, WAITING, LEAVING };

struct lock_queue;

struct waiter {
    struct node_proposal proposal; /* the acquire, then the leaving */
    struct node_lease_query renewal;
    TAILQ_ENTRY(waiter) link; /* in its queue; WAITING and LEAVING only */
    LIST_ENTRY(waiter) all;
    struct lock_service *owner;
    struct rpc_call *call; /* NULL: the caller is gone */
    struct lock_queue *queue;
    struct event *timer; /* wait_ms; NULL: none */
    struct arena arena;  /* name, key, commands */
    enum waiter_state state;
    struct slice name;
    struct slice key;
    int64_t token;
    int64_t lease, ttl_s;
    uint64_t wait_ms;
    bool own_lease;    /* granted for this lock: ours to renew while it waits */
    bool named_lease;  /* the caller chose its id, so it can come back for it */
    bool full_release; /* LEAVING: even if it holds the lock */
    bool renewing;
    uint64_t renew_ms; /* when to renew next */
};

TAILQ_HEAD(waiter_list, waiter);

/* Those who wait here, on this member, for one lock. */
struct lock_queue {
    UT_hash_handle hh;
    uint8_t *name;
    size_t name_size;
    struct waiter_list waiters;
};

struct lock_service {
    struct service *service;
    struct lock_queue *queues; /* by name */
    LIST_HEAD(, waiter) all;
};

static struct kv *the_kv(const struct lock_service *ls)
{
    return applier_kv(ls->service->applier);
}

/* ---- queues
 * ------------------------------------------------------------------------- */

static struct lock_queue *find_queue(struct lock_service *ls, struct slice name)
{
    struct lock_queue *q;

    HASH_FIND(hh, ls->queues, name.data, name.size, q);
    return q;
}

static void enqueue(struct lock_service *ls, struct waiter *w)
{
    struct lock_queue *q = find_queue(ls, w->name);

    if (q == NULL) {
        q = mem_alloc(1, sizeof(*q));
        q->name =
            memcpy(mem_alloc(w->name.size, 1), w->name.data, w->name.size);
        q->name_size = w->name.size;
        TAILQ_INIT(&q->waiters);
        HASH_ADD_KEYPTR(hh, ls->queues, q->name, q->name_size, q);
    }
    w->queue = q;
    TAILQ_INSERT_TAIL(&q->waiters, w, link);
}

static void dequeue(struct waiter *w)
{
    struct lock_queue *q = w->queue;

    if (q == NULL) {
        return;
    }
    w->queue = NULL;
    TAILQ_REMOVE(&q->waiters, w, link);
    if (TAILQ_EMPTY(&q->waiters)) {
        HASH_DELETE(hh, w->owner->queues, q);
        free(q->name);
        free(q);
    }
}

static void waiter_free(struct waiter *w)
{
    dequeue(w);
    LIST_REMOVE(w, all);
    if (w->timer != NULL) {
        event_free(w->timer);
    }
    if (w->renewing) {
        node_lease_cancel(&w->renewal);
    }
    arena_release(&w->arena);
    free(w);
}

/* ---- answers
 * ------------------------------------------------------------------------- */

static void answer(struct waiter *w, bool acquired, const struct lock_state *ls)
{
    struct service *s = w->owner->service;
    Pawl__V1__AcquireResponse rs = PAWL__V1__ACQUIRE_RESPONSE__INIT;
    struct rpc_call *c = w->call;

    w->call = NULL;
    rs.header = service_header(s, c, kv_revision(the_kv(w->owner)));
    rs.acquired = acquired;
    if (acquired) {
        rs.key.data = (uint8_t *)w->key.data; /* only read */
        rs.key.len = w->key.size;
        rs.token = w->token;
        rs.lease = w->lease;
        rs.ttl = w->ttl_s;
    }
    if (ls->held) {
        rs.holder.data = (uint8_t *)ls->holder.data; /* only read */
        rs.holder.len = ls->holder.size;
        rs.holder_token = ls->token;
    }
    rpc_call_set_context(c, NULL);
    rpc_call_reply(c, &rs.base);
}

static void fail(struct waiter *w, enum status st, const char *text)
{
    struct rpc_call *c = w->call;

    w->call = NULL;
    if (c != NULL) {
        rpc_call_set_context(c, NULL);
        rpc_call_finish(c, status_code(st),
                        text != NULL ? text : status_text(st));
    }
}

/* ---- leaving
 * -------------------------------------------------------------------------- */

static void leave(struct waiter *w, bool full_release);

static void left(struct node_proposal *p, enum status st,
                 const struct applied *result)
{
    struct waiter *w = (struct waiter *)p;
    bool holds = result != NULL && st == ST_OK && result->lock_release.holds;
    struct lock_state ls;

    if (holds && w->call != NULL) { /* the grant came first */
        lock_inspect(the_kv(w->owner), w->name, &ls);
        answer(w, true, &ls);
    } else if (holds && w->own_lease && !w->named_lease) {
        leave(w, true); /* nobody can know that lease */
        return;
    } else if (result == NULL && st == ST_TIMEOUT) {
        /* A snapshot came over it. The token makes it harmless to leave
         * twice, and a key without a waiter would be given the lock. */
        leave(w, w->full_release);
        return;
    } else {
        fail(w, result != NULL ? ST_LOCK_WAIT_TIMEOUT : st, NULL);
    }
    waiter_free(w);
}

/*
 * Remove the waiter's key. Patient: it is tried until it is done, or this
 * process ends and the lease with it.
 */
static void leave(struct waiter *w, bool full_release)
{
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LockRelease release =
        PAWL__COMMAND__V1__LOCK_RELEASE__INIT;

    release.key.data = (uint8_t *)w->key.data; /* only read */
    release.key.len = w->key.size;
    release.token = w->token;
    release.only_if_waiting = !full_release;
    release.revoke_lease = w->own_lease;
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_RELEASE;
    cmd.lock_release = &release;
    w->state = LEAVING;
    w->full_release = full_release;
    w->proposal.done = left;
    node_propose(w->owner->service->node, &w->proposal, &cmd, &w->arena, true);
}

static void wait_is_over(evutil_socket_t fd, short what, void *arg)
{
    struct waiter *w = arg;

    (void)fd;
    (void)what;
    if (w->state == WAITING) {
        leave(w, false);
    }
}

/* ---- waiting
 * ----------------------------------------------------------------------------
 */

/* Its turn, or its key is gone? */
static void look_at(struct waiter *w)
{
    struct kv_change pair;
    struct lock_state ls;

    if (!kv_get(the_kv(w->owner), w->key, &pair) ||
        pair.create_revision != w->token) {
        fail(w, ST_LOCK_LOST, NULL);
        if (w->state == WAITING) {
            waiter_free(w);
        }
        return;
    }
    lock_inspect(the_kv(w->owner), w->name, &ls);
    if (ls.token == w->token) {
        if (w->call != NULL) {
            answer(w, true, &ls);
        }
        if (w->state == WAITING) {
            waiter_free(w);
        }
    }
}

/* A snapshot came: any lock may have changed hands, any key may be gone. */
static void look_at_all(struct lock_service *ls)
{
    struct waiter *w, *next;

    for (w = LIST_FIRST(&ls->all); w != NULL; w = next) {
        next = LIST_NEXT(w, all);
        if (w->state != PROPOSED) {
            look_at(w);
        }
    }
}

static void on_changes(void *context, const struct kv_change *changes, size_t n)
{
    struct lock_service *ls = context;
    struct waiter *w, *next;

    if (n == 0) {
        look_at_all(ls);
    }
    for (size_t i = 0; i < n && ls->queues != NULL; i++) {
        struct slice name;
        struct lock_queue *q;

        if (!changes[i].deleted || !lock_name_of_key(changes[i].key, &name)) {
            continue;
        }
        q = find_queue(ls, name);
        for (w = q != NULL ? TAILQ_FIRST(&q->waiters) : NULL; w != NULL;
             w = next) {
            next = TAILQ_NEXT(w, link); /* the queue goes with its last */
            look_at(w);
        }
    }
}

static void start_waiting(struct waiter *w)
{
    struct rpc_loop *loop = w->owner->service->loop;

    w->state = WAITING;
    w->renew_ms = node_now_ms(w->owner->service->node);
    enqueue(w->owner, w);
    if (w->wait_ms > 0) {
        struct timeval tv = {
            .tv_sec = (time_t)(w->wait_ms / 1000),
            .tv_usec = (suseconds_t)(w->wait_ms % 1000 * 1000),
        };

        w->timer = event_new(rpc_loop_base(loop), -1, 0, wait_is_over, w);
        event_add(w->timer, &tv);
    }
}

static void acquire_applied(struct node_proposal *p, enum status st,
                            const struct applied *result)
{
    struct waiter *w = (struct waiter *)p;
    struct lock_state ls;
    bool has_key;

    if (st != ST_OK) {
        fail(w, st, result != NULL ? result->text : NULL);
        waiter_free(w);
        return;
    }
    w->lease = result->lock_acquire.lease;
    w->ttl_s = result->lock_acquire.ttl;
    w->token = result->lock_acquire.token;
    w->key.data = arena_copy(&w->arena, result->lock_acquire.key.data,
                             result->lock_acquire.key.size);
    w->key.size = result->lock_acquire.key.size;
    has_key = result->lock_acquire.acquired || result->lock_acquire.queued;
    if (has_key && (w->call == NULL || result->lock_acquire.queued)) {
        start_waiting(w);
        if (w->call == NULL) { /* gone before it began */
            leave(w, w->own_lease && !w->named_lease);
        }
        return;
    }
    if (w->call != NULL) {
        lock_inspect(the_kv(w->owner), w->name, &ls);
        answer(w, result->lock_acquire.acquired, &ls);
    }
    waiter_free(w);
}

static void renewed(struct node_lease_query *q, enum status st, int64_t ttl_s,
                    int64_t granted_ttl_s)
{
    struct waiter *w =
        (struct waiter *)((char *)q - offsetof(struct waiter, renewal));

    (void)st; /* the next one follows; without them the lease ends by itself */
    (void)ttl_s;
    (void)granted_ttl_s;
    w->renewing = false;
}

/* Nobody else renews a lease that was granted for a waiting call. */
void svc_lock_tick(struct lock_service *ls)
{
    uint64_t now_ms = node_now_ms(ls->service->node);
    struct waiter *w;

    LIST_FOREACH(w, &ls->all, all)
    {
        if (w->state != WAITING || !w->own_lease || w->renewing ||
            now_ms < w->renew_ms) {
            continue;
        }
        w->renew_ms = now_ms + (uint64_t)w->ttl_s * 1000 / 3;
        w->renewing = true;
        w->renewal = (struct node_lease_query){
            .renew = true, .id = w->lease, .done = renewed};
        node_lease_query(ls->service->node, &w->renewal);
    }
}

/* ---- Acquire
 * ------------------------------------------------------------------------------
 */

static enum status check_acquire(const struct service *s, struct rpc_call *c,
                                 const Pawl__V1__AcquireRequest *rq)
{
    if (rq->name.len == 0 || rq->ttl < 0 || rq->wait_ms < 0 ||
        (rq->lease == 0 && rq->ttl == 0)) {
        return ST_BAD_LOCK_NAME;
    }
    if (rq->name.len > s->config.request_bytes_max) {
        return ST_REQUEST_TOO_LARGE;
    }
    if (rq->ttl > LEASE_TTL_MAX_S) {
        return ST_LEASE_TTL_TOO_LARGE;
    }
    return service_check(s, c);
}

static struct waiter *waiter_new(struct lock_service *ls, struct rpc_call *c,
                                 const Pawl__V1__AcquireRequest *rq)
{
    struct waiter *w = mem_alloc(1, sizeof(*w));

    arena_init(&w->arena);
    w->owner = ls;
    w->call = c;
    w->name.data = arena_copy(&w->arena, rq->name.data, rq->name.len);
    w->name.size = rq->name.len;
    w->own_lease = rq->ttl > 0;
    w->named_lease = rq->lease != 0;
    w->lease = rq->lease != 0 ? rq->lease : service_new_lease_id(ls->service);
    w->wait_ms = (uint64_t)rq->wait_ms;
    LIST_INSERT_HEAD(&ls->all, w, all);
    return w;
}

static void on_acquire(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__V1__AcquireRequest *rq = (const Pawl__V1__AcquireRequest *)m;
    struct lock_service *ls = rpc_call_service(c);
    struct service *s = ls->service;
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LockAcquire acquire =
        PAWL__COMMAND__V1__LOCK_ACQUIRE__INIT;
    enum status st = check_acquire(s, c, rq);
    struct waiter *w;

    if (st != ST_OK) {
        rpc_call_fail(c, st);
        return;
    }
    w = waiter_new(ls, c, rq);
    acquire.name.data = (uint8_t *)w->name.data; /* only read */
    acquire.name.len = w->name.size;
    acquire.lease = w->lease;
    acquire.ttl = rq->ttl > 0 ? service_clamp_ttl(s, rq->ttl) : 0;
    acquire.try_ = rq->try_;
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_ACQUIRE;
    cmd.lock_acquire = &acquire;
    w->proposal.done = acquire_applied;
    rpc_call_set_context(c, w);
    node_propose(s->node, &w->proposal, &cmd, &w->arena, false);
}

static void on_acquire_close(struct rpc_call *c)
{
    struct waiter *w = rpc_call_context(c);

    if (w == NULL) {
        return;
    }
    w->call = NULL;
    if (w->state == WAITING) {
        leave(w, false);
    } /* PROPOSED: it leaves once it is applied. LEAVING: it does already. */
}

/* ---- Release, Check
 * ------------------------------------------------------------------------- */

static void reply_release(struct write_call *w, const struct applied *result)
{
    Pawl__V1__ReleaseResponse rs = PAWL__V1__RELEASE_RESPONSE__INIT;

    rs.header = service_header(w->service, w->call, result->revision);
    rs.released = result->lock_release.released;
    rpc_call_reply(w->call, &rs.base);
}

static void on_release(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__V1__ReleaseRequest *rq = (const Pawl__V1__ReleaseRequest *)m;
    struct service *s = rpc_call_service(c);
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LockRelease release =
        PAWL__COMMAND__V1__LOCK_RELEASE__INIT;
    enum status st = rq->key.len == 0 ? ST_EMPTY_KEY : service_check(s, c);

    if (st != ST_OK) {
        rpc_call_fail(c, st);
        return;
    }
    release.key = rq->key;
    release.token = rq->token;
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_RELEASE;
    cmd.lock_release = &release;
    service_write(c, &cmd, reply_release);
}

static void serve_check(struct service *s, struct rpc_call *c,
                        const ProtobufCMessage *m)
{
    const Pawl__V1__CheckRequest *rq = (const Pawl__V1__CheckRequest *)m;
    Pawl__V1__CheckResponse rs = PAWL__V1__CHECK_RESPONSE__INIT;
    struct kv *kv = applier_kv(s->applier);
    struct lock_state ls;

    lock_inspect(kv, (struct slice){rq->name.data, rq->name.len}, &ls);
    rs.header = service_header(s, c, kv_revision(kv));
    if (ls.held) {
        rs.held = ls.token == rq->token;
        rs.holder.data = (uint8_t *)ls.holder.data; /* only read */
        rs.holder.len = ls.holder.size;
        rs.holder_token = ls.token;
        rs.waiters = (int64_t)ls.queued - 1;
    }
    rpc_call_reply(c, &rs.base);
}

static void on_check(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__V1__CheckRequest *rq = (const Pawl__V1__CheckRequest *)m;
    enum status st = rq->name.len == 0 ? ST_BAD_LOCK_NAME
                                       : service_check(rpc_call_service(c), c);

    if (st != ST_OK) {
        rpc_call_fail(c, st);
        return;
    }
    service_read(c, m, serve_check);
}

/* Waiting is told apart from the other two by its service pointer. */
static const struct rpc_method acquire_methods[] = {
    {
        .path = "/pawl.v1.Lock/Acquire",
        .request = &pawl__v1__acquire_request__descriptor,
        .on_message = on_acquire,
        .on_close = on_acquire_close,
    },
};

static const struct rpc_method other_methods[] = {
    {
        .path = "/pawl.v1.Lock/Release",
        .request = &pawl__v1__release_request__descriptor,
        .on_message = on_release,
        .on_close = service_write_closed,
    },
    {
        .path = "/pawl.v1.Lock/Check",
        .request = &pawl__v1__check_request__descriptor,
        .on_message = on_check,
        .on_close = service_read_closed,
    },
};

struct lock_service *svc_lock_new(struct service *s)
{
    struct lock_service *ls = mem_alloc(1, sizeof(*ls));

    ls->service = s;
    LIST_INIT(&ls->all);
    node_listen(s->node, on_changes, ls);
    return ls;
}

void svc_lock_free(struct lock_service *ls)
{
    struct waiter *w;

    if (ls == NULL) {
        return;
    }
    while ((w = LIST_FIRST(&ls->all)) != NULL) {
        if (w->state != WAITING) {
            node_forget(ls->service->node, &w->proposal);
        }
        fail(w, ST_STOPPED, NULL);
        waiter_free(w);
    }
    node_listen(ls->service->node, NULL, NULL);
    free(ls);
}

void svc_lock_serve(struct lock_service *ls, struct rpc_server *server)
{
    rpc_server_add(server, acquire_methods, ARRAY_LENGTH(acquire_methods), ls);
    rpc_server_add(server, other_methods, ARRAY_LENGTH(other_methods),
                   ls->service);
}
