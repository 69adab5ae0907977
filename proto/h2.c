/*
 * h2.c - an HTTP/2 session on a non-blocking socket.
 *
 *   server: PREFACE --24 right bytes--> OPEN ---> gone
 *              |-----HTTP/1 request---> LINGER -> gone
 *              `-----HTTP/1 request---> the owner's, if it takes such
 *   client: CONNECTING --connected----> OPEN ---> gone
 *
 * PREFACE     nothing is known of the peer yet; there is no session
 * CONNECTING  connect() is under way; there is no session
 * OPEN        a session; the client's is up once the server's SETTINGS came
 * LINGER      refused with a text; discards input until the peer has read it
 *
 * Input is read once a wake-up into the loop's buffer and goes through nghttp2
 * to the owner. Output is pulled out of nghttp2 into the loop's other buffer
 * and written at once; what the socket does not take stays in rest, and nothing
 * more is pulled before it is gone: so the streams, not the connection, hold
 * what cannot be sent, and control frames never wait behind much data.
 */
#include "proto/h2.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 << 10)
#define WRITE_BYTES ((size_t)128 << 10)
#define SLICE_BYTES ((size_t)16 << 10) /* of input between looks at queued */
#define FRAME_BYTES_MAX ((size_t)64 << 10) /* what mem_send gives at once */
#define WRITES_MAX 8 /* of one connection in a flush: others want to live */
#define WINDOW_BYTES (1 << 20)
#define REFUSE_FACTOR 2   /* times send_bytes_max queued: nothing new */
#define HOPELESS_FACTOR 4 /* times send_bytes_max queued: no use going on */
#define STREAM_ID_MAX 0x7ffffff0u /* and then a new connection */

static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_BYTES (sizeof(preface) - 1)

static const char http1_answer[] =
    "HTTP/1.1 400 Bad Request\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 46\r\n"
    "Connection: close\r\n"
    "\r\n"
    "This port speaks gRPC (HTTP/2 in clear text).\n";

enum h2_state { H2_CONNECTING, H2_PREFACE, H2_OPEN, H2_LINGER };

struct h2 {
    struct h2_loop *loop;
    struct h2_config config;
    enum h2_state state;
    bool server;
    bool up;          /* client: the server's SETTINGS came */
    bool dirty;       /* in loop->dirty */
    bool draining;    /* no new streams, by either side's wish */
    bool drain_ping;  /* a drain waits for its ping to come back */
    bool paused;      /* not reading: the socket does not take our bytes */
    bool stuck;       /* over the limit: the peer does not open its windows */
    bool pinged;      /* a keepalive ping is out */
    bool write_armed; /* waiting for the socket */
    evutil_socket_t fd;
    struct event *readable, *writable;
    nghttp2_session *session;
    size_t preface_seen;
    TAILQ_HEAD(, h2_stream) streams;
    size_t n_streams;
    size_t queued;      /* bytes in the streams' out */
    struct buffer rest; /* written but not taken by the socket */
    size_t rest_start;
    struct timer timer;  /* handshake, then keepalive */
    uint64_t active_ms;  /* the last input */
    struct buffer held;  /* read, but not yet fed to the session */
    size_t header_bytes; /* of the block that is coming in */
    const char *doom;    /* why it is to be closed at the next flush, or NULL */
    struct h2_counts counts;
    TAILQ_ENTRY(h2) dirty_link;
};

static void lose(struct h2 *c, const char *reason);

/* ---- the socket: the two places to put TLS into ---------------------- */

/* Bytes read; 0: nothing now; -1: errno says why, 0 is the peer's end. */
static ssize_t socket_read(struct h2 *c, uint8_t *data, size_t size)
{
    ssize_t n;

    do {
        n = recv(c->fd, data, size, 0);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        c->counts.bytes_in += (uint64_t)n;
        return n;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (n == 0) {
        errno = 0;
    }
    return -1;
}

/* Bytes taken, maybe 0; -1: errno says why. */
static ssize_t socket_write(struct h2 *c, const uint8_t *data, size_t size)
{
    ssize_t n;

    do {
        n = send(c->fd, data, size, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (n > 0) {
        c->counts.bytes_out += (uint64_t)n;
    }
    return n;
}

/* ---- output ---------------------------------------------------------- */

static void mark_dirty(struct h2 *c)
{
    if (!c->dirty) {
        c->dirty = true;
        TAILQ_INSERT_TAIL(&c->loop->dirty, c, dirty_link);
    }
}

static void arm_write(struct h2 *c)
{
    if (!c->write_armed) {
        c->write_armed = true;
        event_add(c->writable, NULL);
    }
}

/*
 * Over the limit, and the socket takes no more: what the peer asks for next
 * would only queue up as well, so we do not read it. If only its windows are
 * closed we must go on reading, for they are opened by frames: then new
 * requests are refused instead (stuck). A client never pauses: were both
 * ends to wait for the other to read, they would wait for ever.
 */
static void update_pause(struct h2 *c, bool socket_is_full)
{
    bool congested = h2_is_congested(c);
    bool pause = c->server && congested && socket_is_full;

    c->stuck = congested && !socket_is_full;
    if (pause == c->paused) {
        return;
    }
    c->paused = pause;
    if (pause) {
        event_del(c->readable);
        return;
    }
    event_add(c->readable, NULL);
    if (c->held.size > 0) {
        event_active(c->readable, EV_READ, 0);
    }
}

/*
 * A burst may pass send_bytes_max before it can be written. nghttp2 itself
 * refuses what is beyond streams_max.
 */
static bool takes_requests(const struct h2 *c)
{
    return !(c->stuck && h2_is_congested(c)) && !h2_is_overfull(c);
}

/* Pull frames out of the session. 0: there are none; -1: out of memory. */
static ssize_t gather(struct h2 *c, uint8_t *out)
{
    size_t n = 0;

    while (n < WRITE_BYTES) {
        const uint8_t *data;
        ssize_t size = nghttp2_session_mem_send(c->session, &data);

        if (size < 0) {
            return -1;
        }
        if (size == 0) {
            break;
        }
        ASSERT((size_t)size <= FRAME_BYTES_MAX);
        memcpy(out + n, data, (size_t)size);
        n += (size_t)size;
    }
    return (ssize_t)n;
}

/* Write; keep what the socket does not take. False: the connection broke. */
static bool write_or_keep(struct h2 *c, const uint8_t *data, size_t size)
{
    ssize_t n = socket_write(c, data, size);

    if (n < 0) {
        return false;
    }
    if ((size_t)n < size) {
        buffer_append(&c->rest, data + n, size - (size_t)n);
        arm_write(c);
    }
    return true;
}

static bool write_rest(struct h2 *c)
{
    ssize_t n = socket_write(c, c->rest.data + c->rest_start,
                             c->rest.size - c->rest_start);

    if (n < 0) {
        return false;
    }
    if (n > 0) {
        c->active_ms = clock_ms(); /* taking bytes is a sign of life, too */
    }
    c->rest_start += (size_t)n;
    if (c->rest_start < c->rest.size) {
        arm_write(c);
        return true;
    }
    /* A rest is rare: hold no memory for it. */
    buffer_release(&c->rest);
    c->rest_start = 0;
    mark_dirty(c);
    return true;
}

static bool is_over(const struct h2 *c)
{
    return c->session != NULL && c->rest.size == 0 &&
           !nghttp2_session_want_read(c->session) &&
           !nghttp2_session_want_write(c->session);
}

static void flush(struct h2 *c)
{
    int writes = 0;

    if (c->doom != NULL) {
        lose(c, c->doom);
        return;
    }
    while (c->session != NULL && c->rest.size == 0) {
        ssize_t n;

        if (writes++ == WRITES_MAX) {
            arm_write(c);
            break;
        }
        n = gather(c, c->loop->write_buffer);
        if (n < 0) {
            lose(c, "the HTTP/2 session failed");
            return;
        }
        if (n == 0) {
            break;
        }
        if (!write_or_keep(c, c->loop->write_buffer, (size_t)n)) {
            lose(c, strerror(errno));
            return;
        }
        if ((size_t)n < WRITE_BYTES) {
            break;
        }
    }
    update_pause(c, c->write_armed);
    if (is_over(c)) {
        lose(c, c->draining ? "drained" : "protocol error");
    }
}

void h2_loop_flush(struct h2_loop *l)
{
    struct h2 *c;

    while ((c = TAILQ_FIRST(&l->dirty)) != NULL) {
        TAILQ_REMOVE(&l->dirty, c, dirty_link);
        c->dirty = false;
        flush(c);
    }
}

/* ---- streams --------------------------------------------------------- */

static void add_stream(struct h2 *c, struct h2_stream *s, int32_t id)
{
    ASSERT(s->h2 == NULL);
    s->h2 = c;
    s->id = id;
    TAILQ_INSERT_TAIL(&c->streams, s, link);
    c->n_streams++;
}

static void drop_output(struct h2_stream *s)
{
    s->h2->queued -= s->out.size - s->out_start;
    s->out.size = 0;
    s->out_start = 0;
}

/* The stream is over: the owner may reuse s from within on_closed. */
static void close_stream(struct h2_stream *s, uint32_t error)
{
    struct h2 *c = s->h2;

    drop_output(s);
    TAILQ_REMOVE(&c->streams, s, link);
    c->n_streams--;
    s->h2 = NULL;
    c->config.events->on_closed(s, error);
}

/* nghttp2 promises not to change what it sends. */
static nghttp2_nv to_nv(const struct h2_header *h)
{
    return (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)h->name.data,
        .namelen = h->name.size,
        .value = (uint8_t *)(uintptr_t)h->value.data,
        .valuelen = h->value.size,
        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,
    };
}

static void submit_trailers(struct h2_stream *s)
{
    nghttp2_nv nv[H2_TRAILERS_MAX];

    for (size_t i = 0; i < s->n_trailers; i++) {
        nv[i] = to_nv(&s->trailers[i]);
    }
    (void)nghttp2_submit_trailer(s->h2->session, s->id, nv, s->n_trailers);
}

static ssize_t read_output(nghttp2_session *session, int32_t id, uint8_t *out,
                           size_t size, uint32_t *flags,
                           nghttp2_data_source *source, void *context)
{
    struct h2_stream *s = source->ptr;
    size_t n = s->out.size - s->out_start;

    (void)session;
    (void)id;
    (void)context;
    if (n == 0 && !s->ended) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > size) {
        n = size;
    }
    memcpy(out, s->out.data + s->out_start, n);
    s->out_start += n;
    s->h2->queued -= n;
    if (s->out_start < s->out.size) {
        return (ssize_t)n;
    }
    s->out.size = 0;
    s->out_start = 0;
    if (s->ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->n_trailers > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(s);
        }
    }
    return (ssize_t)n;
}

static size_t fill_nv(nghttp2_nv *nv, const struct h2_header *headers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        nv[i] = to_nv(&headers[i]);
    }
    return n;
}

#define RESPONSE_HEADERS_MAX 8

void h2_stream_headers(struct h2_stream *s, const struct h2_header *headers,
                       size_t n, bool end)
{
    nghttp2_nv nv[RESPONSE_HEADERS_MAX];
    nghttp2_data_provider provider = {.source.ptr = s,
                                      .read_callback = read_output};

    ASSERT(!s->headers_submitted && n <= RESPONSE_HEADERS_MAX);
    if (s->h2 == NULL || s->h2->session == NULL) {
        return;
    }
    s->headers_submitted = true;
    s->ended = end;
    fill_nv(nv, headers, n);
    (void)nghttp2_submit_response(s->h2->session, s->id, nv, n,
                                  end ? NULL : &provider);
    mark_dirty(s->h2);
}

/* Something new is in out, or nothing more will be. */
static void wake(struct h2_stream *s)
{
    if (s->deferred) {
        s->deferred = false;
        (void)nghttp2_session_resume_data(s->h2->session, s->id);
    }
    mark_dirty(s->h2);
}

uint8_t *h2_stream_reserve(struct h2_stream *s, size_t size)
{
    uint8_t *room;

    ASSERT(!s->ended);
    if (s->out_start > s->out.size / 2) {
        buffer_consume(&s->out, s->out_start);
        s->out_start = 0;
    }
    buffer_reserve(&s->out, size);
    room = s->out.data + s->out.size;
    s->out.size += size;
    if (s->h2 != NULL) {
        s->h2->queued += size;
        if (s->h2->queued / HOPELESS_FACTOR > s->h2->config.send_bytes_max) {
            s->h2->doom = "too much is queued for the peer";
        }
        wake(s);
    }
    return room;
}

void h2_stream_end(struct h2_stream *s, const struct h2_header *trailers,
                   size_t n)
{
    ASSERT(n <= H2_TRAILERS_MAX);
    if (s->ended) {
        return;
    }
    s->ended = true;
    s->n_trailers = n;
    for (size_t i = 0; i < n; i++) {
        s->trailers[i] = trailers[i];
    }
    if (s->h2 != NULL) {
        wake(s);
    }
}

void h2_stream_reset(struct h2_stream *s, enum h2_error error)
{
    if (s->h2 == NULL || s->reset) {
        return;
    }
    s->reset = true;
    drop_output(s);
    (void)nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id,
                                    (uint32_t)error);
    mark_dirty(s->h2);
}

void h2_stream_release(struct h2_stream *s)
{
    ASSERT(s->h2 == NULL);
    buffer_release(&s->out);
}

/* ---- nghttp2's callbacks --------------------------------------------- */

static struct h2_stream *find_stream(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session,
                            const nghttp2_frame *frame, void *context)
{
    struct h2 *c = context;
    struct h2_stream *s = NULL;

    c->header_bytes = 0;
    if (!c->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    if (takes_requests(c)) {
        s = c->config.events->on_request(c);
    }
    if (s == NULL) {
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE,
                                        frame->hd.stream_id,
                                        NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    add_stream(c, s, frame->hd.stream_id);
    (void)nghttp2_session_set_stream_user_data(session, s->id, s);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    struct h2 *c = context;
    struct h2_stream *s = find_stream(session, frame->hd.stream_id);

    (void)flags;
    if (s == NULL) {
        return 0;
    }
    /* 32 is what HTTP/2 adds for each field when it counts. */
    c->header_bytes += name_size + value_size + 32;
    if (c->header_bytes > c->config.header_bytes_max) {
        s->headers_too_large = true;
    } else {
        c->config.events->on_header(s, (struct slice){name, name_size},
                                    (struct slice){value, value_size});
    }
    return 0;
}

static void end_remote(struct h2 *c, struct h2_stream *s)
{
    if (!s->remote_ended) {
        s->remote_ended = true;
        c->config.events->on_end(s);
    }
}

static void start_keepalive(struct h2 *c)
{
    timers_cancel(&c->loop->timers, &c->timer);
    if (c->config.ping_interval_ms > 0) {
        timers_set(&c->loop->timers, &c->timer,
                   c->active_ms + c->config.ping_interval_ms);
    }
}

static void on_settings(struct h2 *c)
{
    if (c->server || c->up) {
        return;
    }
    c->up = true;
    start_keepalive(c);
    c->config.events->on_up(c);
}

/*
 * The notice of a drain has reached the peer, so every stream that it opened
 * before it knew is here: name the last one.
 */
static void finish_drain(struct h2 *c)
{
    c->drain_ping = false;
    (void)nghttp2_submit_goaway(
        c->session, NGHTTP2_FLAG_NONE,
        nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR,
        NULL, 0);
}

static void on_header_frame(struct h2 *c, struct h2_stream *s,
                            const nghttp2_frame *frame)
{
    c->config.events->on_headers(s, frame->headers.cat == NGHTTP2_HCAT_HEADERS);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame,
                    void *context)
{
    struct h2 *c = context;
    struct h2_stream *s;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        s = find_stream(session, frame->hd.stream_id);
        if (s == NULL) {
            break;
        }
        if (frame->hd.type == NGHTTP2_HEADERS) {
            on_header_frame(c, s, frame);
        }
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            end_remote(c, s);
        }
        break;
    case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
            on_settings(c);
        }
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && c->drain_ping) {
            finish_drain(c);
        }
        break;
    case NGHTTP2_GOAWAY:
        if (!c->server) {
            c->draining = true;
        }
        c->config.events->on_goaway(c);
        break;
    default:
        break;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id,
                   const uint8_t *data, size_t size, void *context)
{
    struct h2 *c = context;
    struct h2_stream *s = find_stream(session, id);

    (void)flags;
    if (s != NULL) {
        c->config.events->on_data(s, data, size);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error,
                           void *context)
{
    struct h2_stream *s = find_stream(session, id);

    (void)context;
    if (s != NULL) {
        close_stream(s, error);
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame,
                         void *context)
{
    struct h2 *c = context;
    struct h2_stream *s;

    if (frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }
    s = find_stream(session, frame->hd.stream_id);
    if (s == NULL) {
        return 0;
    }
    s->headers_sent = true;
    /* We answered before the client had said all: it may stop talking. */
    if (c->server && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
        !s->remote_ended) {
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id,
                                        NGHTTP2_NO_ERROR);
    }
    return 0;
}

static nghttp2_session_callbacks *new_callbacks(void)
{
    nghttp2_session_callbacks *cb;

    if (nghttp2_session_callbacks_new(&cb) != 0) {
        abort();
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb,
                                                            on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    return cb;
}

static void *alloc_cb(size_t size, void *pool)
{
    return pool_alloc(pool, size);
}

static void free_cb(void *block, void *pool)
{
    pool_free(pool, block);
}

static void *calloc_cb(size_t n, size_t size, void *pool)
{
    ASSERT(size == 0 || n <= SIZE_MAX / size);
    return memset(pool_alloc(pool, n * size), 0, n * size);
}

static void *realloc_cb(void *block, size_t size, void *pool)
{
    return pool_realloc(pool, block, size);
}

static nghttp2_mem *new_memory(struct pool *pool)
{
    nghttp2_mem *memory = mem_alloc(1, sizeof(*memory));

    pool_init(pool);
    *memory = (nghttp2_mem){.mem_user_data = pool,
                            .malloc = alloc_cb,
                            .free = free_cb,
                            .calloc = calloc_cb,
                            .realloc = realloc_cb};
    return memory;
}

void h2_loop_init(struct h2_loop *l, struct event_base *base)
{
    nghttp2_option *option;

    *l = (struct h2_loop){.base = base};
    timers_init(&l->timers, base);
    TAILQ_INIT(&l->dirty);
    l->read_buffer = mem_alloc(READ_BYTES, 1);
    l->write_buffer = mem_alloc(WRITE_BYTES + FRAME_BYTES_MAX, 1);
    l->callbacks = new_callbacks();
    l->memory = new_memory(&l->pool);
    if (nghttp2_option_new(&option) != 0) {
        abort();
    }
    /* We never look at priorities of closed streams. */
    nghttp2_option_set_no_closed_streams(option, 1);
    /* gRPC's rules are checked in rpc_server.c and rpc_channel.c; HTTP's, of
     * names and lengths of fields that we do not read, cost a tenth of all. */
    nghttp2_option_set_no_http_messaging(option, 1);
    l->option = option;
}

void h2_loop_release(struct h2_loop *l)
{
    ASSERT(TAILQ_EMPTY(&l->dirty));
    timers_release(&l->timers);
    free(l->read_buffer);
    free(l->write_buffer);
    nghttp2_session_callbacks_del(l->callbacks);
    nghttp2_option_del(l->option);
    free(l->memory);
    pool_release(&l->pool);
}

/* ---- connections ----------------------------------------------------- */

static void open_session(struct h2 *c)
{
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
         (uint32_t)c->config.header_bytes_max},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
         c->config.streams_max < UINT32_MAX ? (uint32_t)c->config.streams_max
                                            : UINT32_MAX},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    size_t n = ARRAY_LENGTH(settings);
    int rv;

    if (c->server) {
        n--; /* push is the client's to forbid */
        rv = nghttp2_session_server_new3(&c->session, c->loop->callbacks, c,
                                         c->loop->option, c->loop->memory);
    } else {
        rv = nghttp2_session_client_new3(&c->session, c->loop->callbacks, c,
                                         c->loop->option, c->loop->memory);
    }
    if (rv != 0 ||
        nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, n) ||
        nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                              WINDOW_BYTES)) {
        abort(); /* memory */
    }
    c->state = H2_OPEN;
    mark_dirty(c);
}

static void release(struct h2 *c)
{
    struct h2_stream *s;

    timers_cancel(&c->loop->timers, &c->timer);
    c->draining = true;
    while ((s = TAILQ_FIRST(&c->streams)) != NULL) {
        close_stream(s, H2_LOST);
    }
    if (c->dirty) {
        TAILQ_REMOVE(&c->loop->dirty, c, dirty_link);
    }
    event_free(c->readable);
    event_free(c->writable);
    nghttp2_session_del(c->session);
    buffer_release(&c->rest);
    buffer_release(&c->held);
    if (c->fd >= 0) {
        evutil_closesocket(c->fd);
    }
}

static void lose(struct h2 *c, const char *reason)
{
    release(c);
    c->config.events->on_lost(c, reason);
    free(c);
}

void h2_free(struct h2 *c)
{
    release(c);
    free(c);
}

/* A method, or as much of it as there is. */
static bool looks_like_http1(const uint8_t *data, size_t size)
{
    size_t i = 0;

    while (i < size && data[i] >= 'A' && data[i] <= 'Z') {
        i++;
    }
    return i > 0 && (i == size || data[i] == ' ');
}

/* The socket goes to the owner; c is gone. */
static void hand_over(struct h2 *c)
{
    evutil_socket_t fd = c->fd;

    c->fd = -1;
    c->config.events->on_http1(c, fd);
    lose(c, "handed over");
}

/* Looks without reading: the owner wants the socket untouched. */
static bool is_for_owner(struct h2 *c)
{
    uint8_t data[PREFACE_BYTES];
    ssize_t n;

    if (c->config.events->on_http1 == NULL || c->preface_seen > 0) {
        return false;
    }
    n = recv(c->fd, data, sizeof(data), MSG_PEEK);
    return n > 0 && memcmp(data, preface, (size_t)n) != 0 &&
           looks_like_http1(data, (size_t)n);
}

/* A last word to a peer that speaks something else. */
static void refuse_http1(struct h2 *c)
{
    (void)socket_write(c, (const uint8_t *)http1_answer,
                       sizeof(http1_answer) - 1);
    (void)shutdown(c->fd, SHUT_WR);
    c->state = H2_LINGER; /* closing now could destroy the answer under way */
}

/*
 * Until the first 24 bytes are right the peer costs us next to nothing.
 * Returns false if the connection is lost.
 */
static bool check_preface(struct h2 *c, const uint8_t *data, size_t size)
{
    size_t n = PREFACE_BYTES - c->preface_seen;

    if (n > size) {
        n = size;
    }
    if (memcmp(data, &preface[c->preface_seen], n) == 0) {
        c->preface_seen += n;
        return true;
    }
    /* "PRI" or a part of it may stand before the difference. */
    if (c->preface_seen > 0 || looks_like_http1(data, size)) {
        refuse_http1(c);
        return true;
    }
    lose(c, "not HTTP/2");
    return false;
}

/* What the session still has to say, if the socket takes it at once. */
static void say_last_words(struct h2 *c)
{
    if (c->rest.size == 0) {
        ssize_t n = gather(c, c->loop->write_buffer);

        if (n > 0) {
            (void)socket_write(c, c->loop->write_buffer, (size_t)n);
        }
    }
}

/* What came in already must wait until the answers to it are written. */
static void hold_input(struct h2 *c, const uint8_t *data, size_t size)
{
    buffer_append(&c->held, data, size);
    c->paused = true;
    event_del(c->readable);
    mark_dirty(c);
}

/*
 * In slices: a burst of small requests for large answers must not queue up all
 * of them before the first is written. Returns false if the connection is
 * lost.
 */
static bool feed(struct h2 *c, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t slice = size < SLICE_BYTES ? size : SLICE_BYTES;
        ssize_t n;

        if (c->server && h2_is_congested(c) && !c->stuck) {
            hold_input(c, data, size);
            break;
        }
        n = nghttp2_session_mem_recv(c->session, data, slice);
        if (n < 0) {
            say_last_words(c);
            lose(c, nghttp2_strerror((int)n));
            return false;
        }
        data += slice;
        size -= slice;
    }
    if (nghttp2_session_want_write(c->session) ||
        !nghttp2_session_want_read(c->session)) {
        mark_dirty(c);
    }
    return true;
}

static void receive_first(struct h2 *c, const uint8_t *data, size_t size)
{
    size_t seen = c->preface_seen;

    if (!check_preface(c, data, size) || c->preface_seen < PREFACE_BYTES) {
        return;
    }
    data += PREFACE_BYTES - seen;
    size -= PREFACE_BYTES - seen;
    open_session(c);
    start_keepalive(c);
    if (feed(c, preface, PREFACE_BYTES) && size > 0) {
        (void)feed(c, data, size);
    }
}

static void feed_held(struct h2 *c)
{
    struct buffer held = c->held;

    c->held = (struct buffer){0};
    (void)feed(c, held.data, held.size);
    buffer_release(&held);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct h2 *c = context;
    uint8_t *data = c->loop->read_buffer;
    ssize_t n;

    (void)fd;
    (void)what;
    if (c->held.size > 0) {
        feed_held(c);
        return;
    }
    if (c->state == H2_PREFACE && is_for_owner(c)) {
        hand_over(c);
        return;
    }
    n = socket_read(c, data, READ_BYTES);
    if (n < 0) {
        lose(c, errno != 0 ? strerror(errno) : "closed by the peer");
        return;
    }
    if (n == 0) {
        return;
    }
    c->active_ms = clock_ms();
    if (c->pinged) {
        c->pinged = false;
        start_keepalive(c);
    }
    if (c->state == H2_OPEN) {
        (void)feed(c, data, (size_t)n);
    } else if (c->state == H2_PREFACE) {
        receive_first(c, data, (size_t)n);
    }
}

static void finish_connect(struct h2 *c)
{
    int error = 0;
    socklen_t size = sizeof(error);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error != 0) {
        lose(c, strerror(error));
        return;
    }
    event_add(c->readable, NULL);
    open_session(c);
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
    struct h2 *c = context;

    (void)fd;
    (void)what;
    c->write_armed = false;
    if (c->state == H2_CONNECTING) {
        finish_connect(c);
        return;
    }
    if (c->rest.size == 0) {
        mark_dirty(c);
        return;
    }
    if (!write_rest(c)) {
        lose(c, strerror(errno));
    }
}

/* Nothing was heard for a while, or a state lasted too long. */
static void on_timer(struct timer *t)
{
    struct h2 *c = (struct h2 *)((char *)t - offsetof(struct h2, timer));
    uint64_t now = clock_ms();
    uint64_t silent_ms = now - c->active_ms;

    if (c->state != H2_OPEN || (!c->server && !c->up)) {
        lose(c, "the handshake timed out");
        return;
    }
    if (c->drain_ping) {
        finish_drain(c);
        mark_dirty(c);
    }
    if (silent_ms < c->config.ping_interval_ms) {
        start_keepalive(c);
        return;
    }
    if (c->pinged) {
        lose(c, "no answer to a ping");
        return;
    }
    c->pinged = true;
    (void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
    mark_dirty(c);
    timers_set(&c->loop->timers, &c->timer, now + c->config.ping_timeout_ms);
}

static struct h2 *new_connection(struct h2_loop *l,
                                 const struct h2_config *config,
                                 evutil_socket_t fd)
{
    struct h2 *c = mem_alloc(1, sizeof(*c));

    c->loop = l;
    c->config = *config;
    c->fd = fd;
    c->active_ms = clock_ms();
    c->timer.fire = on_timer;
    TAILQ_INIT(&c->streams);
    c->readable = event_new(l->base, fd, EV_READ | EV_PERSIST, on_readable, c);
    c->writable = event_new(l->base, fd, EV_WRITE, on_writable, c);
    if (c->readable == NULL || c->writable == NULL) {
        abort();
    }
    if (config->handshake_ms > 0) {
        timers_set(&l->timers, &c->timer, c->active_ms + config->handshake_ms);
    }
    return c;
}

struct h2 *h2_new_server(struct h2_loop *l, const struct h2_config *config,
                         evutil_socket_t fd)
{
    struct h2 *c = new_connection(l, config, fd);

    c->server = true;
    c->state = H2_PREFACE;
    event_add(c->readable, NULL);
    return c;
}

struct h2 *h2_new_client(struct h2_loop *l, const struct h2_config *config,
                         evutil_socket_t fd)
{
    struct h2 *c = new_connection(l, config, fd);

    c->state = H2_CONNECTING;
    arm_write(c);
    return c;
}

void *h2_owner(const struct h2 *c)
{
    return c->config.owner;
}

size_t h2_streams(const struct h2 *c)
{
    return c->n_streams;
}

bool h2_is_congested(const struct h2 *c)
{
    return c->queued > c->config.send_bytes_max;
}

bool h2_is_overfull(const struct h2 *c)
{
    return c->queued / REFUSE_FACTOR > c->config.send_bytes_max;
}

const struct h2_counts *h2_counts(const struct h2 *c)
{
    return &c->counts;
}

bool h2_has_room(const struct h2 *c)
{
    return c->n_streams <
           nghttp2_session_get_remote_settings(
               c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

#define REQUEST_HEADERS_FEW 24

bool h2_request(struct h2 *c, struct h2_stream *s,
                const struct h2_header *headers, size_t n)
{
    nghttp2_nv few[REQUEST_HEADERS_FEW], *nv = few;
    nghttp2_data_provider provider = {.source.ptr = s,
                                      .read_callback = read_output};
    int32_t id;

    if (c->draining || c->session == NULL ||
        nghttp2_session_get_next_stream_id(c->session) > STREAM_ID_MAX) {
        return false;
    }
    if (n > REQUEST_HEADERS_FEW) {
        nv = mem_alloc(n, sizeof(*nv));
    }
    fill_nv(nv, headers, n);
    id = nghttp2_submit_request(c->session, NULL, nv, n, &provider, s);
    if (nv != few) {
        free(nv);
    }
    if (id < 0) {
        return false;
    }
    s->headers_submitted = true;
    add_stream(c, s, id);
    c->queued += s->out.size - s->out_start;
    mark_dirty(c);
    return true;
}

void h2_drain(struct h2 *c)
{
    if (c->draining) {
        return;
    }
    c->draining = true;
    mark_dirty(c);
    if (c->session == NULL) {
        c->doom = "drained";
        return;
    }
    (void)nghttp2_submit_shutdown_notice(c->session);
    (void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
    c->drain_ping = true;
    timers_set(&c->loop->timers, &c->timer,
               clock_ms() + c->config.ping_timeout_ms);
}
