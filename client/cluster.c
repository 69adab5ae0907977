/*
 * cluster.c - members, and the state of single endpoints.
 */
#include "client/internal.h"

#include <string.h>

static void *members_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberListResponse *from =
        (const Etcdserverpb__MemberListResponse *)m;
    struct pawl_member_list_result *to = result_new(sizeof(*to));
    struct pawl_member *members =
        result_alloc(to, from->n_members, sizeof(*members));

    for (size_t i = 0; i < from->n_members; i++) {
        const Etcdserverpb__Member *member = from->members[i];

        members[i] = (struct pawl_member){
            .id = member->id,
            .name = result_text(to, member->name),
            .peer_urls = result_texts(to, member->peerurls, member->n_peerurls),
            .n_peer_urls = member->n_peerurls,
            .client_urls =
                result_texts(to, member->clienturls, member->n_clienturls),
            .n_client_urls = member->n_clienturls,
            .is_learner = member->islearner,
        };
    }
    to->header = header_from(from->header);
    to->members = members;
    to->n_members = from->n_members;
    return to;
}

enum pawl_status pawl_member_list(struct pawl *p,
                                  struct pawl_member_list_result **result)
{
    Etcdserverpb__MemberListRequest m = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;

    m.linearizable = true;
    return call_run_into(
        p,
        &(struct request){
            .path = "/etcdserverpb.Cluster/MemberList",
            .message = &m.base,
            .response = &etcdserverpb__member_list_response__descriptor,
            .retry = RETRY_ALWAYS,
            .endpoint = ANY_ENDPOINT,
            .convert = members_convert,
        },
        result);
}

static void *status_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__StatusResponse *from =
        (const Etcdserverpb__StatusResponse *)m;
    struct pawl_endpoint_status_result *to = result_new(sizeof(*to));

    to->header = header_from(from->header);
    to->version = result_text(to, from->version);
    to->storage_version = result_text(to, from->storageversion);
    to->db_bytes = from->dbsize;
    to->db_bytes_in_use = from->dbsizeinuse;
    to->db_bytes_quota = from->dbsizequota;
    to->leader = from->leader;
    to->raft_index = from->raftindex;
    to->raft_term = from->raftterm;
    to->raft_applied_index = from->raftappliedindex;
    to->errors = result_texts(to, from->errors, from->n_errors);
    to->n_errors = from->n_errors;
    to->is_learner = from->islearner;
    return to;
}

static enum pawl_status bad_endpoint(struct pawl *p, size_t endpoint)
{
    return pawl_fail(p, PAWL_INVALID, "there is no endpoint %zu", endpoint);
}

enum pawl_status
pawl_endpoint_status(struct pawl *p, size_t endpoint,
                     struct pawl_endpoint_status_result **result)
{
    Etcdserverpb__StatusRequest m = ETCDSERVERPB__STATUS_REQUEST__INIT;

    result_give(NULL, result);
    if (endpoint >= p->endpoints.n) {
        return bad_endpoint(p, endpoint);
    }
    return call_run_into(
        p,
        &(struct request){
            .path = "/etcdserverpb.Maintenance/Status",
            .message = &m.base,
            .response = &etcdserverpb__status_response__descriptor,
            .retry = RETRY_ALWAYS,
            .endpoint = endpoint,
            .convert = status_convert,
        },
        result);
}

enum pawl_status pawl_endpoint_health(struct pawl *p, size_t endpoint,
                                      uint64_t *took_us)
{
    Etcdserverpb__RangeRequest m = ETCDSERVERPB__RANGE_REQUEST__INIT;
    uint64_t start = clock_us();
    enum pawl_status st;

    if (endpoint >= p->endpoints.n) {
        return bad_endpoint(p, endpoint);
    }
    m.key = bytes_to(pawl_text("health"));
    st =
        call_run_into(p,
                      &(struct request){
                          .path = "/etcdserverpb.KV/Range",
                          .message = &m.base,
                          .response = &etcdserverpb__range_response__descriptor,
                          .retry = RETRY_ALWAYS,
                          .endpoint = endpoint,
                      },
                      NULL);
    if (took_us != NULL) {
        *took_us = clock_us() - start;
    }
    /* Being refused takes a quorum too: the key may be forbidden. */
    return st == PAWL_DENIED ? PAWL_OK : st;
}
