/*
 * rpc.h - gRPC calls and streams over HTTP/2, both sides.
 *
 * One layer serves all: etcd's services, pawl's own and the peers' streams.
 * It knows protobuf messages and nothing of keys or Raft. It stands on nghttp2
 * (HTTP/2), libevent (sockets, timers) and protobuf-c (messages).
 *
 * Everything belongs to one thread: that of the event base. Input calls
 * handlers at once; output gathers and leaves in rpc_loop_flush(), once a
 * round for each connection, which is what makes small requests cheap:
 *
 *     for (;;) {
 *         event_base_loop(base, EVLOOP_ONCE);    read, decode, call handlers
 *         ...                                    the owner's own round
 *         rpc_loop_flush(loop);                  write each connection once
 *     }
 *
 * A handler may do anything to its own call and to others, but not free the
 * server, channel or loop.
 */
#ifndef PAWL_RPC_H
#define PAWL_RPC_H

#include <event2/event.h>
#include <protobuf-c/protobuf-c.h>

#include "proto/arena.h"
#include "proto/base.h"
#include "proto/status.h"

struct rpc_loop;    /* what connections of one event base share */
struct rpc_server;  /* listeners, methods, accepted connections */
struct rpc_channel; /* a client's connection to one address */
struct rpc_call;    /* one call, of either side */

struct rpc_loop *rpc_loop_new(struct event_base *base);
struct event_base *rpc_loop_base(struct rpc_loop *l);
void rpc_loop_flush(struct rpc_loop *l);
void rpc_loop_free(struct rpc_loop *l); /* after its servers and channels */

/* ---- metadata ---------------------------------------------------------- */

/*
 * Custom metadata. name: lower case; values of names that end in "-bin" are
 * raw bytes here and base64 on the wire.
 */
struct rpc_metadata {
    const char *name;
    struct slice value;
};

/* Of the request (server side). False if absent. Good as long as the call. */
bool rpc_call_metadata(const struct rpc_call *c, const char *name,
                       struct slice *value);

/* ---- limits ------------------------------------------------------------ */

struct rpc_limits {
    size_t message_bytes_max;  /* received messages beyond it get
                                  RESOURCE_EXHAUSTED */
    size_t header_bytes_max;   /* of one header block */
    size_t streams_max;        /* open at once on one connection */
    size_t connections_max;    /* accepted beyond it are closed at once */
    size_t send_bytes_max;     /* queued on one connection; past it reading
                                  from that connection pauses */
    uint64_t ping_interval_ms; /* ping an idle peer; 0: never */
    uint64_t ping_timeout_ms;  /* silence after a ping closes the connection */
    uint64_t handshake_ms;     /* from accept to the preface */
};

/* 2 MiB + overhead, 64 KiB, unlimited streams, 10,000 connections, ... */
void rpc_limits_defaults(struct rpc_limits *l);

/* ---- server ------------------------------------------------------------ */

/*
 * A method. Handlers get the call and, with rpc_call_service(), the pointer
 * given to rpc_server_add().
 *
 * Unary and server-stream: on_message is called once, with the request, which
 * lives in the call's arena as long as the call. The layer refuses a second
 * message and a missing one by itself.
 * Client-stream and bidi: on_open first; on_message for each, whose message is
 * good only during the handler; on_half_close when the client is done.
 * on_close: the call ended otherwise than by rpc_call_finish() or _reply():
 * cancelled, deadline passed, connection lost, server freed. The last callback.
 * Unset handlers are skipped.
 */
struct rpc_method {
    const char *path; /* "/etcdserverpb.KV/Put" */
    bool client_streams;
    bool server_streams;
    const ProtobufCMessageDescriptor *request;
    void (*on_open)(struct rpc_call *c);
    void (*on_message)(struct rpc_call *c, const ProtobufCMessage *m);
    void (*on_half_close)(struct rpc_call *c);
    void (*on_close)(struct rpc_call *c);
};

struct rpc_server *rpc_server_new(struct rpc_loop *l,
                                  const struct rpc_limits *limits);
/* methods is borrowed for the server's life. */
void rpc_server_add(struct rpc_server *s, const struct rpc_method *methods,
                    size_t n, void *service);
/*
 * Listen on "127.0.0.1:2379", "[::1]:0", "host:port". May be called several
 * times. Returns 0, or an errno; *port gets the bound port if not NULL.
 */
int rpc_server_listen(struct rpc_server *s, const char *address, int *port);
/*
 * Hand over connections that speak HTTP/1 instead of refusing them with 400:
 * fd is given, is non-blocking, and nothing was read from it yet.
 */
void rpc_server_set_http1(struct rpc_server *s,
                          void (*handler)(void *context, evutil_socket_t fd),
                          void *context);
/*
 * Say GOAWAY on every connection, stop listening, let open calls finish;
 * on_drained is called once the last is closed (maybe at once).
 */
void rpc_server_drain(struct rpc_server *s, void (*on_drained)(void *),
                      void *context);
void rpc_server_free(struct rpc_server *s); /* NULL is fine */

struct rpc_figures {
    uint64_t connections, connections_now, calls, calls_now;
    uint64_t bytes_in, bytes_out;
};
void rpc_server_get_figures(const struct rpc_server *s, struct rpc_figures *f);

void *rpc_call_service(const struct rpc_call *c);
/* "127.0.0.1:51234" */
const char *rpc_call_peer(const struct rpc_call *c);
/* clock_ms() at which the call's deadline passes; 0: it has none. */
uint64_t rpc_call_deadline(const struct rpc_call *c);

/* One message and status OK: the usual end of a unary call. c is gone. */
void rpc_call_reply(struct rpc_call *c, const ProtobufCMessage *m);
/*
 * End the call with that status. message may be NULL. c is gone: on_close will
 * not be called.
 */
void rpc_call_finish(struct rpc_call *c, enum grpc_code code,
                     const char *message);
void rpc_call_fail(struct rpc_call *c,
                   enum status st); /* finish by the table */

/* ---- client ------------------------------------------------------------ */

/*
 * on_message: a message of the answer, good during the call only.
 * on_close: the last callback; c is gone after it. code and text are the
 * server's, or UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, INTERNAL of our own
 * making. maybe_processed is false if the server certainly did not see the
 * request (never sent, refused, beyond GOAWAY's last stream): a retry is safe.
 */
struct rpc_call_events {
    void (*on_message)(struct rpc_call *c, const ProtobufCMessage *m);
    void (*on_close)(struct rpc_call *c, enum grpc_code code, const char *text,
                     bool maybe_processed);
};

/*
 * A connection to "host:port". It is opened by the first call and again, after
 * a loss, by the next one; calls started while it opens wait for it.
 * on_state (may be NULL) tells when the connection is up, and when it is lost
 * or could not be opened.
 */
struct rpc_channel_config {
    const char *address; /* copied */
    uint64_t connect_timeout_ms;
    struct rpc_limits limits;
    void (*on_state)(void *context, bool up, const char *reason);
    void *context;
};

struct rpc_channel *rpc_channel_new(struct rpc_loop *l,
                                    const struct rpc_channel_config *config);
/* Calls in flight get on_close(CANCELLED). NULL is fine. */
void rpc_channel_free(struct rpc_channel *ch);
bool rpc_channel_is_up(const struct rpc_channel *ch);

/*
 * Start a call. path, response, events: borrowed for the call's life; metadata
 * is copied. timeout_ms 0: no deadline. Never NULL; a failure comes through
 * on_close, never from inside this function.
 */
struct rpc_call *rpc_call_start(struct rpc_channel *ch, const char *path,
                                const ProtobufCMessageDescriptor *response,
                                const struct rpc_metadata *metadata,
                                size_t n_metadata, uint64_t timeout_ms,
                                const struct rpc_call_events *events,
                                void *context);
void rpc_call_half_close(struct rpc_call *c);
/* on_close(CANCELLED) comes before this returns. */
void rpc_call_cancel(struct rpc_call *c);

/* ---- both sides --------------------------------------------------------- */

/* Queue a message. It is encoded at once; m is borrowed for the call. */
void rpc_call_send(struct rpc_call *c, const ProtobufCMessage *m);
/* Bytes queued and not yet taken by the connection: back-pressure. */
size_t rpc_call_queued(const struct rpc_call *c);

/* The owner's pointer. Server side: NULL until set. */
void *rpc_call_context(const struct rpc_call *c);
void rpc_call_set_context(struct rpc_call *c, void *context);

/* Memory that lives as long as the call. */
struct arena *rpc_call_arena(struct rpc_call *c);

#endif
