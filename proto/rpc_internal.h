/*
 * rpc_internal.h - what the files of the RPC layer share.
 *
 *     rpc_loop.c     the pool of calls, the flush
 *     rpc_call.c     messages in and out, deadlines: the same for both sides
 *     rpc_server.c   listeners, methods, requests that become calls
 *     rpc_channel.c  connecting, calls that become requests
 */
#ifndef PAWL_RPC_INTERNAL_H
#define PAWL_RPC_INTERNAL_H

#include <string.h>

#include "proto/grpc.h"
#include "proto/h2.h"
#include "proto/rpc.h"

TAILQ_HEAD(call_list, rpc_call);

struct rpc_loop {
    struct h2_loop h2;
    struct call_list pool; /* calls to use again */
    size_t n_pool;
    struct arena scratch; /* a stream's message, during its handler */
};

struct metadata {
    struct metadata *next;
    struct slice name, value;
};

/* A server's method as it is looked up. */
struct method_entry {
    const struct rpc_method *method;
    void *service;
    size_t path_size;
    uint64_t hash;
};

/*
 * One call. It stays in memory until both the owner is done with it (over) and
 * the stream is closed. Calls are pooled: call_new() zeroes what is below
 * arena.
 */
struct rpc_call {
    struct h2_stream stream; /* first: a stream's pointer is its call's */
    struct buffer in;        /* a message that has not come in whole */
    struct arena arena;

    struct rpc_loop *loop;      /* the first of what is zeroed */
    TAILQ_ENTRY(rpc_call) link; /* pool, or the channel's waiting calls */
    bool over;                  /* the owner got or gave the last word */
    const ProtobufCMessageDescriptor *receives;
    size_t message_bytes_max; /* to receive */
    struct timer deadline;
    uint64_t deadline_ms;
    void *context;
    struct metadata *metadata; /* received */

    /* of a server */
    struct server_connection *connection; /* NULL: a client's call */
    const struct method_entry *entry;     /* NULL: not yet, or unknown */
    size_t charged;                       /* to the connection */
    bool started;                         /* the handler knows of it */
    bool is_post;
    struct slice path;         /* if it is not a known method */
    struct slice content_type; /* to answer with; empty: not acceptable */
    int bad_status;            /* HTTP's, if a header is wrong; or 0 */
    const char *bad_text;      /* what is wrong */
    struct slice encoding;     /* unless identity */
    ProtobufCMessage *request; /* of a unary request */

    /* of a client */
    struct rpc_channel *channel;
    uint64_t attempt; /* the channel's when it began to wait */
    bool waiting;     /* in the channel's list, not on a connection */
    const char *request_path;
    const struct rpc_call_events *events;
    struct h2_header *request_metadata;
    size_t n_request_metadata;
    int http_status;
    int grpc_status; /* -1: not seen */
    const char *text;
};

/* From the pool. */
struct rpc_call *call_new(struct rpc_loop *l);
/* Back into it. It is on no connection and in no list. */
void call_release(struct rpc_call *c);

struct rpc_call *call_of(struct h2_stream *s);

void call_set_deadline(struct rpc_call *c, uint64_t deadline_ms);

/* Bytes of the peer's messages. */
void call_receive(struct rpc_call *c, const uint8_t *data, size_t size);

/*
 * The layer ends the call: the owner learns it, and so does the peer. Nothing
 * if it is over.
 */
void call_abort(struct rpc_call *c, enum grpc_code code, const char *text);

/* rpc_server.c: what rpc_call.c needs of a server's call. */
void server_call_deliver(struct rpc_call *c, const uint8_t *data, size_t size);
void server_call_abort(struct rpc_call *c, enum grpc_code code,
                       const char *text);
void server_call_charge(struct rpc_call *c, size_t size);
void server_call_discharge(struct rpc_call *c);
void server_call_deadline(struct rpc_call *c);
void server_call_send_headers(struct rpc_call *c);

/* A connection that came in, by a listener or otherwise. Takes fd. */
void server_accept(struct rpc_server *s, evutil_socket_t fd,
                   const struct sockaddr *address);

/* rpc_channel.c: likewise. */
void channel_call_deliver(struct rpc_call *c, const uint8_t *data, size_t size);
void channel_call_abort(struct rpc_call *c, enum grpc_code code,
                        const char *text);

/* The channel has none; fd is connecting, or connected. Takes fd. */
void channel_adopt(struct rpc_channel *ch, evutil_socket_t fd);

/*
 * Decode. NULL: not a message of that type. Lives in the arena.
 */
ProtobufCMessage *call_decode(const struct rpc_call *c, struct arena *a,
                              const uint8_t *data, size_t size);

/*
 * protobuf-c unpacks nested messages by recursion, so two bytes a level from
 * a client would run the stack out. And it takes an overlong tag of field
 * number 0, but packs it as a short one, which it refuses to read: such a
 * message, put into the log, could never be applied. False if the input has
 * either; what is malformed otherwise is left to the decoder.
 */
bool message_is_sane(const ProtobufCMessageDescriptor *type,
                     const uint8_t *data, size_t size);

#define SLICE_LITERAL(s) ((struct slice){(const uint8_t *)(s), sizeof(s) - 1})
/* A comparison with a literal, which the compiler makes a few instructions. */
#define SLICE_IS(a, s)                                                         \
    ((a).size == sizeof(s) - 1 && memcmp((a).data, s, sizeof(s) - 1) == 0)
struct slice slice_of(const char *text);

#endif
