/*
 * h2.h - one HTTP/2 connection: socket, session, streams of bytes.
 *
 * Knows frames, headers and flow control and nothing of gRPC. What comes in
 * goes to the owner's struct h2_events at once; what goes out gathers until
 * h2_loop_flush(), which writes each connection that has something to say
 * once. h2.c is the only file that touches nghttp2.
 *
 * A connection may be lost in h2_loop_flush() and when its socket is read,
 * never inside a function below: these may be called from any event.
 */
#ifndef PAWL_H2_H
#define PAWL_H2_H

#include <event2/event.h>
#include <sys/queue.h>

#include "proto/base.h"
#include "proto/pool.h"
#include "proto/timers.h"

struct h2;

/* ---- what the connections of one thread share ------------------------ */

TAILQ_HEAD(h2_list, h2);

struct h2_loop {
    struct event_base *base;
    struct timers timers;
    struct h2_list dirty;              /* have output, or must be closed */
    uint8_t *read_buffer;              /* used during one wake-up at a time */
    uint8_t *write_buffer;             /* used during one flush at a time */
    struct pool pool;                  /* what nghttp2 allocates */
    void *callbacks, *option, *memory; /* nghttp2's */
};

void h2_loop_init(struct h2_loop *l, struct event_base *base);
void h2_loop_release(struct h2_loop *l);
void h2_loop_flush(struct h2_loop *l);

/* ---- streams --------------------------------------------------------- */

/* A header field to send. Both parts are copied or compressed at once. */
struct h2_header {
    struct slice name, value;
};

#define H2_TRAILERS_MAX 2

/*
 * Embedded in what the owner keeps for a request. Zero-initialised it belongs
 * to no connection.
 *
 *   our side:   nothing -> headers submitted -> [data] -> ended
 *   their side: open -> remote_ended
 */
struct h2_stream {
    struct h2 *h2; /* NULL: not on a connection, or the stream is closed */
    TAILQ_ENTRY(h2_stream) link;
    int32_t id;
    bool headers_submitted; /* ours are on their way */
    bool headers_sent;      /* and left for the socket's buffer */
    bool deferred;          /* the session waits for h2_stream_send() */
    bool ended;             /* nothing follows what is in out */
    bool remote_ended;      /* nothing follows from the peer */
    bool reset;             /* RST_STREAM is on its way */
    bool headers_too_large; /* header_bytes_max: some were left out */
    size_t n_trailers;      /* to send after out; 0: END_STREAM on DATA */
    struct h2_header trailers[H2_TRAILERS_MAX]; /* borrowed until closed */
    struct buffer out;                          /* to send */
    size_t out_start;                           /* of out: sent already */
};

/* on_closed's error if the connection is gone. Others are HTTP/2's. */
#define H2_LOST UINT32_MAX

/* HTTP/2's error codes that matter here (RFC 9113 §7). */
enum h2_error {
    H2_NO_ERROR = 0x0,
    H2_PROTOCOL_ERROR = 0x1,
    H2_INTERNAL_ERROR = 0x2,
    H2_REFUSED_STREAM = 0x7,
    H2_CANCEL = 0x8,
    H2_ENHANCE_YOUR_CALM = 0xb,
    H2_INADEQUATE_SECURITY = 0xc,
};

struct h2_events {
    /* Server: a request begins. Its stream, or NULL to refuse it. */
    struct h2_stream *(*on_request)(struct h2 *c);
    void (*on_header)(struct h2_stream *s, struct slice name,
                      struct slice value);
    /* The end of a header block: the first one, or trailers. */
    void (*on_headers)(struct h2_stream *s, bool trailers);
    void (*on_data)(struct h2_stream *s, const uint8_t *data, size_t size);
    /* The peer ended its side in good order. */
    void (*on_end)(struct h2_stream *s);
    /* The last of a stream. error: enum h2_error or H2_LOST. */
    void (*on_closed)(struct h2_stream *s, uint32_t error);
    /* Client: the server said hello. */
    void (*on_up)(struct h2 *c);
    /* The peer will take no new streams. */
    void (*on_goaway)(struct h2 *c);
    /*
     * Server, may be NULL: the peer speaks HTTP/1. fd is given, and nothing
     * was read from it. on_lost follows.
     */
    void (*on_http1)(struct h2 *c, evutil_socket_t fd);
    /* The last of a connection: its streams are closed, c is gone after it. */
    void (*on_lost)(struct h2 *c, const char *reason);
};

/*
 * Open the peer's ears: name/value pairs of n headers, then what is in out.
 * end: nothing at all follows (Trailers-Only).
 */
void h2_stream_headers(struct h2_stream *s, const struct h2_header *headers,
                       size_t n, bool end);
/* Room for size bytes at the end of out; to be filled in at once. */
uint8_t *h2_stream_reserve(struct h2_stream *s, size_t size);
/* Nothing follows. n trailers (server) are borrowed until on_closed. */
void h2_stream_end(struct h2_stream *s, const struct h2_header *trailers,
                   size_t n);
/* Drop what is queued and tell the peer. on_closed follows, later. */
void h2_stream_reset(struct h2_stream *s, enum h2_error error);
/* The owner's end: forget the buffer. Not while s->h2 is set. */
void h2_stream_release(struct h2_stream *s);

/* ---- connections ----------------------------------------------------- */

struct h2_config {
    const struct h2_events *events;
    void *owner;
    size_t streams_max; /* that the peer may open */
    size_t header_bytes_max;
    size_t send_bytes_max;
    uint64_t ping_interval_ms, ping_timeout_ms;
    uint64_t handshake_ms; /* server: to the preface; client: to on_up */
};

/* A connection that was accepted. Takes fd. */
struct h2 *h2_new_server(struct h2_loop *l, const struct h2_config *config,
                         evutil_socket_t fd);
/* A connection whose connect() is under way. Takes fd. */
struct h2 *h2_new_client(struct h2_loop *l, const struct h2_config *config,
                         evutil_socket_t fd);
/*
 * Closes at once; streams get on_closed(H2_LOST); no on_lost. Not from inside
 * an event.
 */
void h2_free(struct h2 *c);

void *h2_owner(const struct h2 *c);
size_t h2_streams(const struct h2 *c);    /* open now */
bool h2_is_congested(const struct h2 *c); /* over send_bytes_max */
bool h2_is_overfull(const struct h2 *c);  /* so far over it that no more
                                             should be queued */
const struct h2_counts {
    uint64_t bytes_in, bytes_out;
} * h2_counts(const struct h2 *c);

/*
 * Client: put s on the connection with its request headers. False: this
 * connection can take no more requests, ever.
 */
bool h2_request(struct h2 *c, struct h2_stream *s,
                const struct h2_header *headers, size_t n);
/* True if the peer lets another request through now. */
bool h2_has_room(const struct h2 *c);
/* Take no new streams, say so, close when the last one is done. */
void h2_drain(struct h2 *c);

#endif
