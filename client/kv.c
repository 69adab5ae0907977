/*
 * kv.c - keys: get, put, delete.
 */
#include "client/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- which keys ---------------------------------------------------------- */

/* A key, and the end of its range if it is one, as the wire has them. */
struct range {
    struct pawl_bytes key, end;
    unsigned char *own; /* where end points to, if it was computed */
};

static const unsigned char zero_byte[1] = {0};

/*
 * The first key behind all that begin with prefix: its last byte that can be
 * incremented is, and the rest cut off. All 0xff: no key is behind, which the
 * wire writes as a zero byte.
 */
static void range_set_prefix_end(struct range *r)
{
    size_t size = r->key.size;

    r->own = mem_alloc(size, 1);
    memcpy(r->own, r->key.data, size);
    while (size > 0 && r->own[size - 1] == 0xff) {
        size--;
    }
    if (size == 0) {
        r->end = pawl_bytes_of(zero_byte, 1);
        return;
    }
    r->own[size - 1]++;
    r->end = pawl_bytes_of(r->own, size);
}

static enum pawl_status range_init(struct pawl *p, struct range *r,
                                   struct pawl_bytes key, struct pawl_bytes end,
                                   bool prefix, bool from_key)
{
    *r = (struct range){.key = key, .end = end};
    if ((end.size > 0) + prefix + from_key > 1) {
        return pawl_fail(p, PAWL_INVALID,
                         "of end, prefix and from_key only one can be given");
    }
    if (key.size == 0 && (prefix || from_key)) {
        r->key = pawl_bytes_of(zero_byte, 1);
        r->end = pawl_bytes_of(zero_byte, 1);
    } else if (from_key) {
        r->end = pawl_bytes_of(zero_byte, 1);
    } else if (prefix) {
        range_set_prefix_end(r);
    }
    return PAWL_OK;
}

/* ---- get ----------------------------------------------------------------- */

static void *get_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeResponse *from =
        (const Etcdserverpb__RangeResponse *)m;
    struct pawl_get_result *to = result_new(sizeof(*to));

    to->header = header_from(from->header);
    to->kvs = kvs_from(to, from->kvs, from->n_kvs);
    to->n_kvs = from->n_kvs;
    to->count = from->count;
    to->more = from->more;
    return to;
}

static Etcdserverpb__RangeRequest get_message(const struct range *range,
                                              const struct pawl_get_options *o)
{
    Etcdserverpb__RangeRequest m = ETCDSERVERPB__RANGE_REQUEST__INIT;

    m.key = bytes_to(range->key);
    m.range_end = bytes_to(range->end);
    m.limit = o->limit;
    m.revision = o->revision;
    m.sort_order = (Etcdserverpb__RangeRequest__SortOrder)o->order;
    m.sort_target = (Etcdserverpb__RangeRequest__SortTarget)o->sort_by;
    m.serializable = o->serializable;
    m.keys_only = o->keys_only;
    m.count_only = o->count_only;
    return m;
}

enum pawl_status pawl_get(struct pawl *p, struct pawl_bytes key,
                          const struct pawl_get_options *options,
                          struct pawl_get_result **result)
{
    struct pawl_get_options o;
    struct range range;
    Etcdserverpb__RangeRequest m;
    enum pawl_status st;

    result_give(NULL, result);
    if (!options_copy(&o, sizeof(o), options)) {
        return pawl_fail_options(p);
    }
    st = range_init(p, &range, key, o.end, o.prefix, o.from_key);
    if (st != PAWL_OK) {
        return st;
    }
    m = get_message(&range, &o);
    st =
        call_run_into(p,
                      &(struct request){
                          .path = "/etcdserverpb.KV/Range",
                          .message = &m.base,
                          .response = &etcdserverpb__range_response__descriptor,
                          .retry = RETRY_ALWAYS,
                          .endpoint = ANY_ENDPOINT,
                          .convert = get_convert,
                      },
                      result);
    free(range.own);
    return st;
}

/* ---- the fence ----------------------------------------------------------- */

#define FENCE_METADATA 2

/* The metadata of a guarded write, and the text that it points to. */
struct fence_metadata {
    struct rpc_metadata items[FENCE_METADATA];
    size_t n;
    char token[24];
};

static void fence_metadata_init(struct fence_metadata *f,
                                const struct pawl_fence *fence)
{
    int size;

    f->n = 0;
    if (fence == NULL) {
        return;
    }
    size = snprintf(f->token, sizeof(f->token), "%" PRId64, fence->token);
    f->items[0] = (struct rpc_metadata){
        .name = "pawl-fence-key-bin",
        .value = slice_from(fence->key),
    };
    f->items[1] = (struct rpc_metadata){
        .name = "pawl-fence-token",
        .value = {(const uint8_t *)f->token, (size_t)size},
    };
    f->n = FENCE_METADATA;
}

/* ---- put ----------------------------------------------------------------- */

static void *put_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__PutResponse *from =
        (const Etcdserverpb__PutResponse *)m;
    struct pawl_put_result *to = result_new(sizeof(*to));
    Mvccpb__KeyValue *const prev_kv = from->prev_kv;

    to->header = header_from(from->header);
    to->prev_kv = prev_kv != NULL ? kvs_from(to, &prev_kv, 1) : NULL;
    return to;
}

enum pawl_status pawl_put(struct pawl *p, struct pawl_bytes key,
                          struct pawl_bytes value,
                          const struct pawl_put_options *options,
                          struct pawl_put_result **result)
{
    Etcdserverpb__PutRequest m = ETCDSERVERPB__PUT_REQUEST__INIT;
    struct pawl_put_options o;
    struct fence_metadata fence;

    result_give(NULL, result);
    if (!options_copy(&o, sizeof(o), options)) {
        return pawl_fail_options(p);
    }
    fence_metadata_init(&fence, o.fence);
    m.key = bytes_to(key);
    m.value = bytes_to(value);
    m.lease = o.lease;
    m.prev_kv = o.prev_kv;
    m.ignore_value = o.ignore_value;
    m.ignore_lease = o.ignore_lease;
    return call_run_into(
        p,
        &(struct request){
            .path = "/etcdserverpb.KV/Put",
            .message = &m.base,
            .response = &etcdserverpb__put_response__descriptor,
            .retry = RETRY_IF_NOT_APPLIED,
            .endpoint = ANY_ENDPOINT,
            .metadata = fence.items,
            .n_metadata = fence.n,
            .convert = put_convert,
        },
        result);
}

/* ---- delete -------------------------------------------------------------- */

static void *delete_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__DeleteRangeResponse *from =
        (const Etcdserverpb__DeleteRangeResponse *)m;
    struct pawl_delete_result *to = result_new(sizeof(*to));

    to->header = header_from(from->header);
    to->deleted = from->deleted;
    to->prev_kvs = kvs_from(to, from->prev_kvs, from->n_prev_kvs);
    to->n_prev_kvs = from->n_prev_kvs;
    return to;
}

enum pawl_status pawl_delete(struct pawl *p, struct pawl_bytes key,
                             const struct pawl_delete_options *options,
                             struct pawl_delete_result **result)
{
    Etcdserverpb__DeleteRangeRequest m =
        ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    struct pawl_delete_options o;
    struct fence_metadata fence;
    struct range range;
    enum pawl_status st;

    result_give(NULL, result);
    if (!options_copy(&o, sizeof(o), options)) {
        return pawl_fail_options(p);
    }
    st = range_init(p, &range, key, o.end, o.prefix, o.from_key);
    if (st != PAWL_OK) {
        return st;
    }
    fence_metadata_init(&fence, o.fence);
    m.key = bytes_to(range.key);
    m.range_end = bytes_to(range.end);
    m.prev_kv = o.prev_kv;
    st = call_run_into(
        p,
        &(struct request){
            .path = "/etcdserverpb.KV/DeleteRange",
            .message = &m.base,
            .response = &etcdserverpb__delete_range_response__descriptor,
            .retry = RETRY_IF_NOT_APPLIED,
            .endpoint = ANY_ENDPOINT,
            .metadata = fence.items,
            .n_metadata = fence.n,
            .convert = delete_convert,
        },
        result);
    free(range.own);
    return st;
}
