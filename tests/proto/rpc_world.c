#include "rpc_world.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the server's methods -------------------------------------------- */

static void answer(struct rpc_call *c, const uint8_t *key, size_t size,
                   int64_t count)
{
    Etcdserverpb__RangeResponse response = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT, *kvs[] = {&kv};

    kv.key.data = (uint8_t *)(uintptr_t)key;
    kv.key.len = size;
    response.n_kvs = 1;
    response.kvs = kvs;
    response.count = count;
    rpc_call_send(c, &response.base);
}

static void echo(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *r = (const void *)m;
    struct world *w = rpc_call_service(c);

    if (w->in_message != NULL) {
        w->in_message(w, c);
    }
    answer(c, r->key.data, r->key.len, r->limit);
    rpc_call_finish(c, GRPC_OK, NULL);
}

static void fail_call(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *r = (const void *)m;

    rpc_call_finish(c, (enum grpc_code)r->limit,
                    arena_printf(rpc_call_arena(c), "%.*s", (int)r->key.len,
                                 (const char *)r->key.data));
}

static void hold(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct world *w = rpc_call_service(c);

    (void)m;
    w->held = c;
    w->n_held++;
}

static void metadata(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *r = (const void *)m;
    struct slice value = {0};
    char *name = arena_printf(rpc_call_arena(c), "%.*s", (int)r->key.len,
                              (const char *)r->key.data);
    bool found = rpc_call_metadata(c, name, &value);

    answer(c, value.data, value.size, found);
    rpc_call_finish(c, GRPC_OK, NULL);
}

static void list(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *r = (const void *)m;

    for (int64_t i = 0; i < r->limit; i++) {
        answer(c, r->key.data, r->key.len, i);
    }
    rpc_call_finish(c, GRPC_OK, NULL);
}

struct sum {
    int64_t n, bytes;
};

static void opened(struct rpc_call *c)
{
    struct world *w = rpc_call_service(c);

    w->n_opened++;
    rpc_call_set_context(c, arena_alloc(rpc_call_arena(c), sizeof(struct sum)));
}

static void sum_message(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *r = (const void *)m;
    struct sum *sum = rpc_call_context(c);

    sum->n++;
    sum->bytes += (int64_t)r->key.len;
}

static void sum_half_close(struct rpc_call *c)
{
    struct sum *sum = rpc_call_context(c);
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)sum->bytes);
    answer(c, (const uint8_t *)text, strlen(text), sum->n);
    rpc_call_finish(c, GRPC_OK, NULL);
}

static void chat_message(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *r = (const void *)m;
    struct world *w = rpc_call_service(c);

    w->held = c;
    answer(c, r->key.data, r->key.len, r->limit);
    if (w->in_message != NULL) {
        w->in_message(w, c);
    }
}

static void chat_half_close(struct rpc_call *c)
{
    struct world *w = rpc_call_service(c);

    w->n_half_closed++;
    rpc_call_finish(c, GRPC_OK, NULL);
}

static void closed(struct rpc_call *c)
{
    struct world *w = rpc_call_service(c);

    w->n_closed++;
    if (w->held == c) {
        w->held = NULL;
    }
    if (w->in_close != NULL) {
        w->in_close(w, c);
    }
}

#define REQUEST (&etcdserverpb__range_request__descriptor)

static const struct rpc_method methods[] = {
    {.path = "/test.T/Echo",
     .request = REQUEST,
     .on_message = echo,
     .on_close = closed},
    {.path = "/test.T/Fail",
     .request = REQUEST,
     .on_message = fail_call,
     .on_close = closed},
    {.path = "/test.T/Hold",
     .request = REQUEST,
     .on_message = hold,
     .on_close = closed},
    {.path = "/test.T/Metadata", .request = REQUEST, .on_message = metadata},
    {.path = "/test.T/List",
     .request = REQUEST,
     .server_streams = true,
     .on_message = list,
     .on_close = closed},
    {.path = "/test.T/Sum",
     .request = REQUEST,
     .client_streams = true,
     .on_open = opened,
     .on_message = sum_message,
     .on_half_close = sum_half_close,
     .on_close = closed},
    {.path = "/test.T/Chat",
     .request = REQUEST,
     .client_streams = true,
     .server_streams = true,
     .on_open = opened,
     .on_message = chat_message,
     .on_half_close = chat_half_close,
     .on_close = closed},
};

/* ---- the world ------------------------------------------------------- */

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

void world_init(struct world *w)
{
    struct timeval often = {0, 2000}; /* so that a round ends */

    *w = (struct world){.base = event_base_new()};
    w->loop = rpc_loop_new(w->base);
    w->tick = event_new(w->base, -1, EV_PERSIST, on_tick, NULL);
    event_add(w->tick, &often);
    rpc_limits_defaults(&w->limits);
}

static void on_state(void *context, bool up, const char *reason)
{
    struct world *w = context;

    if (up) {
        w->n_up++;
    } else {
        w->n_down++;
        snprintf(w->reason, sizeof(w->reason), "%s", reason);
    }
}

struct rpc_channel *world_channel(struct world *w, const char *address)
{
    struct rpc_channel_config config = {
        .address = address,
        .connect_timeout_ms = 5000,
        .limits = w->limits,
        .on_state = on_state,
        .context = w,
    };

    return rpc_channel_new(w->loop, &config);
}

void world_start(struct world *w)
{
    w->server = rpc_server_new(w->loop, &w->limits);
    rpc_server_add(w->server, methods, ARRAY_LENGTH(methods), w);
    ck_assert_int_eq(rpc_server_listen(w->server, "127.0.0.1:0", &w->port), 0);
    snprintf(w->address, sizeof(w->address), "127.0.0.1:%d", w->port);
    w->channel = world_channel(w, w->address);
}

void world_release(struct world *w)
{
    rpc_channel_free(w->channel);
    rpc_server_free(w->server);
    rpc_loop_free(w->loop);
    event_free(w->tick);
    event_base_free(w->base);
    libevent_global_shutdown();
}

void world_round(struct world *w)
{
    rpc_loop_flush(w->loop);
    event_base_loop(w->base, EVLOOP_ONCE);
    rpc_loop_flush(w->loop);
}

void world_wait(struct world *w, const bool *done)
{
    world_until(w, *done);
}

/* ---- calls
 * --------------------------------------------------------------------- */

static void on_message(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeResponse *response = (const void *)m;
    struct result *r = rpc_call_context(c);

    r->n_messages++;
    r->count = response->count;
    r->key.size = 0;
    if (response->n_kvs > 0) {
        buffer_append(&r->key, response->kvs[0]->key.data,
                      response->kvs[0]->key.len);
    }
    r->bytes += r->key.size;
    if (r->in_message != NULL) {
        r->in_message(r);
    }
}

static void on_close(struct rpc_call *c, enum grpc_code code, const char *text,
                     bool maybe_processed)
{
    struct result *r = rpc_call_context(c);

    ck_assert(!r->closed);
    r->closed = true;
    r->code = code;
    r->maybe_processed = maybe_processed;
    snprintf(r->text, sizeof(r->text), "%s", text);
    r->call = NULL;
    if (r->in_close != NULL) {
        r->in_close(r);
    }
}

const struct rpc_call_events world_events = {on_message, on_close};

struct rpc_call *world_call(struct world *w, struct result *r, const char *path,
                            uint64_t timeout_ms)
{
    r->call = rpc_call_start(w->channel, path,
                             &etcdserverpb__range_response__descriptor, NULL, 0,
                             timeout_ms, &world_events, r);
    return r->call;
}

void world_send(struct rpc_call *c, const void *key, size_t size, int64_t limit)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;

    request.key.data = (uint8_t *)(uintptr_t)key;
    request.key.len = size;
    request.limit = limit;
    rpc_call_send(c, &request.base);
}

void world_unary(struct world *w, struct result *r, const char *path,
                 const char *key, int64_t limit)
{
    struct rpc_call *c = world_call(w, r, path, 0);

    world_send(c, key, strlen(key), limit);
    rpc_call_half_close(c);
    world_wait(w, &r->closed);
}

void result_release(struct result *r)
{
    buffer_release(&r->key);
}

bool result_key_is(const struct result *r, const char *key)
{
    return r->key.size == strlen(key) &&
           memcmp(r->key.data, key, r->key.size) == 0;
}
