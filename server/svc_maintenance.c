/*
 * svc_maintenance.c - etcdserverpb.Maintenance: how this member is.
 */
#include "server/service.h"

static void on_status(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct service *s = rpc_call_service(c);
    struct raft *raft = node_raft(s->node);
    Etcdserverpb__StatusResponse rs = ETCDSERVERPB__STATUS_RESPONSE__INIT;
    Etcdserverpb__DowngradeInfo downgrade = ETCDSERVERPB__DOWNGRADE_INFO__INIT;
    char *no_leader = (char *)status_text(ST_NO_LEADER); /* only read */

    (void)m; /* has no fields */
    rs.header = service_header(s, c, kv_revision(applier_kv(s->applier)));
    rs.version = (char *)SERVICE_ETCD_VERSION;        /* only read */
    rs.storageversion = (char *)SERVICE_ETCD_VERSION; /* only read */
    rs.dbsize = (int64_t)statedb_bytes(s->config.statedb);
    rs.dbsizeinuse = rs.dbsize;
    rs.leader = raft_leader(raft);
    rs.raftindex = raft_commit_index(raft);
    rs.raftterm = raft_term_now(raft);
    rs.raftappliedindex = applier_index(s->applier);
    rs.downgradeinfo = &downgrade;
    rs.islearner = service_is_learner(s);
    if (rs.leader == 0) {
        rs.errors = &no_leader;
        rs.n_errors = 1;
    }
    rpc_call_reply(c, &rs.base);
}

/* A transfer of leadership that its caller waits for. */
struct move_call {
    LIST_ENTRY(move_call) link;
    struct rpc_call *call;
    raft_id target;
    uint64_t deadline_ms;
};

static void on_move_leader(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__MoveLeaderRequest *rq =
        (const Etcdserverpb__MoveLeaderRequest *)m;
    struct service *s = rpc_call_service(c);
    struct move_call *mc;

    if (service_is_learner(s)) {
        rpc_call_fail(c, ST_NOT_SUPPORTED_FOR_LEARNER);
        return;
    }
    switch (raft_transfer(node_raft(s->node), rq->targetid)) {
    case RAFT_OK:
        mc = arena_alloc(rpc_call_arena(c), sizeof(*mc));
        mc->call = c;
        mc->target = rq->targetid;
        mc->deadline_ms =
            node_now_ms(s->node) + 2 * (uint64_t)s->config.election_ms;
        rpc_call_set_context(c, mc);
        LIST_INSERT_HEAD(&s->moves, mc, link);
        break;
    case RAFT_NOT_LEADER:
        rpc_call_fail(c, ST_NOT_LEADER);
        break;
    case RAFT_BAD_MEMBER:
        rpc_call_fail(c, ST_BAD_LEADER_TRANSFEREE);
        break;
    default:
        rpc_call_fail(c, ST_PROPOSAL_DROPPED);
        break;
    }
}

static void on_move_leader_close(struct rpc_call *c)
{
    struct move_call *mc = rpc_call_context(c);

    if (mc != NULL) {
        LIST_REMOVE(mc, link);
    }
}

void svc_maintenance_tick(struct service *s)
{
    Etcdserverpb__MoveLeaderResponse rs =
        ETCDSERVERPB__MOVE_LEADER_RESPONSE__INIT;
    raft_id leader = raft_leader(node_raft(s->node));
    struct move_call *mc, *next;

    for (mc = LIST_FIRST(&s->moves); mc != NULL; mc = next) {
        next = LIST_NEXT(mc, link);
        if (leader == mc->target) {
            LIST_REMOVE(mc, link);
            rpc_call_reply(mc->call, &rs.base);
        } else if (node_now_ms(s->node) >= mc->deadline_ms) {
            LIST_REMOVE(mc, link);
            rpc_call_fail(mc->call, ST_TRANSFER_TIMEOUT);
        }
    }
}

static const struct rpc_method methods[] = {
    {
        .path = "/etcdserverpb.Maintenance/Status",
        .request = &etcdserverpb__status_request__descriptor,
        .on_message = on_status,
    },
    {
        .path = "/etcdserverpb.Maintenance/MoveLeader",
        .request = &etcdserverpb__move_leader_request__descriptor,
        .on_message = on_move_leader,
        .on_close = on_move_leader_close,
    },
};

void svc_maintenance_serve(struct service *s, struct rpc_server *server)
{
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), s);
}
