/*
 * raw.c - frames by hand; headers are written literally (RFC 7541, 6.2.2) and
 * read with nghttp2's inflater.
 */
#include "raw.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_HEADER 9
#define PATIENCE_MS 15000

struct raw {
    int fd;
    struct buffer in;
    nghttp2_hd_inflater *inflater;
    int status;
    char message[512];
};

struct raw *raw_connect(const char *address)
{
    struct raw *r = mem_alloc(1, sizeof(*r));
    struct sockaddr_in a = {.sin_family = AF_INET};
    const char *colon = strchr(address, ':');
    char host[32];

    ck_assert_ptr_nonnull(colon);
    snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
    a.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    ck_assert_int_eq(inet_pton(AF_INET, host, &a.sin_addr), 1);
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_msg(connect(r->fd, (struct sockaddr *)&a, sizeof(a)) == 0,
                  "connect to %s: %s", address, strerror(errno));
    r->status = -1;
    ck_assert_int_eq(nghttp2_hd_inflate_new(&r->inflater), 0);
    return r;
}

void raw_free(struct raw *r)
{
    nghttp2_hd_inflate_del(r->inflater);
    buffer_release(&r->in);
    close(r->fd);
    free(r);
}

/* The server may have closed already: what it thinks is read later. */
void raw_write(struct raw *r, const void *data, size_t size)
{
    const uint8_t *p = data;

    while (size > 0) {
        ssize_t n = send(r->fd, p, size, MSG_NOSIGNAL);

        if (n <= 0) {
            return;
        }
        p += n;
        size -= (size_t)n;
    }
}

void raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t stream,
               size_t size, const void *payload, size_t payload_size)
{
    uint8_t h[FRAME_HEADER] = {(uint8_t)(size >> 16),
                               (uint8_t)(size >> 8),
                               (uint8_t)size,
                               type,
                               flags,
                               (uint8_t)(stream >> 24),
                               (uint8_t)(stream >> 16),
                               (uint8_t)(stream >> 8),
                               (uint8_t)stream};

    raw_write(r, h, sizeof(h));
    raw_write(r, payload, payload_size);
}

void raw_preface(struct raw *r)
{
    raw_write(r, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    raw_frame(r, NGHTTP2_SETTINGS, 0, 0, 0, "", 0);
}

static void add_text(struct buffer *b, const char *text)
{
    uint8_t size = (uint8_t)strlen(text);

    ck_assert_uint_lt(strlen(text), 127);
    buffer_append(b, &size, 1);
    buffer_append(b, text, size);
}

void raw_headers(struct raw *r, const char *path, bool end_stream)
{
    const char *const headers[][2] = {
        {":method", "POST"}, {":scheme", "http"},
        {":path", path},     {":authority", "test"},
        {"te", "trailers"},  {"content-type", "application/grpc"},
    };
    struct buffer b = {0};

    for (size_t i = 0; i < ARRAY_LENGTH(headers); i++) {
        buffer_append(&b, "", 1); /* literal, not indexed, new name */
        add_text(&b, headers[i][0]);
        add_text(&b, headers[i][1]);
    }
    raw_frame(r, NGHTTP2_HEADERS,
              (uint8_t)(NGHTTP2_FLAG_END_HEADERS |
                        (end_stream ? NGHTTP2_FLAG_END_STREAM : 0)),
              1, b.size, b.data, b.size);
    buffer_release(&b);
}

void raw_data(struct raw *r, const void *data, size_t size, bool end_stream)
{
    raw_frame(r, NGHTTP2_DATA, end_stream ? NGHTTP2_FLAG_END_STREAM : 0, 1,
              size, data, size);
}

/* ---- reading ---------------------------------------------------------------
 */

/* False at the end of the connection, or of patience. */
static bool read_some(struct raw *r)
{
    struct pollfd p = {.fd = r->fd, .events = POLLIN};
    uint8_t bytes[16384];
    ssize_t n;

    if (poll(&p, 1, PATIENCE_MS) != 1) {
        return false;
    }
    n = recv(r->fd, bytes, sizeof(bytes), 0);
    if (n <= 0) {
        return false;
    }
    buffer_append(&r->in, bytes, (size_t)n);
    return true;
}

static void take_header(struct raw *r, const nghttp2_nv *nv)
{
    char value[512];

    snprintf(value, sizeof(value), "%.*s", (int)nv->valuelen,
             (const char *)nv->value);
    if (nv->namelen == 11 && memcmp(nv->name, "grpc-status", 11) == 0) {
        r->status = (int)strtol(value, NULL, 10);
    }
    if (nv->namelen == 12 && memcmp(nv->name, "grpc-message", 12) == 0) {
        snprintf(r->message, sizeof(r->message), "%s", value);
    }
}

static void take_headers(struct raw *r, const uint8_t *p, size_t size)
{
    nghttp2_nv nv;
    int flags;

    do {
        ssize_t n =
            nghttp2_hd_inflate_hd2(r->inflater, &nv, &flags, p, size, 1);

        ck_assert_int_ge(n, 0);
        p += n;
        size -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            take_header(r, &nv);
        }
    } while (!(flags & NGHTTP2_HD_INFLATE_FINAL));
    nghttp2_hd_inflate_end_headers(r->inflater);
}

/* The next whole frame: 0 if there is none yet, 1, or 2 if it ends stream 1. */
static int take_frame(struct raw *r)
{
    const uint8_t *p = r->in.data;
    size_t size;
    int result = 1;

    if (r->in.size < FRAME_HEADER) {
        return 0;
    }
    size = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
    if (r->in.size < FRAME_HEADER + size) {
        return 0;
    }
    if (p[3] == NGHTTP2_HEADERS) {
        take_headers(r, p + FRAME_HEADER, size);
    }
    if (p[8] == 1 &&
        (p[3] == NGHTTP2_RST_STREAM ||
         (p[3] <= NGHTTP2_HEADERS && (p[4] & NGHTTP2_FLAG_END_STREAM) != 0))) {
        result = 2;
    }
    buffer_consume(&r->in, FRAME_HEADER + size);
    return result;
}

int raw_status(struct raw *r, char *message, size_t size)
{
    int taken = 1;

    while (taken != 2 && (taken != 0 || read_some(r))) {
        taken = take_frame(r);
    }
    snprintf(message, size, "%s", r->message);
    return r->status;
}

bool raw_wait_closed(struct raw *r)
{
    struct pollfd p = {.fd = r->fd, .events = POLLIN};
    uint8_t bytes[16384];

    while (poll(&p, 1, PATIENCE_MS) == 1) {
        if (recv(r->fd, bytes, sizeof(bytes), 0) <= 0) {
            return true;
        }
    }
    return false;
}
