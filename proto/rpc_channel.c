/*
 * rpc_channel.c - a client's side: connecting, and calls that become requests.
 *
 * A channel has at most one connection that takes new calls. Calls wait in its
 * list while that connection opens, or while the server lets no more through;
 * they belong to one attempt to connect and fail with it. A connection that
 * was told GOAWAY is retired: its calls go on, new ones open another.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/lookup.h"
#include "proto/net.h"
#include "proto/rpc_internal.h"

struct channel_connection {
    LIST_ENTRY(channel_connection) link;
    struct rpc_channel *channel;
    struct h2 *h2;
};

struct rpc_channel {
    struct rpc_loop *loop;
    struct rpc_channel_config config;            /* address: our copy */
    struct channel_connection *current;          /* opening or up; NULL: none */
    LIST_HEAD(, channel_connection) connections; /* current and retired */
    struct lookup *lookup;                       /* of the address, under way */
    struct addrinfo *addresses, *next; /* found; next: to try if this fails */
    struct call_list waiting;
    uint64_t attempt; /* counts connections */
    bool up;          /* current can take calls */
    bool freeing;
    struct timer fail; /* the lookup's deadline, or to report that connecting
                          failed at once */
    char fail_reason[128];
};

/* ---- the end of a call ----------------------------------------------- */

static void stop_waiting(struct rpc_call *c)
{
    if (c->waiting) {
        c->waiting = false;
        TAILQ_REMOVE(&c->channel->waiting, c, link);
    }
}

/* The last callback; after it the call goes, now or with its stream. */
static void end_call(struct rpc_call *c, enum grpc_code code, const char *text,
                     bool maybe_processed)
{
    ASSERT(!c->over);
    c->over = true;
    stop_waiting(c);
    timers_cancel(&c->loop->h2.timers, &c->deadline);
    if (c->events->on_close != NULL) {
        c->events->on_close(c, code, text, maybe_processed);
    }
    if (c->stream.h2 == NULL) {
        call_release(c);
    }
}

/* We end it: the server need not go on. */
void channel_call_abort(struct rpc_call *c, enum grpc_code code,
                        const char *text)
{
    bool sent = c->stream.headers_sent;

    h2_stream_reset(&c->stream, H2_CANCEL);
    end_call(c, code, text, sent);
}

void rpc_call_cancel(struct rpc_call *c)
{
    ASSERT(c->channel != NULL);
    call_abort(c, GRPC_CANCELLED, "context canceled");
}

/* ---- answers
 * ------------------------------------------------------------------ */

static int parse_number(struct slice s, int max)
{
    int n = 0;

    if (s.size == 0) {
        return -1;
    }
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] < '0' || s.data[i] > '9') {
            return -1;
        }
        n = 10 * n + (s.data[i] - '0');
        if (n > max) {
            return -1;
        }
    }
    return n;
}

static void on_header(struct h2_stream *stream, struct slice name,
                      struct slice value)
{
    struct rpc_call *c = call_of(stream);
    char *text;

    if (SLICE_IS(name, ":status")) {
        c->http_status = parse_number(value, 999);
    } else if (SLICE_IS(name, "grpc-status")) {
        c->grpc_status = parse_number(value, 16);
        if (c->grpc_status < 0) {
            c->grpc_status = GRPC_UNKNOWN;
        }
    } else if (SLICE_IS(name, "grpc-message") && c->text == NULL) {
        text = arena_alloc(&c->arena, value.size + 1);
        grpc_percent_decode(text, (const char *)value.data, value.size);
        c->text = text;
    } else if (SLICE_IS(name, "content-type")) {
        c->content_type = grpc_is_content_type(value)
                              ? SLICE_LITERAL("application/grpc")
                              : (struct slice){0};
    }
}

static void on_headers(struct h2_stream *stream, bool trailers)
{
    struct rpc_call *c = call_of(stream);
    char text[64];

    if (c->over || trailers || c->grpc_status >= 0 ||
        (c->http_status == 200 && c->content_type.size > 0)) {
        return;
    }
    if (c->http_status >= 100 && c->http_status < 200) {
        return; /* the answer proper follows */
    }
    snprintf(text, sizeof(text), "not a gRPC answer: HTTP status %d",
             c->http_status);
    channel_call_abort(c, GRPC_UNKNOWN, text);
}

static void on_data(struct h2_stream *stream, const uint8_t *data, size_t size)
{
    struct rpc_call *c = call_of(stream);

    if (!c->over) {
        call_receive(c, data, size);
    }
}

void channel_call_deliver(struct rpc_call *c, const uint8_t *data, size_t size)
{
    struct arena *scratch = &c->loop->scratch;
    ProtobufCMessage *message = call_decode(c, scratch, data, size);

    if (message == NULL) {
        channel_call_abort(c, GRPC_INTERNAL,
                           "grpc: failed to unmarshal the received message");
    } else if (c->events->on_message != NULL) {
        c->events->on_message(c, message);
    }
    arena_reset(scratch);
}

/* The server has said all, in good order. */
static void on_end(struct h2_stream *stream)
{
    struct rpc_call *c = call_of(stream);

    if (c->over) {
        return;
    }
    if (!stream->ended) {
        h2_stream_reset(stream, H2_CANCEL); /* nobody listens any more */
    }
    if (c->grpc_status < 0) {
        end_call(c, GRPC_INTERNAL, "the stream ended without a status", true);
    } else if (c->grpc_status == GRPC_OK && c->in.size > 0) {
        end_call(c, GRPC_INTERNAL, "unexpected EOF", true);
    } else {
        end_call(c, (enum grpc_code)c->grpc_status,
                 c->text != NULL ? c->text : "", true);
    }
}

static void pump(struct rpc_channel *ch);

/* What RST_STREAM stands for. */
static enum grpc_code code_of(uint32_t error)
{
    switch (error) {
    case H2_LOST:
    case H2_REFUSED_STREAM:
        return GRPC_UNAVAILABLE;
    case H2_CANCEL:
        return GRPC_CANCELLED;
    case H2_ENHANCE_YOUR_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case H2_INADEQUATE_SECURITY:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

static void tell_closed(struct rpc_call *c, uint32_t error)
{
    bool maybe = c->stream.headers_sent && error != H2_REFUSED_STREAM;
    char text[80];

    if (c->channel->freeing) {
        end_call(c, GRPC_CANCELLED, "the channel was closed", maybe);
    } else if (error == H2_LOST) {
        end_call(c, GRPC_UNAVAILABLE, "the connection was lost", maybe);
    } else {
        snprintf(text, sizeof(text),
                 "the stream was reset with HTTP/2 error %u", error);
        end_call(c, code_of(error), text, maybe);
    }
}

static void on_closed(struct h2_stream *stream, uint32_t error)
{
    struct rpc_call *c = call_of(stream);
    struct rpc_channel *ch = c->channel;

    if (c->over) {
        call_release(c);
    } else {
        tell_closed(c, error);
    }
    if (error != H2_LOST) {
        pump(ch);
    }
}

/* ---- requests
 * ------------------------------------------------------------------- */

#define REQUEST_HEADERS 7 /* without the caller's metadata */

static struct h2_header header(const char *name, const char *value)
{
    return (struct h2_header){slice_of(name), slice_of(value)};
}

/* False: the connection takes no more requests. */
static bool send_request(struct rpc_call *c, struct h2 *h2)
{
    size_t n = 0;
    struct h2_header *headers =
        arena_alloc(&c->arena, (REQUEST_HEADERS + c->n_request_metadata) *
                                   sizeof(*headers));
    char timeout[GRPC_TIMEOUT_BYTES];
    uint64_t now;

    headers[n++] = header(":method", "POST");
    headers[n++] = header(":scheme", "http");
    headers[n++] = header(":path", c->request_path);
    headers[n++] = header(":authority", c->channel->config.address);
    headers[n++] = header("te", "trailers");
    headers[n++] = header("content-type", "application/grpc");
    if (c->deadline_ms != 0) {
        now = clock_ms();
        grpc_format_timeout(timeout,
                            c->deadline_ms > now ? c->deadline_ms - now : 1);
        headers[n++] = (struct h2_header){
            SLICE_LITERAL("grpc-timeout"),
            {arena_copy(&c->arena, timeout, sizeof(timeout)), strlen(timeout)}};
    }
    for (size_t i = 0; i < c->n_request_metadata; i++) {
        headers[n++] = c->request_metadata[i];
    }
    return h2_request(h2, &c->stream, headers, n);
}

static void wait_in(struct rpc_channel *ch, struct rpc_call *c)
{
    c->waiting = true;
    c->attempt = ch->attempt;
    TAILQ_INSERT_TAIL(&ch->waiting, c, link);
}

/* ---- connections
 * ----------------------------------------------------------------- */

static void tell_state(struct rpc_channel *ch, bool up, const char *reason)
{
    if (ch->config.on_state != NULL) {
        ch->config.on_state(ch->config.context, up, reason);
    }
}

static void forget_addresses(struct rpc_channel *ch)
{
    net_free(ch->addresses);
    ch->addresses = ch->next = NULL;
}

static void stop_lookup(struct rpc_channel *ch)
{
    if (ch->lookup != NULL) {
        lookup_cancel(ch->lookup);
        ch->lookup = NULL;
    }
}

/* Calls of this attempt and before will not get through. */
static void fail_waiting(struct rpc_channel *ch, uint64_t attempt,
                         const char *reason)
{
    struct rpc_call *c;

    while ((c = TAILQ_FIRST(&ch->waiting)) != NULL && c->attempt <= attempt) {
        end_call(c, ch->freeing ? GRPC_CANCELLED : GRPC_UNAVAILABLE, reason,
                 false);
    }
}

/* This attempt to connect is over; the next call makes another. */
static void fail_attempt(struct rpc_channel *ch, const char *reason)
{
    uint64_t attempt = ch->attempt++;

    ch->current = NULL;
    ch->up = false;
    forget_addresses(ch);
    tell_state(ch, false, reason);
    fail_waiting(ch, attempt, reason);
}

static void on_fail(struct timer *t)
{
    struct rpc_channel *ch =
        (struct rpc_channel *)((char *)t - offsetof(struct rpc_channel, fail));

    stop_lookup(ch);
    fail_attempt(ch, ch->fail_reason);
}

/* Later, for a call is being started. fail_reason says why. */
static void fail_soon(struct rpc_channel *ch, uint64_t wait_ms)
{
    timers_set(&ch->loop->h2.timers, &ch->fail, clock_ms() + wait_ms);
}

/* The current connection takes no new calls. */
static void retire(struct rpc_channel *ch, const char *reason)
{
    ch->current = NULL;
    ch->up = false;
    tell_state(ch, false, reason);
}

static void on_up(struct h2 *h2)
{
    struct channel_connection *connection = h2_owner(h2);
    struct rpc_channel *ch = connection->channel;

    if (ch->current == connection) {
        ch->up = true;
        tell_state(ch, true, NULL);
        pump(ch);
    }
}

static void connect_if_needed(struct rpc_channel *ch);
static bool try_next_address(struct rpc_channel *ch);

static void on_goaway(struct h2 *h2)
{
    struct channel_connection *connection = h2_owner(h2);
    struct rpc_channel *ch = connection->channel;

    if (ch->current != connection) {
        return;
    }
    retire(ch, "the server is going away");
    if (!TAILQ_EMPTY(&ch->waiting)) {
        connect_if_needed(ch); /* they were never sent */
    }
}

static void on_lost(struct h2 *h2, const char *reason)
{
    struct channel_connection *connection = h2_owner(h2);
    struct rpc_channel *ch = connection->channel;
    bool current = ch->current == connection;

    LIST_REMOVE(connection, link);
    free(connection);
    if (!current) {
        return;
    }
    ch->current = NULL;
    if (ch->up || !try_next_address(ch)) {
        fail_attempt(ch, reason);
    }
}

static const struct h2_events events = {
    .on_header = on_header,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_end = on_end,
    .on_closed = on_closed,
    .on_up = on_up,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
};

void channel_adopt(struct rpc_channel *ch, evutil_socket_t fd)
{
    struct channel_connection *connection = mem_alloc(1, sizeof(*connection));
    const struct rpc_limits *limits = &ch->config.limits;
    struct h2_config config = {
        .events = &events,
        .owner = connection,
        .streams_max = 0, /* the server may not open any */
        .header_bytes_max = limits->header_bytes_max,
        .send_bytes_max = limits->send_bytes_max,
        .ping_interval_ms = limits->ping_interval_ms,
        .ping_timeout_ms = limits->ping_timeout_ms,
        .handshake_ms = ch->config.connect_timeout_ms,
    };

    connection->channel = ch;
    connection->h2 = h2_new_client(&ch->loop->h2, &config, fd);
    LIST_INSERT_HEAD(&ch->connections, connection, link);
    ch->current = connection;
}

/* False: there is none left that a connection could be begun to. */
static bool try_next_address(struct rpc_channel *ch)
{
    while (ch->next != NULL) {
        evutil_socket_t fd;
        int error = net_connect(ch->next, &fd);

        ch->next = ch->next->ai_next;
        if (error == 0) {
            channel_adopt(ch, fd);
            return true;
        }
        snprintf(ch->fail_reason, sizeof(ch->fail_reason), "%s",
                 strerror(error));
    }
    return false;
}

static void use_addresses(struct rpc_channel *ch, struct addrinfo *addresses)
{
    forget_addresses(ch);
    ch->addresses = ch->next = addresses;
    if (!try_next_address(ch)) {
        fail_soon(ch, 0);
    }
}

static void on_lookup(void *context, int error, struct addrinfo *result)
{
    struct rpc_channel *ch = context;

    ch->lookup = NULL;
    timers_cancel(&ch->loop->h2.timers, &ch->fail);
    if (error == 0) {
        use_addresses(ch, result);
    } else {
        snprintf(ch->fail_reason, sizeof(ch->fail_reason),
                 "the name lookup failed");
        fail_soon(ch, 0);
    }
}

static void look_up(struct rpc_channel *ch)
{
    ch->lookup = lookup_start(rpc_loop_base(ch->loop), ch->config.address,
                              on_lookup, ch);
    snprintf(ch->fail_reason, sizeof(ch->fail_reason), "%s",
             ch->lookup != NULL ? "the name lookup timed out"
                                : "the name lookup could not be started");
    if (ch->lookup == NULL || ch->config.connect_timeout_ms > 0) {
        fail_soon(ch, ch->lookup != NULL ? ch->config.connect_timeout_ms : 0);
    }
}

static void connect_if_needed(struct rpc_channel *ch)
{
    struct addrinfo *ai;
    int error;

    if (ch->freeing || ch->current != NULL || ch->lookup != NULL ||
        ch->fail.place != 0) {
        return; /* one is opening, or the last failure is to be told first */
    }
    error = net_resolve(ch->config.address, NET_NUMERIC, &ai);
    if (error == 0) {
        use_addresses(ch, ai);
    } else if (error == EADDRNOTAVAIL) {
        look_up(ch);
    } else {
        snprintf(ch->fail_reason, sizeof(ch->fail_reason), "bad address: %s",
                 strerror(error));
        fail_soon(ch, 0);
    }
}

/* Give waiting calls to the connection, as many as it takes. */
static void pump(struct rpc_channel *ch)
{
    struct rpc_call *c;

    while (ch->up && !ch->freeing && (c = TAILQ_FIRST(&ch->waiting)) != NULL &&
           h2_has_room(ch->current->h2)) {
        stop_waiting(c);
        if (send_request(c, ch->current->h2)) {
            continue;
        }
        c->waiting = true;
        TAILQ_INSERT_HEAD(&ch->waiting, c, link);
        retire(ch, "the connection takes no more calls");
        connect_if_needed(ch);
    }
}

/* ---- the channel
 * -------------------------------------------------------------------- */

struct rpc_channel *rpc_channel_new(struct rpc_loop *l,
                                    const struct rpc_channel_config *config)
{
    struct rpc_channel *ch = mem_alloc(1, sizeof(*ch));

    ch->loop = l;
    ch->config = *config;
    ch->config.address = mem_strdup(config->address);
    ch->fail.fire = on_fail;
    LIST_INIT(&ch->connections);
    TAILQ_INIT(&ch->waiting);
    return ch;
}

void rpc_channel_free(struct rpc_channel *ch)
{
    struct channel_connection *connection;

    if (ch == NULL) {
        return;
    }
    ch->freeing = true;
    ch->up = false;
    while ((connection = LIST_FIRST(&ch->connections)) != NULL) {
        h2_free(connection->h2);
        LIST_REMOVE(connection, link);
        free(connection);
    }
    fail_waiting(ch, UINT64_MAX, "the channel was closed");
    timers_cancel(&ch->loop->h2.timers, &ch->fail);
    stop_lookup(ch);
    forget_addresses(ch);
    free((char *)(uintptr_t)ch->config.address);
    free(ch);
}

bool rpc_channel_is_up(const struct rpc_channel *ch)
{
    return ch->up;
}

static void copy_metadata(struct rpc_call *c, const struct rpc_metadata *from,
                          size_t n)
{
    struct arena *a = &c->arena;

    c->n_request_metadata = n;
    c->request_metadata = arena_alloc(a, n * sizeof(*c->request_metadata));
    for (size_t i = 0; i < n; i++) {
        struct slice name = slice_of(from[i].name), value = from[i].value;
        struct h2_header *h = &c->request_metadata[i];

        h->name.data = arena_copy(a, name.data, name.size);
        h->name.size = name.size;
        if (name.size > 4 &&
            memcmp(name.data + name.size - 4, "-bin", 4) == 0) {
            char *text = arena_alloc(a, GRPC_BASE64_BYTES(value.size));

            h->value.size = grpc_base64_encode(text, value.data, value.size);
            h->value.data = (const uint8_t *)text;
        } else {
            h->value.data = arena_copy(a, value.data, value.size);
            h->value.size = value.size;
        }
    }
}

struct rpc_call *rpc_call_start(struct rpc_channel *ch, const char *path,
                                const ProtobufCMessageDescriptor *response,
                                const struct rpc_metadata *metadata,
                                size_t n_metadata, uint64_t timeout_ms,
                                const struct rpc_call_events *call_events,
                                void *context)
{
    struct rpc_call *c = call_new(ch->loop);

    c->channel = ch;
    c->request_path = path;
    c->receives = response;
    c->message_bytes_max = ch->config.limits.message_bytes_max;
    c->events = call_events;
    c->context = context;
    c->grpc_status = -1;
    if (n_metadata > 0) {
        copy_metadata(c, metadata, n_metadata);
    }
    if (timeout_ms > 0) {
        call_set_deadline(c, clock_ms() + timeout_ms);
    }
    wait_in(ch, c);
    connect_if_needed(ch);
    pump(ch);
    return c;
}

void rpc_call_half_close(struct rpc_call *c)
{
    ASSERT(c->channel != NULL);
    if (!c->over) {
        h2_stream_end(&c->stream, NULL, 0);
    }
}
