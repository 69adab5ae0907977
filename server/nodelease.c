/*
 * nodelease.c - what only the leader's clock answers: renewing leases, asking
 * how long they have left, and proposing the end of those that expired.
 *
 * A renewal counts only after the leader made sure that it still leads (a read
 * index): a deposed leader must not promise a client a lease that its
 * successor lets expire.
 */
#include <stdlib.h>

#include "server/nodeinternal.h"

/* Tells the numbers of queries from those of proposals. */
#define QUERY_BIT ((uint64_t)1 << 63)
#define LEASE_RESEND_MS 500
#define EXPIRED_MAX 500 /* revokes proposed in one tick */
#define EXPIRED_RETRY_MS 2000

/* A query that another member forwarded; freed once it is answered. */
struct remote_query {
    struct node_lease_query query;
    uint64_t their_request;
};

/* A revoke that this member proposed; nobody waits for it. */
struct expiry {
    struct node_proposal proposal;
    struct arena arena;
};

static bool leads(const struct node *n)
{
    return raft_role(n->raft) == RAFT_LEADER;
}

static void end_query(struct node_lease_query *q, enum status st, int64_t ttl_s,
                      int64_t granted_ttl_s)
{
    LIST_REMOVE(q, link);
    if (q->reading) {
        node_read_cancel(&q->read);
        q->reading = false;
    }
    q->done(q, st, ttl_s, granted_ttl_s);
}

static void on_leadership_confirmed(struct node_read *r, enum status st)
{
    struct node_lease_query *q =
        (struct node_lease_query *)((char *)r -
                                    offsetof(struct node_lease_query, read));
    struct node *n = q->node;
    struct leases *ls = applier_leases(n->applier);
    uint64_t now_ms = node_now_ms(n);
    int64_t ttl;

    q->reading = false;
    if (st != ST_OK || !leads(n)) {
        q->sent_ms = 0; /* again, to whoever leads by then */
        return;
    }
    ttl = q->renew ? lease_renew(ls, q->id, now_ms)
                   : lease_remaining_s(ls, q->id, now_ms);
    end_query(q, ST_OK, ttl, lease_ttl_s(ls, q->id));
}

static void forward_query(struct node *n, struct node_lease_query *q,
                          raft_id leader)
{
    Pawl__Peer__V1__Forward item = PAWL__PEER__V1__FORWARD__INIT;

    item.request = q->request;
    if (q->renew) {
        item.what_case = PAWL__PEER__V1__FORWARD__WHAT_LEASE_KEEP_ALIVE;
        item.lease_keep_alive = q->id;
    } else {
        item.what_case = PAWL__PEER__V1__FORWARD__WHAT_LEASE_TIME_TO_LIVE;
        item.lease_time_to_live = q->id;
    }
    n->env.forward(n->env.context, leader, &item);
}

static void send_query(struct node *n, struct node_lease_query *q)
{
    raft_id leader = raft_leader(n->raft);

    if (leader == 0 || q->reading) {
        return;
    }
    if (leader == n->config.id) {
        q->reading = true;
        q->read.done = on_leadership_confirmed;
        node_read(n, &q->read);
    } else if (q->origin == 0) { /* no second hop */
        forward_query(n, q, leader);
    }
    q->sent_ms = node_now_ms(n);
}

void node_lease_query(struct node *n, struct node_lease_query *q)
{
    q->node = n;
    q->reading = false;
    q->request = QUERY_BIT | ++n->lease_request;
    q->sent_ms = 0;
    q->deadline_ms = node_now_ms(n) + n->config.request_timeout_ms;
    LIST_INSERT_HEAD(&n->lease_queries, q, link);
    send_query(n, q);
}

void node_lease_cancel(struct node_lease_query *q)
{
    LIST_REMOVE(q, link);
    if (q->reading) {
        node_read_cancel(&q->read);
    }
}

static void answer_remote(struct node_lease_query *q, enum status st,
                          int64_t ttl_s, int64_t granted_ttl_s)
{
    struct remote_query *rq = (struct remote_query *)q;
    Pawl__Peer__V1__ForwardResult result = PAWL__PEER__V1__FORWARD_RESULT__INIT;

    if (st == ST_OK) { /* else the asker asks again by itself */
        result.request = rq->their_request;
        result.ttl = ttl_s;
        result.granted_ttl = granted_ttl_s;
        q->node->env.forward_reply(q->node->env.context, q->origin, &result);
    }
    free(rq);
}

void node_lease_query_for(struct node *n, raft_id from, uint64_t request,
                          bool renew, int64_t id)
{
    struct remote_query *rq;

    if (!leads(n)) {
        return;
    }
    rq = mem_alloc(1, sizeof(*rq));
    rq->their_request = request;
    rq->query.renew = renew;
    rq->query.id = id;
    rq->query.origin = from;
    rq->query.done = answer_remote;
    node_lease_query(n, &rq->query);
}

void node_lease_result(struct node *n,
                       const Pawl__Peer__V1__ForwardResult *item)
{
    struct node_lease_query *q;

    LIST_FOREACH(q, &n->lease_queries, link)
    {
        if (q->origin == 0 && q->request == item->request) {
            end_query(q, ST_OK, item->ttl, item->granted_ttl);
            return;
        }
    }
}

void node_leases_resend(struct node *n)
{
    struct node_lease_query *q;

    LIST_FOREACH(q, &n->lease_queries, link)
    {
        send_query(n, q);
    }
}

/* ---- expiry
 * -------------------------------------------------------------------- */

static void expiry_done(struct node_proposal *p, enum status st,
                        const struct applied *result)
{
    struct expiry *x = (struct expiry *)p;

    (void)st; /* not applied: the lease is told of again later */
    (void)result;
    arena_release(&x->arena);
    free(x);
}

static void propose_expiry(struct node *n, int64_t id)
{
    struct expiry *x = mem_alloc(1, sizeof(*x));
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LeaseRevoke revoke =
        PAWL__COMMAND__V1__LEASE_REVOKE__INIT;

    revoke.id = id;
    revoke.expiry_term = raft_term_now(n->raft);
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_REVOKE;
    cmd.lease_revoke = &revoke;
    arena_init(&x->arena);
    x->proposal.done = expiry_done;
    node_propose(n, &x->proposal, &cmd, &x->arena, false);
}

static void propose_expiries(struct node *n, uint64_t now_ms)
{
    int64_t ids[EXPIRED_MAX];
    size_t count;

    if (!raft_is_settled_leader(n->raft)) {
        return;
    }
    count = leases_expired(applier_leases(n->applier), now_ms, EXPIRED_RETRY_MS,
                           ids, EXPIRED_MAX);
    for (size_t i = 0; i < count; i++) {
        propose_expiry(n, ids[i]);
    }
}

void node_leases_tick(struct node *n, uint64_t now_ms)
{
    struct node_lease_query *q, *next;

    for (q = LIST_FIRST(&n->lease_queries); q != NULL; q = next) {
        next = LIST_NEXT(q, link);
        if (q->deadline_ms <= now_ms) {
            end_query(q, node_timeout_status(n, raft_leader(n->raft) != 0), 0,
                      0);
        } else if (now_ms - q->sent_ms >= LEASE_RESEND_MS) {
            send_query(n, q);
        }
    }
    propose_expiries(n, now_ms);
}

void node_leases_stop(struct node *n)
{
    struct node_lease_query *q;

    while ((q = LIST_FIRST(&n->lease_queries)) != NULL) {
        end_query(q, ST_STOPPED, 0, 0);
    }
}
