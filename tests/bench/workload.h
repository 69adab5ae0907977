/*
 * workload.h - what is asked: request bodies, ready to send.
 *
 * A request is encoded once, with a key of marks; for each request the bytes
 * of a key are written over the marks. So a request costs the generator a copy
 * and nothing else.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op {
    OP_PUT,
    OP_GET,
    OP_TXN, /* one comparison, a put and a get of the same key */
    OP_COUNT,
};

struct workload_config {
    int put_percent, get_percent, txn_percent; /* 100 together */
    uint64_t keys;                             /* how many different ones */
    size_t key_size, value_size;               /* bytes */
    bool serializable;                         /* of gets */
    uint64_t seed;
};

struct workload;

struct workload *workload_new(const struct workload_config *config);
void workload_free(struct workload *w);

/* What is to be asked next, by the percentages. */
enum op workload_next_op(struct workload *w);
uint64_t workload_next_key(struct workload *w);

/* Bytes that the largest body takes. */
size_t workload_body_size_max(const struct workload *w);
/* Write the gRPC message that does op to the key's number; returns its size. */
size_t workload_fill(const struct workload *w, enum op op, uint64_t key,
                     uint8_t *body);
/* An answer with fewer bytes than this lacks what was asked for. */
size_t workload_answer_size_min(const struct workload *w, enum op op);

const char *op_path(enum op op); /* "/etcdserverpb.KV/Put" */
const char *op_name(enum op op); /* "put" */

#endif
