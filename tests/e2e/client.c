/*
 * client.c - calls on the rpc layer, with a loop that runs while they last.
 */
#include "client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct client {
    struct event_base *base;
    struct rpc_loop *loop;
    struct rpc_channel *channel;
    struct event *alarm; /* ends call_wait() */
    bool alarmed;
    uint64_t timeout_ms;
};

static void on_alarm(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    ((struct client *)context)->alarmed = true;
}

struct client *client_new(const char *address)
{
    struct client *c = mem_alloc(1, sizeof(*c));
    struct rpc_channel_config config = {.address = address,
                                        .connect_timeout_ms = 2000};

    rpc_limits_defaults(&config.limits);
    config.limits.message_bytes_max = (size_t)64 << 20;
    c->base = event_base_new();
    c->loop = rpc_loop_new(c->base);
    c->channel = rpc_channel_new(c->loop, &config);
    c->alarm = event_new(c->base, -1, 0, on_alarm, c);
    c->timeout_ms = 5000;
    return c;
}

void client_free(struct client *c)
{
    if (c == NULL) {
        return;
    }
    rpc_channel_free(c->channel);
    rpc_loop_free(c->loop);
    event_free(c->alarm);
    event_base_free(c->base);
    free(c);
}

void client_set_timeout(struct client *c, uint64_t timeout_ms)
{
    c->timeout_ms = timeout_ms;
}

void answer_release(struct answer *a)
{
    if (a->any != NULL) {
        protobuf_c_message_free_unpacked(a->any, NULL);
    }
    a->any = NULL;
}

/* ---- any call --------------------------------------------------------------
 */

static ProtobufCMessage *copy_message(const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *bytes = mem_alloc(size + 1, 1);
    ProtobufCMessage *copy;

    protobuf_c_message_pack(m, bytes);
    copy = protobuf_c_message_unpack(m->descriptor, NULL, size, bytes);
    free(bytes);
    return copy;
}

static void on_message(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct call *call = rpc_call_context(c);

    answer_release(&call->answer);
    call->answer.any = copy_message(m);
}

static void on_close(struct rpc_call *c, enum grpc_code code, const char *text,
                     bool maybe_processed)
{
    struct call *call = rpc_call_context(c);
    struct answer *a = &call->answer;

    call->rpc = NULL;
    a->code = code;
    a->maybe_processed = maybe_processed;
    snprintf(a->text, sizeof(a->text), "%s", text != NULL ? text : "");
    if (code != GRPC_OK) {
        answer_release(a);
    } else if (a->any == NULL) {
        a->code = GRPC_INTERNAL;
        snprintf(a->text, sizeof(a->text), "OK without a message");
    }
}

static const struct rpc_call_events events = {.on_message = on_message,
                                              .on_close = on_close};

void call_start(struct call *call, struct client *c, const char *path,
                const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *response,
                const struct rpc_metadata *metadata, size_t n_metadata)
{
    *call = (struct call){.client = c};
    call->rpc = rpc_call_start(c->channel, path, response, metadata, n_metadata,
                               c->timeout_ms, &events, call);
    rpc_call_send(call->rpc, request);
    rpc_call_half_close(call->rpc);
    rpc_loop_flush(c->loop);
}

bool call_wait(struct call *call, uint64_t timeout_ms)
{
    struct client *c = call->client;
    struct timeval tv = {
        .tv_sec = (time_t)(timeout_ms / 1000),
        .tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000),
    };

    c->alarmed = false;
    event_add(c->alarm, &tv);
    while (call->rpc != NULL && !c->alarmed) {
        rpc_loop_flush(c->loop);
        event_base_loop(c->base, EVLOOP_ONCE);
    }
    event_del(c->alarm);
    rpc_loop_flush(c->loop);
    return call->rpc == NULL;
}

void call_cancel(struct call *call)
{
    if (call->rpc != NULL) {
        rpc_call_cancel(call->rpc);
        rpc_loop_flush(call->client->loop);
    }
}

static struct answer finish(struct call *call)
{
    /* The call's own deadline ends it; the grace is for a hung rpc layer. */
    if (!call_wait(call, call->client->timeout_ms + 5000)) {
        fprintf(stderr, "a call outlived its deadline by 5 s\n");
        abort();
    }
    return call->answer;
}

struct answer client_call(struct client *c, const char *path,
                          const ProtobufCMessage *request,
                          const ProtobufCMessageDescriptor *response)
{
    struct call call;

    call_start(&call, c, path, request, response, NULL, 0);
    return finish(&call);
}

/* ---- keys ------------------------------------------------------------------
 */

static ProtobufCBinaryData bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

static struct answer guarded(struct client *c, const char *path,
                             const ProtobufCMessage *request,
                             const ProtobufCMessageDescriptor *response,
                             const struct fence *f)
{
    struct rpc_metadata metadata[2];
    struct call call;
    char token[24];

    if (f == NULL) {
        return client_call(c, path, request, response);
    }
    snprintf(token, sizeof(token), "%" PRId64, f->token);
    metadata[0] = (struct rpc_metadata){
        "pawl-fence-key-bin", {(const uint8_t *)f->key, strlen(f->key)}};
    metadata[1] = (struct rpc_metadata){
        "pawl-fence-token", {(const uint8_t *)token, strlen(token)}};
    call_start(&call, c, path, request, response, metadata, 2);
    return finish(&call);
}

struct answer client_put(struct client *c, const char *key, const char *value,
                         int64_t lease, const struct fence *fence)
{
    Etcdserverpb__PutRequest rq = ETCDSERVERPB__PUT_REQUEST__INIT;

    rq.key = bytes(key);
    rq.value = bytes(value);
    rq.lease = lease;
    return guarded(c, "/etcdserverpb.KV/Put", &rq.base,
                   &etcdserverpb__put_response__descriptor, fence);
}

struct answer client_delete(struct client *c, const char *key,
                            const struct fence *fence)
{
    Etcdserverpb__DeleteRangeRequest rq =
        ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;

    rq.key = bytes(key);
    return guarded(c, "/etcdserverpb.KV/DeleteRange", &rq.base,
                   &etcdserverpb__delete_range_response__descriptor, fence);
}

struct answer client_range(struct client *c, const char *key, const char *end,
                           int64_t revision, int64_t limit, bool serializable)
{
    Etcdserverpb__RangeRequest rq = ETCDSERVERPB__RANGE_REQUEST__INIT;

    rq.key = bytes(key);
    rq.range_end = bytes(end);
    rq.revision = revision;
    rq.limit = limit;
    rq.serializable = serializable;
    return client_call(c, "/etcdserverpb.KV/Range", &rq.base,
                       &etcdserverpb__range_response__descriptor);
}

struct answer client_get(struct client *c, const char *key, int64_t revision,
                         bool serializable)
{
    return client_range(c, key, "", revision, 0, serializable);
}

struct answer client_status(struct client *c)
{
    Etcdserverpb__StatusRequest rq = ETCDSERVERPB__STATUS_REQUEST__INIT;

    return client_call(c, "/etcdserverpb.Maintenance/Status", &rq.base,
                       &etcdserverpb__status_response__descriptor);
}

/* ---- leases ----------------------------------------------------------------
 */

struct answer client_lease_grant(struct client *c, int64_t id, int64_t ttl_s)
{
    Etcdserverpb__LeaseGrantRequest rq =
        ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;

    rq.id = id;
    rq.ttl = ttl_s;
    return client_call(c, "/etcdserverpb.Lease/LeaseGrant", &rq.base,
                       &etcdserverpb__lease_grant_response__descriptor);
}

struct answer client_lease_revoke(struct client *c, int64_t id)
{
    Etcdserverpb__LeaseRevokeRequest rq =
        ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;

    rq.id = id;
    return client_call(c, "/etcdserverpb.Lease/LeaseRevoke", &rq.base,
                       &etcdserverpb__lease_revoke_response__descriptor);
}

struct answer client_lease_keep_alive(struct client *c, int64_t id)
{
    Etcdserverpb__LeaseKeepAliveRequest rq =
        ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;

    rq.id = id;
    return client_call(c, "/etcdserverpb.Lease/LeaseKeepAlive", &rq.base,
                       &etcdserverpb__lease_keep_alive_response__descriptor);
}

struct answer client_lease_time_to_live(struct client *c, int64_t id)
{
    Etcdserverpb__LeaseTimeToLiveRequest rq =
        ETCDSERVERPB__LEASE_TIME_TO_LIVE_REQUEST__INIT;

    rq.id = id;
    return client_call(c, "/etcdserverpb.Lease/LeaseTimeToLive", &rq.base,
                       &etcdserverpb__lease_time_to_live_response__descriptor);
}

/* ---- locks -----------------------------------------------------------------
 */

void call_acquire(struct call *call, struct client *c,
                  const struct lock_request *lock)
{
    Pawl__V1__AcquireRequest rq = PAWL__V1__ACQUIRE_REQUEST__INIT;

    rq.name = bytes(lock->name);
    rq.lease = lock->lease;
    rq.ttl = lock->ttl_s;
    rq.wait_ms = (int64_t)lock->wait_ms;
    rq.try_ = lock->try;
    call_start(call, c, "/pawl.v1.Lock/Acquire", &rq.base,
               &pawl__v1__acquire_response__descriptor, NULL, 0);
}

struct answer client_acquire(struct client *c, const struct lock_request *lock)
{
    struct call call;

    call_acquire(&call, c, lock);
    return finish(&call);
}

struct answer client_release(struct client *c, const struct fence *held)
{
    Pawl__V1__ReleaseRequest rq = PAWL__V1__RELEASE_REQUEST__INIT;

    rq.key = bytes(held->key);
    rq.token = held->token;
    return client_call(c, "/pawl.v1.Lock/Release", &rq.base,
                       &pawl__v1__release_response__descriptor);
}

struct answer client_check(struct client *c, const char *name, int64_t token)
{
    Pawl__V1__CheckRequest rq = PAWL__V1__CHECK_REQUEST__INIT;

    rq.name = bytes(name);
    rq.token = token;
    return client_call(c, "/pawl.v1.Lock/Check", &rq.base,
                       &pawl__v1__check_response__descriptor);
}

struct fence fence_of(const Pawl__V1__AcquireResponse *grant)
{
    struct fence f = {.token = grant->token};

    snprintf(f.key, sizeof(f.key), "%.*s", (int)grant->key.len,
             (const char *)grant->key.data);
    return f;
}
