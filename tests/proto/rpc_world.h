/*
 * rpc_world.h - a server, a channel to it and their loop, in one thread on a
 * free port of the loopback; and the methods that the tests call.
 *
 *   /test.T/Echo      unary: the key comes back
 *   /test.T/Fail      unary: ends with code `limit` and the key as text
 *   /test.T/Hold      unary: is not answered; world.held is the call
 *   /test.T/Metadata  unary: the value of the metadata that the key names
 *   /test.T/List      server stream: `limit` messages with the key
 *   /test.T/Sum       client stream: the number of messages and their bytes
 *   /test.T/Chat      bidi: each message comes back at once
 */
#ifndef RPC_WORLD_H
#define RPC_WORLD_H

#include "etcd/rpc.pb-c.h"
#include "proto/rpc.h"

struct world {
    struct event_base *base;
    struct event *tick;
    struct rpc_loop *loop;
    struct rpc_server *server;
    struct rpc_channel *channel;
    struct rpc_limits limits; /* of server and channel, until world_start() */
    int port;
    char address[32];
    /* what handlers saw */
    struct rpc_call *held;
    int n_held, n_closed, n_opened, n_half_closed;
    void (*in_close)(struct world *w, struct rpc_call *c);
    void (*in_message)(struct world *w, struct rpc_call *c);
    /* what the channel said */
    int n_up, n_down;
    char reason[128];
};

void world_init(struct world *w); /* then change limits, then start */
void world_start(struct world *w);
void world_release(struct world *w);
struct rpc_channel *world_channel(struct world *w, const char *address);

/* One round of input and output. */
void world_round(struct world *w);
/* Rounds until *done, for at most ten seconds: then the test fails. */
void world_wait(struct world *w, const bool *done);
/* Rounds until x holds. */
#define world_until(w, x)                                                      \
    do {                                                                       \
        uint64_t world_end_ = clock_ms() + 10000;                              \
        while (!(x)) {                                                         \
            world_round(w);                                                    \
            ck_assert_msg(clock_ms() < world_end_, "never: %s", #x);           \
        }                                                                      \
    } while (0)

/* What came of a call. */
struct result {
    bool closed;
    enum grpc_code code;
    char text[512];
    bool maybe_processed;
    int n_messages;
    size_t bytes; /* of all keys */
    int64_t count;
    struct buffer key; /* of the last message */
    struct rpc_call *call;
    void (*in_message)(struct result *r);
    void (*in_close)(struct result *r);
    void *context;
};

extern const struct rpc_call_events world_events; /* into a struct result */

/* Start a call; nothing is sent yet. */
struct rpc_call *world_call(struct world *w, struct result *r, const char *path,
                            uint64_t timeout_ms);
/* Send a RangeRequest with that key and limit. */
void world_send(struct rpc_call *c, const void *key, size_t size,
                int64_t limit);
/* A whole unary call, from start to close. */
void world_unary(struct world *w, struct result *r, const char *path,
                 const char *key, int64_t limit);
void result_release(struct result *r);
bool result_key_is(const struct result *r, const char *key);

#endif
