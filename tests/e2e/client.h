/*
 * client.h - calls to one server, each waited for.
 *
 * A client has an event loop of its own and belongs to one thread. A call
 * either is waited for at once (client_put() and its like), or is started,
 * and waited for or cancelled later (struct call).
 */
#ifndef E2E_CLIENT_H
#define E2E_CLIENT_H

#include "etcd/rpc.pb-c.h"
#include "pawl.pb-c.h"
#include "proto/rpc.h"

struct client; /* a connection to one address */

struct client *client_new(const char *address);
/* What is started and not done yet is cancelled. NULL is fine. */
void client_free(struct client *c);
/* Of each later call; 5000 at first. */
void client_set_timeout(struct client *c, uint64_t timeout_ms);

/* How a call ended. any is NULL unless code is GRPC_OK. */
struct answer {
    enum grpc_code code;
    char text[256];
    bool maybe_processed; /* only if it failed */
    union {
        ProtobufCMessage *any;
        Etcdserverpb__PutResponse *put;
        Etcdserverpb__RangeResponse *range;
        Etcdserverpb__DeleteRangeResponse *deleted;
        Etcdserverpb__LeaseGrantResponse *grant;
        Etcdserverpb__LeaseKeepAliveResponse *keep_alive;
        Etcdserverpb__LeaseTimeToLiveResponse *time_to_live;
        Etcdserverpb__LeaseRevokeResponse *revoke;
        Etcdserverpb__StatusResponse *status;
        Pawl__V1__AcquireResponse *acquire;
        Pawl__V1__ReleaseResponse *release;
        Pawl__V1__CheckResponse *check;
    };
};

void answer_release(struct answer *a);

/* ---- any call --------------------------------------------------------------
 */

/* In the caller's memory from call_start() until it is done. */
struct call {
    struct client *client;
    struct rpc_call *rpc; /* NULL: done */
    struct answer answer; /* the caller's, once done */
};

/* metadata may be NULL. */
void call_start(struct call *call, struct client *c, const char *path,
                const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *response,
                const struct rpc_metadata *metadata, size_t n_metadata);
/* True once it is done; false if it is not after that time. */
bool call_wait(struct call *call, uint64_t timeout_ms);
void call_cancel(struct call *call);

struct answer client_call(struct client *c, const char *path,
                          const ProtobufCMessage *request,
                          const ProtobufCMessageDescriptor *response);

/* ---- the usual ones --------------------------------------------------------
 */

/* What a guarded write carries: pawl-fence-key-bin and pawl-fence-token. */
struct fence {
    char key[128];
    int64_t token;
};

/* fence may be NULL. */
struct answer client_put(struct client *c, const char *key, const char *value,
                         int64_t lease, const struct fence *fence);
struct answer client_delete(struct client *c, const char *key,
                            const struct fence *fence);
/* revision 0: now. */
struct answer client_get(struct client *c, const char *key, int64_t revision,
                         bool serializable);
/* From key up to end (both texts; "\0" is not needed here), limited. */
struct answer client_range(struct client *c, const char *key, const char *end,
                           int64_t revision, int64_t limit, bool serializable);
struct answer client_status(struct client *c);

struct answer client_lease_grant(struct client *c, int64_t id, int64_t ttl_s);
struct answer client_lease_revoke(struct client *c, int64_t id);
struct answer client_lease_keep_alive(struct client *c, int64_t id);
struct answer client_lease_time_to_live(struct client *c, int64_t id);

struct lock_request {
    const char *name;
    int64_t lease, ttl_s;
    uint64_t wait_ms;
    bool try;
};

void call_acquire(struct call *call, struct client *c,
                  const struct lock_request *lock);
struct answer client_acquire(struct client *c, const struct lock_request *lock);
struct answer client_release(struct client *c, const struct fence *held);
struct answer client_check(struct client *c, const char *name, int64_t token);
/* The fence of a grant. */
struct fence fence_of(const Pawl__V1__AcquireResponse *grant);

#endif
