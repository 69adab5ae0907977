/*
 * rpc_call.c - a call as both sides have it: messages, queue, deadline.
 */
#include <stdio.h>
#include <string.h>

#include "proto/rpc_internal.h"

struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

struct rpc_call *call_of(struct h2_stream *s)
{
    return (struct rpc_call *)s;
}

void call_abort(struct rpc_call *c, enum grpc_code code, const char *text)
{
    if (c->over) {
        return;
    }
    if (c->connection != NULL) {
        server_call_abort(c, code, text);
    } else {
        channel_call_abort(c, code, text);
    }
}

/* ---- the owner's side ------------------------------------------------ */

void *rpc_call_context(const struct rpc_call *c)
{
    return c->context;
}

void rpc_call_set_context(struct rpc_call *c, void *context)
{
    c->context = context;
}

struct arena *rpc_call_arena(struct rpc_call *c)
{
    return &c->arena;
}

size_t rpc_call_queued(const struct rpc_call *c)
{
    return c->stream.out.size - c->stream.out_start;
}

bool rpc_call_metadata(const struct rpc_call *c, const char *name,
                       struct slice *value)
{
    struct slice wanted = slice_of(name);

    for (struct metadata *m = c->metadata; m != NULL; m = m->next) {
        if (slice_equal(m->name, wanted)) {
            *value = m->value;
            return true;
        }
    }
    return false;
}

uint64_t rpc_call_deadline(const struct rpc_call *c)
{
    return c->deadline_ms;
}

void rpc_call_send(struct rpc_call *c, const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *out;

    if (c->over || c->stream.ended || c->stream.reset) {
        return; /* nobody would get it */
    }
    ASSERT(size <= UINT32_MAX);
    out = h2_stream_reserve(&c->stream, GRPC_PREFIX_BYTES + size);
    grpc_put_prefix(out, size);
    protobuf_c_message_pack(m, out + GRPC_PREFIX_BYTES);
    if (c->connection != NULL && !c->stream.headers_submitted) {
        server_call_send_headers(c);
    }
}

/* ---- the deadline ---------------------------------------------------- */

static void on_deadline(struct timer *t)
{
    struct rpc_call *c =
        (struct rpc_call *)((char *)t - offsetof(struct rpc_call, deadline));

    if (c->connection != NULL) {
        server_call_deadline(c);
    } else {
        call_abort(c, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    }
}

void call_set_deadline(struct rpc_call *c, uint64_t deadline_ms)
{
    c->deadline_ms = deadline_ms;
    c->deadline.fire = on_deadline;
    timers_set(&c->loop->h2.timers, &c->deadline, deadline_ms);
}

/* ---- messages in ----------------------------------------------------- */

/* What a decoded message may take, beside its size on the wire. */
#define DECODE_BYTES ((size_t)32 << 20)
#define DECODE_FACTOR 4

ProtobufCMessage *call_decode(const struct rpc_call *c, struct arena *a,
                              const uint8_t *data, size_t size)
{
    if (!message_is_sane(c->receives, data, size)) {
        return NULL;
    }
    arena_limit_allocator(a, DECODE_BYTES + DECODE_FACTOR * size);
    return protobuf_c_message_unpack(c->receives, &a->allocator, size, data);
}

static void deliver(struct rpc_call *c, const uint8_t *data, size_t size)
{
    if (c->connection != NULL) {
        server_call_deliver(c, data, size);
    } else {
        channel_call_deliver(c, data, size);
    }
}

/* False if a message with this prefix cannot be taken; the call is over. */
static bool check_prefix(struct rpc_call *c, const uint8_t *prefix,
                         size_t *size)
{
    uint8_t flag;
    char text[96];

    grpc_get_prefix(prefix, &flag, size);
    if (flag == 1) {
        call_abort(c, GRPC_INTERNAL,
                   "grpc: compressed flag set with identity or empty encoding");
        return false;
    }
    if (flag != 0) {
        snprintf(text, sizeof(text),
                 "grpc: received unexpected payload format %u", flag);
        call_abort(c, GRPC_INTERNAL, text);
        return false;
    }
    if (*size > c->message_bytes_max) {
        snprintf(text, sizeof(text),
                 "grpc: received message larger than max (%zu vs. %zu)", *size,
                 c->message_bytes_max);
        call_abort(c, GRPC_RESOURCE_EXHAUSTED, text);
        return false;
    }
    return true;
}

/* Take whole messages from the front of data. Returns what they used. */
static size_t take_messages(struct rpc_call *c, const uint8_t *data,
                            size_t size)
{
    size_t used = 0;

    while (!c->over && size - used >= GRPC_PREFIX_BYTES) {
        size_t n;

        if (!check_prefix(c, data + used, &n)) {
            break;
        }
        if (size - used - GRPC_PREFIX_BYTES < n) {
            break;
        }
        deliver(c, data + used + GRPC_PREFIX_BYTES, n);
        used += GRPC_PREFIX_BYTES + n;
    }
    return used;
}

/* Bytes that are missing at the end of in until its message is whole. */
static size_t missing(const struct rpc_call *c)
{
    size_t n;
    uint8_t flag;

    if (c->in.size < GRPC_PREFIX_BYTES) {
        return GRPC_PREFIX_BYTES - c->in.size;
    }
    grpc_get_prefix(c->in.data, &flag, &n);
    return GRPC_PREFIX_BYTES + n - c->in.size;
}

/* A message that has not come in whole. */
static void keep_rest(struct rpc_call *c, const uint8_t *data, size_t size)
{
    buffer_append(&c->in, data, size);
    if (c->connection != NULL) {
        server_call_charge(c, size);
    }
}

/*
 * Most often data is exactly one message and is decoded where it lies. What
 * does not come in whole is gathered in in, which never holds more than one
 * message.
 */
void call_receive(struct rpc_call *c, const uint8_t *data, size_t size)
{
    while (!c->over && c->in.size > 0 && size > 0) {
        size_t n = missing(c);

        n = n < size ? n : size;
        keep_rest(c, data, n);
        data += n;
        size -= n;
        if (!c->over && take_messages(c, c->in.data, c->in.size) > 0) {
            c->in.size = 0;
        }
    }
    if (!c->over && size > 0) {
        size_t used = take_messages(c, data, size);

        if (!c->over && used < size) {
            keep_rest(c, data + used, size - used);
        }
    }
}

/* ---- depth of messages
 * ------------------------------------------------------- */

#define DEPTH_MAX 100

/* False: no varint. */
static bool take_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;

        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return true;
        }
    }
    return false;
}

/* Over a field that is not length-delimited. False: malformed. */
static bool skip_scalar(const uint8_t **at, const uint8_t *end, unsigned wire)
{
    uint64_t value;
    size_t size = wire == 1 ? 8 : 4;

    if (wire == 0) {
        return take_varint(at, end, &value);
    }
    if ((wire != 1 && wire != 5) || (size_t)(end - *at) < size) {
        return false;
    }
    *at += size;
    return true;
}

/*
 * Follow the wire with a stack of our own. Malformed input is let through: the
 * decoder finds the same fault at the same place, without going deeper.
 */
bool message_is_sane(const ProtobufCMessageDescriptor *type,
                     const uint8_t *data, size_t size)
{
    struct {
        const ProtobufCMessageDescriptor *type;
        const uint8_t *end;
    } stack[DEPTH_MAX];
    size_t depth = 0;
    const uint8_t *at = data;
    uint64_t tag, length;

    stack[0].type = type;
    stack[0].end = data + size;
    for (;;) {
        const ProtobufCFieldDescriptor *f;

        while (at == stack[depth].end) {
            if (depth-- == 0) {
                return true;
            }
        }
        if (!take_varint(&at, stack[depth].end, &tag)) {
            return true;
        }
        if (tag >> 3 == 0) {
            return false;
        }
        if ((tag & 7) != 2) {
            if (!skip_scalar(&at, stack[depth].end, (unsigned)(tag & 7))) {
                return true;
            }
            continue;
        }
        if (!take_varint(&at, stack[depth].end, &length) ||
            length > (uint64_t)(stack[depth].end - at)) {
            return true;
        }
        f = protobuf_c_message_descriptor_get_field(stack[depth].type,
                                                    (unsigned)(tag >> 3));
        if (f == NULL || f->type != PROTOBUF_C_TYPE_MESSAGE) {
            at += length;
            continue;
        }
        if (++depth == DEPTH_MAX) {
            return false;
        }
        stack[depth].type = f->descriptor;
        stack[depth].end = at + length;
    }
}
