/*
 * lease.c - leases: grant, renew, revoke, inspect, list.
 */
#include "client/internal.h"

#include <inttypes.h>
#include <string.h>

static void *grant_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseGrantResponse *from =
        (const Etcdserverpb__LeaseGrantResponse *)m;
    struct pawl_lease_result *to = result_new(sizeof(*to));

    to->header = header_from(from->header);
    to->lease = from->id;
    to->ttl_s = from->ttl;
    return to;
}

enum pawl_status pawl_lease_grant(struct pawl *p, int64_t ttl_s, int64_t lease,
                                  struct pawl_lease_result **result)
{
    Etcdserverpb__LeaseGrantRequest m = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;

    m.ttl = ttl_s;
    m.id = lease;
    return call_run_into(
        p,
        &(struct request){
            .path = "/etcdserverpb.Lease/LeaseGrant",
            .message = &m.base,
            .response = &etcdserverpb__lease_grant_response__descriptor,
            /* A second lease without a name ends by itself, unseen. */
            .retry = lease == 0 ? RETRY_ALWAYS : RETRY_IF_NOT_APPLIED,
            .endpoint = ANY_ENDPOINT,
            .convert = grant_convert,
        },
        result);
}

static void *renew_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseKeepAliveResponse *from =
        (const Etcdserverpb__LeaseKeepAliveResponse *)m;
    struct pawl_lease_result *to = result_new(sizeof(*to));

    to->header = header_from(from->header);
    to->lease = from->id;
    to->ttl_s = from->ttl;
    return to;
}

enum pawl_status pawl_lease_renew(struct pawl *p, int64_t lease,
                                  struct pawl_lease_result **result)
{
    Etcdserverpb__LeaseKeepAliveRequest m =
        ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    struct pawl_lease_result *renewed;
    enum pawl_status st;

    result_give(NULL, result);
    m.id = lease;
    st = call_run_into(
        p,
        &(struct request){
            .path = "/etcdserverpb.Lease/LeaseKeepAlive",
            .message = &m.base,
            .response = &etcdserverpb__lease_keep_alive_response__descriptor,
            .retry = RETRY_ALWAYS,
            .endpoint = ANY_ENDPOINT,
            .convert = renew_convert,
        },
        &renewed);
    if (st == PAWL_OK && renewed->ttl_s <= 0) {
        pawl_free(renewed); /* how the wire says that there is none */
        return pawl_fail(p, PAWL_NOT_FOUND, "%s",
                         status_text(ST_LEASE_NOT_FOUND));
    }
    result_give(renewed, result);
    return st;
}

static void *revoke_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseRevokeResponse *from =
        (const Etcdserverpb__LeaseRevokeResponse *)m;
    struct pawl_header *to = result_new(sizeof(*to));

    *to = header_from(from->header);
    return to;
}

enum pawl_status pawl_lease_revoke(struct pawl *p, int64_t lease,
                                   struct pawl_header **result)
{
    Etcdserverpb__LeaseRevokeRequest m =
        ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    struct reply reply;

    m.id = lease;
    reply = call_run(
        p, &(struct request){
               .path = "/etcdserverpb.Lease/LeaseRevoke",
               .message = &m.base,
               .response = &etcdserverpb__lease_revoke_response__descriptor,
               .retry = RETRY_ALWAYS,
               .endpoint = ANY_ENDPOINT,
               .convert = revoke_convert,
           });
    if (reply.status == PAWL_NOT_FOUND && reply.uncertain) {
        /* The attempt before, whose answer was lost, did it. */
        reply.status = pawl_fail(p, PAWL_OK, "%s", "");
        reply.result = result_new(sizeof(struct pawl_header));
    }
    result_give(reply.result, result);
    return reply.status;
}

static void *inspect_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseTimeToLiveResponse *from =
        (const Etcdserverpb__LeaseTimeToLiveResponse *)m;
    struct pawl_lease_info *to = result_new(sizeof(*to));
    struct pawl_bytes *keys = result_alloc(to, from->n_keys, sizeof(*keys));

    for (size_t i = 0; i < from->n_keys; i++) {
        keys[i] = result_bytes(to, from->keys[i]);
    }
    to->header = header_from(from->header);
    to->lease = from->id;
    to->ttl_s = from->ttl;
    to->granted_ttl_s = from->grantedttl;
    to->keys = keys;
    to->n_keys = from->n_keys;
    return to;
}

enum pawl_status pawl_lease_inspect(struct pawl *p, int64_t lease, bool keys,
                                    struct pawl_lease_info **result)
{
    Etcdserverpb__LeaseTimeToLiveRequest m =
        ETCDSERVERPB__LEASE_TIME_TO_LIVE_REQUEST__INIT;

    m.id = lease;
    m.keys = keys;
    return call_run_into(
        p,
        &(struct request){
            .path = "/etcdserverpb.Lease/LeaseTimeToLive",
            .message = &m.base,
            .response = &etcdserverpb__lease_time_to_live_response__descriptor,
            .retry = RETRY_ALWAYS,
            .endpoint = ANY_ENDPOINT,
            .convert = inspect_convert,
        },
        result);
}

static void *list_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseLeasesResponse *from =
        (const Etcdserverpb__LeaseLeasesResponse *)m;
    struct pawl_lease_list_result *to = result_new(sizeof(*to));
    int64_t *leases = result_alloc(to, from->n_leases, sizeof(*leases));

    for (size_t i = 0; i < from->n_leases; i++) {
        leases[i] = from->leases[i]->id;
    }
    to->header = header_from(from->header);
    to->leases = leases;
    to->n_leases = from->n_leases;
    return to;
}

enum pawl_status pawl_lease_list(struct pawl *p,
                                 struct pawl_lease_list_result **result)
{
    Etcdserverpb__LeaseLeasesRequest m =
        ETCDSERVERPB__LEASE_LEASES_REQUEST__INIT;

    return call_run_into(
        p,
        &(struct request){
            .path = "/etcdserverpb.Lease/LeaseLeases",
            .message = &m.base,
            .response = &etcdserverpb__lease_leases_response__descriptor,
            .retry = RETRY_ALWAYS,
            .endpoint = ANY_ENDPOINT,
            .convert = list_convert,
        },
        result);
}
