#include "raw_client.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/grpc.h"
#include "proto/net.h"

struct raw_stream *raw_stream(struct raw *raw, int32_t id)
{
    ck_assert_int_lt(id / 2, RAW_STREAMS);
    return &raw->streams[id / 2];
}

static bool is(const uint8_t *name, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(name, text, size) == 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    struct raw_stream *s = raw_stream(context, frame->hd.stream_id);
    char text[512];

    (void)session;
    (void)flags;
    snprintf(text, sizeof(text), "%.*s", (int)value_size, (const char *)value);
    if (is(name, name_size, ":status")) {
        s->http_status = (int)strtol(text, NULL, 10);
    } else if (is(name, name_size, "grpc-status")) {
        s->grpc_status = (int)strtol(text, NULL, 10);
    } else if (is(name, name_size, "grpc-message")) {
        snprintf(s->message, sizeof(s->message), "%s", text);
    } else if (is(name, name_size, "content-type")) {
        snprintf(s->content_type, sizeof(s->content_type), "%.60s", text);
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame,
                    void *context)
{
    struct raw *raw = context;
    struct raw_stream *s = raw_stream(raw, frame->hd.stream_id);

    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        s->n_blocks++;
        s->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
        break;
    case NGHTTP2_DATA:
        s->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
        break;
    case NGHTTP2_RST_STREAM:
        s->reset = true;
        s->reset_code = frame->rst_stream.error_code;
        break;
    case NGHTTP2_GOAWAY:
        raw->goaway = true;
        break;
    case NGHTTP2_SETTINGS:
        raw->settings = true;
        break;
    default:
        break;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id,
                   const uint8_t *data, size_t size, void *context)
{
    (void)session;
    (void)flags;
    buffer_append(&raw_stream(context, id)->data, data, size);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error,
                           void *context)
{
    (void)session;
    (void)error;
    raw_stream(context, id)->closed = true;
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *out,
                         size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *context)
{
    struct raw_stream *s = raw_stream(context, id);
    size_t n = s->body.size - s->body_start;

    (void)session;
    (void)source;
    if (n == 0 && !s->body_ends) {
        return NGHTTP2_ERR_DEFERRED;
    }
    n = n < size ? n : size;
    if (n > 0) {
        memcpy(out, s->body.data + s->body_start, n);
    }
    s->body_start += n;
    if (s->body_ends && s->body_start == s->body.size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

void raw_connect(struct raw *raw, struct world *w)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)w->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };

    *raw = (struct raw){.w = w};
    for (size_t i = 0; i < RAW_STREAMS; i++) {
        raw->streams[i].grpc_status = -1;
    }
    raw->fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(raw->fd, 0);
    ck_assert_int_eq(
        connect(raw->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    net_set_nodelay(raw->fd);
    ck_assert_int_eq(fcntl(raw->fd, F_SETFL, O_NONBLOCK), 0);
}

void raw_open(struct raw *raw, struct world *w)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *option;

    raw_connect(raw, w);
    nghttp2_session_callbacks_new(&cb);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_http_messaging(option, 1);
    nghttp2_session_client_new2(&raw->session, cb, raw, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(cb);
    nghttp2_submit_settings(raw->session, 0, NULL, 0);
}

void raw_close(struct raw *raw)
{
    for (size_t i = 0; i < RAW_STREAMS; i++) {
        buffer_release(&raw->streams[i].body);
        buffer_release(&raw->streams[i].data);
    }
    buffer_release(&raw->input);
    nghttp2_session_del(raw->session);
    close(raw->fd);
}

void raw_write(struct raw *raw, const void *data, size_t size)
{
    const uint8_t *at = data;

    while (size > 0 && !raw->eof) {
        ssize_t n = send(raw->fd, at, size, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            world_round(raw->w);
            continue;
        }
        if (n < 0) {
            raw->eof = true; /* the server has had enough */
            return;
        }
        at += n;
        size -= (size_t)n;
    }
}

static void receive(struct raw *raw)
{
    uint8_t data[65536];
    ssize_t n;

    while ((n = recv(raw->fd, data, sizeof(data), 0)) > 0) {
        if (raw->session == NULL) {
            buffer_append(&raw->input, data, (size_t)n);
        } else {
            ck_assert_int_eq(
                nghttp2_session_mem_recv(raw->session, data, (size_t)n), n);
        }
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        raw->eof = true;
    }
}

void raw_round(struct raw *raw)
{
    const uint8_t *data;
    ssize_t n;

    while (raw->session != NULL &&
           (n = nghttp2_session_mem_send(raw->session, &data)) > 0) {
        raw_write(raw, data, (size_t)n);
    }
    world_round(raw->w);
    receive(raw);
}

int32_t raw_request(struct raw *raw, const char *const *headers,
                    const void *body, size_t size, bool end)
{
    nghttp2_nv nv[32];
    nghttp2_data_provider provider = {.read_callback = read_body};
    size_t n = 0;
    int32_t id;
    struct raw_stream *s;

    for (; headers[2 * n] != NULL; n++) {
        const char *name = headers[2 * n], *value = headers[2 * n + 1];

        nv[n] = (nghttp2_nv){(uint8_t *)(uintptr_t)name,
                             (uint8_t *)(uintptr_t)value, strlen(name),
                             strlen(value), 0};
    }
    id = nghttp2_submit_request(raw->session, NULL, nv, n,
                                body == NULL && end ? NULL : &provider, NULL);
    ck_assert_int_gt(id, 0);
    s = raw_stream(raw, id);
    buffer_append(&s->body, body, size);
    s->body_ends = end;
    return id;
}

int32_t raw_post(struct raw *raw, const char *path, const void *body,
                 size_t size, bool end)
{
    const char *headers[] = {":method",    "POST",         ":scheme",
                             "http",       ":path",        path,
                             ":authority", "localhost",    "te",
                             "trailers",   "content-type", "application/grpc",
                             NULL};

    return raw_request(raw, headers, body, size, end);
}

void raw_more(struct raw *raw, int32_t id, const void *body, size_t size,
              bool end)
{
    struct raw_stream *s = raw_stream(raw, id);

    buffer_append(&s->body, body, size);
    s->body_ends = end;
    nghttp2_session_resume_data(raw->session, id);
}

void raw_message(struct buffer *b, const char *key, size_t key_size,
                 int64_t limit)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    size_t size;

    request.key.data = (uint8_t *)(uintptr_t)key;
    request.key.len = key_size;
    request.limit = limit;
    size = protobuf_c_message_get_packed_size(&request.base);
    buffer_reserve(b, GRPC_PREFIX_BYTES + size);
    grpc_put_prefix(b->data + b->size, size);
    protobuf_c_message_pack(&request.base,
                            b->data + b->size + GRPC_PREFIX_BYTES);
    b->size += GRPC_PREFIX_BYTES + size;
}
