/*
 * svc_cluster.c - etcdserverpb.Cluster: who the members are.
 */
#include "server/service.h"

static void fill_member(Etcdserverpb__Member *out, const struct member *m)
{
    etcdserverpb__member__init(out);
    out->id = m->id;
    out->name = m->name;
    out->peerurls = m->peer_urls;
    out->n_peerurls = m->n_peer_urls;
    out->clienturls = m->client_urls;
    out->n_clienturls = m->n_client_urls;
    out->islearner = m->is_learner;
}

static void serve_list(struct service *s, struct rpc_call *c,
                       const ProtobufCMessage *request)
{
    Etcdserverpb__MemberListResponse rs =
        ETCDSERVERPB__MEMBER_LIST_RESPONSE__INIT;
    struct arena *arena = rpc_call_arena(c);
    size_t n;
    const struct member *members = applier_members(s->applier, &n);

    (void)request;
    rs.header = service_header(s, c, 0); /* Cluster answers have no revision */
    rs.n_members = n;
    rs.members = arena_alloc(arena, n * sizeof(*rs.members));
    for (size_t i = 0; i < n; i++) {
        rs.members[i] = arena_alloc(arena, sizeof(**rs.members));
        fill_member(rs.members[i], &members[i]);
    }
    rpc_call_reply(c, &rs.base);
}

static void on_list(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberListRequest *rq =
        (const Etcdserverpb__MemberListRequest *)m;

    if (rq->linearizable) {
        service_read(c, m, serve_list);
    } else {
        serve_list(rpc_call_service(c), c, m);
    }
}

static const struct rpc_method methods[] = {
    {
        .path = "/etcdserverpb.Cluster/MemberList",
        .request = &etcdserverpb__member_list_request__descriptor,
        .on_message = on_list,
        .on_close = service_read_closed,
    },
};

void svc_cluster_serve(struct service *s, struct rpc_server *server)
{
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), s);
}
