/*
 * svc_cluster.c - who the members are and how that changes: what etcd has
 * (etcdserverpb.Cluster), and what it lacks (pawl.v1.Cluster).
 *
 * All members take a change and answer when they have applied it (CLU12); the
 * leader checks it (membership.h). Only what the request alone shows to be
 * wrong is refused here.
 */
#include <time.h>

#include "pawl.pb-c.h"
#include "server/members.h"
#include "server/membership.h"
#include "server/service.h"

typedef Pawl__Command__V1__MemberChange member_change;

/* ---- answers ---------------------------------------------------------------
 */

static Etcdserverpb__Member *member_message(const struct member *m,
                                            struct arena *arena)
{
    Etcdserverpb__Member *out = arena_alloc(arena, sizeof(*out));

    etcdserverpb__member__init(out);
    out->id = m->id;
    out->name = m->name;
    out->peerurls = m->peer_urls;
    out->n_peerurls = m->n_peer_urls;
    out->clienturls = m->client_urls;
    out->n_clienturls = m->n_client_urls;
    out->islearner = m->is_learner;
    return out;
}

/* All of them, by id (CLU4). */
static Etcdserverpb__Member **all_members(const struct service *s,
                                          struct arena *arena, size_t *n)
{
    const struct member *members = applier_members(s->applier, n);
    Etcdserverpb__Member **list = arena_alloc(arena, *n * sizeof(*list));

    for (size_t i = 0; i < *n; i++) {
        list[i] = member_message(&members[i], arena);
    }
    return list;
}

static Etcdserverpb__Member *one_member(const struct service *s, uint64_t id,
                                        struct arena *arena)
{
    const struct member *m = members_find(applier_member_set(s->applier), id);

    return m != NULL ? member_message(m, arena) : NULL;
}

/* Cluster answers have no revision. All have the header and the members at the
 * same places of their struct, but the compiler is to see it. */
#define FILL_ANSWER(rs, s, c)                                                  \
    do {                                                                       \
        (rs)->header = service_header((s), (c), 0);                            \
        (rs)->members = all_members((s), rpc_call_arena(c), &(rs)->n_members); \
    } while (0)

/* ---- List ------------------------------------------------------------------
 */

static void serve_list(struct service *s, struct rpc_call *c,
                       const ProtobufCMessage *request)
{
    Etcdserverpb__MemberListResponse rs =
        ETCDSERVERPB__MEMBER_LIST_RESPONSE__INIT;

    (void)request; /* its one flag was looked at before */
    FILL_ANSWER(&rs, s, c);
    rpc_call_reply(c, &rs.base);
}

static void on_list(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberListRequest *rq =
        (const Etcdserverpb__MemberListRequest *)m;
    struct service *s = rpc_call_service(c);
    enum status st = service_check(s, c);

    if (st != ST_OK) {
        rpc_call_fail(c, st);
    } else if (rq->linearizable) {
        service_read(c, m, serve_list);
    } else {
        serve_list(s, c, m);
    }
}

/* ---- changes ---------------------------------------------------------------
 */

static uint64_t new_id(const struct service *s, char *const *urls, size_t n)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now); /* makes it unique, decides nothing */
    return membership_new_id(urls, n, s->config.token,
                             (uint64_t)now.tv_sec * 1000000000u +
                                 (uint64_t)now.tv_nsec);
}

/* Does what can be refused at once; true: the change may go. */
static bool may_start(struct rpc_call *c, char *const *urls, size_t n,
                      bool needs_urls)
{
    enum status st = service_check(rpc_call_service(c), c);

    if (st == ST_OK && needs_urls && !membership_urls_are_good(urls, n)) {
        st = ST_MEMBER_BAD_URLS;
    }
    if (st != ST_OK) {
        rpc_call_fail(c, st);
    }
    return st == ST_OK;
}

static void reply_add(struct write_call *w, const struct applied *result)
{
    Etcdserverpb__MemberAddResponse rs =
        ETCDSERVERPB__MEMBER_ADD_RESPONSE__INIT;

    (void)result; /* the members tell */
    FILL_ANSWER(&rs, w->service, w->call);
    rs.member = one_member(w->service, w->new_member, rpc_call_arena(w->call));
    rpc_call_reply(w->call, &rs.base);
}

static void on_add(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberAddRequest *rq =
        (const Etcdserverpb__MemberAddRequest *)m;
    member_change change = PAWL__COMMAND__V1__MEMBER_CHANGE__INIT;

    if (may_start(c, rq->peerurls, rq->n_peerurls, true)) {
        change.kind = PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__ADD;
        change.id = new_id(rpc_call_service(c), rq->peerurls, rq->n_peerurls);
        change.peer_urls = rq->peerurls;
        change.n_peer_urls = rq->n_peerurls;
        change.is_learner = rq->islearner;
        service_change(c, &change, reply_add);
    }
}

static void reply_remove(struct write_call *w, const struct applied *result)
{
    Etcdserverpb__MemberRemoveResponse rs =
        ETCDSERVERPB__MEMBER_REMOVE_RESPONSE__INIT;

    (void)result; /* the members tell */
    FILL_ANSWER(&rs, w->service, w->call);
    rpc_call_reply(w->call, &rs.base);
}

static void on_remove(struct rpc_call *c, const ProtobufCMessage *m)
{
    member_change change = PAWL__COMMAND__V1__MEMBER_CHANGE__INIT;

    if (may_start(c, NULL, 0, false)) {
        change.kind = PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__REMOVE;
        change.id = ((const Etcdserverpb__MemberRemoveRequest *)m)->id;
        service_change(c, &change, reply_remove);
    }
}

static void reply_update(struct write_call *w, const struct applied *result)
{
    Etcdserverpb__MemberUpdateResponse rs =
        ETCDSERVERPB__MEMBER_UPDATE_RESPONSE__INIT;

    (void)result; /* the members tell */
    FILL_ANSWER(&rs, w->service, w->call);
    rpc_call_reply(w->call, &rs.base);
}

/* etcd does not look at the URLs here (CLU6), and loses the member with them.
 */
static void on_update(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberUpdateRequest *rq =
        (const Etcdserverpb__MemberUpdateRequest *)m;
    member_change change = PAWL__COMMAND__V1__MEMBER_CHANGE__INIT;

    if (may_start(c, rq->peerurls, rq->n_peerurls, true)) {
        change.kind = PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__UPDATE;
        change.id = rq->id;
        change.peer_urls = rq->peerurls;
        change.n_peer_urls = rq->n_peerurls;
        service_change(c, &change, reply_update);
    }
}

static void reply_promote(struct write_call *w, const struct applied *result)
{
    Etcdserverpb__MemberPromoteResponse rs =
        ETCDSERVERPB__MEMBER_PROMOTE_RESPONSE__INIT;

    (void)result; /* the members tell */
    FILL_ANSWER(&rs, w->service, w->call);
    rpc_call_reply(w->call, &rs.base);
}

/* A learner that was to replace another still does. */
static void on_promote(struct rpc_call *c, const ProtobufCMessage *m)
{
    uint64_t id = ((const Etcdserverpb__MemberPromoteRequest *)m)->id;
    struct service *s = rpc_call_service(c);
    const struct members *ms = applier_member_set(s->applier);
    const struct member *known = members_find(ms, id);
    member_change change = PAWL__COMMAND__V1__MEMBER_CHANGE__INIT;

    if (may_start(c, NULL, 0, false)) {
        change.kind = PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__PROMOTE;
        change.id = id;
        if (known != NULL) {
            membership_promotion(ms, known, &change);
        }
        service_change(c, &change, reply_promote);
    }
}

/* ---- pawl.v1.Cluster -------------------------------------------------------
 */

static void reply_new(struct write_call *w, const struct applied *result)
{
    Pawl__V1__AddResponse rs = PAWL__V1__ADD_RESPONSE__INIT;

    (void)result; /* the members tell */
    FILL_ANSWER(&rs, w->service, w->call);
    rs.member = one_member(w->service, w->new_member, rpc_call_arena(w->call));
    rpc_call_reply(w->call, &rs.base);
}

static void on_add_new(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__V1__AddRequest *rq = (const Pawl__V1__AddRequest *)m;
    member_change change = PAWL__COMMAND__V1__MEMBER_CHANGE__INIT;

    if (may_start(c, rq->peer_urls, rq->n_peer_urls, true)) {
        change.kind = PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__ADD;
        change.id = new_id(rpc_call_service(c), rq->peer_urls, rq->n_peer_urls);
        change.peer_urls = rq->peer_urls;
        change.n_peer_urls = rq->n_peer_urls;
        change.is_learner = rq->is_learner;
        change.auto_promote = rq->auto_promote;
        service_change(c, &change, reply_new);
    }
}

static void on_replace(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__V1__ReplaceRequest *rq = (const Pawl__V1__ReplaceRequest *)m;
    member_change change = PAWL__COMMAND__V1__MEMBER_CHANGE__INIT;

    if (may_start(c, rq->peer_urls, rq->n_peer_urls, true)) {
        change.kind = PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__REPLACE;
        change.id = rq->id;
        change.new_id =
            new_id(rpc_call_service(c), rq->peer_urls, rq->n_peer_urls);
        change.peer_urls = rq->peer_urls;
        change.n_peer_urls = rq->n_peer_urls;
        service_change(c, &change, reply_new);
    }
}

#define CHANGE(name, message, handler)                                         \
    {                                                                          \
        .path = (name), .request = &(message), .on_message = (handler),        \
        .on_close = service_write_closed,                                      \
    }

static const struct rpc_method methods[] = {
    {
        .path = "/etcdserverpb.Cluster/MemberList",
        .request = &etcdserverpb__member_list_request__descriptor,
        .on_message = on_list,
        .on_close = service_read_closed,
    },
    CHANGE("/etcdserverpb.Cluster/MemberAdd",
           etcdserverpb__member_add_request__descriptor, on_add),
    CHANGE("/etcdserverpb.Cluster/MemberRemove",
           etcdserverpb__member_remove_request__descriptor, on_remove),
    CHANGE("/etcdserverpb.Cluster/MemberUpdate",
           etcdserverpb__member_update_request__descriptor, on_update),
    CHANGE("/etcdserverpb.Cluster/MemberPromote",
           etcdserverpb__member_promote_request__descriptor, on_promote),
    CHANGE("/pawl.v1.Cluster/Add", pawl__v1__add_request__descriptor,
           on_add_new),
    CHANGE("/pawl.v1.Cluster/Replace", pawl__v1__replace_request__descriptor,
           on_replace),
};

void svc_cluster_serve(struct service *s, struct rpc_server *server)
{
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), s);
}
