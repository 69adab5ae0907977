/*
 * pool.c - free lists by size class.
 */
#include "proto/pool.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

#define STEP ((size_t)32) /* between size classes */
#define LARGEST (STEP * (POOL_CLASSES - 1))
#define KEPT_MAX                                                               \
    (4096 * POOL_KEEPS) /* blocks of a class: some 100 KiB to 4 MiB */

struct pool_block {
    union {
        size_t size; /* while in use: what it can hold */
        struct pool_block *next;
    };
    alignas(max_align_t) unsigned char data[];
};

void pool_init(struct pool *p)
{
    *p = (struct pool){0};
}

void pool_release(struct pool *p)
{
    for (size_t i = 0; i < POOL_CLASSES; i++) {
        struct pool_block *b;

        while ((b = p->free[i]) != NULL) {
            p->free[i] = b->next;
            free(b);
        }
    }
}

void *pool_alloc(struct pool *p, size_t size)
{
    size_t class = (size + STEP - 1) / STEP;
    struct pool_block *b;

    if (size > LARGEST) {
        ASSERT(size <= SIZE_MAX - sizeof(*b));
        b = malloc(sizeof(*b) + size);
    } else if ((b = p->free[class]) != NULL) {
        p->free[class] = b->next;
        p->n_free[class]--;
        size = class * STEP;
    } else {
        size = class * STEP;
        b = malloc(sizeof(*b) + size);
    }
    if (b == NULL) {
        abort();
    }
    b->size = size;
    /* cppcheck-suppress memleak ; block_of() finds it again */
    return b->data;
}

static struct pool_block *block_of(void *data)
{
    return (struct pool_block *)((char *)data -
                                 offsetof(struct pool_block, data));
}

void pool_free(struct pool *p, void *data)
{
    struct pool_block *b;
    size_t class;

    if (data == NULL) {
        return;
    }
    b = block_of(data);
    class = b->size / STEP;
    if (b->size > LARGEST || p->n_free[class] == KEPT_MAX) {
        free(b);
        return;
    }
    b->next = p->free[class];
    p->free[class] = b;
    p->n_free[class]++;
}

void *pool_realloc(struct pool *p, void *old, size_t size)
{
    size_t old_size;
    void *data;

    if (old == NULL) {
        return pool_alloc(p, size);
    }
    old_size = block_of(old)->size;
    if (size <= old_size) {
        return old;
    }
    data = pool_alloc(p, size);
    memcpy(data, old, old_size);
    pool_free(p, old);
    return data;
}
