/*
 * fuzz_h2.c - a server and a channel that face an arbitrary peer.
 *
 * The first byte chooses who is attacked and how the rest is read:
 *
 *     bit 0   the channel, not the server
 *     bit 1   the rest is raw; otherwise a list of frames in a short notation
 *             that gets past HPACK and the preface
 *
 * A frame in short notation: a type, flags, a stream and a length, one byte
 * each, and the payload. The type HEADERS (1) means a block with the usual
 * headers, and the payload's first byte chooses the method.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "etcd/rpc.pb-c.h"
#include "proto/rpc_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- handlers that do a little of everything --------------------------- */

static void answer(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *r = (const void *)m;
    Etcdserverpb__RangeResponse response = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT, *kvs[] = {&kv};
    static uint8_t value[200000];

    kv.key = r->key;
    kv.value.data = value;
    kv.value.len = r->limit < 0 ? 0 : (size_t)r->limit % sizeof(value);
    response.n_kvs = 1;
    response.kvs = kvs;
    if (r->serializable) {
        rpc_call_reply(c, &response.base);
        return;
    }
    rpc_call_send(c, &response.base);
    if (r->keys_only) {
        rpc_call_finish(c, GRPC_ABORTED, "enough");
    }
}

static void reply(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *r = (const void *)m;
    Etcdserverpb__RangeResponse response = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    struct slice value;

    if (r->count_only) {
        return; /* held */
    }
    response.more = rpc_call_metadata(c, "token", &value);
    rpc_call_reply(c, &response.base);
}

static void finish(struct rpc_call *c)
{
    rpc_call_fail(c, ST_NO_LEADER);
}

static void ignore(struct rpc_call *c)
{
    (void)c;
}

#define REQUEST (&etcdserverpb__range_request__descriptor)

static const struct rpc_method methods[] = {
    {.path = "/t.T/A",
     .request = REQUEST,
     .on_message = reply,
     .on_close = ignore},
    {.path = "/t.T/B",
     .request = REQUEST,
     .server_streams = true,
     .on_message = answer,
     .on_close = ignore},
    {.path = "/t.T/C",
     .request = REQUEST,
     .client_streams = true,
     .server_streams = true,
     .on_open = ignore,
     .on_message = answer,
     .on_half_close = finish,
     .on_close = ignore},
};

/* ---- the short notation -------------------------------------------------- */

static void put_frame(struct buffer *b, uint8_t type, uint8_t flags,
                      uint8_t stream, const void *payload, size_t size)
{
    uint8_t head[9] = {
        0, (uint8_t)(size >> 8), (uint8_t)size, type, flags, 0, 0, 0, stream};

    buffer_append(b, head, sizeof(head));
    buffer_append(b, payload, size);
}

static void put_header(struct buffer *b, const char *name, const char *value)
{
    uint8_t sizes[2] = {(uint8_t)strlen(name), (uint8_t)strlen(value)};

    buffer_append(b, "", 1); /* literal, not indexed, new name */
    buffer_append(b, &sizes[0], 1);
    buffer_append(b, name, sizes[0]);
    buffer_append(b, &sizes[1], 1);
    buffer_append(b, value, sizes[1]);
}

static void put_headers(struct buffer *b, bool client, uint8_t flags,
                        uint8_t stream, uint8_t choice)
{
    static const char *const paths[] = {"/t.T/A", "/t.T/B", "/t.T/C", "/t.T/D",
                                        "x"};
    struct buffer block = {0};

    if (client) {
        put_header(&block, ":method", "POST");
        put_header(&block, ":scheme", "http");
        put_header(&block, ":authority", "x");
        put_header(&block, ":path", paths[choice % ARRAY_LENGTH(paths)]);
        put_header(&block, "content-type", "application/grpc");
    } else if ((choice & 1) != 0) {
        put_header(&block, ":status", (choice & 2) != 0 ? "200" : "503");
        put_header(&block, "content-type", "application/grpc");
    }
    if (!client && (choice & 4) != 0) {
        put_header(&block, "grpc-status", "7");
        put_header(&block, "grpc-message", "a%20b%");
    }
    if ((choice & 0x20) != 0) {
        put_header(&block, "grpc-timeout", (choice & 0x40) != 0 ? "1n" : "9S");
    }
    if ((choice & 0x80) != 0) {
        put_header(&block, "token", "abc");
        put_header(&block, "x-bin", "AAEC");
    }
    put_frame(b, 1, flags | 4, stream, block.data, block.size);
    buffer_release(&block);
}

static void expand(struct buffer *b, bool client, const uint8_t *data,
                   size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    if (client) {
        buffer_append(b, preface, sizeof(preface) - 1);
    }
    put_frame(b, 4, 0, 0, NULL, 0);
    while (size >= 4) {
        size_t n = data[3];

        n = n < size - 4 ? n : size - 4;
        if (data[0] % 16 == 1) {
            put_headers(b, client, data[1], data[2], n > 0 ? data[4] : 0);
        } else {
            put_frame(b, data[0] % 16, data[1], data[2], data + 4, n);
        }
        data += 4 + n;
        size -= 4 + n;
    }
}

/* ---- both ends --------------------------------------------------------------
 */

static void on_close(struct rpc_call *c, enum grpc_code code, const char *text,
                     bool maybe_processed)
{
    (void)c;
    (void)maybe_processed;
    ASSERT(code <= 16 && strlen(text) < 100000);
}

static void on_message(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeResponse *r = (const void *)m;

    if (r->more) {
        rpc_call_cancel(c);
    }
}

static void start_calls(struct rpc_channel *ch)
{
    static const struct rpc_call_events events = {on_message, on_close};
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;

    for (int i = 0; i < 4; i++) {
        struct rpc_call *c = rpc_call_start(
            ch, "/t.T/C", &etcdserverpb__range_response__descriptor, NULL, 0,
            i == 3 ? 60000 : 0, &events, NULL);

        rpc_call_send(c, &request.base);
        if (i < 2) {
            rpc_call_half_close(c);
        }
    }
}

/* The peer says its text and listens; rounds until nothing moves. */
static void converse(struct rpc_loop *loop, int fd, const struct buffer *b)
{
    char drop[65536];
    size_t sent = 0;
    int quiet = 0;

    while (quiet < 3) {
        ssize_t n = 0;

        quiet++;
        if (sent < b->size) {
            n = send(fd, b->data + sent, b->size - sent, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
            quiet = n > 0 ? 0 : quiet;
        }
        event_base_loop(rpc_loop_base(loop), EVLOOP_NONBLOCK);
        rpc_loop_flush(loop);
        while (recv(fd, drop, sizeof(drop), 0) > 0) {
            quiet = 0;
        }
    }
}

static void attack_server(struct rpc_loop *loop, int fd, int peer,
                          const struct buffer *b)
{
    struct rpc_limits limits;
    struct rpc_server *s;
    struct sockaddr address = {.sa_family = AF_UNIX};

    rpc_limits_defaults(&limits);
    limits.message_bytes_max = 1000;
    limits.header_bytes_max = 1000;
    limits.streams_max = 8;
    limits.send_bytes_max = 100000;
    s = rpc_server_new(loop, &limits);
    rpc_server_add(s, methods, ARRAY_LENGTH(methods), NULL);
    server_accept(s, fd, &address);
    converse(loop, peer, b);
    rpc_server_free(s);
}

static void attack_channel(struct rpc_loop *loop, int fd, int peer,
                           const struct buffer *b)
{
    struct rpc_channel_config config = {.address = "nowhere",
                                        .connect_timeout_ms = 1000};
    struct rpc_channel *ch;

    rpc_limits_defaults(&config.limits);
    config.limits.message_bytes_max = 1000;
    ch = rpc_channel_new(loop, &config);
    channel_adopt(ch, fd);
    start_calls(ch);
    converse(loop, peer, b);
    rpc_channel_free(ch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct event_base *base;
    struct rpc_loop *loop;
    struct buffer b = {0};
    int fds[2];

    if (size == 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)) {
        return 0;
    }
    base = event_base_new();
    loop = rpc_loop_new(base);
    if ((data[0] & 2) != 0) {
        buffer_append(&b, data + 1, size - 1);
    } else {
        expand(&b, (data[0] & 1) == 0, data + 1, size - 1);
    }
    if ((data[0] & 1) != 0) {
        attack_channel(loop, fds[0], fds[1], &b);
    } else {
        attack_server(loop, fds[0], fds[1], &b);
    }
    close(fds[1]);
    rpc_loop_free(loop);
    event_base_free(base);
    buffer_release(&b);
    return 0;
}
