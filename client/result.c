/*
 * result.c - the memory of results: each is the head of an arena of its own,
 * so that one function frees any of them.
 */
#include "client/internal.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct result {
    struct arena arena;
    alignas(max_align_t) unsigned char body[];
};

static struct result *result_of(void *body)
{
    return (struct result *)(void *)((unsigned char *)body -
                                     offsetof(struct result, body));
}

void *result_new(size_t size)
{
    struct result *r = mem_alloc(1, sizeof(*r) + size);

    arena_init(&r->arena);
    return r->body;
}

void pawl_free(void *result)
{
    if (result != NULL) {
        arena_release(&result_of(result)->arena);
        free(result_of(result));
    }
}

void *result_alloc(void *result, size_t n, size_t size)
{
    ASSERT(size > 0 && n <= SIZE_MAX / size);
    return arena_alloc(&result_of(result)->arena, n * size);
}

struct pawl_bytes result_bytes(void *result, ProtobufCBinaryData from)
{
    unsigned char *copy = result_alloc(result, from.len + 1, 1);

    if (from.len > 0) {
        memcpy(copy, from.data, from.len);
    }
    return pawl_bytes_of(copy, from.len);
}

const char *result_text(void *result, const char *s)
{
    size_t size = s != NULL ? strlen(s) : 0;
    char *copy = result_alloc(result, size + 1, 1);

    if (size > 0) {
        memcpy(copy, s, size);
    }
    return copy;
}

const char *const *result_texts(void *result, char *const *from, size_t n)
{
    const char **to = result_alloc(result, n, sizeof(*to));

    for (size_t i = 0; i < n; i++) {
        to[i] = result_text(result, from[i]);
    }
    return to;
}

void result_give(void *result, void *to)
{
    if (to == NULL) {
        pawl_free(result);
        return;
    }
    memcpy(to, &result, sizeof(result)); /* to is a pointer to any pointer */
}

struct pawl_header header_from(const Etcdserverpb__ResponseHeader *h)
{
    if (h == NULL) {
        return (struct pawl_header){0};
    }
    return (struct pawl_header){
        .cluster_id = h->cluster_id,
        .member_id = h->member_id,
        .revision = h->revision,
        .raft_term = h->raft_term,
    };
}

struct pawl_kv kv_from(void *result, const Mvccpb__KeyValue *from)
{
    return (struct pawl_kv){
        .key = result_bytes(result, from->key),
        .value = result_bytes(result, from->value),
        .create_revision = from->create_revision,
        .mod_revision = from->mod_revision,
        .version = from->version,
        .lease = from->lease,
    };
}

const struct pawl_kv *kvs_from(void *result, Mvccpb__KeyValue *const *from,
                               size_t n)
{
    struct pawl_kv *kvs = result_alloc(result, n, sizeof(*kvs));

    for (size_t i = 0; i < n; i++) {
        kvs[i] = kv_from(result, from[i]);
    }
    return kvs;
}

ProtobufCBinaryData bytes_to(struct pawl_bytes b)
{
    return (ProtobufCBinaryData){
        .len = b.size, .data = (uint8_t *)(uintptr_t)b.data, /* only read */
    };
}

struct slice slice_from(struct pawl_bytes b)
{
    return (struct slice){.data = b.data, .size = b.size};
}
