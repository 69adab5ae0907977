/*
 * workload.c - what is asked: request bodies, ready to send.
 */
#include "tests/bench/workload.h"

#include <stdlib.h>
#include <string.h>

#include "etcd/rpc.pb-c.h"
#include "proto/base.h"

enum {
    GRPC_PREFIX_SIZE = 5, /* compressed flag, length: before each message */
    KEY_PLACES_MAX = 3,
};

/* An encoded request and where its key stands in it. */
struct body {
    uint8_t *data;
    size_t size;
    size_t key_at[KEY_PLACES_MAX];
    size_t n_key_at;
};

struct workload {
    struct workload_config config;
    struct body bodies[OP_COUNT];
    uint64_t random; /* xorshift64 */
};

static const struct {
    const char *name, *path;
} ops[OP_COUNT] = {
    [OP_PUT] = {"put", "/etcdserverpb.KV/Put"},
    [OP_GET] = {"get", "/etcdserverpb.KV/Range"},
    [OP_TXN] = {"txn", "/etcdserverpb.KV/Txn"},
};

const char *op_path(enum op op)
{
    return ops[op].path;
}

const char *op_name(enum op op)
{
    return ops[op].name;
}

/* ---- encoding ----------------------------------------------------------- */

static void body_find_keys(struct body *b, ProtobufCBinaryData marks)
{
    const uint8_t *at = b->data;
    const uint8_t *end = b->data + b->size;

    while ((at = memmem(at, (size_t)(end - at), marks.data, marks.len))) {
        ASSERT(b->n_key_at < KEY_PLACES_MAX);
        b->key_at[b->n_key_at++] = (size_t)(at - b->data);
        at += marks.len;
    }
    ASSERT(b->n_key_at > 0);
}

static void body_encode(struct body *b, const ProtobufCMessage *m,
                        ProtobufCBinaryData marks)
{
    size_t size = protobuf_c_message_get_packed_size(m);

    b->size = GRPC_PREFIX_SIZE + size;
    b->data = mem_alloc(b->size, 1);
    for (int i = 0; i < 4; i++) {
        b->data[1 + i] = (uint8_t)(size >> (24 - 8 * i));
    }
    protobuf_c_message_pack(m, b->data + GRPC_PREFIX_SIZE);
    body_find_keys(b, marks);
}

static void encode_txn(struct body *b, Etcdserverpb__PutRequest *put,
                       Etcdserverpb__RangeRequest *get, ProtobufCBinaryData key)
{
    Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT;
    Etcdserverpb__RequestOp first = ETCDSERVERPB__REQUEST_OP__INIT;
    Etcdserverpb__RequestOp second = ETCDSERVERPB__REQUEST_OP__INIT;
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    Etcdserverpb__Compare *compares[] = {&compare};
    Etcdserverpb__RequestOp *success[] = {&first, &second};

    compare.result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER;
    compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION;
    compare.key = key;
    compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
    compare.version = -1; /* true of every key */
    first.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    first.request_put = put;
    second.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    second.request_range = get;
    txn.n_compare = ARRAY_LENGTH(compares);
    txn.compare = compares;
    txn.n_success = ARRAY_LENGTH(success);
    txn.success = success;
    body_encode(b, &txn.base, key);
}

static void encode_bodies(struct workload *w, uint8_t *marks, uint8_t *value)
{
    ProtobufCBinaryData key = {w->config.key_size, marks};
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__RangeRequest get = ETCDSERVERPB__RANGE_REQUEST__INIT;

    put.key = key;
    put.value.len = w->config.value_size;
    put.value.data = value;
    get.key = key;
    get.serializable = w->config.serializable;
    body_encode(&w->bodies[OP_PUT], &put.base, key);
    body_encode(&w->bodies[OP_GET], &get.base, key);
    encode_txn(&w->bodies[OP_TXN], &put, &get, key);
}

/* ---- the workload ------------------------------------------------------- */

static uint64_t next_random(struct workload *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

struct workload *workload_new(const struct workload_config *config)
{
    struct workload *w = mem_alloc(1, sizeof(*w));
    uint8_t *marks = mem_alloc(config->key_size, 1);
    uint8_t *value = mem_alloc(config->value_size + 1, 1);

    w->config = *config;
    w->random = config->seed | 1;
    memset(marks, 0xff, config->key_size);
    for (size_t i = 0; i < config->value_size; i++) {
        value[i] = (uint8_t)('a' + next_random(w) % 26);
    }
    encode_bodies(w, marks, value);
    free(marks);
    free(value);
    return w;
}

void workload_free(struct workload *w)
{
    for (int i = 0; i < OP_COUNT; i++) {
        free(w->bodies[i].data);
    }
    free(w);
}

enum op workload_next_op(struct workload *w)
{
    int draw = (int)((next_random(w) >> 32) % 100);

    if (draw < w->config.put_percent) {
        return OP_PUT;
    }
    return draw < w->config.put_percent + w->config.get_percent ? OP_GET
                                                                : OP_TXN;
}

uint64_t workload_next_key(struct workload *w)
{
    return next_random(w) % w->config.keys;
}

size_t workload_body_size_max(const struct workload *w)
{
    size_t max = 0;

    for (int i = 0; i < OP_COUNT; i++) {
        max = w->bodies[i].size > max ? w->bodies[i].size : max;
    }
    return max;
}

/* "k" and the number, with zeros in front. */
static void write_key(uint8_t *key, size_t size, uint64_t number)
{
    for (size_t i = size; i-- > 1; number /= 10) {
        key[i] = (uint8_t)('0' + number % 10);
    }
    key[0] = 'k';
}

size_t workload_fill(const struct workload *w, enum op op, uint64_t key,
                     uint8_t *body)
{
    const struct body *b = &w->bodies[op];

    memcpy(body, b->data, b->size);
    write_key(body + b->key_at[0], w->config.key_size, key);
    for (size_t i = 1; i < b->n_key_at; i++) {
        memcpy(body + b->key_at[i], body + b->key_at[0], w->config.key_size);
    }
    return b->size;
}

size_t workload_answer_size_min(const struct workload *w, enum op op)
{
    return op == OP_PUT ? GRPC_PREFIX_SIZE
                        : GRPC_PREFIX_SIZE + w->config.value_size;
}
