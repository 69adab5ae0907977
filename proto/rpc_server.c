/*
 * rpc_server.c - listeners, methods, and requests that become calls.
 *
 * A request's headers are looked at as they come in; once they are complete it
 * is either refused with a Trailers-Only answer or has a method. A unary or
 * server-stream handler runs when the client has said all: then it is certain
 * that there was exactly one message.
 */
#include <errno.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/net.h"
#include "proto/rpc_internal.h"

#define BACKLOG 1024
#define INCOMPLETE_FACTOR 32 /* times message_bytes_max, on a connection */
#define ACCEPT_PAUSE_MS 100  /* out of file descriptors: let some be closed */

struct listener {
    LIST_ENTRY(listener) link;
    struct rpc_server *server;
    struct evconnlistener *ev;
};

struct server_connection {
    TAILQ_ENTRY(server_connection) link;
    struct rpc_server *server;
    struct h2 *h2;
    size_t charged; /* bytes of requests that are not complete */
    char peer[NET_NAME_BYTES];
};

struct rpc_server {
    struct rpc_loop *loop;
    struct rpc_limits limits;
    struct method_entry *methods; /* open addressing; .method NULL: free */
    size_t n_methods, n_slots;    /* n_slots: a power of two */
    LIST_HEAD(, listener) listeners;
    TAILQ_HEAD(, server_connection) connections;
    struct rpc_figures figures; /* bytes: of closed connections */
    struct timer accept_pause;
    void (*on_http1)(void *context, evutil_socket_t fd);
    void *http1_context;
    bool draining;
    void (*on_drained)(void *context);
    void *drain_context;
};

static const char context_passed[] = "context deadline exceeded";

/* ---- methods --------------------------------------------------------- */

static uint64_t hash_path(const uint8_t *data, size_t size)
{
    uint64_t h = size * UINT64_C(0x9e3779b97f4a7c15), word;

    while (size >= 8) {
        memcpy(&word, data, 8);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
        data += 8;
        size -= 8;
    }
    word = 0;
    memcpy(&word, data, size);
    h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
    return h ^ h >> 32;
}

/* The path's entry, or the free one where it would go. */
static struct method_entry *find_slot(const struct rpc_server *s,
                                      struct slice path, uint64_t hash)
{
    size_t i = hash & (s->n_slots - 1);

    while (s->methods[i].method != NULL) {
        struct method_entry *e = &s->methods[i];

        if (e->hash == hash && e->path_size == path.size &&
            memcmp(e->method->path, path.data, path.size) == 0) {
            return e;
        }
        i = (i + 1) & (s->n_slots - 1);
    }
    return &s->methods[i];
}

static const struct method_entry *find_method(const struct rpc_server *s,
                                              struct slice path)
{
    const struct method_entry *e =
        find_slot(s, path, hash_path(path.data, path.size));

    return e->method != NULL ? e : NULL;
}

static void grow_slots(struct rpc_server *s)
{
    struct method_entry *old = s->methods;
    size_t n_old = s->n_slots;

    s->n_slots = n_old > 0 ? 2 * n_old : 64;
    s->methods = mem_alloc(s->n_slots, sizeof(*s->methods));
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].method != NULL) {
            *find_slot(s, slice_of(old[i].method->path), old[i].hash) = old[i];
        }
    }
    free(old);
}

void rpc_server_add(struct rpc_server *s, const struct rpc_method *methods,
                    size_t n, void *service)
{
    for (size_t i = 0; i < n; i++) {
        struct slice path = slice_of(methods[i].path);
        uint64_t hash = hash_path(path.data, path.size);
        struct method_entry *e;

        if (2 * (s->n_methods + 1) > s->n_slots) {
            grow_slots(s);
        }
        e = find_slot(s, path, hash);
        ASSERT(e->method == NULL); /* each path once */
        *e = (struct method_entry){
            .method = &methods[i],
            .service = service,
            .path_size = path.size,
            .hash = hash,
        };
        s->n_methods++;
    }
}

/* ---- answers --------------------------------------------------------- */

static struct slice status_digits(enum grpc_code code)
{
    static const char digits[] = "0 1 2 3 4 5 6 7 8 9 10111213141516";

    ASSERT((unsigned)code <= 16);
    return (struct slice){(const uint8_t *)digits + 2 * (unsigned)code,
                          code < 10 ? 1 : 2};
}

/* grpc-status and, if there is one, grpc-message. Returns how many. */
static size_t make_trailers(struct rpc_call *c, struct h2_header *trailers,
                            enum grpc_code code, const char *text)
{
    size_t size = text != NULL ? strlen(text) : 0;
    char *encoded;

    trailers[0] =
        (struct h2_header){SLICE_LITERAL("grpc-status"), status_digits(code)};
    if (size == 0) {
        return 1;
    }
    encoded = arena_alloc(&c->arena, GRPC_PERCENT_BYTES(size));
    size = grpc_percent_encode(encoded, text, size);
    trailers[1] = (struct h2_header){SLICE_LITERAL("grpc-message"),
                                     {(const uint8_t *)encoded, size}};
    return 2;
}

static struct slice http_digits(int status)
{
    switch (status) {
    case 400:
        return SLICE_LITERAL("400");
    case 405:
        return SLICE_LITERAL("405");
    case 415:
        return SLICE_LITERAL("415");
    default:
        return SLICE_LITERAL("200");
    }
}

static size_t make_headers(const struct rpc_call *c, struct h2_header *headers,
                           int http_status)
{
    headers[0] =
        (struct h2_header){SLICE_LITERAL(":status"), http_digits(http_status)};
    headers[1] = (struct h2_header){SLICE_LITERAL("content-type"),
                                    c->content_type.size > 0
                                        ? c->content_type
                                        : SLICE_LITERAL("application/grpc")};
    return 2;
}

void server_call_send_headers(struct rpc_call *c)
{
    struct h2_header headers[2];

    h2_stream_headers(&c->stream, headers, make_headers(c, headers, 200),
                      false);
}

/* An answer without a message: everything in one HEADERS frame. */
static void send_trailers_only(struct rpc_call *c, int http_status,
                               enum grpc_code code, const char *text)
{
    struct h2_header headers[2 + H2_TRAILERS_MAX];
    size_t n = make_headers(c, headers, http_status);

    n += make_trailers(c, headers + n, code, text);
    h2_stream_headers(&c->stream, headers, n, true);
}

/* Put the end on the wire, whatever went before. */
static void send_end(struct rpc_call *c, enum grpc_code code, const char *text)
{
    struct h2_header trailers[H2_TRAILERS_MAX];

    if (!c->stream.headers_submitted) {
        send_trailers_only(c, 200, code, text);
        return;
    }
    h2_stream_end(&c->stream, trailers, make_trailers(c, trailers, code, text));
}

void rpc_call_finish(struct rpc_call *c, enum grpc_code code,
                     const char *message)
{
    ASSERT(c->connection != NULL);
    if (c->over) {
        return; /* from within on_close: too late to say anything */
    }
    c->over = true; /* the deadline stays: the answer may get stuck */
    send_end(c, code, message);
}

void rpc_call_reply(struct rpc_call *c, const ProtobufCMessage *m)
{
    if (c->stream.h2 != NULL && h2_is_overfull(c->stream.h2)) {
        rpc_call_finish(c, GRPC_RESOURCE_EXHAUSTED,
                        "pawl: too many bytes are queued for this client");
        return;
    }
    rpc_call_send(c, m);
    rpc_call_finish(c, GRPC_OK, NULL);
}

void rpc_call_fail(struct rpc_call *c, enum status st)
{
    rpc_call_finish(c, status_code(st), status_text(st));
}

/* The last callback, if the handler has heard of the call at all. */
static void tell_closed(struct rpc_call *c)
{
    c->over = true;
    if (c->started && c->entry->method->on_close != NULL) {
        c->entry->method->on_close(c);
    }
}

void server_call_abort(struct rpc_call *c, enum grpc_code code,
                       const char *text)
{
    send_end(c, code, text);
    tell_closed(c);
}

void server_call_deadline(struct rpc_call *c)
{
    /* What is queued did not get through in time; the status would not. */
    if (c->stream.headers_submitted && (rpc_call_queued(c) > 0 || c->over)) {
        h2_stream_reset(&c->stream, H2_CANCEL);
    } else if (!c->over) {
        send_end(c, GRPC_DEADLINE_EXCEEDED, context_passed);
    }
    if (!c->over) {
        tell_closed(c);
    }
}

/* ---- requests -------------------------------------------------------- */

static struct h2_stream *on_request(struct h2 *h2)
{
    struct server_connection *connection = h2_owner(h2);
    struct rpc_server *s = connection->server;
    struct rpc_call *c = call_new(s->loop);

    c->connection = connection;
    c->message_bytes_max = s->limits.message_bytes_max;
    s->figures.calls++;
    s->figures.calls_now++;
    return &c->stream;
}

static void set_bad(struct rpc_call *c, int http_status, const char *text)
{
    if (c->bad_status == 0) {
        c->bad_status = http_status;
        c->bad_text = text;
    }
}

static struct slice keep(struct rpc_call *c, struct slice s)
{
    return (struct slice){arena_copy(&c->arena, s.data, s.size), s.size};
}

static char *keep_text(struct rpc_call *c, struct slice s)
{
    char *text = arena_alloc(&c->arena, s.size + 1);

    memcpy(text, s.data, s.size);
    return text;
}

static bool ends_in_bin(struct slice name)
{
    return name.size > 4 && memcmp(name.data + name.size - 4, "-bin", 4) == 0;
}

/* Of several values joined by commas, the first. */
static void add_metadata(struct rpc_call *c, struct slice name,
                         struct slice value)
{
    struct metadata *m = arena_alloc(&c->arena, sizeof(*m));

    m->name = keep(c, name);
    if (!ends_in_bin(name)) {
        m->value = keep(c, value);
    } else {
        const uint8_t *comma =
            value.size > 0 ? memchr(value.data, ',', value.size) : NULL;
        uint8_t *raw = arena_alloc(&c->arena, value.size + 3);

        if (comma != NULL) {
            value.size = (size_t)(comma - value.data);
        }
        m->value.data = raw;
        if (!grpc_base64_decode(raw, &m->value.size, value)) {
            set_bad(c, 400,
                    arena_printf(&c->arena,
                                 "malformed binary metadata in header \"%s\"",
                                 keep_text(c, name)));
        }
    }
    m->next = c->metadata;
    c->metadata = m;
}

static void take_path(struct rpc_call *c, struct slice path)
{
    c->entry = find_method(c->connection->server, path);
    if (c->entry == NULL) {
        c->path = keep(c, path);
    }
}

static void take_content_type(struct rpc_call *c, struct slice value)
{
    const uint8_t *end;

    if (!grpc_is_content_type(value)) {
        set_bad(c, 415,
                arena_printf(&c->arena,
                             "invalid gRPC request content-type \"%s\"",
                             keep_text(c, value)));
        return;
    }
    end = memchr(value.data, ';', value.size);
    if (end != NULL) {
        value.size = (size_t)(end - value.data);
    }
    c->content_type = SLICE_IS(value, "application/grpc")
                          ? SLICE_LITERAL("application/grpc")
                          : keep(c, value);
}

static void take_timeout(struct rpc_call *c, struct slice value)
{
    uint64_t ms;

    if (!grpc_parse_timeout(value, &ms)) {
        set_bad(c, 400,
                arena_printf(&c->arena, "malformed grpc-timeout: \"%s\"",
                             keep_text(c, value)));
        return;
    }
    c->deadline_ms = clock_ms() + ms;
}

static void take_method(struct rpc_call *c, struct slice value)
{
    c->is_post = SLICE_IS(value, "POST");
    if (!c->is_post) {
        set_bad(c, 405,
                arena_printf(&c->arena,
                             "Received a HEADERS frame with :method \"%s\" "
                             "which should be POST",
                             keep_text(c, value)));
    }
}

/* What HTTP and gRPC keep for themselves: not metadata. */
static bool is_reserved(struct slice name)
{
    return name.data[0] == ':' || SLICE_IS(name, "te") ||
           SLICE_IS(name, "user-agent") || SLICE_IS(name, "grpc-encoding") ||
           SLICE_IS(name, "grpc-accept-encoding") ||
           SLICE_IS(name, "accept-encoding") ||
           SLICE_IS(name, "content-length") ||
           SLICE_IS(name, "grpc-message-type");
}

static void on_header(struct h2_stream *stream, struct slice name,
                      struct slice value)
{
    struct rpc_call *c = call_of(stream);

    if (c->receives != NULL || c->over) {
        return; /* trailers of a request mean nothing */
    }
    if (SLICE_IS(name, ":path")) {
        take_path(c, value);
    } else if (SLICE_IS(name, ":method")) {
        take_method(c, value);
    } else if (SLICE_IS(name, "content-type")) {
        take_content_type(c, value);
    } else if (SLICE_IS(name, "grpc-timeout")) {
        take_timeout(c, value);
    } else if (SLICE_IS(name, "grpc-encoding") &&
               !SLICE_IS(value, "identity")) {
        c->encoding = keep(c, value);
    } else if (name.size > 0 && !is_reserved(name)) {
        add_metadata(c, name, value);
    }
}

static void refuse(struct rpc_call *c, int http_status, enum grpc_code code,
                   const char *text)
{
    c->over = true;
    send_trailers_only(c, http_status, code, text);
}

/* Text in double quotes with what does not print as an escape. */
static const char *quote(struct rpc_call *c, struct slice s)
{
    char *out = arena_alloc(&c->arena, 4 * s.size + 3), *at = out;

    *at++ = '"';
    for (size_t i = 0; i < s.size; i++) {
        uint8_t byte = s.data[i];

        if (byte == '"' || byte == '\\') {
            *at++ = '\\';
            *at++ = (char)byte;
        } else if (byte >= 0x20 && byte < 0x7f) {
            *at++ = (char)byte;
        } else {
            at += snprintf(at, 5, "\\x%02x", byte);
        }
    }
    *at++ = '"';
    return out;
}

/* "/etcdserverpb.KV/" of some method. */
static bool knows_service(const struct rpc_server *s, struct slice prefix)
{
    for (size_t i = 0; i < s->n_slots; i++) {
        const struct rpc_method *m = s->methods[i].method;

        if (m != NULL && strlen(m->path) > prefix.size &&
            memcmp(m->path, prefix.data, prefix.size) == 0 &&
            strchr(m->path + prefix.size, '/') == NULL) {
            return true;
        }
    }
    return false;
}

static void refuse_path(struct rpc_call *c)
{
    size_t last = c->path.size;
    const char *path, *text;
    int service_size;

    while (last > 0 && c->path.data[last - 1] != '/') {
        last--;
    }
    if (last < 2) {
        text = arena_printf(&c->arena, "malformed method name: %s",
                            quote(c, c->path));
        refuse(c, 200, GRPC_UNIMPLEMENTED, text);
        return;
    }
    path = keep_text(c, c->path);
    service_size = (int)last - 2;
    if (knows_service(c->connection->server,
                      (struct slice){c->path.data, last})) {
        text = arena_printf(&c->arena, "unknown method %s for service %.*s",
                            path + last, service_size, path + 1);
    } else {
        text = arena_printf(&c->arena, "unknown service %.*s", service_size,
                            path + 1);
    }
    refuse(c, 200, GRPC_UNIMPLEMENTED, text);
}

/* True if the request was refused for what stands in its headers. */
static bool refuse_headers(struct rpc_call *c)
{
    if (c->stream.headers_too_large) {
        refuse(c, 200, GRPC_RESOURCE_EXHAUSTED,
               "pawl: the request's headers are too large");
    } else if (c->bad_status != 0) {
        refuse(c, c->bad_status,
               c->bad_status == 415 ? GRPC_INVALID_ARGUMENT : GRPC_INTERNAL,
               c->bad_text);
    } else if (c->content_type.size == 0) {
        refuse(c, 415, GRPC_INVALID_ARGUMENT,
               "invalid gRPC request content-type \"\"");
    } else if (c->entry == NULL) {
        refuse_path(c);
    } else if (c->encoding.size > 0) {
        refuse(c, 200, GRPC_UNIMPLEMENTED,
               arena_printf(&c->arena,
                            "grpc: Decompressor is not installed for "
                            "grpc-encoding %s",
                            quote(c, c->encoding)));
    } else if (c->deadline_ms != 0 && c->deadline_ms <= clock_ms()) {
        refuse(c, 200, GRPC_DEADLINE_EXCEEDED, context_passed);
    }
    return c->over;
}

static void on_headers(struct h2_stream *stream, bool trailers)
{
    struct rpc_call *c = call_of(stream);
    const struct rpc_method *m;

    if (trailers || refuse_headers(c)) {
        return;
    }
    m = c->entry->method;
    c->receives = m->request;
    if (c->deadline_ms != 0) {
        call_set_deadline(c, c->deadline_ms);
    }
    if (m->client_streams) {
        c->started = true;
        if (m->on_open != NULL) {
            m->on_open(c);
        }
    }
}

static void on_data(struct h2_stream *stream, const uint8_t *data, size_t size)
{
    struct rpc_call *c = call_of(stream);

    if (!c->over) {
        call_receive(c, data, size);
    }
}

/*
 * What a client has sent and cannot be handled yet takes memory, on as many
 * streams as it likes.
 */
void server_call_charge(struct rpc_call *c, size_t size)
{
    struct server_connection *connection = c->connection;

    c->charged += size;
    connection->charged += size;
    if (connection->charged / INCOMPLETE_FACTOR >
        connection->server->limits.message_bytes_max) {
        call_abort(c, GRPC_RESOURCE_EXHAUSTED,
                   "pawl: too many incomplete requests on this connection");
    }
}

void server_call_discharge(struct rpc_call *c)
{
    c->connection->charged -= c->charged;
    c->charged = 0;
}

static void fail_unmarshal(struct rpc_call *c)
{
    call_abort(c, GRPC_INTERNAL,
               "grpc: failed to unmarshal the received message: proto: cannot "
               "parse invalid wire-format data");
}

void server_call_deliver(struct rpc_call *c, const uint8_t *data, size_t size)
{
    const struct rpc_method *m = c->entry->method;
    struct arena *scratch = &c->loop->scratch;
    ProtobufCMessage *message;

    server_call_discharge(c);
    if (!m->client_streams) {
        if (c->request != NULL) {
            call_abort(c, GRPC_INTERNAL,
                       "cardinality violation: received multiple request "
                       "messages for non-client-streaming RPC");
            return;
        }
        c->request = call_decode(c, &c->arena, data, size);
        if (c->request == NULL) {
            fail_unmarshal(c);
        } else {
            server_call_charge(c, size); /* until its stream ends */
        }
        return;
    }
    message = call_decode(c, scratch, data, size);
    if (message == NULL) {
        fail_unmarshal(c);
    } else if (m->on_message != NULL) {
        m->on_message(c, message);
    }
    arena_reset(scratch);
}

static void on_end(struct h2_stream *stream)
{
    struct rpc_call *c = call_of(stream);
    const struct rpc_method *m;

    if (c->over) {
        return;
    }
    m = c->entry->method;
    server_call_discharge(c);
    if (c->in.size > 0) {
        call_abort(c, GRPC_INTERNAL, "unexpected EOF");
    } else if (m->client_streams) {
        if (m->on_half_close != NULL) {
            m->on_half_close(c);
        }
    } else if (c->request == NULL) {
        call_abort(c, GRPC_INTERNAL,
                   "cardinality violation: received no request message from "
                   "non-client-streaming RPC");
    } else {
        c->started = true;
        if (m->on_message != NULL) {
            m->on_message(c, c->request);
        }
    }
}

static void on_closed(struct h2_stream *stream, uint32_t error)
{
    struct rpc_call *c = call_of(stream);

    (void)error;
    if (!c->over) {
        tell_closed(c);
    }
    server_call_discharge(c);
    c->connection->server->figures.calls_now--;
    call_release(c);
}

void *rpc_call_service(const struct rpc_call *c)
{
    return c->entry->service;
}

const char *rpc_call_peer(const struct rpc_call *c)
{
    return c->connection->peer;
}

/* ---- connections
 * -------------------------------------------------------------- */

static void remove_connection(struct server_connection *connection)
{
    struct rpc_server *s = connection->server;
    const struct h2_counts *counts = h2_counts(connection->h2);

    s->figures.connections_now--;
    s->figures.bytes_in += counts->bytes_in;
    s->figures.bytes_out += counts->bytes_out;
    TAILQ_REMOVE(&s->connections, connection, link);
    free(connection);
}

static void tell_drained(struct rpc_server *s)
{
    void (*on_drained)(void *) = s->on_drained;

    if (s->draining && TAILQ_EMPTY(&s->connections) && on_drained != NULL) {
        s->on_drained = NULL;
        on_drained(s->drain_context);
    }
}

static void on_lost(struct h2 *h2, const char *reason)
{
    struct server_connection *connection = h2_owner(h2);
    struct rpc_server *s = connection->server;

    (void)reason;
    remove_connection(connection);
    tell_drained(s);
}

static void on_goaway(struct h2 *h2)
{
    (void)h2; /* the client will close once it has its answers */
}

static void on_http1(struct h2 *h2, evutil_socket_t fd)
{
    struct server_connection *connection = h2_owner(h2);
    struct rpc_server *s = connection->server;

    s->on_http1(s->http1_context, fd);
}

static const struct h2_events events = {
    .on_request = on_request,
    .on_header = on_header,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_end = on_end,
    .on_closed = on_closed,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
};

/* For a server that knows what to do with HTTP/1. */
static const struct h2_events events_http1 = {
    .on_request = on_request,
    .on_header = on_header,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_end = on_end,
    .on_closed = on_closed,
    .on_goaway = on_goaway,
    .on_http1 = on_http1,
    .on_lost = on_lost,
};

void rpc_server_set_http1(struct rpc_server *s,
                          void (*handler)(void *context, evutil_socket_t fd),
                          void *context)
{
    s->on_http1 = handler;
    s->http1_context = context;
}

void server_accept(struct rpc_server *s, evutil_socket_t fd,
                   const struct sockaddr *address)
{
    struct server_connection *connection;
    struct h2_config config = {
        .events = s->on_http1 != NULL ? &events_http1 : &events,
        .streams_max = s->limits.streams_max,
        .header_bytes_max = s->limits.header_bytes_max,
        .send_bytes_max = s->limits.send_bytes_max,
        .ping_interval_ms = s->limits.ping_interval_ms,
        .ping_timeout_ms = s->limits.ping_timeout_ms,
        .handshake_ms = s->limits.handshake_ms,
    };

    if (s->figures.connections_now >= s->limits.connections_max) {
        evutil_closesocket(fd);
        return;
    }
    net_set_nodelay(fd);
    connection = mem_alloc(1, sizeof(*connection));
    connection->server = s;
    net_format(connection->peer, address);
    config.owner = connection;
    connection->h2 = h2_new_server(&s->loop->h2, &config, fd);
    TAILQ_INSERT_TAIL(&s->connections, connection, link);
    s->figures.connections++;
    s->figures.connections_now++;
}

static void on_accept(struct evconnlistener *ev, evutil_socket_t fd,
                      struct sockaddr *address, int size, void *context)
{
    struct listener *l = context;

    (void)ev;
    (void)size;
    server_accept(l->server, fd, address);
}

/* Level-triggered, a listener that cannot accept would spin. */
static void on_accept_error(struct evconnlistener *ev, void *context)
{
    struct listener *l = context;
    struct rpc_server *s = l->server;

    evconnlistener_disable(ev);
    timers_set(&s->loop->h2.timers, &s->accept_pause,
               clock_ms() + ACCEPT_PAUSE_MS);
}

static void on_accept_pause(struct timer *t)
{
    struct rpc_server *s =
        (struct rpc_server *)((char *)t -
                              offsetof(struct rpc_server, accept_pause));
    struct listener *l;

    LIST_FOREACH(l, &s->listeners, link)
    {
        evconnlistener_enable(l->ev);
    }
}

/* ---- the server
 * ------------------------------------------------------------------ */

void rpc_limits_defaults(struct rpc_limits *l)
{
    *l = (struct rpc_limits){
        .message_bytes_max = 2097152,
        .header_bytes_max = (size_t)64 << 10,
        .streams_max = UINT32_MAX,
        .connections_max = 10000,
        .send_bytes_max = (size_t)64 << 20,
        .ping_interval_ms = UINT64_C(2) * 3600 * 1000,
        .ping_timeout_ms = 20000,
        .handshake_ms = 10000,
    };
}

struct rpc_server *rpc_server_new(struct rpc_loop *l,
                                  const struct rpc_limits *limits)
{
    struct rpc_server *s = mem_alloc(1, sizeof(*s));

    s->loop = l;
    s->limits = *limits;
    s->accept_pause.fire = on_accept_pause;
    LIST_INIT(&s->listeners);
    TAILQ_INIT(&s->connections);
    grow_slots(s);
    return s;
}

static int listen_on(struct rpc_server *s, const struct addrinfo *ai, int *port)
{
    evutil_socket_t fd;
    struct listener *l;
    int error = net_listen(ai, BACKLOG, &fd, port);

    if (error != 0) {
        return error;
    }
    l = mem_alloc(1, sizeof(*l));
    l->server = s;
    l->ev = evconnlistener_new(rpc_loop_base(s->loop), on_accept, l,
                               LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0,
                               fd);
    if (l->ev == NULL) {
        abort();
    }
    evconnlistener_set_error_cb(l->ev, on_accept_error);
    LIST_INSERT_HEAD(&s->listeners, l, link);
    return 0;
}

int rpc_server_listen(struct rpc_server *s, const char *address, int *port)
{
    struct addrinfo *ai = NULL;
    int error = net_resolve(address, NET_LISTEN, &ai);

    if (error == 0) {
        error = listen_on(s, ai, port);
    }
    net_free(ai);
    return error;
}

static void stop_listening(struct rpc_server *s)
{
    struct listener *l;

    timers_cancel(&s->loop->h2.timers, &s->accept_pause);
    while ((l = LIST_FIRST(&s->listeners)) != NULL) {
        LIST_REMOVE(l, link);
        evconnlistener_free(l->ev);
        free(l);
    }
}

void rpc_server_drain(struct rpc_server *s, void (*on_drained)(void *),
                      void *context)
{
    struct server_connection *connection;

    s->draining = true;
    s->on_drained = on_drained;
    s->drain_context = context;
    stop_listening(s);
    TAILQ_FOREACH(connection, &s->connections, link)
    {
        h2_drain(connection->h2);
    }
    tell_drained(s);
}

void rpc_server_free(struct rpc_server *s)
{
    struct server_connection *connection;

    if (s == NULL) {
        return;
    }
    stop_listening(s);
    while ((connection = TAILQ_FIRST(&s->connections)) != NULL) {
        h2_free(connection->h2);
        TAILQ_REMOVE(&s->connections, connection, link);
        free(connection);
    }
    free(s->methods);
    free(s);
}

void rpc_server_get_figures(const struct rpc_server *s, struct rpc_figures *f)
{
    const struct server_connection *connection;

    *f = s->figures;
    TAILQ_FOREACH(connection, &s->connections, link)
    {
        const struct h2_counts *counts = h2_counts(connection->h2);

        f->bytes_in += counts->bytes_in;
        f->bytes_out += counts->bytes_out;
    }
}
