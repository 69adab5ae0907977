/*
 * connection.c - one HTTP/2 connection that carries unary gRPC calls.
 */
#include "tests/bench/connection.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base.h"

enum {
    READ_SIZE = 256 * 1024,
    STREAM_WINDOW_SIZE = 4 << 20,
    CONNECTION_WINDOW_SIZE = 64 << 20,
};

struct connection {
    struct connection_config config;
    int fd; /* -1: closed */
    nghttp2_session *session;
    struct buffer out;
    bool is_up;        /* the server's settings have come */
    const char *error; /* of the last loss */
    struct request *requests;
    struct request *idle;
    size_t n_idle;
};

/* ---- places ------------------------------------------------------------- */

struct request *connection_take(struct connection *c)
{
    struct request *r = c->idle;

    if (r) {
        c->idle = r->next_idle;
        c->n_idle--;
    }
    return r;
}

void connection_give_back(struct connection *c, struct request *r)
{
    r->next_idle = c->idle;
    c->idle = r;
    c->n_idle++;
}

size_t connection_in_flight(const struct connection *c)
{
    return c->config.n_requests - c->n_idle;
}

static void request_end(struct request *r, enum outcome how)
{
    struct connection *c = r->connection;

    r->stream_id = 0;
    c->config.on_done(c->config.context, r, how);
}

/* Those in flight since before that time; UINT64_MAX: all. */
static void end_all(struct connection *c, uint64_t before_ns, enum outcome how)
{
    for (size_t i = 0; i < c->config.n_requests; i++) {
        struct request *r = &c->requests[i];

        if (r->stream_id == 0 || r->since_ns >= before_ns) {
            continue;
        }
        if (c->session) {
            nghttp2_session_set_stream_user_data(c->session, r->stream_id,
                                                 NULL);
            nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE,
                                      r->stream_id, NGHTTP2_CANCEL);
        }
        request_end(r, how);
    }
}

void connection_expire(struct connection *c, uint64_t before_ns)
{
    end_all(c, before_ns, OUTCOME_TIMEOUT);
}

/* ---- what nghttp2 calls ------------------------------------------------- */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    static const char status[] = "grpc-status";
    struct request *r;

    (void)flags;
    (void)context;
    if (name_size != sizeof(status) - 1 || memcmp(name, status, name_size)) {
        return 0;
    }
    r = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (r && value_size > 0) {
        r->grpc_status = value[0] - '0';
        if (value_size == 2) {
            r->grpc_status = 10 * r->grpc_status + value[1] - '0';
        }
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                   const uint8_t *data, size_t size, void *context)
{
    struct request *r =
        nghttp2_session_get_stream_user_data(session, stream_id);

    (void)flags;
    (void)data;
    (void)context;
    if (r) {
        r->answer_size += size;
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame,
                    void *context)
{
    struct connection *c = context;

    (void)session;
    if (frame->hd.type == NGHTTP2_SETTINGS) {
        c->is_up = true;
    }
    return 0;
}

static enum outcome request_outcome(const struct request *r)
{
    if (r->grpc_status < 0) {
        return OUTCOME_RESET;
    }
    if (r->grpc_status > 0) {
        return OUTCOME_STATUS;
    }
    return r->answer_size < r->answer_size_min ? OUTCOME_SHORT : OUTCOME_OK;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id,
                           uint32_t error, void *context)
{
    struct request *r =
        nghttp2_session_get_stream_user_data(session, stream_id);

    (void)error;
    (void)context;
    if (r) {
        request_end(r, request_outcome(r));
    }
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream_id,
                         uint8_t *to, size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *context)
{
    struct request *r = source->ptr;
    size_t left = r->body_size - r->body_sent;

    (void)session;
    (void)context;
    if (r->stream_id != stream_id) {
        /* Given up, and maybe in use for another call by now. */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    size = size < left ? size : left;
    memcpy(to, r->body + r->body_sent, size);
    r->body_sent += size;
    if (size == left) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)size;
}

/* ---- opening and losing ------------------------------------------------- */

static nghttp2_session *session_new(struct connection *c)
{
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_SIZE},
    };
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_session *session;

    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                              on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                           on_stream_close);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_no_http_messaging(option, 1);
    if (nghttp2_session_client_new2(&session, callbacks, c, option)) {
        abort(); /* out of memory */
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings,
                            ARRAY_LENGTH(settings));
    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                          CONNECTION_WINDOW_SIZE);
    return session;
}

static void connection_lose(struct connection *c, const char *reason)
{
    if (c->fd < 0) {
        return;
    }
    close(c->fd);
    c->fd = -1;
    c->is_up = false;
    c->error = reason;
    c->out.size = 0;
    nghttp2_session_del(c->session);
    c->session = NULL;
    end_all(c, UINT64_MAX, OUTCOME_LOST);
}

/* A socket on its way to "host:port", or -1. */
static int connect_to(const char *address, const char **reason)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    const char *colon = strrchr(address, ':');
    char *host =
        mem_printf("%.*s", (int)(colon ? colon - address : 0), address);
    int fd = -1, one = 1;
    int error = getaddrinfo(host, colon ? colon + 1 : NULL, &hints, &found);

    free(host);
    if (error) {
        *reason = gai_strerror(error);
        return -1;
    }
    fd =
        socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    if (fd < 0 || (connect(fd, found->ai_addr, found->ai_addrlen) &&
                   errno != EINPROGRESS)) {
        *reason = strerror(errno);
        if (fd >= 0) {
            close(fd);
        }
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

bool connection_open(struct connection *c, const char **reason)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                .data.ptr = c};

    ASSERT(c->fd < 0);
    c->fd = connect_to(c->config.address, reason);
    if (c->fd < 0) {
        c->error = *reason;
        return false;
    }
    c->session = session_new(c);
    if (epoll_ctl(c->config.epoll, EPOLL_CTL_ADD, c->fd, &event)) {
        abort();
    }
    return true;
}

bool connection_is_open(const struct connection *c)
{
    return c->fd >= 0;
}

bool connection_is_up(const struct connection *c)
{
    return c->is_up;
}

const char *connection_error(const struct connection *c)
{
    return c->error;
}

struct connection *connection_new(const struct connection_config *config)
{
    struct connection *c = mem_alloc(1, sizeof(*c));

    c->config = *config;
    c->fd = -1;
    c->requests = mem_alloc(config->n_requests, sizeof(*c->requests));
    for (size_t i = 0; i < config->n_requests; i++) {
        c->requests[i].connection = c;
        c->requests[i].body = mem_alloc(config->body_size_max, 1);
        connection_give_back(c, &c->requests[i]);
    }
    return c;
}

void connection_free(struct connection *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    nghttp2_session_del(c->session);
    for (size_t i = 0; i < c->config.n_requests; i++) {
        free(c->requests[i].body);
    }
    free(c->requests);
    buffer_release(&c->out);
    free(c);
}

/* ---- sending and receiving ---------------------------------------------- */

/* A header whose strings live as long as the connection. */
static nghttp2_nv header(const char *name, const char *value)
{
    nghttp2_nv nv = {(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value,
                     strlen(name), strlen(value),
                     NGHTTP2_NV_FLAG_NO_COPY_NAME |
                         NGHTTP2_NV_FLAG_NO_COPY_VALUE};

    return nv;
}

void connection_submit(struct connection *c, struct request *r)
{
    /* Those of a common gRPC client. */
    nghttp2_nv headers[] = {
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", op_path(r->op)),
        header(":authority", c->config.address),
        header("content-type", "application/grpc"),
        header("user-agent", "pawl-bench"),
        header("te", "trailers"),
    };
    nghttp2_data_provider body = {.source.ptr = r, .read_callback = read_body};

    ASSERT(c->is_up && r->stream_id == 0);
    r->body_sent = 0;
    r->answer_size = 0;
    r->grpc_status = -1;
    r->stream_id = nghttp2_submit_request(c->session, NULL, headers,
                                          ARRAY_LENGTH(headers), &body, r);
    ASSERT(r->stream_id > 0);
}

static int socket_error(const struct connection *c)
{
    int error = 0;
    socklen_t size = sizeof(error);

    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}

void connection_read(struct connection *c)
{
    static uint8_t data[READ_SIZE];

    while (c->fd >= 0) {
        ssize_t n = read(c->fd, data, sizeof(data));

        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
            return;
        }
        if (n <= 0) {
            connection_lose(c, n ? strerror(errno) : "closed by the server");
            return;
        }
        if (nghttp2_session_mem_recv(c->session, data, (size_t)n) != n) {
            connection_lose(c, "not HTTP/2");
            return;
        }
        if (!nghttp2_session_want_read(c->session)) {
            connection_lose(c, "GOAWAY");
            return;
        }
        if ((size_t)n < sizeof(data)) {
            return; /* drained; epoll tells when more comes */
        }
    }
}

/* Everything that nghttp2 wants to send, behind what is still queued. */
static void gather(struct connection *c)
{
    const uint8_t *data;
    ssize_t n;

    while ((n = nghttp2_session_mem_send(c->session, &data)) > 0) {
        buffer_append(&c->out, data, (size_t)n);
    }
}

void connection_flush(struct connection *c)
{
    if (c->fd < 0) {
        return;
    }
    gather(c);
    while (c->out.size > 0) {
        ssize_t n = send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            return; /* epoll tells */
        }
        if (n < 0) {
            int error = errno == EPIPE ? socket_error(c) : errno;

            connection_lose(c, strerror(error ? error : EPIPE));
            return;
        }
        buffer_consume(&c->out, (size_t)n);
    }
}
