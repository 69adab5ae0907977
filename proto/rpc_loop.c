/*
 * rpc_loop.c - what the connections of one event base share: the output round
 * and the pool of calls.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/rpc_internal.h"

/* Kept for the next requests: about as many as are in flight under load. */
#define POOL_MAX (1024 * POOL_KEEPS)
#define POOLED_BUFFER_BYTES_MAX ((size_t)16 << 10)

struct rpc_loop *rpc_loop_new(struct event_base *base)
{
    struct rpc_loop *l = mem_alloc(1, sizeof(*l));

    h2_loop_init(&l->h2, base);
    TAILQ_INIT(&l->pool);
    arena_init(&l->scratch);
    return l;
}

struct event_base *rpc_loop_base(struct rpc_loop *l)
{
    return l->h2.base;
}

void rpc_loop_flush(struct rpc_loop *l)
{
    h2_loop_flush(&l->h2);
}

static void destroy(struct rpc_call *c)
{
    h2_stream_release(&c->stream);
    buffer_release(&c->in);
    arena_release(&c->arena);
    free(c);
}

void rpc_loop_free(struct rpc_loop *l)
{
    struct rpc_call *c;

    while ((c = TAILQ_FIRST(&l->pool)) != NULL) {
        TAILQ_REMOVE(&l->pool, c, link);
        destroy(c);
    }
    h2_loop_release(&l->h2);
    arena_release(&l->scratch);
    free(l);
}

struct rpc_call *call_new(struct rpc_loop *l)
{
    struct rpc_call *c = TAILQ_FIRST(&l->pool);

    if (c != NULL) {
        TAILQ_REMOVE(&l->pool, c, link);
        l->n_pool--;
    } else {
        c = mem_alloc(1, sizeof(*c));
        arena_init(&c->arena);
    }
    c->loop = l;
    return c;
}

static void shrink(struct buffer *b)
{
    b->size = 0;
    if (b->capacity > POOLED_BUFFER_BYTES_MAX) {
        buffer_release(b);
    }
}

void call_release(struct rpc_call *c)
{
    struct rpc_loop *l = c->loop;
    struct buffer out = c->stream.out;

    ASSERT(c->over && c->stream.h2 == NULL && !c->waiting);
    timers_cancel(&l->h2.timers, &c->deadline);
    if (l->n_pool == POOL_MAX) {
        destroy(c);
        return;
    }
    arena_reset(&c->arena);
    shrink(&c->in);
    shrink(&out);
    c->stream = (struct h2_stream){.out = out};
    memset(&c->loop, 0, sizeof(*c) - offsetof(struct rpc_call, loop));
    TAILQ_INSERT_HEAD(&l->pool, c, link);
    l->n_pool++;
}
