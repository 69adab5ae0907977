/*
 * svc_lease.c - etcdserverpb.Lease.
 */
#include <stdlib.h>
#include <sys/queue.h>

#include "server/service.h"

/* ---- grant, revoke
 * ------------------------------------------------------------------ */

static void reply_grant(struct write_call *w, const struct applied *result)
{
    Etcdserverpb__LeaseGrantResponse rs =
        ETCDSERVERPB__LEASE_GRANT_RESPONSE__INIT;

    rs.header = service_header(w->service, w->call, result->revision);
    rs.id = result->lease_grant.id;
    rs.ttl = result->lease_grant.ttl;
    rpc_call_reply(w->call, &rs.base);
}

static void on_grant(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseGrantRequest *rq =
        (const Etcdserverpb__LeaseGrantRequest *)m;
    struct service *s = rpc_call_service(c);
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LeaseGrant grant = PAWL__COMMAND__V1__LEASE_GRANT__INIT;
    enum status st = service_check(s, c);

    if (st == ST_OK && rq->ttl > LEASE_TTL_MAX_S) {
        st = ST_LEASE_TTL_TOO_LARGE;
    }
    if (st != ST_OK) {
        rpc_call_fail(c, st);
        return;
    }
    grant.id = rq->id != 0 ? rq->id : service_new_lease_id(s);
    grant.ttl = service_clamp_ttl(s, rq->ttl);
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_GRANT;
    cmd.lease_grant = &grant;
    service_write(c, &cmd, reply_grant);
}

static void reply_revoke(struct write_call *w, const struct applied *result)
{
    Etcdserverpb__LeaseRevokeResponse rs =
        ETCDSERVERPB__LEASE_REVOKE_RESPONSE__INIT;

    rs.header = service_header(w->service, w->call, result->revision);
    rpc_call_reply(w->call, &rs.base);
}

static void on_revoke(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseRevokeRequest *rq =
        (const Etcdserverpb__LeaseRevokeRequest *)m;
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LeaseRevoke revoke =
        PAWL__COMMAND__V1__LEASE_REVOKE__INIT;
    enum status st = service_check(rpc_call_service(c), c);

    if (st != ST_OK) {
        rpc_call_fail(c, st);
        return;
    }
    revoke.id = rq->id;
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_REVOKE;
    cmd.lease_revoke = &revoke;
    service_write(c, &cmd, reply_revoke);
}

/* ---- keep alive: a stream, answered in the order of its requests
 * ---------------------- */

struct keep_alive {
    struct node_lease_query query;
    TAILQ_ENTRY(keep_alive) link;
    struct keep_alive_stream *stream;
    bool answered;
    int64_t ttl_s;
    int64_t revision; /* before the renewal */
};

TAILQ_HEAD(keep_alive_list, keep_alive);

struct keep_alive_stream {
    struct service *service;
    struct rpc_call *call;
    struct keep_alive_list list;
    bool half_closed;
};

static void drop_keep_alives(struct keep_alive_stream *ks)
{
    struct keep_alive *k;

    while ((k = TAILQ_FIRST(&ks->list)) != NULL) {
        TAILQ_REMOVE(&ks->list, k, link);
        if (!k->answered) {
            node_lease_cancel(&k->query);
        }
        free(k);
    }
}

static void send_keep_alive(struct keep_alive_stream *ks,
                            const struct keep_alive *k)
{
    Etcdserverpb__LeaseKeepAliveResponse rs =
        ETCDSERVERPB__LEASE_KEEP_ALIVE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;

    header.cluster_id = ks->service->config.cluster_id;
    header.member_id = ks->service->config.member_id;
    header.revision = k->revision;
    header.raft_term = raft_term_now(node_raft(ks->service->node));
    rs.header = &header;
    rs.id = k->query.id;
    rs.ttl = k->ttl_s;
    rpc_call_send(ks->call, &rs.base);
}

static void answer_in_order(struct keep_alive_stream *ks)
{
    struct keep_alive *k;

    while ((k = TAILQ_FIRST(&ks->list)) != NULL && k->answered) {
        TAILQ_REMOVE(&ks->list, k, link);
        send_keep_alive(ks, k);
        free(k);
    }
    if (ks->half_closed && TAILQ_EMPTY(&ks->list)) {
        rpc_call_finish(ks->call, GRPC_OK, NULL);
    }
}

static void keep_alive_done(struct node_lease_query *q, enum status st,
                            int64_t ttl_s, int64_t granted_ttl_s)
{
    struct keep_alive *k = (struct keep_alive *)q;
    struct keep_alive_stream *ks = k->stream;

    (void)granted_ttl_s;
    k->answered = true;
    k->ttl_s = ttl_s;
    if (st != ST_OK) {
        drop_keep_alives(ks);
        rpc_call_fail(ks->call, st);
        return;
    }
    answer_in_order(ks);
}

static void on_keep_alive_open(struct rpc_call *c)
{
    struct keep_alive_stream *ks = arena_alloc(rpc_call_arena(c), sizeof(*ks));

    if (service_is_learner(rpc_call_service(c))) {
        rpc_call_fail(c, ST_NOT_SUPPORTED_FOR_LEARNER);
        return;
    }
    ks->service = rpc_call_service(c);
    ks->call = c;
    TAILQ_INIT(&ks->list);
    rpc_call_set_context(c, ks);
}

static void on_keep_alive(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseKeepAliveRequest *rq =
        (const Etcdserverpb__LeaseKeepAliveRequest *)m;
    struct keep_alive_stream *ks = rpc_call_context(c);
    struct keep_alive *k = mem_alloc(1, sizeof(*k));

    k->stream = ks;
    k->revision = kv_revision(applier_kv(ks->service->applier));
    k->query.renew = true;
    k->query.id = rq->id;
    k->query.done = keep_alive_done;
    TAILQ_INSERT_TAIL(&ks->list, k, link);
    node_lease_query(ks->service->node, &k->query);
}

static void on_keep_alive_half_close(struct rpc_call *c)
{
    struct keep_alive_stream *ks = rpc_call_context(c);

    ks->half_closed = true;
    answer_in_order(ks);
}

static void on_keep_alive_close(struct rpc_call *c)
{
    drop_keep_alives(rpc_call_context(c));
}

/* ---- questions
 * -------------------------------------------------------------------------- */

struct time_to_live {
    struct node_lease_query query;
    struct service *service;
    struct rpc_call *call;
    bool keys;
};

static void list_keys(const struct service *s, struct rpc_call *c, int64_t id,
                      Etcdserverpb__LeaseTimeToLiveResponse *rs)
{
    struct arena *arena = rpc_call_arena(c);
    size_t n;
    struct slice *keys = lease_keys(applier_leases(s->applier), id, &n);

    rs->n_keys = n;
    rs->keys = arena_alloc(arena, n * sizeof(*rs->keys));
    for (size_t i = 0; i < n; i++) {
        rs->keys[i].data = arena_copy(arena, keys[i].data, keys[i].size);
        rs->keys[i].len = keys[i].size;
    }
    free(keys);
}

static void time_to_live_done(struct node_lease_query *q, enum status st,
                              int64_t ttl_s, int64_t granted_ttl_s)
{
    struct time_to_live *t = (struct time_to_live *)q;
    struct service *s = t->service;
    Etcdserverpb__LeaseTimeToLiveResponse rs =
        ETCDSERVERPB__LEASE_TIME_TO_LIVE_RESPONSE__INIT;

    rpc_call_set_context(t->call, NULL);
    if (st != ST_OK) {
        rpc_call_fail(t->call, st);
        return;
    }
    rs.header = service_header(s, t->call, kv_revision(applier_kv(s->applier)));
    rs.id = q->id;
    rs.ttl = ttl_s;
    rs.grantedttl = granted_ttl_s;
    if (t->keys) {
        list_keys(s, t->call, q->id, &rs);
    }
    rpc_call_reply(t->call, &rs.base);
}

static void on_time_to_live(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseTimeToLiveRequest *rq =
        (const Etcdserverpb__LeaseTimeToLiveRequest *)m;
    struct service *s = rpc_call_service(c);
    struct time_to_live *t = arena_alloc(rpc_call_arena(c), sizeof(*t));

    if (service_is_learner(s)) {
        rpc_call_fail(c, ST_NOT_SUPPORTED_FOR_LEARNER);
        return;
    }
    t->service = s;
    t->call = c;
    t->keys = rq->keys;
    t->query.id = rq->id;
    t->query.done = time_to_live_done;
    rpc_call_set_context(c, t);
    node_lease_query(s->node, &t->query);
}

static void on_time_to_live_close(struct rpc_call *c)
{
    struct time_to_live *t = rpc_call_context(c);

    if (t != NULL) {
        node_lease_cancel(&t->query);
    }
}

static void on_leases(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct service *s = rpc_call_service(c);
    struct arena *arena = rpc_call_arena(c);
    Etcdserverpb__LeaseLeasesResponse rs =
        ETCDSERVERPB__LEASE_LEASES_RESPONSE__INIT;
    int64_t *ids;
    size_t n;

    (void)m; /* has no fields */
    if (service_is_learner(s)) {
        rpc_call_fail(c, ST_NOT_SUPPORTED_FOR_LEARNER);
        return;
    }
    ids = leases_ids(applier_leases(s->applier), &n);
    rs.header = service_header(s, c, kv_revision(applier_kv(s->applier)));
    rs.n_leases = n;
    rs.leases = arena_alloc(arena, n * sizeof(*rs.leases));
    for (size_t i = 0; i < n; i++) {
        rs.leases[i] = arena_alloc(arena, sizeof(**rs.leases));
        etcdserverpb__lease_status__init(rs.leases[i]);
        rs.leases[i]->id = ids[i];
    }
    free(ids);
    rpc_call_reply(c, &rs.base);
}

static const struct rpc_method methods[] = {
    {
        .path = "/etcdserverpb.Lease/LeaseGrant",
        .request = &etcdserverpb__lease_grant_request__descriptor,
        .on_message = on_grant,
        .on_close = service_write_closed,
    },
    {
        .path = "/etcdserverpb.Lease/LeaseRevoke",
        .request = &etcdserverpb__lease_revoke_request__descriptor,
        .on_message = on_revoke,
        .on_close = service_write_closed,
    },
    {
        .path = "/etcdserverpb.Lease/LeaseKeepAlive",
        .client_streams = true,
        .server_streams = true,
        .request = &etcdserverpb__lease_keep_alive_request__descriptor,
        .on_open = on_keep_alive_open,
        .on_message = on_keep_alive,
        .on_half_close = on_keep_alive_half_close,
        .on_close = on_keep_alive_close,
    },
    {
        .path = "/etcdserverpb.Lease/LeaseTimeToLive",
        .request = &etcdserverpb__lease_time_to_live_request__descriptor,
        .on_message = on_time_to_live,
        .on_close = on_time_to_live_close,
    },
    {
        .path = "/etcdserverpb.Lease/LeaseLeases",
        .request = &etcdserverpb__lease_leases_request__descriptor,
        .on_message = on_leases,
    },
};

void svc_lease_serve(struct service *s, struct rpc_server *server)
{
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), s);
}
